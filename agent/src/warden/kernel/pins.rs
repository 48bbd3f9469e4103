//! What stands in bpffs, and how it gets there and away without a moment in between.
//!
//! Programs and links are pinned under a name of their own first and moved over the old ones, so that a crash leaves
//! the old or the new, and never none. What it leaves besides is a stray, and goes when the tag is next attached.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agent_ebpf::ABI;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::cgroup::CgroupId;
use super::{Error, Hook};
use crate::types::TagName;

/// Ending of what is not in place yet.
const NEW: &str = "_new";

/// Paths below the pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    dir: PathBuf,
}

/// A tag as bpffs has it.
pub struct Found {
    pub name: TagName,
    /// `None`: the directory is there, the number is not.
    pub number: Option<u32>,
    pub cgroups: Vec<CgroupId>,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

fn tag_path(dir: &Path, name: &TagName) -> PathBuf {
    // bpffs keeps names with a dot for itself, and a tag's name has no plus.
    dir.join("tags").join(name.as_str().replace('.', "+"))
}

/// Where a tag's program is pinned below `dir`, whether it is there or not.
pub fn program_path(dir: &Path, name: &TagName, hook: Hook) -> PathBuf {
    tag_path(dir, name).join(format!("prog_{}", hook.name()))
}

impl Pins {
    /// Finds or makes the pin directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        mount_bpffs(dir.parent().unwrap_or(dir))?;
        let pins = Self { dir: dir.to_owned() };
        make_dir(dir)?;
        make_dir(&pins.maps())?;
        make_dir(&pins.dir.join("tags"))?;
        Ok(pins)
    }

    fn maps(&self) -> PathBuf {
        self.dir.join(format!("maps_v{ABI}"))
    }

    /// Of a map that all tags share.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Of what belongs to the LSM programs.
    pub fn lsm(&self, name: &str) -> PathBuf {
        self.dir.join("lsm").join(name)
    }

    /// Makes the directory of the LSM programs.
    pub fn make_lsm(&self) -> Result<(), Error> {
        make_dir(&self.dir.join("lsm"))
    }

    /// A tag's directory.
    pub fn tag(&self, name: &TagName) -> PathBuf {
        tag_path(&self.dir, name)
    }

    /// Of a map that one tag has to itself.
    pub fn own_map(&self, name: &TagName, map: &str) -> PathBuf {
        self.tag(name).join(format!("{map}_v{ABI}"))
    }

    /// A tag's program.
    pub fn program(&self, name: &TagName, hook: Hook) -> PathBuf {
        program_path(&self.dir, name, hook)
    }

    fn links(&self, name: &TagName, number: u32, cgroup: CgroupId) -> PathBuf {
        self.tag(name).join(number.to_string()).join(cgroup.0.to_string())
    }

    /// Makes a tag's directory and writes its number down.
    pub fn make_tag(&self, name: &TagName, number: u32) -> Result<(), Error> {
        make_dir(&self.tag(name))?;
        if let Some((other, _)) = self.number(name)?.filter(|(other, _)| *other != number) {
            let other = format!("{name} bears {other}");
            return Err(Error::Number { name: name.clone(), number, other });
        }
        make_dir(&self.tag(name).join(number.to_string()))
    }

    /// Makes way for a new pin at `path`; the old one, if any, stays until [`Pins::settle`].
    pub fn fresh(path: &Path) -> Result<PathBuf, Error> {
        let fresh = with_ending(path, NEW);
        remove(&fresh)?;
        Ok(fresh)
    }

    /// Moves what was pinned at [`Pins::fresh`] into place.
    pub fn settle(path: &Path) -> Result<(), Error> {
        std::fs::rename(with_ending(path, NEW), path).map_err(io_error("cannot move into place", path))
    }

    /// Of the link that holds one hook's program on one cgroup.
    pub fn link(&self, name: &TagName, number: u32, cgroup: CgroupId, hook: Hook) -> PathBuf {
        self.links(name, number, cgroup).join(format!("link_{}", hook.name()))
    }

    /// Makes the directory of a cgroup's links; tells whether it was not there.
    pub fn make_links(&self, name: &TagName, number: u32, cgroup: CgroupId) -> Result<bool, Error> {
        let dir = self.links(name, number, cgroup);
        let fresh = !dir.exists();
        make_dir(&dir)?;
        Ok(fresh)
    }

    /// Links of a cgroup that are none of our hooks': another release's, or what a crash left half-made.
    pub fn strays(&self, name: &TagName, number: u32, cgroup: CgroupId) -> Result<Vec<PathBuf>, Error> {
        let ours = Hook::ALL.map(|hook| self.link(name, number, cgroup, hook));
        Ok(list(&self.links(name, number, cgroup))?.into_iter().filter(|path| !ours.contains(path)).collect())
    }

    /// Detaches them.
    pub fn remove_strays(&self, name: &TagName, number: u32, cgroup: CgroupId) -> Result<(), Error> {
        self.strays(name, number, cgroup)?.iter().try_for_each(|path| remove(path))
    }

    /// Where earlier versions of the ABI, from `since` on, have pinned one of a tag's own maps.
    pub fn older(&self, name: &TagName, map: &str, since: u32) -> Vec<PathBuf> {
        let places = (since..ABI).map(|abi| self.tag(name).join(format!("{map}_v{abi}")));
        places.filter(|place| place.exists()).collect()
    }

    /// Removes everything that a tag has of another version of the ABI, and the programs of hooks that are not ours.
    pub fn remove_older(&self, name: &TagName) -> Result<(), Error> {
        let programs = Hook::ALL.map(|hook| self.program(name, hook));
        let own = format!("_v{ABI}");
        let ours = |path: &PathBuf| {
            path.is_dir()
                || programs.contains(path)
                || file_name(path).is_some_and(|name| name.ends_with(&own))
        };
        list(&self.tag(name))?.iter().filter(|path| !ours(path)).try_for_each(|path| remove(path))
    }

    /// The directories of maps that all tags of another version of the ABI shared.
    pub fn older_maps(&self) -> Result<Vec<PathBuf>, Error> {
        let shared = |path: &PathBuf| file_name(path).is_some_and(|name| name.starts_with("maps_v"));
        let own = self.maps();
        Ok(list(&self.dir)?.into_iter().filter(|path| shared(path) && *path != own).collect())
    }

    /// Removes them.
    pub fn remove_older_maps(&self) -> Result<(), Error> {
        self.older_maps()?.iter().try_for_each(|path| remove(path))
    }

    /// The cgroups on which a tag has links.
    pub fn cgroups(&self, name: &TagName, number: u32) -> Result<Vec<CgroupId>, Error> {
        cgroups(&self.tag(name).join(number.to_string()))
    }

    /// A tag's number, and the directory that says so.
    fn number(&self, name: &TagName) -> Result<Option<(u32, PathBuf)>, Error> {
        let dirs = list(&self.tag(name))?.into_iter().filter(|path| path.is_dir());
        Ok(dirs.filter_map(|path| Some((file_name(&path)?.parse().ok()?, path))).next())
    }

    /// Detaches one cgroup.
    pub fn remove_links(&self, name: &TagName, number: u32, cgroup: CgroupId) -> Result<(), Error> {
        remove(&self.links(name, number, cgroup))
    }

    /// Detaches all of a tag and removes it. Links go first.
    pub fn remove_tag(&self, name: &TagName) -> Result<(), Error> {
        let dir = self.tag(name);
        for entry in list(&dir)?.iter().filter(|entry| entry.is_dir()) {
            remove(entry)?;
        }
        remove(&dir)
    }

    /// Every tag.
    pub fn tags(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for dir in list(&self.dir.join("tags"))? {
            let Some(name) = file_name(&dir).and_then(|n| TagName::parse(&n.replace('+', ".")).ok()) else {
                continue; // Not ours: nothing of ours has such a name.
            };
            let (number, cgroups) = match self.number(&name)? {
                Some((number, path)) => (Some(number), cgroups(&path)?),
                None => (None, Vec::new()),
            };
            found.push(Found { name, number, cgroups });
        }
        Ok(found)
    }
}

/// Mounts bpffs on `place` unless it is there. Two daemons that start at once must not mount one over the other, which
/// would hide its pins: the directory below is locked meanwhile.
fn mount_bpffs(place: &Path) -> Result<(), Error> {
    let mounted = || statfs(place).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if mounted() {
        return Ok(());
    }
    let below = File::open(place).map_err(io_error("cannot open", place))?;
    below.lock().map_err(io_error("cannot lock", place))?;
    if mounted() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), place, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| io_error("cannot mount bpffs on", place)(errno.into()))
}

/// The cgroups that have links below a tag's directory.
fn cgroups(dir: &Path) -> Result<Vec<CgroupId>, Error> {
    Ok(list(dir)?.iter().filter_map(|path| file_name(path)?.parse().ok().map(CgroupId)).collect())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(io_error("cannot make", path)),
    }
}

/// Entries of a directory; none if it is not there.
fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
            .map_err(io_error("cannot list", dir)),
    }
}

/// Removes a file or a tree; nothing there is fine.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(io_error("cannot remove", path)),
    }
}
