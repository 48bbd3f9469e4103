//! The host's certificate authority: a key that never leaves this process, a certificate that clients trust, and one
//! right use of the key. The gate asks for a leaf by name, key and upstream's validity; everything else in the
//! certificate is decided here, so a gate that an attacker took over can get short-lived server certificates for
//! single names and nothing more.
//!
//! Not here: who asks (wire), which upstream was verified (the gate's `tls`), where clients find the certificate (trust).

pub(super) mod file;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::types::HostName;
use crate::wire::LeafRequest;

/// The key, PKCS #8 PEM, 0600.
const KEY: &str = "key.pem";
/// The certificate, PEM.
const CERTIFICATE: &str = "ca.pem";
/// How long the CA lives. Trust stores and Java keystores hold a copy of its certificate, and nothing renews these by
/// itself yet: a CA that ends in 90 days would cut off every tagged job on day 90. What bounds the harm of a stolen key
/// is that only tagged processes are told to trust it, and that `sluice trust remove` and a new CA are two commands.
const CA_DAYS: i64 = 3652;
/// How long a leaf lives from now on. With [`LEAF_PAST`] under the 24 h within which no revocation information is
/// needed (NIAP STIP FDP_CSIR_EXT.1).
const LEAF_AHEAD: Duration = Duration::hours(22);
/// How far before now a leaf begins, for clients whose clock is slow.
const LEAF_PAST: Duration = Duration::hours(1);
/// Upper bound of a common name (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME: usize = 64;

/// Why the CA cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// `read`, `write` …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the key, or somebody else owns it.
    #[error("{} is not for us alone (mode {mode:04o}, owner {owner}): remove its directory to make a new key, since this one may be known", path.display())]
    Exposed {
        /// File or directory.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// User id.
        owner: u32,
    },
    /// A file that is not what it should be.
    #[error("{} is not usable: {why}; restore it, or remove the CA directory to make a new CA", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Making a certificate failed.
    #[error("cannot make the CA's certificate")]
    Make(#[source] rcgen::Error),
}

/// Why a leaf is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither a host name nor an IP address.
    #[error("no certificate for {0:?}: neither a host name nor an IP address")]
    Name(String),
    /// Not a P-256 key.
    #[error("no certificate for this key: {0}")]
    Key(&'static str),
    /// The upstream's certificate has ended.
    #[error("no certificate: the upstream's ended")]
    Ended,
    /// The upstream's certificate has not begun.
    #[error("no certificate: the upstream's has not begun")]
    NotBegun,
    /// The CA's own certificate has ended.
    #[error("no certificate: the CA's own has ended; remove the CA directory and restart to make a new one")]
    CaEnded,
    /// Signing failed.
    #[error("no certificate: {0}")]
    Failed(String),
}

/// The CA. Signs from any thread.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Opens the CA in `directory`, or makes it when there is none. The directory is 0700 and ours, the key 0600.
    ///
    /// A crash at any point of the making leaves either nothing or a whole key; a key without certificate gets a new
    /// certificate. A certificate without its key is an error: clients would trust a CA that is gone.
    ///
    /// # Errors
    /// [`Error`]: an exposed key is never used.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let _lock = file::prepare(directory)?;
        let (key_path, certificate_path) = (directory.join(KEY), directory.join(CERTIFICATE));
        let key = match file::read(&key_path, true)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| unusable(&key_path, e))?,
            None if certificate_path.exists() => {
                return Err(unusable(&key_path, "it is missing, its certificate is there"));
            }
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
                file::write(directory, KEY, Zeroizing::new(key.serialize_pem()).as_bytes())?;
                key
            }
        };
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(unusable(&key_path, "not a P-256 key"));
        }
        let der = match file::read(&certificate_path, false)? {
            Some(pem) => {
                CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(&certificate_path, e))?
            }
            None => {
                let certificate = self_sign(&key)?;
                file::write(directory, CERTIFICATE, certificate.pem().as_bytes())?;
                certificate.der().clone()
            }
        };
        Self::load(der, key, &certificate_path)
    }

    fn load(der: CertificateDer<'static>, key: KeyPair, path: &Path) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| unusable(path, e))?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(unusable(path, "it belongs to another key"));
        }
        if !certificate.is_ca() {
            return Err(unusable(path, "it is no CA's"));
        }
        let (not_before, not_after) =
            (certificate.validity().not_before.to_datetime(), certificate.validity().not_after.to_datetime());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| unusable(path, e))?;
        let pem = pem(&der);
        Ok(Self { issuer, der, pem, not_before, not_after })
    }

    /// The CA's certificate.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The moment after which the CA signs nothing.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Signs a leaf (DER) for a TLS server: version 3, unique serial, critical keyUsage digitalSignature, serverAuth,
    /// the one name, our key identifier, at most 23 hours and never past the upstream's or the CA's own end.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn sign(&self, request: &LeafRequest) -> Result<Vec<u8>, Refused> {
        self.sign_at(request, OffsetDateTime::now_utc())
    }

    fn sign_at(&self, request: &LeafRequest, now: OffsetDateTime) -> Result<Vec<u8>, Refused> {
        let key = leaf_key(&request.public_key)?;
        if key.der_bytes() == self.issuer.key().der_bytes() {
            return Err(Refused::Key("it is the CA's own"));
        }
        let (name, text) = subject(&request.name)?;
        let (not_before, not_after) = self.validity(request, now)?;
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial()?);
        params.not_before = not_before;
        params.not_after = not_after;
        params.distinguished_name = DistinguishedName::new();
        if text.len() <= COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, text);
        }
        params.subject_alt_names = vec![name];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(|e| Refused::Failed(e.to_string()))?;
        Ok(leaf.der().to_vec())
    }

    fn validity(
        &self,
        request: &LeafRequest,
        now: OffsetDateTime,
    ) -> Result<(OffsetDateTime, OffsetDateTime), Refused> {
        let upstream = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds);
        // Times that no calendar has: not_before cannot be met, not_after bounds nothing.
        let begins = upstream(request.not_before).map_err(|_| Refused::NotBegun)?;
        let ends = upstream(request.not_after).unwrap_or(self.not_after);
        if self.not_after <= now {
            return Err(Refused::CaEnded);
        }
        if begins > now {
            return Err(Refused::NotBegun);
        }
        if ends <= now {
            return Err(Refused::Ended);
        }
        let not_before = (now - LEAF_PAST).max(begins).max(self.not_before);
        Ok((not_before, (now + LEAF_AHEAD).min(ends).min(self.not_after)))
    }
}

/// The leaf's key, when it is a well-formed P-256 SubjectPublicKeyInfo.
fn leaf_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, Refused> {
    let key = SubjectPublicKeyInfo::from_der(der).map_err(|_| Refused::Key("not a SubjectPublicKeyInfo"))?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(Refused::Key("not of P-256"));
    }
    let point = aws_lc_rs::signature::ParsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        key.der_bytes(),
    );
    match point {
        Ok(_) if key.der_bytes().len() == 65 => Ok(key),
        _ => Err(Refused::Key("not an uncompressed point of P-256")),
    }
}

/// The one subject alternative name, and its text for the common name.
fn subject(name: &str) -> Result<(SanType, String), Refused> {
    let refused = || Refused::Name(name.chars().take(260).collect());
    if let Ok(address) = name.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok((SanType::IpAddress(address), address.to_string()));
    }
    let host = HostName::parse(name).map_err(|_| refused())?;
    let text = host.as_str().to_owned();
    Ok((SanType::DnsName(text.clone().try_into().map_err(|_| refused())?), text))
}

/// 16 random octets that read as a positive number of full length.
fn serial() -> Result<SerialNumber, Refused> {
    let mut serial = [0u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Refused::Failed("no random numbers".to_owned()))?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from(serial.to_vec()))
}

fn self_sign(key: &KeyPair) -> Result<rcgen::Certificate, Error> {
    let mut tag = [0u8; 4];
    aws_lc_rs::rand::fill(&mut tag).map_err(|_| Error::Make(rcgen::Error::RingUnspecified))?;
    let tag: String = tag.iter().map(|b| format!("{b:02x}")).collect();
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial().map_err(|_| Error::Make(rcgen::Error::RingUnspecified))?);
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(CA_DAYS);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Sluice");
    params.distinguished_name.push(DnType::CommonName, format!("Sluice CA {host} {tag}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.self_signed(key).map_err(Error::Make)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn unusable(path: &Path, why: impl ToString) -> Error {
    Error::Unusable { path: path.to_owned(), why: why.to_string() }
}
