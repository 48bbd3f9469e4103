//! Who reads bodies: the host's own identity, made at the first start or given by systemd (`LoadCredentialEncrypted=`, which
//! a TPM2 can seal), and those of the configuration. The gate is told the recipients; the identity it never sees.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::Config;
use crate::paths::{AUDIT_DIR, IDENTITY, RECIPIENT};
use crate::record::age::{self, Identity};
use crate::types::Recipient;

/// The identity as a credential of the unit's.
pub const CREDENTIAL: &str = "audit-identity";

/// Why the host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or made.
    #[error("{path} cannot be read or made")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds none.
    #[error("{path} holds no identity: move it away to have another made, which does not open older bodies")]
    None {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: age::Error,
    },
    /// Others can read it.
    #[error(
        "{path} can be read by others: `chmod 600` it, and make another identity if they may have read it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// Whom the keys of bodies are to be sealed for.
///
/// # Errors
/// [`Error`], where the host itself is to read them.
pub fn recipients(config: &Config) -> Result<Vec<Recipient>, Error> {
    let mut all = Vec::new();
    if config.audit.host_can_read {
        all.push(identity(&config.paths.state)?.recipient());
    }
    all.extend(
        config
            .audit
            .recipients
            .iter()
            .filter(|recipient| !all.contains(recipient))
            .copied()
            .collect::<Vec<_>>(),
    );
    Ok(all)
}

/// The host's identity: the unit's credential where there is one, else the file, which is made where there is none.
///
/// # Errors
/// [`Error`].
#[expect(
    clippy::disallowed_methods,
    reason = "systemd.exec(5): a credential's directory is told by a variable"
)]
pub fn identity(state: &Path) -> Result<Identity, Error> {
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&directory).join(CREDENTIAL);
        if path.exists() {
            // systemd's own directory, which only this service reads, is of a mode of its own.
            return read(&path, false);
        }
    }
    let directory = state.join(AUDIT_DIR);
    let path = directory.join(IDENTITY);
    match read(&path, true) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            make(&directory).map_err(|source| Error::Io { path, source })
        }
        read => read,
    }
}

fn read(path: &Path, private: bool) -> Result<Identity, Error> {
    let wrong = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrong)?;
    let facts = file.metadata().map_err(wrong)?;
    if private && (facts.mode() & 0o077 != 0 || facts.uid() != nix::unistd::geteuid().as_raw()) {
        return Err(Error::Exposed { path: path.to_owned() });
    }
    let text = Zeroizing::new(io::read_to_string(&file).map_err(wrong)?);
    Identity::parse(&text).map_err(|source| Error::None { path: path.to_owned(), source })
}

/// On disk, whole, before anything is sealed for it.
fn make(directory: &Path) -> io::Result<Identity> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let identity = Identity::generate();
    let recipient = identity.recipient();
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", *identity.to_text()));
    write(directory, RECIPIENT, format!("{recipient}\n").as_bytes())?;
    write(directory, IDENTITY, text.as_bytes())?;
    File::open(directory)?.sync_all()?;
    Ok(identity)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = directory.join(format!(".{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_identity_is_made_once_and_kept_to_itself() {
        use std::os::unix::fs::PermissionsExt as _;
        let state = tempfile::tempdir().expect("directory");
        let mut config = Config::default();
        config.paths.state = state.path().to_owned();
        let first = recipients(&config).expect("made");
        assert_eq!(recipients(&config).expect("read"), first);
        let directory = state.path().join(AUDIT_DIR);
        let said = fs::read_to_string(directory.join(RECIPIENT)).expect("read");
        assert_eq!(said.trim(), first[0].to_string());
        let other = Identity::generate().recipient();
        config.audit.recipients = vec![other, first[0]];
        assert_eq!(recipients(&config).expect("read"), [first[0], other]);
        config.audit.host_can_read = false;
        config.audit.recipients = vec![other];
        assert_eq!(recipients(&config).expect("read"), [other]);
        let path = directory.join(IDENTITY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(matches!(identity(state.path()), Err(Error::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        fs::write(&path, "nothing").expect("written");
        assert!(matches!(identity(state.path()), Err(Error::None { .. })), "no other is made in its place");
    }
}
