//! What upstreams are trusted by: the system's roots and the configured ones, without our own CA and without roots
//! that are expired or not what a root has to be. Whatever is left out is named, never swallowed.
//!
//! The environment has no say (`SSL_CERT_FILE` is for the jobs): only the well-known places are read.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::verify::lint;

/// Bundles of the system's roots, the first that is there counts: Debian, RHEL and Fedora, older RHEL, SUSE, Alpine.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Directories of the system's roots, one file each, for hosts without a bundle.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// Most roots taken: far above any real store (about 150), so that a mistaken bundle cannot eat the memory.
const MOST: usize = 4096;

/// A root's certificate and where it was found.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Path, or the name of the configured bundle.
    pub source: String,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
}

/// Something that was left out of the roots, for the agent's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// Path, or the name of the configured bundle.
    pub source: String,
    /// Distinguished name, where it could be read.
    pub subject: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root left out: {} ({}): {}", self.subject, self.source, self.why)
    }
}

/// Facts of a root that webpki's trust anchor does not carry.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Whether it may issue: a certificate that is its own root and no CA stands for itself only.
    pub issues: bool,
    /// Whether it may sign CRLs.
    pub signs_crls: bool,
}

/// The roots that upstreams are checked against.
#[derive(Debug, Default)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<Facts>,
    own: Option<Own>,
}

/// Our own CA, to know it when we meet it upstream.
#[derive(Debug)]
struct Own {
    subject: Vec<u8>,
    key: Vec<u8>,
}

impl Roots {
    /// Sorts candidates into roots and what is left out. `own` is our CA's certificate (DER); `now` is the time at
    /// which a root must be valid.
    pub fn new(
        candidates: impl IntoIterator<Item = Candidate>,
        own: Option<&CertificateDer<'_>>,
        now: UnixTime,
    ) -> (Self, Vec<Omitted>) {
        let mut omitted = Vec::new();
        let own = own.and_then(|der| match X509Certificate::from_der(der) {
            Ok((_, ca)) => {
                Some(Own { subject: ca.subject().as_raw().to_vec(), key: ca.public_key().raw.to_vec() })
            }
            Err(error) => {
                let why = format!("cannot be read, so it cannot be told from the roots: {error}");
                omitted.push(Omitted { source: "own CA".to_owned(), subject: "own CA".to_owned(), why });
                None
            }
        });
        let mut roots = Self { own, ..Self::default() };
        let mut seen = HashSet::new();
        for candidate in candidates {
            if !seen.insert(candidate.certificate.clone()) {
                continue;
            }
            if let Err((subject, why)) = roots.add(&candidate.certificate, now) {
                omitted.push(Omitted { source: candidate.source, subject, why });
            }
        }
        (roots, omitted)
    }

    /// How many roots are trusted.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether our own CA is known, so that it cannot be among the roots.
    pub fn knows_own(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Facts of an anchor that came from [`Self::anchors`].
    pub(super) fn facts(&self, anchor: &TrustAnchor<'_>) -> Option<&Facts> {
        let at = self.anchors.iter().position(|a| {
            a.subject_public_key_info == anchor.subject_public_key_info
                && a.subject == anchor.subject
                && a.name_constraints == anchor.name_constraints
        })?;
        self.facts.get(at)
    }

    /// Whether this is our own CA's key (DER SubjectPublicKeyInfo).
    pub(super) fn is_own_key(&self, spki: &[u8]) -> bool {
        self.own.as_ref().is_some_and(|own| own.key == spki)
    }

    /// Whether this is our own CA's name (DER Name).
    pub(super) fn is_own_name(&self, name: &[u8]) -> bool {
        self.own.as_ref().is_some_and(|own| own.subject == name)
    }

    fn add(&mut self, der: &CertificateDer<'static>, now: UnixTime) -> Result<(), (String, String)> {
        let unreadable = |why: String| ("unreadable".to_owned(), why);
        if self.anchors.len() >= MOST {
            return Err(unreadable(format!("more than {MOST} roots")));
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| unreadable(e.to_string()))?;
        let subject = certificate.subject().to_string();
        let fault = |why: String| (subject.clone(), why);
        if !rest.is_empty() {
            return Err(fault("bytes after its end".to_owned()));
        }
        if self.is_own_key(certificate.public_key().raw) {
            return Err(fault("it is our own CA".to_owned()));
        }
        lint::root(&certificate).map_err(fault)?;
        let validity = certificate.validity();
        let facts = Facts {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            issues: certificate.is_ca(),
            signs_crls: lint::signs_crls(&certificate),
        };
        if now.as_secs().cast_signed() > facts.not_after {
            return Err(fault(format!("expired at {}", super::verify::rfc3339(facts.not_after))));
        }
        let anchor = webpki::anchor_from_trusted_cert(der).map_err(|e| fault(e.to_string()))?.to_owned();
        self.anchors.push(anchor);
        self.facts.push(facts);
        Ok(())
    }
}

/// The system's roots from the well-known places.
pub fn system() -> (Vec<Candidate>, Vec<Omitted>) {
    let (mut found, mut omitted) = (Vec::new(), Vec::new());
    for bundle in BUNDLES.iter().map(Path::new).filter(|b| b.is_file()) {
        read(bundle, true, &mut found, &mut omitted);
        if !found.is_empty() {
            return (found, omitted);
        }
    }
    for directory in DIRECTORIES.iter().map(Path::new).filter(|d| d.is_dir()) {
        read(directory, false, &mut found, &mut omitted);
        if !found.is_empty() {
            break;
        }
    }
    if found.is_empty() {
        let why = "no system roots found: install the package ca-certificates".to_owned();
        omitted.push(Omitted { source: BUNDLES[0].to_owned(), subject: "system roots".to_owned(), why });
    }
    (found, omitted)
}

fn read(path: &Path, file: bool, found: &mut Vec<Candidate>, omitted: &mut Vec<Omitted>) {
    let (file, directory) = if file { (Some(path), None) } else { (None, Some(path)) };
    let result = rustls_native_certs::load_certs_from_paths(file, directory);
    let source = path.display().to_string();
    found.extend(
        result
            .certs
            .into_iter()
            .map(|certificate| Candidate { source: source.clone(), certificate: certificate.into_owned() }),
    );
    omitted.extend(result.errors.into_iter().map(|error| Omitted {
        source: source.clone(),
        subject: "unreadable".to_owned(),
        why: error.to_string(),
    }));
}

/// The certificates of one configured PEM bundle. `source` names it in messages.
pub fn bundle(source: &str, pem: &[u8]) -> (Vec<Candidate>, Vec<Omitted>) {
    let (mut found, mut omitted) = (Vec::new(), Vec::new());
    let note = |why: String| Omitted { source: source.to_owned(), subject: "unreadable".to_owned(), why };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        match certificate {
            Ok(certificate) => {
                found.push(Candidate { source: source.to_owned(), certificate: certificate.into_owned() })
            }
            Err(error) => omitted.push(note(error.to_string())),
        }
    }
    if found.is_empty() {
        omitted.push(note("no certificate in it".to_owned()));
    }
    (found, omitted)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

    use super::*;

    fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Candidate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&KeyPair::generate().expect("key")).expect("root").der().clone();
        Candidate { source: name.to_owned(), certificate }
    }

    #[test]
    fn no_root_of_this_host_is_lost_but_the_old() {
        let (found, unreadable) = system();
        assert_eq!(unreadable, []);
        let count = found.len();
        let (roots, omitted) = Roots::new(found, None, UnixTime::now());
        assert!(omitted.iter().all(|o| o.why.starts_with("expired at")), "{omitted:#?}");
        assert!(roots.len() > 50 && roots.len() + omitted.len() == count, "{} of {count}", roots.len());
    }

    #[test]
    fn what_is_left_out_is_named() {
        let now = UnixTime::now();
        let past = time::OffsetDateTime::now_utc() - time::Duration::DAY;
        let own = root("own", |_| ());
        let twice = root("good", |_| ());
        let candidates = [
            own.clone(),
            twice.clone(),
            twice,
            root("expired", |p| p.not_after = past),
            root("critical", |p| {
                let mut unknown =
                    rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55738, 666], vec![5, 0]);
                unknown.set_criticality(true);
                p.custom_extensions.push(unknown);
            }),
            Candidate { source: "garbage".to_owned(), certificate: CertificateDer::from(vec![0x30, 3, 1]) },
        ];
        let (roots, omitted) = Roots::new(candidates, Some(&own.certificate), now);
        assert_eq!(roots.len(), 1);
        let named: Vec<_> = omitted.iter().map(|o| o.source.as_str()).collect();
        assert_eq!(named, ["own", "expired", "critical", "garbage"]);
        assert!(omitted[0].to_string().contains("our own CA"), "{}", omitted[0]);

        let (found, omitted) =
            bundle("extra", b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n");
        assert!(found.is_empty() && !omitted.is_empty());
    }
}
