//! The tunnel: bytes that are not read, passed both ways under a verdict, counted and recorded.

use std::borrow::Cow;
use std::time::Duration;

use super::Context;
use super::live::{self, Facts, Live};
use super::pump::{self, Tap};
use crate::limit::{Over, Spent};
use crate::policy::{self, Permit};
use crate::record::{Exchange, ExchangeHead, Unrecordable};
use crate::report::Chain;
use crate::stream::BoxStream;
use crate::types::{self, Action};

/// A tunnel without a byte either way for so long is closed. Interactive sessions idle for hours; dead peers are found
/// long before by the sockets' keep-alive.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// Why a tunnel ended but by both sides' closing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was passed.
    #[error("the tunnel cannot be recorded")]
    Unrecordable(#[source] Unrecordable),
    /// Policy refuses it.
    #[error("refused by rule {:?}: {}", .0.rule, .0.reason)]
    Denied(policy::Denied),
    /// A limit refuses it.
    #[error("refused by rule {:?}: {}", .0.rule, .0)]
    Over(Over),
    /// Rules that came later refuse it.
    #[error("{0}")]
    Cut(String),
    /// It broke.
    #[error("the tunnel broke")]
    Broke(#[source] pump::Error),
}

/// Passes one connection that is not read, for the reason `why`.
///
/// # Errors
/// [`Error`]; it stands in the exchange's record too.
pub async fn serve(client: BoxStream, upstream: BoxStream, why: &str, mut cx: Context) -> Result<(), Error> {
    let (host, host_source) = cx.host();
    let mut head = ExchangeHead {
        protocol: "tunnel",
        host,
        host_source,
        method: None,
        path: None,
        headers: Cow::default(),
        rule: None,
        verdict: types::Verdict::Deny,
        identity: cx.recognised(cx.who.standing()),
        credential: None,
        caller_keys: Vec::new(),
    };
    let policy = cx.policy_seen();
    let action = Action::Tunnel { destination: cx.destination, host: cx.trusted_name(), why };
    let permit = match cx.decide(&policy, action).and_then(policy::Verdict::settled) {
        Ok(permit) => permit,
        Err(denied) => {
            head.rule = Some(denied.rule.clone());
            cx.session.refused(head, denied.reason.clone());
            return Err(Error::Denied(denied));
        }
    };
    if let Some(reason) = unfit(&cx, &permit, why) {
        let denied = policy::Denied { rule: permit.rule().to_owned(), reason };
        head.rule = Some(denied.rule.clone());
        cx.session.refused(head, denied.reason.clone());
        return Err(Error::Denied(denied));
    }
    let spent = match cx.limits.take(&permit, 0) {
        Ok(spent) => spent,
        Err(over) => {
            head.rule = Some(over.rule.clone());
            cx.session.refused(head, over.to_string());
            return Err(Error::Over(over));
        }
    };
    head.rule = Some(permit.rule().to_owned());
    head.verdict = Spent::verdict(spent.as_ref(), &permit);
    let exchange = cx.session.exchange(head).map_err(Error::Unrecordable)?;
    if permit.durable()
        && let Err(error) = exchange.durable().await
    {
        exchange.finish(Some(error.to_string()));
        return Err(Error::Unrecordable(error));
    }
    let mut tap = Recorded { exchange, spent, why, ended: false };
    let mut live = Live::new(cx, Facts::Tunnel(why.to_owned()));
    let result = tokio::select! {
        biased;
        denied = live.refused() => Err(Error::Cut(live::cut(&denied))),
        result = send(permit, client, upstream, &mut tap) => result.map_err(Error::Broke),
    };
    tap.ended(result.as_ref().err().map(|e| Chain(e).to_string()).as_deref());
    result
}

/// Why something that is allowed cannot go unread.
fn unfit(cx: &Context, permit: &Permit, why: &str) -> Option<String> {
    if let Some(shown) = &cx.shown {
        return Some(format!(
            "its connection bears credential {}, and what is not read bears none",
            shown.name
        ));
    }
    let masks = permit.masks().is_some_and(|masks| masks.on_wire());
    masks.then(|| format!("its rule has a mask, and what is not read cannot be masked ({why})"))
}

/// The one place from which a tunnel's bytes go upstream.
async fn send(
    permit: Permit,
    mut client: BoxStream,
    mut upstream: BoxStream,
    tap: &mut Recorded<'_>,
) -> Result<(), pump::Error> {
    let _spent = permit;
    pump::pump(&mut client, &mut upstream, tap, IDLE).await
}

struct Recorded<'a> {
    exchange: Exchange,
    spent: Option<Spent>,
    why: &'a str,
    ended: bool,
}

impl Recorded<'_> {
    fn ended(&mut self, error: Option<&str>) {
        if !std::mem::replace(&mut self.ended, true) {
            let not_read = format!("not read: {}", self.why);
            let error = Some(error.map_or(not_read.clone(), |e| format!("{not_read}; {e}")));
            self.exchange.finish(match &self.spent {
                Some(spent) => spent.note(error),
                None => error,
            });
        }
    }

    fn passed(&self, bytes: &[u8]) {
        if let Some(spent) = &self.spent {
            spent.bytes(bytes.len() as u64);
        }
    }
}

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        self.ended(Some("the agent ended it"));
    }
}

impl Tap for Recorded<'_> {
    fn up(&mut self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.passed(bytes);
        self.exchange.up(bytes)
    }

    fn down(&mut self, bytes: &[u8]) -> Result<(), Unrecordable> {
        self.passed(bytes);
        self.exchange.down(bytes)
    }
}
