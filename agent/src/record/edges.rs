//! The edges of an exchange's record: what it begins and ends with, and its summary.

use std::borrow::Cow;
use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::frame::{Batch, Kind, Unframeable};
use super::headers::{Redacted, path, with_parameter};
use super::own::Own;
use super::payload::{Ending, ExchangeBegin, Kept, stamp};
use super::session::{Facts, cut};
use super::{ExchangeHead, Unrecordable};
use crate::codec::scrub::Needles;
use crate::types::{Caller, Destination, Enforcement, Summary, Verdict};

/// Longest texts of a summary, which must fit a message to the warden and the reserve of the store. The head has the whole.
const LONG: usize = 64 * 1024;
const PATH: usize = 2048;
const WORD: usize = 512;
const ERROR: usize = 1024;

/// An error as summaries bear it.
pub fn shortened(error: String) -> String {
    cut(error, ERROR)
}

/// A text with what must not be seen masked.
pub fn masked(needles: Option<&Needles>, text: String) -> String {
    match needles {
        Some(needles) => needles.mask_text(text),
        None => text,
    }
}

/// A frame that cannot be made cannot be recorded.
pub fn framed(result: Result<(), Unframeable>) -> Result<(), Unrecordable> {
    result.map_err(|error| Unrecordable(error.to_string()))
}

/// Adds to a summary that the store does not have it.
pub fn unrecorded(own: &mut Own, why: &Unrecordable) {
    let error = own.error.take().map_or_else(|| why.to_string(), |error| format!("{error}; {why}"));
    own.error = Some(shortened(error));
}

/// The summary as far as it is known, and the begin frame. Secrets are taken out before anything else sees the head.
pub fn opening(
    batch: &mut Batch,
    session: &Facts,
    number: u32,
    head: ExchangeHead<'_>,
) -> (Box<Own>, Result<(), Unrecordable>) {
    let salt = &session.shared.salt;
    let needles = session.needles();
    let seen = |text: String| masked(needles.as_deref(), text);
    let borne = head.credential.as_ref();
    let clean = head.path.map(|text| with_parameter(path(&text, salt), borne));
    let clean = clean.map(|text| cut(seen(text), LONG));
    let (host, method) =
        (cut(seen(head.host), WORD), head.method.map(|text| cut(seen(text.into_owned()), WORD)));
    let redacted = Redacted::new(&head.headers, salt).with(borne);
    let time = stamp(OffsetDateTime::now_utc());
    let claims = head.identity.as_ref().and_then(|recognised| recognised.claims.as_deref());
    let who = head.identity.as_ref().map(|recognised| &recognised.identity);
    let identity = who.map(|identity| identity.subject.as_str());
    let groups = who.map_or(Cow::Borrowed(&[][..]), |identity| shown(&identity.groups));
    let begin = ExchangeBegin {
        session: Cow::Borrowed(&session.text),
        exchange: number,
        time: Cow::Borrowed(&time),
        protocol: Cow::Borrowed(head.protocol),
        host: Cow::Borrowed(&host),
        host_source: Some(head.host_source),
        method: method.as_deref().map(Cow::Borrowed),
        path: clean.as_deref().map(Cow::Borrowed),
        rule: head.rule.as_deref().map(Cow::Borrowed),
        verdict: head.verdict,
        identity: identity.map(Cow::Borrowed),
        issuer: who.map(|identity| Cow::Borrowed(identity.issuer.as_str())),
        groups: groups.clone(),
        claims: claims.map(Cow::Borrowed),
        caller_keys: Cow::Borrowed(&head.caller_keys),
        headers_cut: redacted.cut(),
        headers: redacted,
    };
    let framed = framed(batch.masked(Kind::Exchange, &begin, needles.as_deref()));
    let own = Own {
        identity: identity.map(str::to_owned),
        groups: groups.into_owned(),
        host,
        host_source: Some(head.host_source),
        method,
        path: clean.map(|text| cut(text, PATH)),
        rule: head.rule,
        verdict: head.verdict,
        credential: head.credential.as_ref().map(|borne| borne.name.to_string()),
        caller_keys: head.caller_keys,
        ..Own::new(number, time, head.protocol)
    };
    (Box::new(own), framed)
}

/// Bytes of groups that a record names; policy looks at all of them.
const GROUPS: usize = 8 * 1024;

/// As many groups as fit, in the token's order.
fn shown(groups: &[String]) -> Cow<'_, [String]> {
    let mut room = GROUPS;
    let fit = groups.iter().take_while(|group| {
        let fits = group.len() < room;
        room = room.saturating_sub(group.len() + 1);
        fits
    });
    Cow::Borrowed(&groups[..fit.count()])
}

/// What the session says of each of its exchanges; the rest is empty.
pub fn summary(session: &str, exchange: u32, caller: &Caller, destination: Destination) -> Summary {
    Summary {
        session: session.to_owned(),
        exchange,
        time: String::new(),
        duration_us: None,
        tag: caller.tag.as_str().to_owned(),
        unit: caller.unit.clone(),
        cgroup: cut(caller.cgroup.clone(), PATH),
        pid: caller.pid,
        start_time: caller.start_time,
        exe: caller.exe.as_ref().map(|exe| cut(exe.path.clone(), PATH)),
        uid: caller.uid,
        user: caller.user.clone(),
        container: caller.container.clone(),
        container_runtime: caller.container_runtime.clone(),
        image: caller.image.clone(),
        netns: caller.netns,
        identity: None,
        groups: Vec::new(),
        enforcement: Enforcement::of(caller.weakened.as_deref()),
        weakened: caller.weakened.clone().unwrap_or_default(),
        protocol: String::new(),
        host: String::new(),
        host_source: None,
        address: destination.to_string(),
        method: None,
        path: None,
        status: None,
        rule: None,
        verdict: Verdict::Allow,
        credential: None,
        caller_keys: Vec::new(),
        masked: BTreeMap::new(),
        bytes_up: 0,
        bytes_down: 0,
        error: None,
    }
}

/// Adds the end frame.
pub fn end(batch: &mut Batch, session: &Facts, own: &Own, up: Kept, down: Kept) -> Result<(), Unrecordable> {
    let end = Ending { session: &session.text, exchange: own.exchange, up, down };
    let summary = ("summary", session.same.as_slice(), own);
    framed(batch.joined(Kind::ExchangeEnd, &end, summary, session.needles().as_deref()))
}
