//! Judging one request: by its head, by its body where a rule asks for that, and again while it is under way.

use http::{Request, Response};

use super::{Asked, Exchanges};
use crate::engine::Context;
use crate::engine::http::body::{Down, Finish};
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::engine::live::{self, Facts, Live};
use crate::identity::Who;
use crate::limit::Spent;
use crate::policy::{self, Denied, Permit};
use crate::report::Chain;
use crate::types::Action;
use crate::types::action::Http;

impl Exchanges {
    /// Judges a request by its head, and by its body where a rule asks for that.
    pub(super) async fn judge(
        &self,
        asked: &Asked,
        who: Who,
        request: &mut Request<Source>,
    ) -> Result<(Permit, Live, Option<Spent>), Refusal> {
        let mut cx = Context { who, ..self.cx.clone() };
        let policy = cx.policy_seen();
        let decide = |request: &Request<Source>| {
            cx.decide(&policy, Action::Http(self.wanted(asked, request))).map_err(Refusal::of)
        };
        let mut verdict = decide(request)?;
        if let policy::Verdict::More { body: Some(max), .. } = verdict {
            read(request, max).await.map_err(Refusal::of)?;
            verdict = decide(request)?;
        }
        let permit = verdict.settled().map_err(Refusal::of)?;
        let spent = cx.limits.take(&permit, 0).map_err(Refusal::over)?;
        let kept = self.wanted(asked, request).keep(asked.protocol);
        Ok((permit, Live::new(cx, Facts::Http(Box::new(kept))), spent))
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
            body: request.body().known(),
        }
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
