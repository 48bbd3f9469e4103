//! Masking of an exchange: what a rule's masks hide from the upstream, from the caller and from the record. Bodies are read and
//! rewritten by [`crate::mask`]; here is where they pass, what becomes of the fields that speak of them, and what is refused.
//!
//! Without masks none of this is touched.

mod answer;
mod coded;
mod head;
mod reader;
mod record;
mod request;
mod socket;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::mask::{Counts, Kind, Scope, Spelling, text};
use crate::policy::mask::Masks;
use crate::record::ExchangeHead;

pub(super) use answer::{Answer, Parts};
pub(super) use record::Upward;
pub(super) use request::{Hiding, passing, refusal, unmaskable, whole};
pub(super) use socket::Side;

/// The masks of one exchange, and what came of them.
pub(super) struct Masking {
    masks: Arc<Masks>,
    scope: Arc<Scope>,
    /// A place for each body and head that is counted.
    counts: Mutex<Vec<Counts>>,
    refused: OnceLock<String>,
}

impl Masking {
    pub(super) fn new(masks: &Arc<Masks>, scope: Arc<Scope>) -> Self {
        let (masks, counts) = (Arc::clone(masks), Mutex::default());
        Self { masks, scope, counts, refused: OnceLock::new() }
    }

    /// Whether what comes back is read, to hide values or to put them back.
    pub(super) fn reads_answer(&self) -> bool {
        self.masks.answer.is_some() || self.masks.restores
    }

    /// Whether what goes up, as it goes up, still needs hiding for the record.
    fn records_request(&self) -> bool {
        !self.masks.request_is_record
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

    /// A place to count in.
    fn place(&self) -> usize {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.push(Counts::default());
        counts.len() - 1
    }

    /// What was hidden there so far.
    fn note(&self, place: usize, now: &Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = counts.get_mut(place) {
            counts.clone_from(now);
        }
    }

    /// What was hidden in all, by detector.
    pub(super) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|one| all.merge(one));
        all
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
    let Some(masking) = masking.filter(|masking| masking.records_request()) else { return head };
    let path = head.path.as_deref().unwrap_or_default();
    let (hidden, headers) = masking.record_head(path, &head.headers, true);
    let path = hidden.map_or(head.path, |hidden| Some(Cow::Owned(hidden)));
    ExchangeHead { path, headers: Cow::Owned(headers), ..head }
}

/// Why a body of this type cannot be masked, as far as its head says.
fn unreadable(content_type: Option<&http::HeaderValue>) -> Option<String> {
    Kind::of(content_type.map(http::HeaderValue::as_bytes), b"").err().map(|refused| refused.to_string())
}
