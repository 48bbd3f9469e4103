//! What stands in the record for a secret: its fingerprint, under a salt.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::hmac;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::codec::keys;

/// The host's salt in the store's directory. Of no use to a copy: leave it where it is.
pub const HOST_SALT: &str = "keys.salt";

/// What fingerprints are salted with: random.
#[derive(Clone)]
pub struct Salt {
    /// Of this process, never stored.
    pub(super) run: [u8; 32],
    /// Of this host: stored beside the store's segments.
    pub(super) host: [u8; 32],
}

impl Salt {
    /// Draws a salt.
    pub fn draw() -> Self {
        let (mut run, mut host) = ([0; 32], [0; 32]);
        aws_lc_rs::rand::fill(&mut run).expect("the kernel's generator answers");
        aws_lc_rs::rand::fill(&mut host).expect("the kernel's generator answers");
        Self { run, host }
    }

    /// As [`Salt::draw`], the host's part out of `dir`, or into it where there is none.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut salt = Self::draw();
        let path = dir.join(HOST_SALT);
        let new = path.with_extension("new");
        // Whole or not at all: what was there before a crash is nobody's fingerprint yet.
        match fs::read(&path).map(<[u8; 32]>::try_from) {
            Ok(Ok(host)) => salt.host = host,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                let mut file =
                    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
                file.write_all(&salt.host)?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
            }
        }
        Ok(salt)
    }

    /// HMAC-SHA-256 of a key under the host's salt: 16 hex digits.
    pub fn fingerprint_of_key(&self, key: &[u8]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.host), key);
        tag.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn fingerprint(&self, secret: &[u8]) -> String {
        let digest = Sha256::new().chain_update(self.run).chain_update(secret).finalize();
        format!("{:08x}", digest[..4].iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)))
    }

    pub(super) fn redacted(&self, secret: &[u8]) -> String {
        let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
        let fingerprint = match keys::find(secret, now).as_slice() {
            [(_, at)] if *at == (0..secret.len()) => self.fingerprint_of_key(secret),
            _ => self.fingerprint(secret),
        };
        format!("[redacted {} bytes {fingerprint}]", secret.len())
    }
}
