//! What a request shows, hidden before it is sent: its head in place, its body whole where that can be read ahead, or as it
//! passes. What was read ahead keeps a length, and where nothing is found in it, goes as it came; what is refused of it is
//! refused before anything is sent.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_EXTENSIONS};
use http::{HeaderMap, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use super::credential::Bearing;
use super::{Asked, Exchanges};
use crate::credential::sigv4;
use crate::engine::held::Held;
use crate::engine::http::body::Finish;
use crate::engine::http::came::Came;
use crate::engine::http::clean::Answered;
use crate::engine::http::masked::{self, Answer, Masking, Parts};
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::identity::Standing;
use crate::mask::Plan;
use crate::policy::Permit;
use crate::policy::mask::Masks;
use crate::types::CallerKey;
use crate::types::credential::Inject;

/// A body that says that it is longer is hidden as it passes.
const WHOLE: u64 = 1 << 20;

/// An answer's head, rewritten: the fields that the record may have where those are others, and what reads the body.
///
/// # Errors
/// Why it cannot be masked.
pub(super) fn answer(
    finish: &Finish,
    response: &mut Response<Came<Incoming>>,
    switched: bool,
) -> Result<(Option<HeaderMap>, Option<Parts>), String> {
    match finish.masking().map(|masking| masking.answer(response, switched)).transpose() {
        Ok(read) => Ok(read.unzip()),
        Err(why) => Err(format!("the answer cannot be masked, and is not passed on unmasked: {why}")),
    }
}

/// An answer's body, rewritten where masks hold for it.
pub(super) fn answered(inner: Answered, parts: Option<Parts>, finish: &Finish) -> Answered {
    match (parts, finish.masking()) {
        (Some(parts), Some(masking)) => {
            Answered::Masked(Box::new(Answer::new(inner, masking, parts, finish.exchange())))
        }
        _ => inner,
    }
}

impl Exchanges {
    /// Makes a request that is allowed ready to be sent: hidden, then given its credential, which may sign what is hidden.
    pub(super) async fn prepare(
        &self,
        asked: &Asked,
        permit: &Permit,
        standing: &Standing,
        keys: &[CallerKey],
        request: &mut Request<Source>,
    ) -> Result<(Option<Arc<Masking>>, Option<Bearing>), Refusal> {
        let masking = self.hide(asked, permit, request).await?;
        let bearing = self.may_bear(asked, permit, standing, keys, request).await?;
        Ok((masking, bearing))
    }

    /// What is said where a request's body could not be masked on its way.
    pub(super) fn unmasked(&self, finish: &Finish) -> Option<Refusal> {
        let masking = finish.masking()?;
        Some(Refusal { last: self.gate.is_some(), ..masked::refusal(masking, None, masking.refused()?) })
    }

    /// Hides what the permit's masks name. `None`: there are none.
    async fn hide(
        &self,
        asked: &Asked,
        permit: &Permit,
        request: &mut Request<Source>,
    ) -> Result<Option<Arc<Masking>>, Refusal> {
        let Some(masks) = permit.masks().filter(|_| !asked.tunnels) else { return Ok(None) };
        let masking = self.masking(masks);
        if masking.reads_answer() {
            Masking::ask_plainly(request.headers_mut());
        }
        if let Some(plan) = &masks.request {
            let hidden = match masking.hide_head(plan, request) {
                Ok(()) if !asked.handshake && !request.body().is_end_stream() => {
                    self.hide_body(&masking, plan, permit, request).await
                }
                Ok(()) if asked.handshake => {
                    masked::unasked(&masking, "what is said on a WebSocket").map_or(Ok(()), Err)
                }
                hidden => hidden,
            };
            hidden.map_err(|why: String| {
                let last = self.gate.is_some() && request.body().is_coming();
                Refusal { last, ..masked::refusal(&masking, Some(permit.rule()), &why) }
            })?;
        }
        if asked.handshake && masks.on_wire() {
            // What is compressed could not be masked.
            request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        request.extensions_mut().insert(Arc::clone(&masking));
        Ok(Some(masking))
    }

    /// The masks of an exchange with the tokens that they need.
    pub(super) fn masking(&self, masks: &Arc<Masks>) -> Arc<Masking> {
        Arc::new(Masking::new(masks, &self.cx.tokens))
    }

    /// What is hidden from the record of a request that no rule lets through.
    pub(super) fn record_masking(&self) -> Option<Arc<Masking>> {
        self.cx.policy().record_masks().map(|masks| self.masking(masks))
    }

    async fn hide_body(
        &self,
        masking: &Arc<Masking>,
        plan: &Arc<Plan>,
        permit: &Permit,
        request: &mut Request<Source>,
    ) -> Result<(), String> {
        if let Some(why) = masked::unmaskable(request.headers()) {
            return Err(why);
        }
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let signed = permit.credential().is_some_and(|one| matches!(one.inject, Some(Inject::Sigv4 { .. })));
        // In HTTP/1.0 there is no other way to say where it ends.
        let must = signed || request.version() == Version::HTTP_10;
        let most = if signed { sigv4::BODY_MAX } else { WHOLE };
        if must || length.is_some_and(|length| length <= most) {
            request.body_mut().hold(Held::of(self.cx.caller.tag.clone()));
            self.invite(request);
            if masked::whole(masking, plan, most, request).await? {
                return masked::analysed(masking, most, request).await;
            }
            if must {
                return Err("it must be read whole, and is too long or was not there in time".to_owned());
            }
        }
        match masked::unasked(masking, "a body that is long, or does not say how long it is,") {
            Some(why) => Err(why),
            None => masked::passing(masking, plan, request),
        }
    }
}
