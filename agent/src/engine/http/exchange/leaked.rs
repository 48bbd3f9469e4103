//! Long-lived keys of the caller's own in a request: recorded, and refused or replaced where the rule says so.

use http::{Request, StatusCode};

use super::credential::Bearing;
use super::{Asked, Exchanges};
use crate::credential::leak;
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::identity::Standing;
use crate::policy::Permit;
use crate::policy::rule::CallerKeys;
use crate::types::CallerKey;

impl Exchanges {
    /// What the record says of the keys in a request.
    pub(super) fn leaked(&self, request: &Request<Source>) -> Vec<CallerKey> {
        let found = leak::find(request);
        found.iter().map(|leaked| self.cx.session.caller_key(leaked.kind, leaked.expose())).collect()
    }

    /// The credential that the request is to bear, if it may be sent with these keys of the caller's own.
    pub(super) async fn may_bear(
        &self,
        asked: &Asked,
        permit: &Permit,
        standing: &Standing,
        keys: &[CallerKey],
        request: &mut Request<Source>,
    ) -> Result<Option<Bearing>, Refusal> {
        let bearing = self.bear(asked, permit, standing, request).await?;
        match self.may_leak(permit, keys, request) {
            Some(refusal) => Err(refusal),
            None => Ok(bearing),
        }
    }

    /// Why a request with these keys is not sent, after its rule's credential has taken the place of what it could.
    fn may_leak(&self, permit: &Permit, keys: &[CallerKey], request: &Request<Source>) -> Option<Refusal> {
        let key = keys.first()?;
        let why = match permit.caller_key() {
            CallerKeys::Warn => return None,
            CallerKeys::Replace if leak::find(request).is_empty() => return None,
            CallerKeys::Replace => "stands where no credential replaces it",
            CallerKeys::Deny => "must not be sent",
        };
        let reason = format!(
            "a key of the caller's own ({}, …{}) {why}: take it out of the job (rule {})",
            key.kind,
            key.last4,
            permit.rule()
        );
        let mut refusal = Refusal::new(StatusCode::FORBIDDEN, reason);
        refusal.rule = Some(permit.rule().to_owned());
        refusal.last = self.gate.is_some() && request.body().is_coming();
        Some(refusal)
    }
}
