//! The tags' state for the next daemon: one small JSON file each in `RUNTIME_DIR/tags`, written before the kernel is
//! touched, so that nothing can be left behind that no file tells of.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::TagNumber;
use super::tree::{CgroupId, CgroupPath};
use crate::config::{Designation, Options};
use crate::types::TagName;

/// What a tag is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A command that `sluice run` started. Ends with its last process.
    Run {
        /// The process that asked, which became the command.
        pid: u32,
    },
    /// A process that was tagged while it ran. Ends with its last process.
    Pid {
        /// The process.
        pid: u32,
    },
    /// What the administrator or the configuration designates; stays when nobody lives in it.
    Designated(Designation),
    /// Programs of an earlier daemon whose state file is gone: kept in force, since letting go would let its processes
    /// out unseen.
    Found,
}

/// Who asked for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asker {
    /// `[[intercept]]`.
    Configuration,
    /// A user, over the control socket.
    User {
        /// Real user id.
        uid: u32,
    },
}

/// Everything a tag is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name.
    pub name: TagName,
    /// Number, unique among the tags of this boot.
    pub number: TagNumber,
    /// What it is made of.
    pub kind: Kind,
    /// Who asked.
    pub asker: Asker,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// What it lets through.
    #[serde(flatten)]
    pub options: Options,
    /// Its cgroup, where it is or will be; `None`: not known yet.
    pub cgroup: Option<CgroupPath>,
    /// The cgroup that the programs are attached to.
    pub attached: Option<CgroupId>,
    /// The systemd scope or the unit with our drop-in.
    pub unit: Option<String>,
    /// Where the process of a run or pid tag came from.
    pub came_from: Option<CgroupPath>,
    /// What the user should know, such as sockets left open.
    pub notes: Vec<String>,
    /// Why it is not in force, if it is not and should be.
    pub trouble: Option<String>,
}

impl Entry {
    /// Whether the tag ends with its last process.
    pub fn is_ephemeral(&self) -> bool {
        matches!(self.kind, Kind::Run { .. } | Kind::Pid { .. })
    }
}

/// The directory of the files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Opens `runtime/tags`, making it for root alone.
    pub fn open(runtime: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = runtime.join("tags");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &TagName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    pub fn save(&self, entry: &Entry) -> io::Result<()> {
        write_atomically(&self.path(&entry.name), &serde_json::to_vec(entry)?, 0o600)
    }

    pub fn forget(&self, name: &TagName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// All entries, and what is wrong with the files that hold none.
    pub fn load(&self) -> io::Result<(Vec<Entry>, Vec<String>)> {
        let (mut entries, mut wrong) = (Vec::new(), Vec::new());
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            if path.extension().is_none_or(|e| e != "json") {
                let _ = fs::remove_file(&path); // what a crash left of an unfinished write
                continue;
            }
            let read = fs::read(&path).map_err(|e| e.to_string());
            let parsed = read.and_then(|b| serde_json::from_slice::<Entry>(&b).map_err(|e| e.to_string()));
            match parsed {
                Ok(entry) if self.path(&entry.name) == path => entries.push(entry),
                Ok(_) => wrong.push(format!("{}: names another tag", path.display())),
                Err(e) => wrong.push(format!("{}: {e}", path.display())),
            }
        }
        Ok((entries, wrong))
    }
}

/// Replaces a file as a whole: whoever reads it sees the old or the new one. No fsync: a runtime directory does not
/// outlive the kernel.
pub(super) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}
