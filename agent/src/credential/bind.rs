//! The right to put one credential into one exchange. It is made at the moment of sending and spent by [`super::inject`].

use std::sync::Arc;

use crate::policy::credential::{Credential, Sending, Unbound};
use crate::types::CredentialName;

/// The credential may go where this exchange goes. Cannot be copied or made elsewhere.
pub struct Bound {
    credential: Arc<Credential>,
}

/// Judges whether `credential` may be sent there.
///
/// # Errors
/// [`Unbound`].
pub fn bind(credential: &Arc<Credential>, sending: &Sending<'_>) -> Result<Bound, Unbound> {
    credential.binding.admits(sending)?;
    Ok(Bound { credential: Arc::clone(credential) })
}

impl Bound {
    /// The credential.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Its name.
    pub fn name(&self) -> &CredentialName {
        &self.credential.name
    }
}
