//! Judging one request: by its head, by its body where a rule asks for that, and again while it is under way.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};

use super::{Asked, Exchanges};
use crate::engine::Context;
use crate::engine::held::Held;
use crate::engine::http::body::{Down, Finish};
use crate::engine::http::messages::Judge;
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::engine::http::upgrade;
use crate::engine::live::{self, Facts, Live};
use crate::identity::Who;
use crate::limit::Spent;
use crate::policy::{self, Denied, Permit};
use crate::report::Chain;
use crate::types::Action;
use crate::types::action::{self, Body, Http};

/// What a request that is allowed goes on with.
pub(super) struct Leave {
    pub permit: Permit,
    pub live: Live,
    /// What it takes of its limits.
    pub spent: Option<Spent>,
    /// Set where rules ask for the messages of the WebSocket that it opens.
    pub messages: Option<Judge>,
}

impl Exchanges {
    /// Judges a request by its head, and by its body where a rule asks for that.
    pub(super) async fn judge(
        &self,
        asked: &Asked,
        who: Who,
        request: &mut Request<Source>,
    ) -> Result<Leave, Refusal> {
        let mut cx = Context { who, ..self.cx.clone() };
        let policy = cx.policy_seen();
        let decide = |request: &Request<Source>| {
            cx.decide(&policy, Action::Http(self.wanted(asked, request))).map_err(Refusal::of)
        };
        let mut verdict = decide(request)?;
        if let policy::Verdict::More { body: Some(max), .. } = verdict {
            request.body_mut().hold(Held::of(cx.caller.tag.clone()));
            read(request, max).await.map_err(Refusal::of)?;
            verdict = decide(request)?.explained(|denied| unread(denied, request.body().known()));
        }
        let permit = verdict.settled().map_err(Refusal::of)?;
        let spent = cx.limits.take(&permit, 0).map_err(Refusal::over)?;
        let kept = Box::new(self.wanted(asked, request).keep(asked.protocol));
        let held = request.body_mut().take_held();
        let judges = permit.messages();
        let messages =
            judges.then(|| Judge { cx: cx.clone(), handshake: kept.clone(), tally: Arc::default() });
        Ok(Leave { permit, live: Live::new(cx, Facts::Http(kept, judges)).holding(held), spent, messages })
    }

    /// Refuses an exchange under way that rules which came meanwhile do not allow.
    pub(super) fn cut(&self, asked: &Asked, denied: Denied, mut finish: Finish) -> Response<Down> {
        let why = live::cut(&denied);
        let mut refusal = Refusal::of(denied);
        refusal.reason = why;
        refusal.last = self.gate.is_some();
        drop(finish.take_live());
        self.tell(asked.shape, &refusal, finish)
    }

    fn wanted<'a>(&'a self, asked: &'a Asked, request: &'a Request<Source>) -> Http<'a> {
        Http {
            destination: self.cx.destination,
            host: asked.host.name.as_ref(),
            protocol: asked.protocol,
            method: asked.method.as_str(),
            path: request.uri().path(),
            query: request.uri().query(),
            headers: request.headers(),
            body: if asked.handshake { action::Body::Handshake } else { request.body().known() },
        }
    }
}

/// A refusal that may have come of a body which could not be read says so.
fn unread(mut denied: Denied, body: Body<'_>) -> Denied {
    if let Body::Unknowable(why) = body
        && !denied.reason.contains(why)
    {
        denied.reason = format!("{}; its body cannot be judged: {why}", denied.reason);
    }
    denied
}

/// The protocol of a request as policy knows it.
pub(super) fn protocol(request: &Request<Source>, websocket: bool) -> &'static str {
    let kind = request.headers().get(CONTENT_TYPE);
    let grpc = kind.is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc"));
    match request.version() {
        _ if websocket || upgrade::asks_websocket(request.headers()) => "websocket",
        _ if grpc => "grpc",
        Version::HTTP_2 => "h2",
        _ => "http/1.1",
    }
}

/// Reads its body for a rule that asks for so much of it.
async fn read(request: &mut Request<Source>, max: u64) -> Result<(), Denied> {
    let headers = request.headers().clone();
    request.body_mut().read(&headers, max).await.map_err(|error| Denied {
        rule: policy::NONE.to_owned(),
        reason: format!("its body broke off before it could be judged: {}", Chain(&error)),
    })
}
