//! What became of each attempt, and whether the table says so.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use sluice_tests::escape::{Entry, Fate, Layer, Proof, Way};

use crate::stage::{OTHER4, OTHER6, Stage};

/// How a walk ended, in its own words.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ended {
    /// `sent`, `answered`, `refused`; empty: it was killed.
    pub ended: String,
    #[serde(default)]
    pub step: String,
    #[serde(default)]
    pub errno: String,
    #[serde(skip)]
    pub note: String,
}

impl Ended {
    pub fn sent(&self) -> bool {
        matches!(self.ended.as_str(), "sent" | "answered")
    }

    fn show(&self) -> String {
        match self.ended.as_str() {
            "refused" => format!("{} {}", self.step, self.errno),
            "" => "killed".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Through the gate, and recorded.
    Taken,
    /// Nothing arrived.
    Closed,
    /// It arrived past the agent, or in its name but not in the record.
    Open,
}

/// One way for one user.
pub struct Row {
    pub way: &'static Way,
    pub uid: u32,
    pub control: Ended,
    pub control_proof: Vec<u8>,
    pub tagged: Ended,
    pub tagged_proof: Vec<u8>,
    /// Frames that came during the tagged walk.
    pub window: Range<usize>,
    pub works: bool,
    /// What the table says of this host.
    pub fate: Fate,
    pub verdict: Verdict,
    /// Frames of the tagged walk that are neither the agent's nor a link's own business.
    pub strange: BTreeSet<String>,
}

impl Row {
    pub fn new(way: &'static Way, uid: u32, control_proof: Vec<u8>, tagged_proof: Vec<u8>) -> Self {
        Self {
            way,
            uid,
            control: Ended::default(),
            control_proof,
            tagged: Ended::default(),
            tagged_proof,
            window: 0..0,
            works: false,
            fate: way.fate_of(uid),
            verdict: Verdict::Open,
            strange: BTreeSet::new(),
        }
    }

    /// What is not as the table says.
    pub fn complaint(&self) -> Option<String> {
        let fate = self.fate;
        let name = format!("{} as {}", self.way.name, self.uid);
        let ended = self.tagged.show();
        let wrong = match (fate, self.verdict) {
            (Fate::Taken | Fate::Either | Fate::Closed(_), Verdict::Open) => "LEADS OUT",
            (Fate::Taken, Verdict::Closed) if self.works => "is refused, and should be taken",
            (Fate::Closed(_), Verdict::Taken) => "is taken, and should be refused",
            (Fate::Open(_), Verdict::Closed | Verdict::Taken) if self.works => {
                "does not lead out, and the table says that it does"
            }
            (Fate::Closed(_), Verdict::Closed) if !self.strange.is_empty() => {
                return Some(format!("{name}: frames left: {:?}", self.strange));
            }
            _ => return None,
        };
        Some(format!("{name}: {wrong} ({ended})"))
    }
}

/// Looks at the frames and at the record.
pub fn judge(stage: &Stage, rows: &mut [Row]) {
    let recorded: Vec<String> = if stage.world.is_direct() {
        Vec::new()
    } else {
        let sessions = stage.world.sessions().expect("the record");
        sessions.iter().map(|s| format!("{s:?}").to_ascii_lowercase()).collect()
    };
    let all = stage.frames(|_| true);
    for row in rows {
        row.fate = row.way.fate_on(row.uid, stage.has_lsm);
        let word = row.way.proof == Proof::Word;
        row.works = if word {
            row.control.sent()
        } else {
            all.iter().any(|frame| frame.contains(&row.control_proof))
        };
        let marked: Vec<_> = all.iter().filter(|frame| frame.contains(&row.tagged_proof)).collect();
        // Names are recorded in lower case (RFC 4343).
        let text = String::from_utf8_lossy(&row.tagged_proof).to_ascii_lowercase();
        let record = recorded.iter().any(|line| line.contains(&text));
        let through = |frame: &&sluice_tests::capture::Frame| {
            Stage::is_agents(frame)
                || frame.packet().is_some_and(|p| p.source == OTHER4 || p.source == OTHER6)
        };
        row.verdict = if word && row.tagged.sent() {
            Verdict::Open
        } else if marked.is_empty() {
            Verdict::Closed
        } else if record && marked.iter().all(through) {
            Verdict::Taken
        } else {
            Verdict::Open
        };
        let during = all.get(row.window.clone()).unwrap_or_default();
        // What a way did before it came into the tag, and what others do for it, is not the tag's.
        // A group that was joined untagged is left by a report, too, a little later.
        let own = row.way.entry == Entry::Run
            && !row.way.name.ends_with("-join")
            && !["netns-", "rights-"].iter().any(|other| row.way.name.starts_with(other));
        let grouped = ["multicast", "mdns", "igmp"].iter().any(|word| row.way.name.contains(word));
        let strange = during.iter().filter(|frame| {
            own && !frame.is_neighbourly()
                && (grouped || !frame.is_group_report())
                && !frame.is_afterthought()
                && !Stage::is_agents(frame)
                && !frame.contains(b"sentinel-")
        });
        row.strange = strange.map(|frame| format!("{frame:?}")).collect();
    }
}

/// How many ways lead out without a tag, by any user.
pub fn proven(rows: &[Row]) -> usize {
    let names: BTreeSet<_> = rows.iter().filter(|row| row.works).map(|row| row.way.name).collect();
    names.len()
}

/// The table.
pub fn print(rows: &[Row]) {
    println!(
        "{:>3} {:22} {:>5}  {:30} {:34} {:10} said to be",
        "row", "way", "uid", "untagged", "tagged", "verdict"
    );
    for row in rows {
        let control = match (row.way.alone || row.way.last, row.works) {
            (true, _) => "-".to_owned(),
            (_, true) => format!("arrives ({})", row.control.show()),
            (_, false) => format!("not here: {}", row.control.show()),
        };
        let fate = match row.fate {
            Fate::Taken => "taken".to_owned(),
            Fate::Either => "taken or closed".to_owned(),
            Fate::Closed([Layer::Kernel]) => "closed (Linux)".to_owned(),
            Fate::Closed(by) => format!("closed {by:?}"),
            Fate::Open(why) => format!("open: {why}"),
        };
        println!(
            "{:>3} {:22} {:>5}  {:30} {:34} {:10} {fate}",
            row.way.row,
            row.way.name,
            row.uid,
            control,
            format!("{} {}", row.tagged.show(), row.tagged.note),
            format!("{:?}", row.verdict),
        );
        for frame in &row.strange {
            println!("      frame: {frame}");
        }
    }
    let of = |verdict| rows.iter().filter(|row| row.works && row.verdict == verdict).count();
    println!(
        "{} ways lead out without a tag; with one, of {} attempts that did: {} taken, {} closed, {} open",
        proven(rows),
        rows.iter().filter(|row| row.works).count(),
        of(Verdict::Taken),
        of(Verdict::Closed),
        of(Verdict::Open),
    );
}
