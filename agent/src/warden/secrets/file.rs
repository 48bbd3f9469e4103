//! Files that hold secrets, and programs that print them: what is opened is what root meant. Every directory and link on the
//! way must be root's (or the daemon's user's) and writable for nobody else: so nobody else decides what is read.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use zeroize::Zeroizing;

use crate::types::credential::SECRET_MAX;

/// Links that are followed on the way to one file: the kernel's own bound (path_resolution(7)).
const LINKS: usize = 40;
/// Readings of a file that changes while it is read.
const TRIES: usize = 5;
/// Around a secret: a byte order mark, and a line's end.
const AROUND: usize = 5;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not there, or not to be opened.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else's.
    #[error("{path} belongs to user {owner}: `chown root` it, others could put another secret in")]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose.
        owner: u32,
    },
    /// Somebody else may change what it leads to.
    #[error("{path} is writable for its group or others (mode {mode:04o}): `chmod go-w` it")]
    Writable {
        /// What.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else may read it.
    #[error("{path} is open to its group or others (mode {mode:04o}): `chmod 0600` it")]
    Open {
        /// What.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A directory, a pipe, a device.
    #[error("{0} is no regular file")]
    Kind(PathBuf),
    /// A circle of links.
    #[error("{0} leads through more than {LINKS} links")]
    Links(PathBuf),
    /// Too much in it for a secret.
    #[error("{0} is longer than {SECRET_MAX} bytes: it is no secret")]
    Long(PathBuf),
    /// Written to all the time.
    #[error("{0} changes while it is read")]
    Restless(PathBuf),
}

/// What tells one content of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    fn of(stat: &Stat) -> Self {
        #[expect(
            clippy::unnecessary_cast,
            reason = "the fields' types differ from one architecture to another"
        )]
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// A file at the end of a way that nobody else could have laid.
pub struct Found {
    file: File,
    path: PathBuf,
    /// The directories in which a name on the way could come to mean another: where changes are seen.
    pub places: Vec<PathBuf>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A secret: nobody else may read it.
    Secret,
    /// A program: others may read and run it.
    Program,
}

/// Walks to `path`.
///
/// # Errors
/// [`Refused`].
pub fn find(path: &Path, want: Want) -> Result<Found, Refused> {
    let mut walk = Walk::begin(path)?;
    while let Some(name) = walk.rest.pop_front() {
        if let Some(file) = walk.step(name, want)? {
            return Ok(Found { file, path: walk.at, places: walk.places });
        }
    }
    Err(Refused::Kind(path.to_owned()))
}

struct Walk {
    /// The directories from the root to where the walk is.
    open: Vec<OwnedFd>,
    at: PathBuf,
    rest: VecDeque<OsString>,
    links: usize,
    places: Vec<PathBuf>,
}

const TO_LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Walk {
    fn begin(path: &Path) -> Result<Self, Refused> {
        let root = openat(CWD, "/", TO_LOOK | OFlags::DIRECTORY, Mode::empty());
        let root = root.map_err(|error| refused(Path::new("/"), error))?;
        let mut walk =
            Self { open: vec![root], at: "/".into(), rest: VecDeque::new(), links: 0, places: Vec::new() };
        walk.before(path);
        Ok(walk)
    }

    /// Puts a path's parts before what is left of the way.
    fn before(&mut self, path: &Path) {
        if path.is_absolute() {
            self.open.truncate(1);
            self.at = "/".into();
        }
        let parts: Vec<OsString> = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
            .map(|part| part.as_os_str().to_owned())
            .collect();
        parts.into_iter().rev().for_each(|part| self.rest.push_front(part));
    }

    /// One name further; the file, when that is it.
    fn step(&mut self, name: OsString, want: Want) -> Result<Option<File>, Refused> {
        if name == ".." {
            if self.open.len() > 1 {
                self.open.pop();
                self.at.pop();
            }
            return Ok(None);
        }
        let directory = self.open.last().expect("the root stays").as_fd();
        let path = self.at.join(&name);
        let last = self.rest.is_empty();
        let found = openat(directory, &name, TO_LOOK, Mode::empty());
        let found = found.map_err(|error| refused(&path, error))?;
        let stat = fstat(&found).map_err(|error| refused(&path, error))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        owned(&path, &stat)?;
        if kind.is_symlink() {
            self.links += 1;
            if self.links > LINKS {
                return Err(Refused::Links(path));
            }
            let target = readlinkat(&found, "", Vec::new()).map_err(|error| refused(&path, error))?;
            self.places.push(self.at.clone());
            self.before(&PathBuf::from(OsString::from_vec(target.into_bytes())));
            return Ok(None);
        }
        let mode = stat.st_mode & 0o7777;
        // In a directory like /tmp others add names, and take away or change none but their own.
        let sticky = kind.is_dir() && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !sticky {
            return Err(Refused::Writable { path, mode });
        }
        if kind.is_dir() && !last {
            self.open.push(found);
            self.at = path;
            return Ok(None);
        }
        if !kind.is_file() || !last {
            return Err(Refused::Kind(path));
        }
        if want == Want::Secret && mode & 0o077 != 0 {
            return Err(Refused::Open { path, mode });
        }
        self.places.push(self.at.clone());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(directory, &name, flags, Mode::empty()).map_err(|error| refused(&path, error))?;
        let opened = fstat(&file).map_err(|error| refused(&path, error))?;
        // Replaced between the two: by root, since nobody else can. The next look sees the new one.
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(Refused::Restless(path));
        }
        self.at = path;
        Ok(Some(File::from(file)))
    }
}

fn refused(path: &Path, error: rustix::io::Errno) -> Refused {
    Refused::Io { path: path.to_owned(), source: error.into() }
}

fn owned(path: &Path, stat: &Stat) -> Result<(), Refused> {
    let daemon = rustix::process::geteuid().as_raw();
    if stat.st_uid == 0 || stat.st_uid == daemon {
        Ok(())
    } else {
        Err(Refused::Owner { path: path.to_owned(), owner: stat.st_uid })
    }
}

/// What a file holds, and where its changes are seen.
pub struct Content {
    /// The bytes, as they are.
    pub bytes: Vec<u8>,
    /// Of this content.
    pub stamp: Stamp,
    /// See [`Found::places`].
    pub places: Vec<PathBuf>,
}

/// Reads a secret's file, whole and at one moment.
///
/// # Errors
/// [`Refused`].
pub fn read(path: &Path) -> Result<Content, Refused> {
    let mut restless = None;
    for _ in 0..TRIES {
        match find(path, Want::Secret).and_then(Found::read) {
            Err(Refused::Restless(path)) => restless = Some(path),
            other => return other,
        }
    }
    Err(Refused::Restless(restless.unwrap_or_else(|| path.to_owned())))
}

impl Found {
    fn read(self) -> Result<Content, Refused> {
        let Self { mut file, path, places } = self;
        let stamp =
            |file: &File| fstat(file).map(|stat| Stamp::of(&stat)).map_err(|error| refused(&path, error));
        let before = stamp(&file)?;
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let most = SECRET_MAX + AROUND + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(most));
        let read = (&mut file).take(most as u64).read_to_end(&mut bytes);
        read.map_err(|source| Refused::Io { path: path.clone(), source })?;
        if bytes.len() >= most {
            return Err(Refused::Long(path));
        }
        if stamp(&file)? != before {
            return Err(Refused::Restless(path));
        }
        Ok(Content { bytes: std::mem::take(&mut *bytes), stamp: before, places })
    }
}

/// What the file at the end of the way looks like now, unread and unjudged.
pub fn stamp(path: &Path) -> Option<Stamp> {
    statat(CWD, path, AtFlags::empty()).ok().map(|stat| Stamp::of(&stat))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("file");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    /// A directory that root alone changes; /tmp above it is sticky.
    fn place() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("mode");
        dir
    }

    fn said(path: &Path) -> String {
        match read(path) {
            Ok(content) => String::from_utf8(content.bytes).expect("text"),
            Err(refused) => refused.to_string(),
        }
    }

    #[test]
    fn only_what_root_alone_can_change_and_read_is_read() {
        let dir = place();
        let at = |name: &str| dir.path().join(name);
        put(&at("good"), "sk-1\n", 0o600);
        put(&at("read-only"), "sk-2", 0o400);
        put(&at("group"), "sk", 0o640);
        put(&at("world"), "sk", 0o644);
        put(&at("written"), "sk", 0o620);
        put(&at("others"), "sk", 0o600);
        chown(at("others"), Some(65534), None).expect("owner");
        put(&at("huge"), &"a".repeat(SECRET_MAX + AROUND + 1), 0o600);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("pipe");
        fs::create_dir(at("loose")).expect("directory");
        put(&at("loose/key"), "sk", 0o600);
        fs::set_permissions(at("loose"), Permissions::from_mode(0o777)).expect("mode");
        symlink(at("circle"), at("circle")).expect("link");
        for (name, wanted) in [
            ("good", "sk-1\n"),
            ("read-only", "sk-2"),
            ("group", "is open to its group or others (mode 0640)"),
            ("world", "is open to its group or others (mode 0644)"),
            ("written", "is writable for its group or others (mode 0620)"),
            ("others", "belongs to user 65534"),
            ("huge", "is longer than 32768 bytes"),
            ("pipe", "is no regular file"),
            ("loose", "is writable for its group or others (mode 0777)"),
            ("loose/key", "loose is writable for its group or others (mode 0777)"),
            ("circle", "leads through more than 40 links"),
            ("absent", "No such file or directory"),
            ("good/below", "good is no regular file"),
        ] {
            assert!(said(&at(name)).contains(wanted), "{name}: {}", said(&at(name)));
        }
        fs::set_permissions(at("loose"), Permissions::from_mode(0o1777)).expect("mode");
        assert_eq!(said(&at("loose/key")), "sk", "in a sticky directory nobody else can replace it");
    }

    #[test]
    fn links_are_followed_where_nobody_else_could_have_laid_them() {
        let dir = place();
        let at = |name: &str| dir.path().join(name);
        // As the kubelet does it: a volume is swapped by renaming one link.
        fs::create_dir(at("..1")).expect("directory");
        put(&at("..1/key"), "sk-1", 0o400);
        symlink("..1", at("..data")).expect("link");
        symlink("..data/key", at("key")).expect("link");
        let content = read(&at("key")).expect("read");
        assert_eq!(content.bytes, b"sk-1");
        assert!(content.places.contains(&dir.path().to_owned()) && content.places.contains(&at("..1")));
        let before = stamp(&at("key")).expect("there");
        fs::create_dir(at("..2")).expect("directory");
        put(&at("..2/key"), "sk-2", 0o400);
        symlink("..2", at("..tmp")).expect("link");
        fs::rename(at("..tmp"), at("..data")).expect("swapped");
        assert_ne!(stamp(&at("key")).expect("there"), before);
        assert_eq!(said(&at("key")), "sk-2");

        symlink(at("..2/key"), at("theirs")).expect("link");
        std::os::unix::fs::lchown(at("theirs"), Some(65534), None).expect("owner");
        assert!(said(&at("theirs")).contains("theirs belongs to user 65534"));
        symlink("../../../../../../..", at("up")).expect("link");
        assert!(said(&at("up/etc/passwd")).contains("/etc/passwd is open to its group or others"));
    }
}
