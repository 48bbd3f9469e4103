//! Getting the host's clients to trust our CA, and taking it back without a trace.
//!
//! Three ways, from the narrowest to the widest:
//!
//! - [`environment()`]: variables for the processes of one tag, pointing at a bundle of the system's roots and our CA in
//!   the runtime directory. Nothing on the host changes. What `sluice run` and `sluice trust env` give.
//! - [`install`] into the system's store: append, never replace; [`remove`] restores byte for byte.
//! - [`install`] into the keystores of the JREs found on the host, by the JRE's own `keytool`, with a backup.
//!
//! What was done is kept in `trust.json` below the state directory, so that [`remove`] and [`status`] are exact.
//!
//! Not here: making the CA and its leaves (`tls`, `warden`), and which upstream roots the gate trusts (`tls`).

mod bundle;
mod environment;
mod host;
mod java;
mod jks;
mod ledger;
mod system;
mod tree;

use std::io;
use std::path::PathBuf;

pub use self::bundle::{Written, is_stale, write_bundle};
pub use self::environment::{JAVA_OPTIONS, environment, keep_java_options, systemd_drop_in};
pub use self::host::{Scope, StoreStatus, Trusted, install, remove, status};
pub use self::tree::Tree;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// What goes wrong here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written or removed.
    #[error("change {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than anything of its kind.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// A tool of the system could not be started.
    #[error("run {tool}")]
    Start {
        /// Its command line.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tool of the system failed.
    #[error("{tool}: {said}")]
    Tool {
        /// Its command line.
        tool: String,
        /// Its exit status and the last of what it printed.
        said: String,
    },
    /// The file that should hold our CA's certificate holds something else.
    #[error("{}: not one PEM certificate", path.display())]
    NotOneCertificate {
        /// Which.
        path: PathBuf,
    },
    /// The record of what was installed cannot be understood.
    #[error("{}", path.display())]
    Ledger {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// After everything was done our CA is still in a store.
    #[error("{}: still holds the CA after removal", path.display())]
    Left {
        /// Which.
        path: PathBuf,
    },
}

/// A CA certificate: what is put into stores, and how it is told from others.
#[derive(Clone, Debug)]
pub struct CaCertificate {
    pem: String,
    der: Vec<u8>,
}

impl CaCertificate {
    /// Takes a PEM text that holds exactly one certificate. `path` is for the error.
    pub fn parse(path: &std::path::Path, text: &[u8]) -> Result<Self, Error> {
        let bad = || Error::NotOneCertificate { path: path.to_owned() };
        let mut found = CertificateDer::pem_slice_iter(text);
        let der = found.next().ok_or_else(bad)?.map_err(|_| bad())?;
        if found.next().is_some() {
            return Err(bad());
        }
        // Written anew: comments of the source, such as a line that looks like another certificate, are not ours to spread.
        Ok(Self { pem: to_pem(&der), der: der.to_vec() })
    }

    /// One PEM block, ending in a newline.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex_sha256(&self.der)
    }
}

/// Lower-case hexadecimal SHA-256.
fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// A certificate as PEM, lines of 64 characters (RFC 7468, section 2).
fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;

    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Certificates in a PEM text. A block that does not parse is left out: a bundle with one broken entry is still one.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).map(|der| der.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    /// A self-signed CA, made here.
    pub(super) fn ca(name: &str) -> CaCertificate {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        CaCertificate::parse(Path::new("ca.pem"), certificate.pem().as_bytes()).expect("one certificate")
    }

    #[test]
    fn one_certificate_and_only_one_is_taken() {
        let (one, two) = (ca("one"), ca("two"));
        let path = Path::new("x");
        assert!(CaCertificate::parse(path, b"").is_err());
        assert!(CaCertificate::parse(path, format!("{}{}", one.pem(), two.pem()).as_bytes()).is_err());
        let commented = format!("a comment\n{}", one.pem());
        let again = CaCertificate::parse(path, commented.as_bytes()).expect("one certificate");
        assert_eq!((again.pem(), again.der()), (one.pem(), one.der()));
        assert_ne!(one.sha256(), two.sha256());
    }
}
