//! What a client is told in place of an upstream's answer.

use std::sync::Arc;

use http::header::EXPECT;
use http::{HeaderMap, Request, Response, StatusCode, Version};

use super::{Asked, Exchanges, known};
use crate::engine::http::body::{Down, Finish};
use crate::engine::http::masked;
use crate::engine::http::refusal::{Refusal, Shape};
use crate::engine::http::shared::{Passed, Shared};
use crate::engine::http::source::Source;
use crate::identity::Standing;
use crate::policy::mask::Masks;
use crate::record::{ExchangeHead, Unrecordable};
use crate::types::{self, CallerKey};

impl Exchanges {
    pub(super) fn bad_upstream(&self, asked: &Asked, what: String, finish: Finish) -> Response<Down> {
        // An error of HTTP/2 has what the upstream said for debugging: a credential that it was sent, perhaps.
        let what = match self.cx.session.veil().needles() {
            Some(needles) => needles.mask_text(what),
            None => what,
        };
        let mut refusal = Refusal::new(StatusCode::BAD_GATEWAY, what);
        refusal.last = self.gate.is_some();
        self.tell(asked.shape, &refusal, finish)
    }

    /// Tells a client that waits for leave to send its body (RFC 9110 §10.1.1) to send it: it is wanted here, before the
    /// upstream is asked.
    pub(super) fn invite(&self, request: &Request<Source>) {
        let waits = request.version() == Version::HTTP_11 && request.headers().contains_key(EXPECT);
        if let Some(gate) = self.gate.as_ref().filter(|_| waits && request.body().is_coming()) {
            gate.informational(StatusCode::CONTINUE, &HeaderMap::new());
        }
    }

    /// Answers an exchange that is recorded already with a refusal.
    pub(super) fn tell(&self, shape: Shape, refusal: &Refusal, mut finish: Finish) -> Response<Down> {
        let response = refusal.answer(shape, self.cx.session.id());
        // The exchange ends here in any case; that its answer cannot be recorded ends nothing more.
        let recorded = finish.exchange().response(response.status().as_u16(), response.headers());
        let body = finish.for_record(response.body());
        let _ = recorded.and_then(|()| finish.exchange().down(&body));
        finish.finish(Some(refusal.reason.clone()));
        response.map(|body| Down::Own(Some(body)))
    }

    /// Refuses a request of which nothing goes upstream.
    pub(super) fn refuse(
        &self,
        refusal: &Refusal,
        shape: Shape,
        mut head: ExchangeHead<'_>,
        masks: Option<&Arc<Masks>>,
    ) -> Response<Down> {
        head.verdict = types::Verdict::Deny;
        head.rule = refusal.rule.clone();
        let masking = masks.map(|masks| self.masking(masks)).or_else(|| self.record_masking());
        match self.cx.session.exchange_ahead(masked::refused(masking.as_ref(), head)) {
            Ok(exchange) => {
                let finish = Finish::new(exchange, self.cx.drain.clone()).masked(masking.as_ref());
                self.tell(shape, refusal, finish)
            }
            Err(_) => refusal.answer(shape, self.cx.session.id()).map(|body| Down::Own(Some(body))),
        }
    }

    /// Refuses a request that was read and not allowed.
    pub(super) async fn turn_away(
        &self,
        mut refusal: Refusal,
        asked: &Asked,
        request: &mut Request<Source>,
        (standing, keys): (&Standing, Vec<CallerKey>),
    ) -> Response<Down> {
        // Another policy may come, but no upstream to this connection. And a body that nobody reads ends it, which the
        // client is told: else its next request would meet a close.
        let last = self.cx.refusal.is_some() || request.body().is_coming();
        refusal.last = last && self.gate.is_some();
        if self.gate.is_none() && !asked.handshake {
            request.body_mut().let_come().await;
        }
        let head = known(&self.cx, request, asked, standing, keys);
        self.refuse(&refusal, asked.shape, head, request.extensions().get())
    }

    pub(super) fn unrecordable(&self, asked: &Asked, error: &Unrecordable) -> Response<Down> {
        let mut refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
        refusal.last = self.gate.is_some();
        refusal.answer(asked.shape, self.cx.session.id()).map(|body| Down::Own(Some(body)))
    }
}

/// Why a request was not read, where that is so.
pub(super) fn unread(gate: &Shared, number: u64) -> Option<Refusal> {
    match gate.passed(number) {
        Passed::Yes => None,
        Passed::Refused(violation) => {
            let status = StatusCode::from_u16(violation.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Some(Refusal::new(status, violation.to_string()).last())
        }
        Passed::Never => {
            Some(Refusal::new(StatusCode::BAD_REQUEST, "the request was read in two ways").last())
        }
    }
}
