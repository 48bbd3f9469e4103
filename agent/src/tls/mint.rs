//! Leaves: one key a day for all of them, each certificate signed by the warden for one verified name, kept ready with
//! its configuration for as long as half its life.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use futures_util::future::BoxFuture;
use lru::LruCache;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{AlertDescription, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::{Instant, timeout};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Verified;
use super::refused::Failure;
use super::tags::Tag;
use crate::types::{HostName, TagName};
use crate::wire::LeafRequest;

/// Asks the warden to sign a leaf; answers with the certificate (DER) or why not.
pub type Sign = Arc<dyn Fn(LeafRequest) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Ready configurations at once, about 3 KiB each. Beyond it the one used least recently is minted anew when needed.
const READY: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");
/// How long a leaf key is used.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long the warden may take to sign.
const SIGNING: Duration = Duration::from_secs(5);
/// Seconds before and after now that a leaf for a refusal is valid: clocks differ.
const REFUSAL: i64 = 3600;
/// TLS 1.3 tickets after a handshake: each use of one brings the next.
const TICKETS: usize = 1;

/// What a ready configuration is for. The tag is part of it, since the configuration holds the tag's ticket key; the
/// upstream's leaf is, so that a changed upstream is never answered for with what was minted for the former.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct For {
    tag: TagName,
    name: String,
    upstream_leaf: [u8; 32],
    alpn: Option<Vec<u8>>,
}

/// A configuration that answers a client.
#[derive(Clone)]
pub(super) struct Ready {
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the leaf in it.
    pub leaf: [u8; 32],
    /// Seconds since 1970 from which its leaf is valid: the clock may jump back before it.
    from: i64,
    /// Seconds since 1970 at which it is thrown away.
    until: i64,
}

/// What of a verified upstream a leaf is made from.
pub(super) struct Source<'a> {
    pub leaf: &'a CertificateDer<'static>,
    pub alpn: Option<&'a [u8]>,
}

/// Makes and keeps leaves.
pub(super) struct Mint {
    provider: Arc<CryptoProvider>,
    ca: CertificateDer<'static>,
    sign: Sign,
    key: Mutex<Option<LeafKey>>,
    ready: Mutex<LruCache<For, Ready>>,
}

#[derive(Clone)]
struct LeafKey {
    signing: Arc<dyn SigningKey>,
    public: Arc<[u8]>,
    made: Instant,
}

impl Mint {
    pub fn new(provider: Arc<CryptoProvider>, ca: CertificateDer<'static>, sign: Sign) -> Self {
        Self { provider, ca, sign, key: Mutex::new(None), ready: Mutex::new(LruCache::new(READY)) }
    }

    /// The configuration that answers a client of `tag` for a verified upstream, minted if there is none.
    pub async fn ready(
        &self,
        tag_name: &TagName,
        tag: &Tag,
        name: &Verified,
        upstream: Source<'_>,
        now: i64,
    ) -> Result<Ready, Failure> {
        let upstream_leaf = sha256(upstream.leaf);
        let purpose = For {
            tag: tag_name.clone(),
            name: name.to_string(),
            upstream_leaf,
            alpn: upstream.alpn.map(<[u8]>::to_vec),
        };
        let kept = self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(&purpose).cloned();
        if let Some(ready) = kept.filter(|ready| ready.from <= now && now < ready.until) {
            return Ok(ready);
        }
        let made = self.mint(tag, &purpose, upstream.leaf, now).await?;
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).put(purpose, made.clone());
        Ok(made)
    }

    /// The configuration that answers a client of `tag` with a refusal, under a name that nobody was asked to prove. It is
    /// short-lived and not kept: nothing but the refusal is ever said under it.
    pub async fn refusing(
        &self,
        tag_name: &TagName,
        tag: &Tag,
        name: &HostName,
        alpn: Option<&[u8]>,
        now: i64,
    ) -> Result<Ready, Failure> {
        let purpose = For {
            tag: tag_name.clone(),
            name: name.to_string(),
            upstream_leaf: [0; 32],
            alpn: alpn.map(<[u8]>::to_vec),
        };
        self.mint_between(tag, &purpose, (now - REFUSAL, now + REFUSAL), now).await
    }

    async fn mint(
        &self,
        tag: &Tag,
        purpose: &For,
        upstream: &CertificateDer<'_>,
        now: i64,
    ) -> Result<Ready, Failure> {
        let (_, certificate) = X509Certificate::from_der(upstream).map_err(|e| unmade(&e.to_string()))?;
        let validity = certificate.validity();
        let valid = (validity.not_before.timestamp(), validity.not_after.timestamp());
        self.mint_between(tag, purpose, valid, now).await
    }

    async fn mint_between(
        &self,
        tag: &Tag,
        purpose: &For,
        (not_before, not_after): (i64, i64),
        now: i64,
    ) -> Result<Ready, Failure> {
        let failed = |why: String| unmade(&why);
        let key = self.leaf_key().map_err(|_| failed("no key could be made".to_owned()))?;
        let request = LeafRequest {
            name: purpose.name.clone(),
            public_key: key.public.to_vec(),
            upstream_leaf: purpose.upstream_leaf,
            not_before,
            not_after,
        };
        let leaf = timeout(SIGNING, (self.sign)(request))
            .await
            .map_err(|_| failed("the warden does not answer".to_owned()))?;
        let leaf = CertificateDer::from(leaf.map_err(failed)?);
        let (_, signed) = X509Certificate::from_der(&leaf).map_err(|e| failed(e.to_string()))?;
        let (from, ends) =
            (signed.validity().not_before.timestamp(), signed.validity().not_after.timestamp());
        let digest = sha256(&leaf);
        let certified = CertifiedKey::new(vec![leaf, self.ca.clone()], key.signing);
        certified.keys_match().map_err(|e| failed(e.to_string()))?;
        let config = self.config(tag, purpose, certified).map_err(|e| failed(e.to_string()))?;
        // Half of what is left: whoever got the leaf last can still use it for as long again.
        Ok(Ready { config: Arc::new(config), leaf: digest, from, until: now + (ends - now) / 2 })
    }

    fn config(
        &self,
        tag: &Tag,
        purpose: &For,
        certified: CertifiedKey,
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = purpose.alpn.iter().cloned().collect();
        config.ticketer = Arc::clone(&tag.tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The leaf key of the day.
    fn leaf_key(&self) -> Result<LeafKey, aws_lc_rs::error::Unspecified> {
        let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = kept.as_ref().filter(|key| key.made.elapsed() < KEY_LIFE) {
            return Ok(key.clone());
        }
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        // aws-lc clears this copy when it is dropped; rustls's own lives in aws-lc too.
        let secret = pair.to_pkcs8v1()?;
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.as_ref()));
        let signing = any_ecdsa_type(&secret).map_err(|_| aws_lc_rs::error::Unspecified)?;
        let public: Arc<[u8]> = pair.public_key().as_der()?.as_ref().into();
        let key = LeafKey { signing, public, made: Instant::now() };
        *kept = Some(key.clone());
        Ok(key)
    }
}

fn unmade(why: &str) -> Failure {
    let reason = format!("no certificate could be made for the client: {why}");
    Failure::new(AlertDescription::InternalError, reason)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}
