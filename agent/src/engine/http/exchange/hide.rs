//! What a request shows, hidden before it is sent: its head in place, its body whole where that can be read ahead, or as it
//! passes. What was read ahead keeps a length, and where nothing is found in it, goes as it came; what is refused of it is
//! refused before anything is sent.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Request, Version};
use http_body::Body as _;

use super::{Asked, Exchanges};
use crate::credential::sigv4;
use crate::engine::held::Held;
use crate::engine::http::masked::{self, Masking};
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::mask::Plan;
use crate::policy::Permit;
use crate::policy::mask::Masks;
use crate::types::credential::Inject;

/// A body that says that it is longer is hidden as it passes.
const WHOLE: u64 = 1 << 20;

impl Exchanges {
    /// Hides what the permit's masks name. `None`: there are none.
    pub(super) async fn hide(
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
                hidden => hidden,
            };
            hidden.map_err(|why: String| {
                let last = self.gate.is_some() && request.body().is_coming();
                Refusal { last, ..masked::refusal(&masking, Some(permit.rule()), &why) }
            })?;
        }
        request.extensions_mut().insert(Arc::clone(&masking));
        Ok(Some(masking))
    }

    /// The masks of an exchange with the tokens that they need.
    pub(super) fn masking(&self, masks: &Arc<Masks>) -> Arc<Masking> {
        Arc::new(Masking::new(masks, self.cx.tokens.scope(masks.within)))
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
                return Ok(());
            }
            if must {
                return Err("it must be read whole, and is too long or was not there in time".to_owned());
            }
        }
        masked::passing(masking, plan, request)
    }
}
