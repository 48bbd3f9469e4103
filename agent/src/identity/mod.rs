//! Who stands behind a caller: tokens of issuers that the configuration names, verified here. A token is found by the
//! warden (environment, file, `sluice run`), which never reads it, or in the request itself; what it says counts only when
//! every check of [`token`] holds. Nothing else makes an [`Identity`].
//!
//! Not here: how an URL is fetched (`gate`), what an identity may do (`policy`).

pub mod keys;
mod source;
pub mod token;
mod who;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::types::{Identity, Issuer, Token};
use source::{Current, Source};
use token::{Claimed, Invalid};

pub use source::{Fetch, Fetched, Tell};
pub use who::{Standing, Who};

/// A connection does not wait longer for an issuer's keys.
const WAIT: Duration = Duration::from_secs(2);
/// Verified tokens that are remembered, by hash; the one used least recently goes first and is verified again. Each takes
/// at most about 200 KiB (16 KiB of token, all of it the smallest claims that there are; a usual one 5 KiB).
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It is bad.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Nobody whom the configuration names has made it.
    #[error("the token is from no [[issuer]] of the configuration (iss)")]
    Stranger,
    /// It may be good.
    #[error("the keys of {issuer} cannot be had: {why}")]
    NoKeys {
        /// Its URL.
        issuer: String,
        /// Why not.
        why: String,
    },
}

/// All issuers, their keys, and the tokens that were verified. One for the process.
pub struct Identities {
    sources: Vec<Arc<Source>>,
    verified: Mutex<LruCache<[u8; 32], Remembered>>,
}

struct Remembered {
    identity: Arc<Identity>,
    source: usize,
    generation: u64,
}

impl Identities {
    /// Begins to fetch the keys at once. In a runtime.
    pub fn new(issuers: Vec<Issuer>, fetch: &Fetch, tell: &Tell) -> Self {
        let sources: Vec<_> = issuers
            .into_iter()
            .map(|issuer| Source::new(issuer, Arc::clone(fetch), Arc::clone(tell)))
            .collect();
        sources.iter().for_each(Source::begin);
        Self { sources, verified: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Without any issuer: no token is verified.
    pub fn none() -> Self {
        Self { sources: Vec::new(), verified: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Whether a request may bear a token.
    pub fn accept_bearer(&self) -> bool {
        self.sources.iter().any(|source| source.issuer.accept_bearer)
    }

    /// Verifies a token; at once when it was verified before, else as fast as its issuer's keys are there.
    ///
    /// # Errors
    /// [`Unverified`].
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, Unverified> {
        let hash = hash(token)?;
        if let Some((identity, _)) = self.remembered(&hash) {
            return Ok(identity);
        }
        let claimed = token::claimed(token).ok_or(Invalid::Claims)?;
        let (at, source) = self.source(&claimed).ok_or(Unverified::Stranger)?;
        let deadline = Instant::now() + WAIT;
        let no_keys = || Unverified::NoKeys { issuer: source.issuer.url.clone(), why: source.trouble() };
        let mut current = source.keys(deadline).await.ok_or_else(no_keys)?;
        let verify = |(keys, _): &Current| token::verify(token, &source.issuer, keys, unix_now());
        let mut verified = verify(&current);
        // Its key may be newer than ours.
        if let Err(Invalid::UnknownKey | Invalid::WrongKey | Invalid::Signature) = verified
            && let Some(newer) = source.newer(deadline).await
        {
            current = newer;
            verified = verify(&current);
        }
        let identity = Arc::new(verified?);
        let remembered = Remembered { identity: Arc::clone(&identity), source: at, generation: current.1 };
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).put(hash, remembered);
        Ok(identity)
    }

    /// The first of the tokens that proves something; why none does, if there are any.
    pub async fn first(&self, tokens: &[Token]) -> Standing {
        let mut why = None;
        for token in tokens {
            match self.verify(token.expose()).await {
                Ok(identity) => return Standing::verified(identity, Some(token.clone())),
                Err(unverified) => why = why.or(Some(unverified)),
            }
        }
        Standing::unverified(why.as_ref())
    }

    /// Verifies a token that a request bears, as [`Identities::verify`] does; `None` when it is not for us.
    pub async fn of_request(&self, token: &str) -> Option<Result<Arc<Identity>, Unverified>> {
        // One that was verified is known again without being read.
        let known = hash(token).ok().and_then(|hash| self.remembered(&hash));
        if let Some((identity, _)) = known.filter(|(_, at)| self.sources[*at].issuer.accept_bearer) {
            return Some(Ok(identity));
        }
        if !self.is_for_us(token) {
            return None;
        }
        Some(self.verify(token).await)
    }

    /// A token's identity, and its source's number, if it was verified and still counts.
    fn remembered(&self, hash: &[u8; 32]) -> Option<(Arc<Identity>, usize)> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let Remembered { identity, source, generation } = verified.get(hash)?;
        if unix_now() < identity.expires && self.sources[*source].stands(*generation) {
            return Some((Arc::clone(identity), *source));
        }
        verified.pop(hash);
        None
    }

    fn source(&self, claimed: &Claimed) -> Option<(usize, &Arc<Source>)> {
        self.sources.iter().enumerate().find(|(_, source)| source.issuer.url == claimed.issuer)
    }

    /// Whether a token in a request is meant for us, by what it says of itself: from an issuer whose tokens are taken there,
    /// for our audience. One for somebody else is the upstream's.
    fn is_for_us(&self, token: &str) -> bool {
        let Some(claimed) = token::claimed(token) else { return false };
        let ours = |source: &Source| {
            source.issuer.accept_bearer
                && source.issuer.audiences.iter().any(|own| claimed.audiences.contains(own))
        };
        self.source(&claimed).is_some_and(|(_, source)| ours(source))
    }
}

/// What a token is remembered by: its text is not kept.
fn hash(token: &str) -> Result<[u8; 32], Invalid> {
    if token.len() > crate::types::issuer::TOKEN_MAX {
        return Err(Invalid::TooLong);
    }
    let sum = digest(&SHA256, token.as_bytes());
    sum.as_ref().try_into().map_err(|_| Invalid::TooLong)
}

fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests;
