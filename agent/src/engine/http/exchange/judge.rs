//! Judging one request: by its head, by its body where a rule asks for that, and again while it is under way.

use std::sync::Arc;

use http::{Request, Response, Version};

use super::{Asked, Exchanges};
use crate::engine::held::Held;
use crate::engine::http::body::{Down, Finish};
use crate::engine::http::messages::Judge;
use crate::engine::http::meter::Meter;
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::engine::http::upgrade;
use crate::engine::live::{self, Facts, Live};
use crate::identity::Who;
use crate::policy::llm;
use crate::policy::{self, Denied, Hears, Permit};
use crate::report::Chain;
use crate::types::Action;
use crate::types::action::{Body, Http};

/// What a request that is allowed goes on with.
pub(super) struct Leave {
    pub permit: Permit,
    pub live: Live,
    /// Set where limits hold.
    pub meter: Option<Meter>,
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
        let mut cx = self.cx.of_request(who);
        let policy = cx.policy_seen();
        let decide = |request: &Request<Source>| {
            cx.decide(&policy, Action::Http(self.wanted(asked, request))).map_err(Refusal::of)
        };
        let mut verdict = decide(request)?;
        if let policy::Verdict::More { body: Some(max), .. } = verdict {
            request.body_mut().hold(Held::of(cx.caller.tag.clone()));
            self.invite(request);
            read(request, max).await.map_err(Refusal::of)?;
            verdict = decide(request)?.explained(|denied| unread(denied, request.body().known()));
        }
        let permit = verdict.settled().map_err(Refusal::of)?;
        if let Some(masks) = permit.masks() {
            // They hold for the record also where it is refused after all.
            request.extensions_mut().insert(Arc::clone(masks));
        }
        let packed = self.wanted(asked, request).pack(asked.protocol);
        let held = request.body_mut().take_held();
        let hears = permit.messages();
        let masked = asked.handshake && permit.masks().is_some();
        let messages = (hears > Hears::Nobody || masked).then(|| {
            let handshake = Arc::new(packed.kept());
            Judge { cx: cx.clone(), handshake, hears, tally: Arc::default() }
        });
        // Behind the copy: what is read for an estimate alone is not judged again.
        let meter = self.count(asked, &permit, request).await?;
        let live = Live::new(cx, Facts::Http(packed, hears)).holding(held).told(self.gate.is_some());
        let live = live.masked(permit.masks());
        Ok(Leave { permit, live, meter, messages })
    }

    /// Takes of the limits that hold for a request; one on tokens asks for the body, too.
    async fn count(
        &self,
        asked: &Asked,
        permit: &Permit,
        request: &mut Request<Source>,
    ) -> Result<Option<Meter>, Refusal> {
        let Some(bounds) = permit.bounds() else { return Ok(None) };
        let estimate = |request: &Request<Source>| llm::estimate(&self.wanted(asked, request));
        // What follows a handshake is no body: it comes when the answer has gone.
        let unread = matches!(self.wanted(asked, request).body, Body::Unread);
        if bounds.reads > 0 && unread && estimate(request).is_some() {
            request.body_mut().hold(Held::of(self.cx.caller.tag.clone()));
            self.invite(request);
            read(request, bounds.reads).await.map_err(Refusal::of)?;
        }
        let estimate = Some(()).filter(|()| bounds.reads > 0).and_then(|()| estimate(request));
        let tokens = estimate.unwrap_or_default().most;
        let spent = self.cx.limits.take(permit, tokens).map_err(Refusal::over)?;
        Ok(spent.map(|spent| Meter::new(spent, estimate)))
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
            body: if asked.handshake { Body::Handshake } else { request.body().known() },
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
    match request.version() {
        _ if websocket || upgrade::asks_websocket(request.headers()) => "websocket",
        _ if policy::is_grpc(request.headers()) => "grpc",
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
