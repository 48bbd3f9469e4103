//! Masking of an exchange: what a rule's masks hide from the upstream, from the caller and from the record. Bodies are read and
//! rewritten by [`crate::mask`]; here is where they pass, what becomes of the fields that speak of them, and what is refused.
//!
//! Without masks none of this is touched.

mod analyser;
mod answer;
mod coded;
mod head;
mod reader;
mod record;
mod request;
mod socket;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use crate::engine::masking::{Tags, Tokens};
use crate::mask::{Counts, Kind, Scope, Spelling, text};
use crate::policy::mask::Masks;
use crate::record::ExchangeHead;

pub(super) use analyser::{analysed, unasked};
pub(super) use answer::{Answer, Parts};
pub(super) use record::Upward;
pub(super) use request::{Hiding, passing, refusal, unmaskable, whole};
pub(super) use socket::Side;

/// The masks of one exchange, and what came of them.
pub(super) struct Masking {
    masks: Arc<Masks>,
    scope: Arc<Scope>,
    tags: Arc<Tags>,
    /// What was hidden so far, by detector.
    counts: Mutex<BTreeMap<String, u64>>,
    refused: OnceLock<String>,
}

impl Masking {
    pub(super) fn new(masks: &Arc<Masks>, tokens: &Tokens) -> Self {
        let (scope, tags) = (tokens.scope(masks.within), tokens.tags());
        let (masks, counts) = (Arc::clone(masks), Mutex::default());
        Self { masks, scope, tags, counts, refused: OnceLock::new() }
    }

    /// Whether what comes back is read, to hide values or to put them back.
    pub(super) fn reads_answer(&self) -> bool {
        self.masks.answer.is_some() || self.masks.restores
    }

    /// Whether what goes up, as it goes up, still needs hiding for the record.
    fn records_request(&self) -> bool {
        !self.masks.request_is_record
    }

    /// Whether what comes back is hidden by the same masks for the caller and for the record: then one reading is enough.
    fn answer_is_record(&self) -> bool {
        self.masks.answer.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &self.masks.record))
    }

    /// Why a body was refused, if one was.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// A body was refused.
    fn refuse(&self, why: String) -> String {
        self.refused.get_or_init(|| why.clone());
        why
    }

    /// What went wrong, with the body's part in it.
    pub(super) fn explain(&self, error: String) -> String {
        match self.refused() {
            Some(why) if !error.contains(why) => format!("{error}; a body could not be masked: {why}"),
            _ => error,
        }
    }

    /// What a body or a head has hidden by now, where it had told of so much before.
    fn note(&self, before: &Counts, now: &Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (told, sign) in [(now, true), (before, false)] {
            for (detector, count) in told.iter() {
                let all = counts.entry(detector.to_owned()).or_default();
                *all = if sign { all.saturating_add(count) } else { all.saturating_sub(count) };
            }
        }
        counts.retain(|_, count| *count > 0);
    }

    /// The same of something that is there whole.
    fn count(&self, counts: &Counts) {
        if counts.total() > 0 {
            self.note(&Counts::default(), counts);
        }
    }

    /// What was hidden in all, by detector: the exchange is over, and it is counted among all.
    pub(super) fn told(&self) -> BTreeMap<String, u64> {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.tags.tally.add(&counts);
        counts
    }

    /// A text of our own as the record may have it.
    pub(super) fn for_record(&self, words: String) -> String {
        let mut unused = Counts::default();
        let record = &self.masks.record;
        let hidden = text(record, &self.scope, Spelling::Header, None, words.as_bytes(), &mut unused);
        hidden.map_or(words, |hidden| String::from_utf8_lossy(&hidden).into_owned())
    }
}

/// A request's head as the record may have it.
pub(super) fn for_record<'a>(masking: Option<&Arc<Masking>>, head: ExchangeHead<'a>) -> ExchangeHead<'a> {
    refused(masking.filter(|masking| masking.records_request()), head)
}

/// The same of one that is refused: nothing of it may have been hidden yet.
pub(super) fn refused<'a>(masking: Option<&Arc<Masking>>, head: ExchangeHead<'a>) -> ExchangeHead<'a> {
    let Some(masking) = masking else { return head };
    let path = head.path.as_deref().unwrap_or_default();
    let (hidden, headers) = masking.record_head(path, &head.headers, true);
    let path = hidden.map_or(head.path, |hidden| Some(Cow::Owned(hidden)));
    ExchangeHead { path, headers: Cow::Owned(headers), ..head }
}

/// Why a body with this head cannot be masked, as far as the head says.
fn unreadable(headers: &HeaderMap) -> Option<String> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (kind, another) = (types.next(), types.next());
    if another.is_some() {
        return Some("it has two types".to_owned());
    }
    Kind::of(kind.map(HeaderValue::as_bytes), b"").err().map(|refused| refused.to_string())
}
