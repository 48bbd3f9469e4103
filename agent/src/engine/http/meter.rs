//! What one HTTP exchange takes of the limits that hold for it, corrected as it passes and when it ends.
//!
//! The answer is looked at for what it tells of tokens; it is never held back nor changed, and what cannot be read leaves the
//! estimate as it stands.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::codec::usage::Answer;
use crate::limit::Spent;
use crate::policy::llm::{Estimate, OCTETS};

/// While an exchange goes on, its count is corrected in steps of so many tokens.
const STEP: u64 = 256;

/// See the module.
pub(super) struct Meter {
    /// Shared with the request's body: what is open is open until both are over.
    spent: Arc<Spent>,
    /// Set where tokens are counted.
    tokens: Option<Box<Tokens>>,
}

struct Tokens {
    /// `None` where the request asks no model.
    estimate: Option<Estimate>,
    answer: Option<Answer>,
    /// What the exchange was seen to cost when the count was corrected last.
    corrected: u64,
    /// Octets of a WebSocket.
    octets: u64,
    sent: bool,
    /// The upstream has refused it.
    refused: bool,
}

impl Meter {
    pub(super) fn new(spent: Spent, estimate: Option<Estimate>) -> Self {
        let tokens = spent.counts_tokens().then(|| {
            let corrected = estimate.unwrap_or_default().most;
            let (answer, octets, sent, refused) = (None, 0, false, false);
            Box::new(Tokens { estimate, answer, corrected, octets, sent, refused })
        });
        Self { spent: Arc::new(spent), tokens }
    }

    pub(super) fn spent(&self) -> &Arc<Spent> {
        &self.spent
    }

    /// It goes upstream from here on: what its request's body counts on.
    pub(super) fn sent(&mut self) -> Arc<Spent> {
        if let Some(tokens) = &mut self.tokens {
            tokens.sent = true;
        }
        Arc::clone(&self.spent)
    }

    /// The upstream answers.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(tokens) = &mut self.tokens {
            tokens.refused = status.is_client_error() || status.is_server_error();
            tokens.answer = Some(Answer::of(headers));
        }
    }

    /// Some of the answer's body.
    pub(super) fn down(&mut self, bytes: &[u8]) {
        self.spent.bytes(bytes.len() as u64);
        if let Some(tokens) = &mut self.tokens
            && let Some(answer) = &mut tokens.answer
        {
            answer.push(bytes);
            tokens.correct(&self.spent);
        }
    }

    /// Some of a WebSocket, either way.
    pub(super) fn passed(&mut self, octets: usize) {
        self.spent.bytes(octets as u64);
        if let Some(tokens) = &mut self.tokens {
            tokens.octets = tokens.octets.saturating_add(octets as u64);
            tokens.correct(&self.spent);
        }
    }

    /// It is over: whole, or broken off. Only the first call counts.
    pub(super) fn end(&mut self, whole: bool) {
        if let Some(tokens) = self.tokens.take() {
            self.spent.tokens(tokens.cost(whole));
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Tokens {
    /// What it was seen to cost so far.
    fn seen(&self) -> u64 {
        let told = self.answer.as_ref().and_then(Answer::tokens);
        let written = self.answer.as_ref().map_or(0, Answer::written);
        match self.estimate {
            Some(Estimate { prompt, .. }) => {
                let guessed = prompt.saturating_add(written.saturating_add(self.octets) / OCTETS);
                told.unwrap_or(guessed)
            }
            None => told.unwrap_or(0),
        }
    }

    /// More than was reckoned with: nobody else is to count on it meanwhile.
    fn correct(&mut self, spent: &Spent) {
        let seen = self.seen();
        if seen >= self.corrected.saturating_add(STEP) {
            self.corrected = seen;
            spent.tokens(seen);
        }
    }

    fn cost(&self, whole: bool) -> u64 {
        let told = self.answer.as_ref().is_some_and(|answer| answer.tokens().is_some());
        match (self.sent, whole) {
            (false, _) => 0,
            (true, true) if self.refused && !told => 0,
            (true, true) => self.seen(),
            // Whoever leaves early is not to pay less for it.
            (true, false) => self.seen().max(self.estimate.unwrap_or_default().most).max(self.corrected),
        }
    }
}
