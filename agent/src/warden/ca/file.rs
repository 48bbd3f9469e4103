//! The files of a key, the CA's or the signer's: a directory that is ours alone, a key that nobody else can read, writes that are whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg, OFlag};
use zeroize::Zeroizing;

use super::Error;

/// Upper bound of the files that are read.
const LONGEST: usize = 64 * 1024;

/// Makes the directory, checks that it is ours alone and locks it against a second daemon.
pub(in crate::warden) fn prepare(directory: &Path) -> Result<Flock<File>, Error> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::Io { what: "make", path: directory.to_owned(), source }),
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(directory)
        .map_err(|source| Error::Io { what: "open", path: directory.to_owned(), source })?;
    private(&opened, directory)?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| Error::Io {
        what: "lock (does another daemon start?)",
        path: directory.to_owned(),
        source: errno.into(),
    })
}

/// Refuses what others can reach.
fn private(file: &File, path: &Path) -> Result<(), Error> {
    let facts =
        file.metadata().map_err(|source| Error::Io { what: "stat", path: path.to_owned(), source })?;
    let (mode, owner) = (facts.mode() & 0o7777, facts.uid());
    if mode & 0o077 != 0 || owner != nix::unistd::geteuid().as_raw() {
        return Err(Error::Exposed { path: path.to_owned(), mode, owner });
    }
    Ok(())
}

/// The text of a file, `None` when there is none. `secret`: refused when others can read it.
pub(in crate::warden) fn read(path: &Path, secret: bool) -> Result<Option<Zeroizing<String>>, Error> {
    let io = |source| Error::Io { what: "read", path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(source)),
    };
    if secret {
        private(&file, path)?;
    }
    // One allocation, so that no copy of a key is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    file.take(LONGEST as u64).read_to_string(&mut text).map_err(io)?;
    Ok(Some(text))
}

/// Writes a file so that it is there whole or not at all, on disk when this returns.
pub(in crate::warden) fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (path, new) = (directory.join(name), directory.join(format!(".{name}.new")));
    let attempt = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    attempt().map_err(|source| Error::Io { what: "write", path: path.clone(), source })
}
