//! A certificate of the host's own, to show to a server that asks for one: PEM, a key and its chain.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates of one chain.
const CHAIN: usize = 10;

/// Reads a key (PKCS #8, PKCS #1 or SEC 1) and its certificates, the leaf first, whatever stands before the other.
///
/// # Errors
/// Why it is none, without a word of it.
pub fn certificate(pem: &str) -> Result<Arc<CertifiedKey>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN + 1).collect();
    let chain = chain.map_err(|_| "its certificate is not PEM".to_owned())?;
    if chain.is_empty() || chain.len() > CHAIN {
        return Err(format!("it has {} certificates, not 1 to {CHAIN}", chain.len()));
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(pem.as_bytes());
    let key = keys.next().and_then(Result::ok).ok_or("it has no private key in PEM, or an encrypted one")?;
    if keys.next().is_some() {
        return Err("it has more than one private key".to_owned());
    }
    let made = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    made.map(Arc::new).map_err(|_| "its private key is unusable, or not its certificate's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_own_certificate() {
        let made = |name: &str| {
            let key = rcgen::KeyPair::generate().expect("key");
            let params = rcgen::CertificateParams::new([name.to_owned()]).expect("params");
            (params.self_signed(&key).expect("leaf").pem(), key.serialize_pem())
        };
        let ((leaf, key), (other, _)) = (made("a.example"), made("b.example"));
        assert_eq!(certificate(&format!("{key}{leaf}")).expect("good").cert.len(), 1);
        assert_eq!(certificate(&format!("{leaf}{other}\n{key}")).expect("good").cert.len(), 2);
        for bad in [
            String::new(),
            leaf.clone(),
            key.clone(),
            format!("{other}{key}"),
            format!("{leaf}{key}{key}"),
            leaf.repeat(11) + &key,
            format!("{}{key}", leaf.replace("MII", "M!!")),
        ] {
            let why = certificate(&bad).expect_err("refused");
            assert!(!why.contains("BEGIN") && !why.contains("MII"), "{why}");
        }
    }
}
