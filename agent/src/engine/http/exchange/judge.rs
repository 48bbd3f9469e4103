//! Judging one request: by its head, by its body where a rule asks for that, and again while it is under way.

use http::{Request, Response};

use super::{Asked, Exchanges};
use crate::engine::Context;
use crate::engine::held::Held;
use crate::engine::http::body::{Down, Finish};
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::engine::live::{self, Facts, Live};
use crate::identity::Who;
use crate::policy::{self, Denied, Permit};
use crate::report::Chain;
use crate::types::Action;
use crate::types::action::{Body, Http};

impl Exchanges {
    /// Judges a request by its head, and by its body where a rule asks for that.
    pub(super) async fn judge(
        &self,
        asked: &Asked,
        who: Who,
        request: &mut Request<Source>,
    ) -> Result<(Permit, Live), Denied> {
        let mut cx = Context { who, ..self.cx.clone() };
        let policy = cx.policy_seen();
        let mut verdict = cx.decide(&policy, Action::Http(self.wanted(asked, request)))?;
        if let policy::Verdict::More { body: Some(max), .. } = verdict {
            request.body_mut().hold(Held::of(cx.caller.tag.clone()));
            let headers = request.headers().clone();
            if let Err(error) = request.body_mut().read(&headers, max).await {
                let reason = format!("its body broke off before it could be judged: {}", Chain(&error));
                return Err(Denied { rule: policy::NONE.to_owned(), reason });
            }
            let wanted = self.wanted(asked, request);
            verdict = cx.decide(&policy, Action::Http(wanted))?.explained(|denied| unread(denied, wanted.body));
        }
        let permit = verdict.settled()?;
        let kept = self.wanted(asked, request).keep(asked.protocol);
        let held = request.body_mut().take_held();
        Ok((permit, Live::new(cx, Facts::Http(Box::new(kept))).holding(held)))
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

/// A refusal that may have come of a body which could not be read says so.
fn unread(mut denied: Denied, body: Body<'_>) -> Denied {
    if let Body::Unknowable(why) = body
        && !denied.reason.contains(why)
    {
        denied.reason = format!("{}; its body cannot be judged: {why}", denied.reason);
    }
    denied
}
