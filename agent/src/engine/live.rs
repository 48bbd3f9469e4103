//! What goes on for long is judged again when the rules change, and when the identity behind it ends: a stream, a
//! WebSocket, a tunnel that is no longer allowed is cut.
//!
//! What was known when it began is what is judged. A rule that asks for more, a body that was not read then, refuses it:
//! it cannot be known any more.

use std::future::{pending, poll_fn};
use std::task::{Context as Waking, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Context;
use super::held::Held;
use crate::policy::{Denied, Hears, Mode, Permit, Verdict};
use crate::types::Action;
use crate::types::Packed;

/// What is known of something that goes on.
pub(super) enum Facts {
    /// An HTTP request; whose messages on the WebSocket that it opened are judged.
    Http(Packed, Hears),
    /// A tunnel, and why it is not read.
    Tunnel(String),
}

struct Judged {
    cx: Context,
    facts: Facts,
}

/// Watches the rules for one exchange. See the module.
pub(super) struct Live {
    judged: Option<Box<Judged>>,
    waiting: Option<BoxFuture<'static, Denied>>,
    /// Whoever drives it polls it when the rules change.
    told: bool,
    /// What the facts take of the process's memory.
    _held: Option<Held>,
}

impl Live {
    /// Watches from the rules on that `cx` has seen last.
    pub fn new(cx: Context, facts: Facts) -> Self {
        Self { judged: Some(Box::new(Judged { cx, facts })), waiting: None, told: false, _held: None }
    }

    /// Where whoever drives it polls it when the rules change: it need not wait for them by itself. The end of an identity
    /// it waits for all the same.
    pub fn told(mut self, told: bool) -> Self {
        self.told = told;
        self
    }

    /// With what a body among the facts takes.
    pub fn holding(mut self, held: Option<Held>) -> Self {
        self._held = held;
        self
    }

    /// Ready when rules that came meanwhile refuse it. `wait`: the task is woken when there are others; without that it
    /// costs next to nothing.
    pub fn poll_refused(&mut self, waking: &mut Waking<'_>, wait: bool) -> Poll<Denied> {
        if let Some(judged) = &self.judged
            && ((wait && !(self.told && judged.remains().is_none())) || judged.may_be_over())
        {
            self.waiting =
                self.judged.take().map(|judged| -> BoxFuture<'static, Denied> { Box::pin(judged.refused()) });
        }
        self.waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(waking))
    }

    /// Completes when rules that came meanwhile refuse it.
    pub async fn refused(&mut self) -> Denied {
        self.told = false;
        poll_fn(|waking| self.poll_refused(waking, true)).await
    }
}

impl Judged {
    async fn refused(mut self: Box<Self>) -> Denied {
        let mut remains = self.remains();
        loop {
            let ended = async {
                match remains {
                    Some(remains) => tokio::time::sleep(remains).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // Without a sender the agent is ending, and the drain has the say.
                changed = self.cx.policy.changed() => if changed.is_err() {
                    pending::<()>().await;
                },
                () = ended => {}
            }
            // Told once: nobody's identity does not end again.
            remains = self.remains().filter(|remains| !remains.is_zero());
            if let Err(mut denied) = self.judge() {
                if self.has_ended() {
                    denied.reason.push_str("; the token of the caller's identity has expired");
                }
                return denied;
            }
        }
    }

    /// How long the identity behind it is somebody's, where there is one.
    fn remains(&self) -> Option<Duration> {
        self.cx.who.standing().remains()
    }

    /// Whether there was an identity, and it is nobody's any more.
    fn has_ended(&self) -> bool {
        self.remains().is_some_and(|remains| remains.is_zero())
    }

    /// Whether there is reason to judge it again.
    fn may_be_over(&self) -> bool {
        self.cx.policy.has_changed().unwrap_or(false) || self.has_ended()
    }

    fn judge(&mut self) -> Result<Permit, Denied> {
        let policy = self.cx.policy_seen();
        let kept;
        let action = match &self.facts {
            Facts::Http(packed, _) => {
                kept = packed.kept();
                Action::Http(kept.http())
            }
            Facts::Tunnel(why) => {
                Action::Tunnel { destination: self.cx.destination, host: self.cx.trusted_name(), why }
            }
        };
        let permit = self.cx.decide(&policy, action).and_then(Verdict::settled)?;
        let unread = matches!(self.facts, Facts::Http(_, heard) if permit.messages() > heard);
        if unread && policy.mode(&self.cx.caller.tag) == Mode::Enforce {
            // They may be compressed, and one may be under way.
            let reason =
                "a rule asks for its messages, and it was opened without their being read".to_owned();
            return Err(Denied { rule: permit.rule().to_owned(), reason });
        }
        Ok(permit)
    }
}

/// Why it was cut, for the record.
pub(super) fn cut(denied: &Denied) -> String {
    format!("cut, since it is no longer allowed: {} (rule {})", denied.reason, denied.rule)
}
