//! A stand-in for systemd-journald: the socket of its native protocol in a space's /run, and what arrives there.
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Where journald listens, below /run.
pub const SOCKET: &str = "systemd/journal/socket";

/// One entry's fields. A field that came twice has its last value.
pub type Entry = BTreeMap<String, String>;

/// A listening stand-in. Dropped, its socket is gone, as if journald had died.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Journal {
    /// Listens below `run`, the directory that is /run inside a space.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(run: &Path) -> Result<Self> {
        let path = run.join(SOCKET);
        fs::create_dir_all(path.parent().context("a socket has a directory")?)?;
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        let entries = Arc::new(Mutex::new(Vec::new()));
        let (reader, store) = (socket.try_clone()?, Arc::clone(&entries));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            // Ends when `drop` shuts the socket down: it reads nothing then. An entry is never empty, but one that comes
            // as a memfd is: those would need recvmsg, and no test sends any.
            while let Ok(n) = reader.recv(&mut buffer) {
                if n == 0 {
                    return;
                }
                let entry = parse(&buffer[..n]).unwrap_or_default();
                store.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
            }
        });
        Ok(Self { path, socket, entries })
    }

    /// Everything that arrived.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// `NAME=value\n`, or `NAME\n`, the value's length as a little-endian u64, the value, `\n`.
fn parse(mut bytes: &[u8]) -> Option<Entry> {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value, rest) = match line.iter().position(|b| *b == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let (length, rest) = rest.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                (line, rest.get(..length)?, rest.get(length + 1..)?)
            }
        };
        entry.insert(String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned());
        bytes = rest;
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_field() {
        let entry = parse(b"A=1\nB\n\x03\0\0\0\0\0\0\0x\ny\nC=2=3\n").expect("an entry");
        assert_eq!(
            entry.into_iter().map(|(n, v)| n + "=" + &v).collect::<Vec<_>>(),
            ["A=1", "B=x\ny", "C=2=3"]
        );
        assert!(parse(b"B\n\xff\0\0\0\0\0\0\0x\n").is_none());
    }

    #[test]
    fn what_is_sent_arrives_until_it_is_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let journal = Journal::start(dir.path()).expect("listening");
        let sender = UnixDatagram::unbound().expect("socket");
        sender.send_to(b"MESSAGE=hello\n", dir.path().join(SOCKET)).expect("sent");
        let came = crate::process::eventually(crate::process::PATIENCE, || Ok(journal.entries().pop()));
        assert_eq!(came.expect("no error").expect("an entry")["MESSAGE"], "hello");
        drop(journal);
        assert!(sender.send_to(b"MESSAGE=late\n", dir.path().join(SOCKET)).is_err());
    }
}
