//! What TLS keeps for each tag: the sessions of its upstreams and the key of its clients' tickets. Nothing of it is ever
//! shared between two tags (NIAP STIP FDP_STIP_EXT.1), since rustls resumes only from the store or with the key that a
//! connection's configuration has.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lru::LruCache;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SignatureScheme};
use tokio::time::Instant;

use super::verify::UpstreamVerifier;
use crate::types::TagName;

/// Tags that have state at once. Beyond it the tag that was used least recently loses its sessions: a full handshake.
const TAGS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Upstream sessions kept for one tag and set of protocols: 64 servers with 8 tickets each.
const SESSIONS: usize = 64 * 8;

/// The protocols that we speak.
pub(super) const H2: &[u8] = b"h2";
/// See [`H2`].
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// So many clients of a tag are refused in their own protocol, which a leaf must be signed for, …
const WORDS: u32 = 100;
/// … in so long. The others are told by an alert.
const WORDS_WITHIN: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Set while an upstream handshake is polled, when the upstream asks for a client certificate.
    pub(super) static ASKED: std::cell::Cell<Wish>;
}

/// An upstream's wish for a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// It has none.
    None,
    /// There is none to show.
    Unmet,
    /// One was shown.
    Met,
}

/// What is offered to an upstream, and so which sessions may be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// One of the lists of protocols that we speak; the number is its place in [`LISTS`].
    Known(usize),
    /// The client's own list, none of which we speak: passed through, never resumed.
    Foreign(Vec<Vec<u8>>),
}

const LISTS: [&[&[u8]]; 5] = [&[], &[HTTP1], &[H2], &[H2, HTTP1], &[HTTP1, H2]];

/// Most protocols of a foreign list that are passed on; each has at most 255 bytes.
const FOREIGN: usize = 16;

impl Offer {
    /// What of the client's list goes to the upstream: what we speak, in the client's order; the whole list when we
    /// speak none of it.
    pub fn from_client(list: &[Vec<u8>]) -> Self {
        let mut ours: Vec<&[u8]> = Vec::with_capacity(2);
        for protocol in list.iter().map(Vec::as_slice) {
            if (protocol == H2 || protocol == HTTP1) && !ours.contains(&protocol) {
                ours.push(protocol);
            }
        }
        if ours.is_empty() && !list.is_empty() {
            return Self::Foreign(list.iter().take(FOREIGN).cloned().collect());
        }
        Self::Known(
            LISTS
                .iter()
                .position(|known| *known == ours.as_slice())
                .expect("every order of the two is listed"),
        )
    }

    fn list(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Known(known) => LISTS[*known].iter().map(|p| p.to_vec()).collect(),
            Self::Foreign(list) => list.clone(),
        }
    }
}

/// One tag's state.
pub(super) struct Tag {
    /// Encrypts the tickets of this tag's clients; new keys every 6 hours, good for 12.
    pub tickets: Arc<dyn ProducesTickets>,
    upstream: [OnceLock<Arc<ClientConfig>>; LISTS.len()],
    refusals: Mutex<Refusals>,
}

/// Refusals that the warden has signed for since a time.
struct Refusals {
    since: Instant,
    signed: u32,
}

impl Tag {
    /// Whether the warden may be asked to sign for one more refusal. Each costs it a signature, whatever name a job makes up.
    pub fn may_refuse_in_words(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.since.elapsed() >= WORDS_WITHIN {
            *refusals = Refusals { since: Instant::now(), signed: 0 };
        }
        refusals.signed += 1;
        refusals.signed <= WORDS
    }
}

/// All tags' state.
pub(super) struct Tags {
    provider: Arc<CryptoProvider>,
    verifier: Arc<UpstreamVerifier>,
    resolver: Arc<NotesRequest>,
    tags: Mutex<LruCache<TagName, Arc<Tag>>>,
}

impl Tags {
    pub fn new(provider: Arc<CryptoProvider>, verifier: Arc<UpstreamVerifier>) -> Self {
        Self { provider, verifier, resolver: Arc::new(NotesRequest), tags: Mutex::new(LruCache::new(TAGS)) }
    }

    /// The state of `name`.
    ///
    /// # Errors
    /// When there are no random numbers for a ticket key.
    pub fn tag(&self, name: &TagName) -> Result<Arc<Tag>, rustls::Error> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = tags.get(name) {
            return Ok(Arc::clone(tag));
        }
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let refusals = Mutex::new(Refusals { since: Instant::now(), signed: 0 });
        let tag = Arc::new(Tag { tickets, upstream: Default::default(), refusals });
        tags.put(name.clone(), Arc::clone(&tag));
        Ok(tag)
    }

    /// The configuration for one upstream connection of `tag`.
    pub fn upstream(&self, tag: &Tag, offer: &Offer) -> Result<Arc<ClientConfig>, rustls::Error> {
        match offer {
            Offer::Known(known) => {
                let kept = &tag.upstream[*known];
                if let Some(config) = kept.get() {
                    return Ok(Arc::clone(config));
                }
                let made = self.config(offer, Resumption::in_memory_sessions(SESSIONS))?;
                Ok(Arc::clone(kept.get_or_init(|| made)))
            }
            Offer::Foreign(_) => self.config(offer, Resumption::disabled()),
        }
    }

    /// The configuration for an errand of the gate's own: HTTP/1.1, nothing resumed, nothing shared with any tag.
    pub fn own(&self, certificate: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let offer = Offer::from_client(&[HTTP1.to_vec()]);
        match certificate {
            Some(certificate) => self.showing(&offer, certificate),
            None => self.config(&offer, Resumption::disabled()),
        }
    }

    /// The configuration for one connection that shows a certificate when it is asked for one. Nothing is resumed: whom a
    /// session was opened for would not be asked again.
    pub fn showing(
        &self,
        offer: &Offer,
        certificate: Arc<CertifiedKey>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = Arc::unwrap_or_clone(self.config(offer, Resumption::disabled())?);
        config.client_auth_cert_resolver = Arc::new(Shows(SingleCertAndKey::from(certificate)));
        Ok(Arc::new(config))
    }

    fn config(&self, offer: &Offer, resumption: Resumption) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous() // the name of the door to any verifier of one's own
            .with_custom_certificate_verifier(Arc::clone(&self.verifier) as _)
            .with_client_cert_resolver(Arc::clone(&self.resolver) as _);
        config.alpn_protocols = offer.list();
        config.resumption = resumption;
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

/// Has no certificate to show, and notes that one was asked for. One for all connections: rustls resumes a session only
/// under the resolver that it began with.
#[derive(Debug)]
struct NotesRequest;

impl ResolvesClientCert for NotesRequest {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Outside an upstream handshake of ours there is nobody to tell.
        let _ = ASKED.try_with(|asked| asked.set(Wish::Unmet));
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Shows the one that it has, and notes that it did.
#[derive(Debug)]
struct Shows(SingleCertAndKey);

impl ResolvesClientCert for Shows {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // One whose key signs in no way that the upstream takes is not shown.
        let found = self.0.resolve(issuers, schemes);
        let found = found.filter(|found| found.key.choose_scheme(schemes).is_some());
        let wish = if found.is_some() { Wish::Met } else { Wish::Unmet };
        let _ = ASKED.try_with(|asked| asked.set(wish));
        found
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_both_speak() {
        let list = |protocols: &[&str]| protocols.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>();
        for (client, upstream) in [
            (&[][..], &[][..]),
            (&["h2", "http/1.1"], &["h2", "http/1.1"]),
            (&["http/1.1", "h2"], &["http/1.1", "h2"]),
            (&["h2"], &["h2"]),
            (&["http/1.0", "http/1.1"], &["http/1.1"]),
            (&["h2", "h2", "h2"], &["h2"]),
            (&["h2", "h2", "http/1.1"], &["h2", "http/1.1"]),
            (&["postgresql"], &["postgresql"]),
            (&["imap", "managesieve"], &["imap", "managesieve"]),
        ] {
            assert_eq!(Offer::from_client(&list(client)).list(), list(upstream), "{client:?}");
        }
        assert!(matches!(Offer::from_client(&list(&["imap"])), Offer::Foreign(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_are_signed_for_are_bounded() {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().expect("tickets");
        let refusals = Mutex::new(Refusals { since: Instant::now(), signed: 0 });
        let tag = Tag { tickets, upstream: Default::default(), refusals };
        assert!((0..WORDS).all(|_| tag.may_refuse_in_words()));
        assert!(!tag.may_refuse_in_words());
        tokio::time::advance(WORDS_WITHIN).await;
        assert!(tag.may_refuse_in_words());
    }
}
