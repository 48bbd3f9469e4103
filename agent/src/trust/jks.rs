//! The merged roots as a Java keystore of the type JKS: the one that every JRE since 1.2 reads, simple enough to be
//! written here, so that neither a JRE nor a second later is needed at start.
//!
//! Format: `sun.security.provider.JavaKeyStore`. Trusted certificates only; no keys, so nothing is secret, and the
//! password is Java's customary one.

use aws_lc_rs::digest;

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;
/// The digest at the end is keyed by the password and these words: an integrity check, not a secret.
const WHITENER: &[u8] = b"Mighty Aphrodite";
const PASSWORD: &str = "changeit";

/// A keystore of these certificates (DER). The same certificates give the same bytes.
pub(super) fn truststore(certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend((certificates.len() as u32).to_be_bytes());
    for (at, der) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut store, &format!("root{at}"));
        // Creation time in milliseconds: a constant, so that a store is comparable.
        store.extend(0u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend((der.len() as u32).to_be_bytes());
        store.extend(der);
    }
    let mut check = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        check.update(&unit.to_be_bytes());
    }
    check.update(WHITENER);
    check.update(&store);
    store.extend(check.finish().as_ref());
    store
}

/// `DataOutput.writeUTF`: the length in two bytes, then the text (ASCII here, where modified UTF-8 is the same).
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend((text.len() as u16).to_be_bytes());
    store.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::tests::ca;
    use super::*;

    #[test]
    fn the_bytes_are_a_jks_of_that_many_entries() {
        let one = ca("one");
        let store = truststore(&[one.der().to_vec()]);
        assert_eq!(store[..4], MAGIC.to_be_bytes());
        assert_eq!(store[8..12], 1u32.to_be_bytes());
        assert!(store.windows(one.der().len()).any(|window| window == one.der()));
        // Header 12, tag 4, alias 2 + 5, time 8, type 2 + 5, length 4, certificate, digest 20.
        assert_eq!(store.len(), 12 + 4 + 7 + 8 + 7 + 4 + one.der().len() + 20);
    }
}
