//! One record: its place in its log's tree, its time, and what it says that others are judged by.

use ulid::Ulid;

use super::{Hole, Leaf, Line};
use crate::audit::clock::{self, Window};
use crate::audit::log::Place as At;
use crate::audit::report::{Finding, Report, What};
use crate::audit::said::{Deleted, Heartbeat, Key, LogEnd, Place, SegmentHead, kind};
use crate::audit::scan::Frame;
use crate::evidence::chain::Certificate;
use crate::evidence::note::Note;
use crate::record::frame::HEADER;

impl Line {
    /// Adds a record to the tree of its log. Gives the log, and which leaf it is.
    pub(super) fn leaf(&mut self, place: Place, frame: &Frame<'_>, report: &mut Report) -> Leaf {
        let Place { segment, offset } = place;
        match self.current.and_then(|id| self.logs.get_mut(&id)) {
            None => {
                report.outside += 1;
                None
            }
            Some(log) => {
                let index = frame.sequence.saturating_sub(log.first);
                let lacks = log.first + log.size()..frame.sequence;
                let unknown = if lacks.is_empty() { 0 } else { log.skip(index, report) };
                match self.holes.last_mut().filter(|hole| hole.records.end == frame.sequence) {
                    Some(hole) => (hole.log, hole.unknown) = (Some(log.id), unknown),
                    None if lacks.is_empty() => {}
                    None => {
                        let log = Some(log.id);
                        self.holes.push(Hole {
                            records: lacks,
                            segments: 0..0,
                            front: None,
                            before: place,
                            log,
                            unknown,
                        });
                    }
                }
                if index != log.size() {
                    let text = format!("record {} is not the next of log {}", frame.sequence, log.id);
                    let finding = Finding::bad(What::Order, text).at(segment, offset);
                    report.add(finding.record(frame.sequence).log(log.id));
                    return None;
                }
                log.push(frame.leaf, At { segment, offset }, report);
                log.stopped = frame.kind == kind::STOP;
                log.end = offset + (HEADER + frame.payload.len()) as u64;
                Some((log.id, index))
            }
        }
    }

    /// The time that a record bears must be one of the keys that signed its log: who has a later one cannot put records
    /// into the past. One finding a log.
    pub(super) fn time(&mut self, place: Place, frame: &Frame<'_>, leaf: Leaf, report: &mut Report) {
        if matches!(frame.kind, kind::BODY | kind::BODY_REF | kind::DIVERTED) {
            return;
        }
        let Some(time) = clock::time_of(frame.payload) else { return };
        if self.newest.as_deref().is_none_or(|newest| newest < time) {
            self.newest = Some(time.to_owned());
        }
        let Some((log, index)) = leaf.and_then(|(id, index)| Some((self.logs.get_mut(&id)?, index))) else {
            return;
        };
        log.newest = Some(time.to_owned());
        if index >= log.promised() || !log.window.excludes_far(time) {
            return;
        }
        #[derive(serde::Deserialize)]
        struct Own {
            time: String,
        }
        let Some(own) = parse::<Own>(frame.payload).filter(|own| log.window.excludes_far(&own.time)) else {
            return;
        };
        let text = format!(
            "record {} says {}, outside of the time of the keys that signed log {}",
            frame.sequence, own.time, log.id
        );
        log.window = Window::default();
        let finding = Finding::bad(What::Clock, text).at(place.segment, place.offset);
        let so = "somebody put it into the past, or the clock was set: if you know by how much, say it with --clock";
        report.add(finding.record(frame.sequence).log(log.id).so(so.to_owned()));
    }

    /// What a record says that others are judged by.
    pub(super) fn said(
        &mut self,
        place: Place,
        frame: &Frame<'_>,
        leaf: Option<(Ulid, u64)>,
        report: &mut Report,
    ) {
        let payload = frame.payload;
        let read = match frame.kind {
            kind::SEGMENT => parse::<SegmentHead>(payload).map(drop),
            kind::RECOVERED => parse(payload).map(|said| self.recovered.push(said)),
            kind::GIVEN_UP => parse(payload).map(|said| self.given_up.push((said, leaf))),
            kind::DELETED => parse::<Deleted>(payload).map(|said| self.deleted.push((said.segment, leaf))),
            kind::ERASED => {
                let said = parse::<serde_json::Value>(payload);
                said.map(|said| self.erased.extend(numbers(&said).into_iter().map(|n| (n, leaf))))
            }
            kind::LOG_END => parse::<LogEnd>(payload).map(|said| self.ends.push((said, leaf))),
            kind::KEY => parse::<Key<'_>>(payload).map(|said| self.key(place, frame.sequence, &said, report)),
            kind::HEARTBEAT => parse::<Heartbeat>(payload).map(|said| {
                self.clock.sign(&said.time, &said.boot_id, said.boottime_us, frame.sequence, report);
            }),
            _ => Some(()),
        };
        if read.is_none() {
            let text =
                format!("record {} (kind {}) is not in the form of its kind", frame.sequence, frame.kind);
            let finding = Finding::bad(What::Changed, text).at(place.segment, place.offset);
            report.add(finding.record(frame.sequence));
        }
    }

    /// A certificate in a record must be the one of the chain.
    fn key(&self, place: Place, sequence: u64, said: &Key<'_>, report: &mut Report) {
        let note = Note::parse(&said.certificate).ok();
        let stated = note.as_ref().and_then(|note| note.text().parse::<Certificate>().ok());
        let chain = self.signed.chain.as_ref();
        let own = stated
            .as_ref()
            .and_then(|stated| chain?.certificates().get(usize::try_from(stated.number).ok()?));
        if own.is_none() || own != stated.as_ref() {
            let text = format!("record {sequence} has a certificate that is not in keys");
            report.add(Finding::bad(What::Key, text).at(place.segment, place.offset).record(sequence));
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// All whole numbers under `number`, `numbers`, `keys` or `segments` of what a record says was erased.
fn numbers(said: &serde_json::Value) -> Vec<u64> {
    let fields = ["number", "numbers", "keys", "segments"].into_iter().filter_map(|name| said.get(name));
    fields
        .flat_map(|value| match value.as_array() {
            Some(all) => all.iter().filter_map(serde_json::Value::as_u64).collect::<Vec<_>>(),
            None => value.as_u64().into_iter().collect(),
        })
        .collect()
}
