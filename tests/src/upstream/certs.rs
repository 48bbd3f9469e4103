//! Certificates for upstreams: a test authority, good leaves, and leaves with one flaw each.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use time::{Duration, OffsetDateTime};

/// What is wrong with a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Ended a day ago.
    Expired,
    /// Signed by its own key.
    SelfSigned,
    /// For `other.example.test`, whatever was asked for.
    WrongName,
    /// Signed by an authority that nobody trusts.
    Untrusted,
    /// A stapled OCSP response says that it was revoked.
    Revoked,
}

/// A certificate authority with its key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate chain and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pem {
    /// The leaf.
    pub chain: String,
    /// PKCS#8.
    pub key: String,
}

impl Authority {
    /// Makes an authority that ends in a month.
    ///
    /// # Errors
    /// The crypto library's.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(30);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's key, PKCS#8.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A leaf for `names` with its flaw, as PEM. [`Flaw::Revoked`] leaves the certificate itself good.
    ///
    /// # Errors
    /// The crypto library's.
    pub fn leaf(&self, names: &[&str], flaw: Flaw) -> Result<Pem> {
        let names: Vec<String> = match flaw {
            Flaw::WrongName => vec!["other.example.test".to_owned()],
            _ => names.iter().map(|n| (*n).to_owned()).collect(),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "sluice test upstream");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = flaw != Flaw::SelfSigned;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(2);
        params.not_after =
            if flaw == Flaw::Expired { now - Duration::days(1) } else { now + Duration::days(7) };
        if flaw == Flaw::Revoked {
            params.serial_number = Some(SerialNumber::from_slice(&[0x4a, 0x11]));
        }
        let key = KeyPair::generate()?;
        let certificate = match flaw {
            Flaw::SelfSigned => params.self_signed(&key)?,
            Flaw::Untrusted => params.signed_by(&key, &*Self::new("Nobody's authority")?.issuer)?,
            _ => params.signed_by(&key, &*self.issuer)?,
        };
        Ok(Pem { chain: certificate.pem(), key: key.serialize_pem() })
    }

    /// A client's certificate for `name`, its common name, as PEM.
    ///
    /// # Errors
    /// The crypto library's.
    pub fn client(&self, name: &str) -> Result<Pem> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(7);
        let key = KeyPair::generate()?;
        Ok(Pem { chain: params.signed_by(&key, &*self.issuer)?.pem(), key: key.serialize_pem() })
    }

    /// The same for rustls. `dir` holds the files that `openssl ocsp` works on for [`Flaw::Revoked`].
    ///
    /// # Errors
    /// The crypto library's; `openssl` is missing.
    pub fn certified(&self, names: &[&str], flaw: Flaw, dir: &Path) -> Result<Arc<CertifiedKey>> {
        use rustls_pki_types::pem::PemObject;
        let pem = self.leaf(names, flaw)?;
        let chain = rustls_pki_types::CertificateDer::pem_slice_iter(pem.chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut certified = CertifiedKey::from_der(chain, key, &provider)?;
        if flaw == Flaw::Revoked {
            certified.ocsp = Some(self.revoked_staple(&pem, dir)?);
        }
        Ok(Arc::new(certified))
    }

    /// An OCSP response, signed by the authority, that says "revoked" of the leaf.
    fn revoked_staple(&self, leaf: &Pem, dir: &Path) -> Result<Vec<u8>> {
        let dir = dir.join("ocsp");
        fs::create_dir_all(&dir)?;
        for (name, text) in [
            ("ca.pem", self.pem()),
            ("ca.key", self.key_pem()),
            ("leaf.pem", leaf.chain.clone()),
            (
                "index.txt",
                "R\t491231235959Z\t250101000000Z,keyCompromise\t4A11\tunknown\t/CN=sluice test upstream\n"
                    .to_owned(),
            ),
        ] {
            fs::write(dir.join(name), text)?;
        }
        let made = Command::new("openssl")
            .args(
                "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert leaf.pem"
                    .split(' '),
            )
            .args("-ndays 7 -noverify -respout staple.der".split(' '))
            .current_dir(&dir)
            .output()
            .context("running openssl")?;
        let staple = fs::read(dir.join("staple.der")).unwrap_or_default();
        ensure!(!staple.is_empty(), "openssl ocsp: {}", String::from_utf8_lossy(&made.stderr));
        Ok(staple)
    }
}

/// Chooses a certificate by the name that the client asks for; no match, no name: the `fallback`.
#[derive(Debug)]
pub struct BySni {
    /// Lower-case names.
    pub by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For everybody else.
    pub fallback: Arc<CertifiedKey>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.by_name.get(name));
        Some(Arc::clone(named.unwrap_or(&self.fallback)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_staple_says_revoked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let authority = Authority::new("test").expect("authority");
        let key = authority.certified(&["revoked.example.test"], Flaw::Revoked, dir.path()).expect("leaf");
        let staple = dir.path().join("staple");
        fs::write(&staple, key.ocsp.as_ref().expect("stapled")).expect("write");
        let text = Command::new("openssl")
            .args(["ocsp", "-noverify", "-resp_text", "-respin"])
            .arg(&staple)
            .output()
            .expect("openssl");
        assert!(String::from_utf8_lossy(&text.stdout).contains("Cert Status: revoked"), "{text:?}");
    }
}
