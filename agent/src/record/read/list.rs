//! Summaries of a store's exchanges, filtered: what `sluice sessions` prints.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Deserialize;

use super::unseal::BodyPiece;
use super::{Damage, Error, Frame, Reader};
use crate::record::edges::summary;
use crate::record::frame::Kind;
use crate::record::payload::{ExchangeBegin, ExchangeEnd, SessionBegin, SessionEnd};
use crate::types::{Caller, Summary};

/// What an exchange that a crash cut off shows as its error.
pub const INTERRUPTED: &str = "interrupted: the agent ended";
/// Tag of an exchange whose session's begin is no more in the store.
pub(super) const UNKNOWN: &str = "(unknown)";

/// Which exchanges are wanted. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Begun at this time or later, as records bear times.
    pub since: Option<String>,
    /// Begun before this time.
    pub until: Option<String>,
    /// Of this tag.
    pub tag: Option<String>,
    /// Of this unit.
    pub unit: Option<String>,
    /// To this host.
    pub host: Option<Host>,
    /// With this status.
    pub status: Option<Status>,
}

/// A host, or all below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This name or address, case-insensitively.
    Exact(String),
    /// Any name that ends in `.suffix`.
    Below(String),
}

/// A status, or all of one hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Exact(u16),
    /// This digit first.
    Class(u16),
}

impl Filter {
    /// Whether it leaves out more than what is too old.
    pub fn narrows(&self) -> bool {
        self.tag.is_some() || self.unit.is_some() || self.host.is_some() || self.status.is_some()
    }

    /// Whether a summary is wanted.
    pub fn wants(&self, s: &Summary) -> bool {
        self.since.as_ref().is_none_or(|since| s.time >= *since)
            && self.until.as_ref().is_none_or(|until| s.time < *until)
            && self.tag.as_ref().is_none_or(|tag| s.tag == *tag)
            && self.unit.as_ref().is_none_or(|unit| s.unit.as_ref() == Some(unit))
            && self.host.as_ref().is_none_or(|host| host.is(&s.host))
            && self.status.is_none_or(|status| s.status.is_some_and(|code| status.is(code)))
    }
}

impl Host {
    fn is(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(suffix) => host
                .len()
                .checked_sub(suffix.len() + 1)
                .and_then(|at| host.get(at..))
                .is_some_and(|end| end.starts_with('.') && end[1..].eq_ignore_ascii_case(suffix)),
        }
    }
}

impl Status {
    fn is(self, code: u16) -> bool {
        match self {
            Self::Exact(status) => code == status,
            Self::Class(digit) => code / 100 == digit,
        }
    }
}

/// Gives every wanted summary to `each`, in the order in which the exchanges ended, those under way last.
///
/// # Errors
/// [`Error`]: the store cannot be read.
pub fn all(
    dir: &Path,
    filter: &Filter,
    mut each: impl FnMut(Summary) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    let reader = Reader::open(dir)?;
    let from = filter.since.as_ref().map_or(0, |since| reader.before(since));
    walk(
        &reader,
        from,
        |summary| if filter.wants(&summary) { each(summary) } else { ControlFlow::Continue(()) },
    )
}

/// The wanted summaries that began last, `limit` at most, the newest last. Reads from the end of the store only as far back
/// as it must.
///
/// # Errors
/// [`Error`]: the store cannot be read.
pub fn newest(dir: &Path, filter: &Filter, limit: usize) -> Result<(Vec<Summary>, Vec<Damage>), Error> {
    let reader = Reader::open(dir)?;
    let first = filter.since.as_ref().map_or(0, |since| reader.before(since));
    let mut back = 1;
    loop {
        let from = reader.segments().saturating_sub(back).max(first);
        let mut found: BTreeMap<(String, String, u32), Summary> = BTreeMap::new();
        let damage = walk(&reader, from, |summary| {
            if filter.wants(&summary) {
                found.insert((summary.time.clone(), summary.session.clone(), summary.exchange), summary);
                if found.len() > limit {
                    found.pop_first();
                }
            }
            ControlFlow::Continue(())
        })?;
        // Whatever began after this segment did is in what was read: older ones cannot be among the newest.
        let complete = found.len() == limit
            && found
                .first_key_value()
                .is_none_or(|((time, ..), _)| reader.began(from).is_some_and(|t| t <= time.as_str()));
        if complete || from <= first {
            return Ok((found.into_values().collect(), damage));
        }
        back *= 2;
    }
}

fn walk(
    reader: &Reader,
    from: usize,
    each: impl FnMut(Summary) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    walk_on(Open { reader, from, ..Open::new(reader) }, from, each)
}

pub(super) fn walk_on(
    mut open: Open<'_>,
    from: usize,
    mut each: impl FnMut(Summary) -> ControlFlow<()>,
) -> Result<Vec<Damage>, Error> {
    let reader = open.reader;
    let (damage, broken) = reader.frames_from(from, |frame| open.frame(frame, &mut each))?;
    if !broken {
        let error = (!reader.live()).then_some(INTERRUPTED);
        // Nothing follows: whether `each` has had enough makes no difference.
        let _ = open.over(error, &mut each)?;
    }
    Ok(damage)
}

/// Sessions and exchanges that have begun and not ended, at one place in the store.
pub(super) struct Open<'a> {
    reader: &'a Reader,
    from: usize,
    sessions: HashMap<String, SessionBegin<Caller>>,
    exchanges: BTreeMap<(String, u32), Summary>,
    /// Sessions that were open before `from`, read when one is missed.
    earlier: Option<HashMap<String, SessionBegin<Caller>>>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    session: Cow<'a, str>,
    exchange: u32,
    status: u16,
}

impl<'a> Open<'a> {
    fn new(reader: &'a Reader) -> Self {
        Self { reader, from: 0, sessions: HashMap::new(), exchanges: BTreeMap::new(), earlier: None }
    }

    /// With what had begun where another walk ended.
    pub(super) fn from(
        reader: &'a Reader,
        sessions: HashMap<String, SessionBegin<Caller>>,
        exchanges: BTreeMap<(String, u32), Summary>,
    ) -> Self {
        Self { reader, from: 0, sessions, exchanges, earlier: Some(HashMap::new()) }
    }

    /// What has begun and not ended.
    #[expect(clippy::type_complexity, reason = "the two maps that another walk begins with")]
    pub(super) fn into_parts(
        self,
    ) -> (HashMap<String, SessionBegin<Caller>>, BTreeMap<(String, u32), Summary>) {
        (self.sessions, self.exchanges)
    }

    pub(super) fn frame(
        &mut self,
        frame: &Frame<'_>,
        each: &mut impl FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        match frame.kind {
            Some(Kind::Start) if self.reader.goes_on(frame) => {}
            Some(Kind::Start) => return self.over(Some(INTERRUPTED), each),
            Some(Kind::Exchange) => self.begun(frame.payload),
            Some(Kind::Response) => {
                if let Ok(answer) = serde_json::from_slice::<Answered<'_>>(frame.payload)
                    && let Some(open) =
                        self.exchanges.get_mut(&(answer.session.into_owned(), answer.exchange))
                {
                    open.status = Some(answer.status);
                }
            }
            Some(Kind::Body | Kind::BodyRef) => {
                if let Some((at, length)) = BodyPiece::at(frame)
                    && let Some(open) =
                        self.exchanges.get_mut(&(ulid::Ulid(at.session).to_string(), at.exchange))
                {
                    *(if at.down { &mut open.bytes_down } else { &mut open.bytes_up }) += length;
                }
            }
            Some(Kind::ExchangeEnd) => {
                if let Ok(end) = serde_json::from_slice::<ExchangeEnd<'_>>(frame.payload) {
                    self.exchanges.remove(&(end.session.into_owned(), end.exchange));
                    return Ok(each(end.summary.into_owned()));
                }
            }
            _ => track(&mut self.sessions, frame),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn begun(&mut self, payload: &[u8]) {
        let Ok(head) = serde_json::from_slice::<ExchangeBegin<'_, serde::de::IgnoredAny>>(payload) else {
            return;
        };
        let open = of_begin(&head, self.sessions.get(head.session.as_ref()));
        self.exchanges.insert((head.session.into_owned(), head.exchange), open);
    }

    /// Everything that is open now will not be ended by a record: `error` says why, `None` that it runs.
    fn over(
        &mut self,
        error: Option<&str>,
        each: &mut impl FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        self.sessions.clear();
        for (_, mut open) in std::mem::take(&mut self.exchanges) {
            open.error = error.map(str::to_owned);
            self.fill(&mut open)?;
            if each(open).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        // A start ends what was open before it, so that the earlier sessions are of no more use.
        self.earlier = Some(HashMap::new()).filter(|_| error.is_some());
        Ok(ControlFlow::Continue(()))
    }

    fn fill(&mut self, open: &mut Summary) -> Result<(), Error> {
        if !open.tag.is_empty() {
            return Ok(());
        }
        if self.earlier.is_none() {
            let mut sessions = HashMap::new();
            self.reader.frames(0..self.from, |frame| {
                track(&mut sessions, &frame);
                ControlFlow::Continue(())
            })?;
            self.earlier = Some(sessions);
        }
        match self.earlier.as_ref().and_then(|sessions| sessions.get(&open.session)) {
            Some(session) => {
                let known = summary(&open.session, open.exchange, &session.caller, session.destination);
                let Summary { tag, unit, cgroup, pid, start_time, exe, uid, user, address, .. } = known;
                let Summary { container, container_runtime, image, netns, enforcement, weakened, .. } = known;
                *open = Summary { container, container_runtime, image, netns, ..open.clone() };
                *open = Summary { enforcement, weakened, ..open.clone() };
                *open =
                    Summary { tag, unit, cgroup, pid, start_time, exe, uid, user, address, ..open.clone() };
            }
            None => UNKNOWN.clone_into(&mut open.tag),
        }
        Ok(())
    }
}

/// What an exchange's begin says, in one line; the session's part is empty where the session is not known.
pub(crate) fn of_begin<H>(head: &ExchangeBegin<'_, H>, session: Option<&SessionBegin<Caller>>) -> Summary {
    let mut open = session.map_or_else(
        || summary_without_session(&head.session, head.exchange),
        |session| summary(&head.session, head.exchange, &session.caller, session.destination),
    );
    let owned = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| text.to_string());
    open.time = head.time.to_string();
    open.protocol = head.protocol.to_string();
    open.host = head.host.to_string();
    open.host_source = head.host_source;
    open.method = owned(&head.method);
    open.path = owned(&head.path);
    open.rule = owned(&head.rule);
    open.verdict = head.verdict;
    open.identity = owned(&head.identity);
    open.groups = head.groups.to_vec();
    open.caller_keys = head.caller_keys.to_vec();
    open
}

/// Keeps the sessions that are open. An exchange may outlast its session's end, but has its caller by then.
fn track(sessions: &mut HashMap<String, SessionBegin<Caller>>, frame: &Frame<'_>) {
    match frame.kind {
        Some(Kind::Session) => {
            if let Ok(begin) = serde_json::from_slice::<SessionBegin<Caller>>(frame.payload) {
                sessions.insert(begin.session.clone(), begin);
            }
        }
        Some(Kind::SessionEnd) => {
            if let Ok(end) = serde_json::from_slice::<SessionEnd<'_>>(frame.payload) {
                sessions.remove(end.session.as_ref());
            }
        }
        Some(Kind::Start) => sessions.clear(),
        _ => {}
    }
}

/// What is known of an exchange without its session and head.
pub(crate) fn summary_without_session(session: &str, exchange: u32) -> Summary {
    Summary {
        session: session.to_owned(),
        exchange,
        time: String::new(),
        duration_us: None,
        tag: String::new(),
        unit: None,
        cgroup: String::new(),
        pid: 0,
        start_time: None,
        exe: None,
        uid: 0,
        user: None,
        container: None,
        container_runtime: None,
        image: None,
        netns: None,
        identity: None,
        groups: Vec::new(),
        enforcement: None,
        weakened: Vec::new(),
        protocol: String::new(),
        host: String::new(),
        host_source: None,
        address: String::new(),
        method: None,
        path: None,
        status: None,
        rule: None,
        verdict: crate::types::Verdict::Allow,
        credential: None,
        caller_keys: Vec::new(),
        masked: BTreeMap::new(),
        bytes_up: 0,
        bytes_down: 0,
        error: None,
    }
}
