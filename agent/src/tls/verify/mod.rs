//! Upstream verification: rustls-webpki builds and checks the chain, the name and the usage; this module adds the
//! rules that it leaves out, and puts every failure into words.
//!
//! It is strict where a strict client would be, and not beyond what the public web and a private CA made with common
//! tools need: each rule of x509-limbo that is not applied is argued in `tests/limbo-known.toml`.

pub mod lint;
mod ocsp;
pub mod refusal;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, VerifiedPath};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

pub use refusal::Refusal;
use refusal::{plain, plain_names};

use super::roots::Roots;

/// The stapled OCSP response of a handshake.
#[derive(Clone, Copy, Debug)]
pub enum Staple<'a> {
    /// What the server stapled; empty for nothing.
    Response(&'a [u8]),
    /// A resumed handshake carries none; the full one before it did.
    Resumed,
}

/// A list of revoked certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CRL cannot be used: {0}")]
pub struct BadCrl(String);

/// Checks upstreams' certificates. One per gate; `Sync`, without interior state.
#[derive(Debug)]
pub struct UpstreamVerifier {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
    crls: Vec<CertRevocationList<'static>>,
}

impl UpstreamVerifier {
    /// A verifier over `roots`.
    pub fn new(roots: Roots) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { roots, algorithms, crls: Vec::new() }
    }

    /// Adds a CRL (DER). It is consulted for certificates of its issuer, and must then be current; certificates of
    /// issuers without a CRL are not affected.
    ///
    /// # Errors
    /// [`BadCrl`] when it is malformed or has no crlNumber, or a critical one (RFC 5280 §5.2.3).
    pub fn add_crl(&mut self, der: &CertificateRevocationListDer<'_>) -> Result<(), BadCrl> {
        let bad = |why: &dyn std::fmt::Display| BadCrl(why.to_string());
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|e| bad(&e))?;
        let number =
            list.extensions().iter().find(|e| e.oid == x509_parser::oid_registry::OID_X509_EXT_CRL_NUMBER);
        match number {
            None => return Err(bad(&"it has no crlNumber")),
            Some(number) if number.critical => return Err(bad(&"its crlNumber is critical")),
            Some(_) => {}
        }
        let list = OwnedCertRevocationList::from_der(der).map_err(|e| bad(&e))?;
        self.crls.push(list.into());
        Ok(())
    }

    /// Checks a server's chain for `name` at `now`.
    ///
    /// # Errors
    /// The [`Refusal`] that describes the failure best.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: Staple<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let malformed = |what: String| Refusal::Malformed { whose: lint::LEAF.to_owned(), what };
        let entity = EndEntityCert::try_from(leaf).map_err(|e| malformed(e.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| malformed(e.to_string()))?;
        let path = self.path(&entity, &parsed, intermediates, now)?;
        entity.verify_is_valid_for_subject_name(name).map_err(|e| wrong_name(&e, name, &parsed))?;
        suffix_wildcard(&parsed, name)?;
        lint::leaf(&parsed)?;
        match staple {
            Staple::Response(response) => self.stapled(response, &parsed, &path, now),
            Staple::Resumed => Ok(()),
        }
    }

    /// The roots in use.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    fn path<'p>(
        &'p self,
        entity: &'p EndEntityCert<'p>,
        parsed: &X509Certificate<'_>,
        intermediates: &'p [CertificateDer<'p>],
        now: UnixTime,
    ) -> Result<VerifiedPath<'p>, Refusal> {
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = webpki::RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            options
                .with_depth(webpki::RevocationCheckDepth::Chain)
                .with_status_policy(webpki::UnknownStatusPolicy::Allow)
                .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
                .build()
        });
        // webpki tries another path when this one is turned down; the reason is kept beside, since its error type has
        // no room for ours.
        let turned_down = RefCell::new(None);
        let judge = |path: &VerifiedPath<'_>| {
            self.judge(path, parsed, now).map_err(|refusal| {
                *turned_down.borrow_mut() = Some(refusal);
                webpki::Error::UnknownIssuer
            })
        };
        entity
            .verify_for_usage(
                self.algorithms.all,
                self.roots.anchors(),
                intermediates,
                now,
                KeyUsage::server_auth(),
                revocation,
                Some(&judge),
            )
            .map_err(|error| turned_down.take().unwrap_or_else(|| self.explain(&error, parsed)))
    }

    /// The rules on a whole path that webpki found good.
    fn judge(
        &self,
        path: &VerifiedPath<'_>,
        leaf: &X509Certificate<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownIssuer { issuer: plain(&leaf.issuer().to_string()) };
        let root = self.roots.facts(path.anchor()).ok_or_else(unknown)?;
        let seconds = now.as_secs().cast_signed();
        if seconds > root.not_after {
            return Err(Refusal::Expired { not_after: rfc3339(root.not_after) });
        }
        if seconds < root.not_before {
            return Err(Refusal::NotYetValid { not_before: rfc3339(root.not_before) });
        }
        let own_root = path.anchor().subject_public_key_info.as_ref() == content(leaf.public_key().raw);
        if !root.issues && !own_root {
            return Err(Refusal::Chain {
                what: "the trusted certificate that it ends in is no CA".to_owned(),
            });
        }
        // webpki checks this of intermediates; of a root it knows no key usage.
        if !root.signs_crls && self.crls.iter().any(|crl| crl.issuer() == path.anchor().subject.as_ref()) {
            return Err(Refusal::RevocationUnknown { why: "the CRL's issuer may not sign CRLs".to_owned() });
        }
        for certificate in path.intermediate_certificates() {
            let der = certificate.der();
            let whose = || "an issuer".to_owned();
            let (_, parsed) = X509Certificate::from_der(&der)
                .map_err(|e| Refusal::Malformed { whose: whose(), what: e.to_string() })?;
            if self.roots.is_own_key(parsed.public_key().raw) {
                return Err(Refusal::OwnCa);
            }
            lint::issuer(&parsed)?;
        }
        Ok(())
    }

    fn stapled(
        &self,
        response: &[u8],
        leaf: &X509Certificate<'_>,
        path: &VerifiedPath<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let must = lint::must_staple(leaf);
        if response.is_empty() && !must {
            return Ok(());
        }
        let first = path.intermediate_certificates().next();
        let key = match &first {
            Some(certificate) => certificate.subject_public_key_info().to_vec(),
            None => sequence(path.anchor().subject_public_key_info.as_ref()),
        };
        let issuer = ocsp::Issuer { name: leaf.issuer().as_raw(), key: &key };
        match ocsp::read(response, leaf, &issuer, &self.algorithms, now) {
            ocsp::Status::Revoked => Err(Refusal::Revoked { by: "stapled OCSP response" }),
            ocsp::Status::Nothing(why) if must => Err(Refusal::StapleMissing { why: why.to_owned() }),
            ocsp::Status::Good | ocsp::Status::Nothing(_) => Ok(()),
        }
    }

    /// webpki's error in our words.
    fn explain(&self, error: &webpki::Error, leaf: &X509Certificate<'_>) -> Refusal {
        use webpki::Error;
        let self_signed = leaf.subject().as_raw() == leaf.issuer().as_raw();
        let trusted =
            || self.roots.anchors().iter().any(|a| a.subject.as_ref() == content(leaf.subject().as_raw()));
        match error {
            _ if self.roots.is_own_name(leaf.issuer().as_raw()) => Refusal::OwnCa,
            Error::CaUsedAsEndEntity if self_signed && !trusted() => {
                Refusal::SelfSigned { subject: plain(&leaf.subject().to_string()) }
            }
            Error::UnknownIssuer if self_signed => {
                Refusal::SelfSigned { subject: plain(&leaf.subject().to_string()) }
            }
            Error::UnknownIssuer => Refusal::UnknownIssuer { issuer: plain(&leaf.issuer().to_string()) },
            Error::CaUsedAsEndEntity => Refusal::CaAsLeaf,
            Error::CertExpired { not_after, .. } => Refusal::Expired { not_after: unix(not_after) },
            Error::CertNotValidYet { not_before, .. } => {
                Refusal::NotYetValid { not_before: unix(not_before) }
            }
            Error::CertRevoked => Refusal::Revoked { by: "CRL" },
            Error::CrlExpired { next_update, .. } => {
                Refusal::RevocationUnknown { why: format!("the CRL expired at {}", unix(next_update)) }
            }
            Error::UnknownRevocationStatus
            | Error::InvalidCrlSignatureForPublicKey
            | Error::IssuerNotCrlSigner
            | Error::InvalidCrlNumber => Refusal::RevocationUnknown { why: error.to_string() },
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Refusal::WrongUsage,
            other => Refusal::Chain { what: words(other) },
        }
    }
}

/// The other faults that webpki finds in a chain.
fn words(error: &webpki::Error) -> String {
    use webpki::Error;
    let words = match error {
        Error::InvalidSignatureForPublicKey => "a signature in it is not its issuer's",
        Error::EndEntityUsedAsCa => "an issuer in it is no CA",
        Error::NameConstraintViolation => "an issuer in it may not issue for such names (name constraints)",
        Error::PathLenConstraintViolated => {
            "an issuer in it may not have so many issuers below it (path length)"
        }
        Error::UnsupportedCriticalExtension => "it has a critical extension that is not known",
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is signed in a way that is too weak or not known, such as with SHA-1"
        }
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumPathDepthExceeded => "it is too long or too tangled",
        other => return other.to_string(),
    };
    words.to_owned()
}

/// Refuses a match by a wildcard that stands directly before a public suffix (NIAP STIP FCS_TTTC_EXT.1). Suffixes of
/// the list's private section are let through: `*.s3.amazonaws.com` is what S3 serves.
fn suffix_wildcard(leaf: &X509Certificate<'_>, name: &ServerName<'_>) -> Result<(), Refusal> {
    let ServerName::DnsName(name) = name else { return Ok(()) };
    let name = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
    let Some((_, parent)) = name.split_once('.') else { return Ok(()) };
    let names = leaf.subject_alternative_name().ok().flatten();
    let exact = names
        .iter()
        .flat_map(|n| &n.value.general_names)
        .any(|n| matches!(n, GeneralName::DNSName(d) if d.trim_end_matches('.').eq_ignore_ascii_case(&name)));
    let registry = psl::suffix(parent.as_bytes()).is_some_and(|suffix| {
        suffix.as_bytes() == parent.as_bytes() && suffix.typ() != Some(psl::Type::Private)
    });
    if registry && !exact {
        return Err(Refusal::WildcardOverSuffix { wanted: plain(&name), suffix: plain(parent) });
    }
    Ok(())
}

fn wrong_name(error: &webpki::Error, name: &ServerName<'_>, leaf: &X509Certificate<'_>) -> Refusal {
    if !matches!(error, webpki::Error::CertNotValidForName(_)) {
        return Refusal::Malformed { whose: lint::LEAF.to_owned(), what: error.to_string() };
    }
    let names = leaf.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names.iter().flat_map(|n| &n.value.general_names).filter_map(san).collect();
    Refusal::WrongName { wanted: plain(&name.to_str()), names: plain_names(names.iter().map(String::as_str)) }
}

/// A subject alternative name that a TLS client could ask for.
fn san(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The content of one DER value, which is how webpki keeps names and keys.
fn content(der: &[u8]) -> &[u8] {
    x509_parser::der_parser::asn1_rs::Any::from_der(der).map_or(der, |(_, any)| any.data)
}

/// A DER SEQUENCE around `content`: [`content`] undone.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[content.len().leading_zeros() as usize / 8..];
    let mut der = vec![0x30];
    if content.len() >= 0x80 {
        der.push(0x80 | u8::try_from(length.len()).unwrap_or(u8::MAX));
    }
    der.extend_from_slice(if content.is_empty() { &[0] } else { length });
    der.extend_from_slice(content);
    der
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verify(leaf, intermediates, name, Staple::Response(ocsp), now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(CertificateError::Other(OtherError(Arc::new(refusal))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn unix(time: &UnixTime) -> String {
    rfc3339(time.as_secs().cast_signed())
}

/// Seconds since 1970 as RFC 3339 in UTC, for messages.
pub(crate) fn rfc3339(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s"))
}
