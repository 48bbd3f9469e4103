//! Counts on disk: what a gate leaves for the next one. The file is replaced as a whole, and checked when it is read.
//!
//! Times are those of the host's clock since boot; in another boot the wall clock says how long ago it was, and one that was
//! set back says "now": no window is longer closed for it than its length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::window::{Nanos, Slot};
use crate::policy::limit::By;

/// The file, below the store's directory.
const NAME: &str = "limits";
/// Where a gate that drains writes what it still spends; its process and a number follow.
const LATE: &str = "limits.late-";
/// A file that is being written.
const NEW: &str = ".new";
/// How each begins.
const MAGIC: &[u8] = b"sluice limits 1\n";
/// The largest that is read: more than any gate writes.
const LARGEST: u64 = 1 << 30;
/// What a gate that was killed may leave behind goes after that time.
const STALE: Duration = Duration::from_secs(3600);
/// Files of gates that drain: beyond, what these spend is not told any more.
const LATE_MAX: usize = 1000;

/// Why counts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(PathBuf, #[source] io::Error),
    /// It is not what a gate wrote.
    #[error("{0} is damaged")]
    Damaged(PathBuf),
}

/// Counts, and when they were so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// In which boot, and when, by the clock since then.
    pub boot: String,
    pub clock: Nanos,
    /// Milliseconds since 1970, by the wall clock.
    pub wall: i64,
    /// Until when, by the wall clock, a gate that drains may add to it.
    pub beside: i64,
    pub groups: Vec<Group>,
}

/// The counts of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub rule: String,
    pub by: By,
    pub per: Option<Duration>,
    pub counts: Vec<One>,
}

/// One count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct One {
    pub key: String,
    pub slots: Vec<Slot>,
    /// Of a gate that drains: spent or given back since it told last; and what is open there.
    pub late: [i64; 3],
    pub open: u64,
}

impl Saved {
    /// Without counts, as of now.
    pub fn now(clock: Nanos) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { boot: boot.trim().to_owned(), clock, wall: wall(), ..Self::default() }
    }

    /// By how much its times lie behind those of `now`.
    pub fn moved(&self, now: &Self) -> i128 {
        if self.boot == now.boot && !self.boot.is_empty() {
            return 0;
        }
        let passed = i128::from(now.wall.saturating_sub(self.wall).max(0)) * 1_000_000;
        i128::from(now.clock) - i128::from(self.clock) - passed
    }

    /// Writes it in place of what is there.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        self.write_as(&dir.join(NAME))
    }

    /// Writes it beside, for the gate that serves now.
    pub fn write_late(&self, dir: &Path, number: u64) -> Result<(), Error> {
        let io = |error| Error::Io(dir.to_owned(), error);
        if late(dir).map_err(io)?.len() >= LATE_MAX {
            return Err(io(io::Error::other("nobody takes what a gate that drains still spends")));
        }
        self.write_as(&dir.join(format!("{LATE}{}-{number}", std::process::id())))
    }

    fn write_as(&self, path: &Path) -> Result<(), Error> {
        let new = path.with_file_name(format!("{}{NEW}", path.file_name().unwrap_or_default().display()));
        let write = || {
            let payload = postcard::to_allocvec(self).map_err(io::Error::other)?;
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(MAGIC)?;
            file.write_all(&crc32c::crc32c(&payload).to_le_bytes())?;
            file.write_all(&payload)?;
            // Otherwise the machine's death could leave the new name and none of the bytes.
            file.sync_data()?;
            fs::rename(&new, path)
        };
        write().map_err(|error| Error::Io(path.to_owned(), error))
    }

    /// What is there; `None` when nothing was ever written.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        match Self::read_from(&path) {
            Err(Error::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    pub fn read_from(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        read.map_err(|error| Error::Io(path.to_owned(), error))?;
        let parse = || {
            let (sum, payload) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
            let whole = crc32c::crc32c(payload) == u32::from_le_bytes(*sum);
            whole.then(|| postcard::from_bytes(payload).ok())?
        };
        parse().ok_or_else(|| Error::Damaged(path.to_owned()))
    }
}

/// Files of gates that drain, the earliest first. What is left of one that was killed while it wrote is removed.
pub fn late(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(LATE)) else { continue };
        let Ok(written) = entry.metadata().and_then(|data| data.modified()) else { continue };
        if !name.ends_with(NEW) {
            found.push((written, entry.path()));
        } else if written.elapsed().is_ok_and(|age| age > STALE) {
            fs::remove_file(entry.path())?;
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Milliseconds since 1970.
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let slot = Slot { at: 7, spent: [1, u64::MAX, 3] };
        let one = One { key: "k".to_owned(), slots: vec![slot], late: [-1, 2, 0], open: 4 };
        let per = Some(Duration::from_secs(60));
        let group = Group { rule: "r".to_owned(), by: By::Claim("x".to_owned()), per, counts: vec![one] };
        Saved { groups: vec![group], ..Saved::now(1 << 62) }
    }

    #[test]
    fn written_and_read() {
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(Saved::read(dir.path()).expect("nothing there"), None);
        let saved = saved();
        saved.write(dir.path()).expect("written");
        saved.write(dir.path()).expect("replaced");
        assert_eq!(Saved::read(dir.path()).expect("read"), Some(saved.clone()));
        saved.write_late(dir.path(), 1).expect("written");
        let late = late(dir.path()).expect("listed");
        assert_eq!((late.len(), Saved::read_from(&late[0]).expect("read")), (1, saved));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2, "nothing half written is left");
    }

    #[test]
    fn damage_is_seen() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join(NAME);
        saved().write(dir.path()).expect("written");
        let good = fs::read(&path).expect("read");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).expect("written");
            assert!(matches!(Saved::read(dir.path()), Err(Error::Damaged(_))), "octet {at}");
            fs::write(&path, &good[..at]).expect("written");
            assert!(matches!(Saved::read(dir.path()), Err(Error::Damaged(_))), "cut at {at}");
        }
    }

    #[test]
    fn time_that_passed() {
        let at = |boot: &str, clock: i64, wall| {
            let clock = (1 << 62) + clock.cast_unsigned() * 1_000_000;
            Saved { boot: boot.to_owned(), clock, wall, ..Saved::default() }
        };
        let then = at("a", 500_000, 1_000_000);
        // What was spent at `then` was, on the clock of `now`, so many milliseconds before it.
        let age =
            |now: &Saved| (i128::from(now.clock) - (i128::from(then.clock) + then.moved(now))) / 1_000_000;
        assert_eq!(age(&at("a", 530_000, 5)), 30_000, "the wall clock has no say in one boot");
        assert_eq!(age(&at("b", 10_000, 1_040_000)), 40_000);
        assert_eq!(age(&at("b", 10_000, 900_000)), 0, "set back");
        assert_eq!(age(&at("b", 10_000, i64::MAX)), i128::from(i64::MAX) - 1_000_000);
    }
}
