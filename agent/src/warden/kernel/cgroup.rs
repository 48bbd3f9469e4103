//! Directories of the cgroup v2 tree: which may be tagged, and by which number the kernel knows them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::Error;

/// A cgroup's id: the inode number of its directory, and what `bpf_get_current_cgroup_id` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

impl CgroupId {
    /// The root of the hierarchy.
    pub const ROOT: Self = Self(1);
}

/// A cgroup that may be tagged.
pub struct Opened {
    pub dir: File,
    pub id: CgroupId,
    pub path: PathBuf,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

fn is_cgroup(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Opens a cgroup to be tagged.
///
/// # Errors
/// It is no cgroup, the root (of the host or of our cgroup namespace), or the agent's own or below it.
pub fn open(path: &Path, agent: CgroupId) -> Result<Opened, Error> {
    let path = path.canonicalize().map_err(io_error("cannot find", path))?;
    if !path.is_dir() || !is_cgroup(&path) {
        return Err(Error::NotACgroup(path));
    }
    let dir = File::open(&path).map_err(io_error("cannot open", &path))?;
    let id = CgroupId(dir.metadata().map_err(io_error("cannot stat", &path))?.ino());
    if id == CgroupId::ROOT || !path.parent().is_some_and(is_cgroup) {
        return Err(Error::RootCgroup(path));
    }
    if agent.0 != 0 {
        for above in path.ancestors().take_while(|p| is_cgroup(p)) {
            if above.metadata().map_err(io_error("cannot stat", above))?.ino() == agent.0 {
                return Err(Error::InsideAgent(path));
            }
        }
    }
    Ok(Opened { dir, id, path })
}

/// Where cgroup v2 is mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside v1).
///
/// # Errors
/// It is not, or the mounts cannot be read.
pub fn mount_point() -> Result<PathBuf, Error> {
    let table = Path::new("/proc/self/mounts");
    let mounts = std::fs::read_to_string(table).map_err(io_error("cannot read", table))?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .and_then(|fields| fields.get(1).map(PathBuf::from))
        .ok_or_else(|| Error::NotACgroup(PathBuf::from("/sys/fs/cgroup")))
}

/// Whether the cgroup is the one at this path.
pub fn is_at(id: CgroupId, path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.ino() == id.0)
}

/// Every cgroup of the host by its id. Cgroups that go meanwhile are left out.
pub fn all() -> Result<HashMap<CgroupId, PathBuf>, Error> {
    let mut found = HashMap::new();
    let mut open = vec![mount_point()?];
    while let Some(dir) = open.pop() {
        let Ok(meta) = dir.metadata() else { continue };
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        open.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        found.insert(CgroupId(meta.ino()), dir);
    }
    Ok(found)
}
