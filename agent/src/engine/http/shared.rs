//! What the strict gate and the service behind hyper tell each other, past hyper.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::header::UPGRADE;
use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::codec::http1::Violation;

/// Octets of informational answers that wait for a client; beyond it they are dropped, being hints.
const INFORMATIONAL_MAX: usize = 4096;

/// What gate and service tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Between two messages, nothing held back, nothing there to read.
    pub(super) waiting: AtomicBool,
    /// Everything that hyper wrote is through.
    pub(super) flushed: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Requests let through, ours included.
    pub(super) heads: u64,
    pub(super) refused: Option<(Place, Violation)>,
    pub(super) decision: Option<bool>,
    /// 1xx heads on their way to the client.
    pub(super) informational: Vec<u8>,
    pub(super) reader: Option<Waker>,
}

/// Where a violation stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In place of this request, counted from 1.
    Request(u64),
    /// In the body of the last request let through.
    Body,
}

/// What the gate knows of a request that the service was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It was let through.
    Yes,
    /// It stands for one that was refused.
    Refused(Violation),
    /// It was never let through: the library below reads requests where the gate saw none.
    Never,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What request `number` (from 1) is.
    pub(super) fn passed(&self, number: u64) -> Passed {
        let state = self.state();
        match state.refused {
            Some((Place::Request(n), violation)) if n == number => Passed::Refused(violation),
            _ if number <= state.heads => Passed::Yes,
            _ => Passed::Never,
        }
    }

    /// What was wrong with the body of the request under way, if that is why it ended.
    pub(super) fn body_refused(&self) -> Option<Violation> {
        match self.state().refused {
            Some((Place::Body, violation)) => Some(violation),
            _ => None,
        }
    }

    /// Whether anything was refused.
    pub(super) fn refused(&self) -> bool {
        self.state().refused.is_some()
    }

    /// Whether the connection is between two exchanges, as far as the gate can see.
    pub(super) fn quiet(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.flushed.load(Ordering::Relaxed)
    }

    fn decide(&self, raw: bool) {
        let mut state = self.state();
        state.decision = Some(raw);
        wake(&mut state);
    }

    /// Queues an informational answer for the client.
    pub(super) fn informational(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.state();
        let out = &mut state.informational;
        if out.len() > INFORMATIONAL_MAX {
            return; // they are hints: a flood of them is not kept
        }
        let reason = status.canonical_reason().unwrap_or_default();
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        wake(&mut state);
    }
}

/// A request for another protocol: until it is decided, the gate holds back what follows. Dropped, it is refused.
pub(super) struct Undecided(Option<Arc<Shared>>);

impl Undecided {
    /// What `request` asks of the gate it came through; nothing for most.
    pub(super) fn of<B>(gate: Option<&Arc<Shared>>, request: &Request<B>) -> Self {
        let asks = request.method() == Method::CONNECT
            || (request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE));
        Self(gate.filter(|_| asks).map(Arc::clone))
    }

    /// The protocol changes: what follows is not the gate's to read.
    pub(super) fn grant(mut self) {
        if let Some(gate) = self.0.take() {
            gate.decide(true);
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            gate.decide(false);
        }
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.reader.take() {
        waker.wake();
    }
}
