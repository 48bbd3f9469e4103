//! What stands in bpffs, and how it gets there and away without a moment in between.
//!
//! Programs and links are pinned under a name of their own first and moved over the old ones, so that a crash leaves
//! the old or the new, and never none.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agent_ebpf::ABI;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::cgroup::CgroupId;
use super::link::Link;
use super::{Error, Hook};
use crate::types::TagName;

/// Ending of what is not in place yet.
const NEW: &str = "_new";
/// Ending of what is about to go.
const OLD: &str = "_old";

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

    /// Pins links that are attached already; those that they replace are attached until they all are.
    pub fn pin_links(
        &self,
        name: &TagName,
        number: u32,
        cgroup: CgroupId,
        links: Vec<(Hook, Link)>,
    ) -> Result<(), Error> {
        let place = self.links(name, number, cgroup);
        let fresh = Self::fresh(&place)?;
        let pinned = make_dir(&fresh).and_then(|()| {
            links.into_iter().try_for_each(|(hook, link)| {
                let path = fresh.join(format!("link_{}", hook.name()));
                link.pin(&path).map_err(|source| Error::PinLink { path, source })
            })
        });
        if pinned.is_err() {
            remove(&fresh)?;
            return pinned;
        }
        let old = with_ending(&place, OLD);
        remove(&old)?;
        if place.exists() {
            std::fs::rename(&place, &old).map_err(io_error("cannot set aside", &place))?;
        }
        Self::settle(&place)?;
        remove(&old)
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

    /// Every tag, with half-made pins put right: a new set of links counts where the old one was set aside already.
    pub fn tags(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for dir in list(&self.dir.join("tags"))? {
            let Some(name) = file_name(&dir).and_then(|n| TagName::parse(&n.replace('+', ".")).ok()) else {
                continue; // Not ours: nothing of ours has such a name.
            };
            let (number, cgroups) = match self.number(&name)? {
                Some((number, path)) => (Some(number), mend(&path)?),
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

/// Completes or undoes what a crash interrupted in [`Pins::pin_links`], and lists the cgroups.
fn mend(dir: &Path) -> Result<Vec<CgroupId>, Error> {
    for path in list(dir)? {
        let Some(name) = file_name(&path) else { continue };
        if let Some(id) = name.strip_suffix(NEW) {
            let place = dir.join(id);
            // Optional ones are not on every kernel; those that are there were pinned before the last, which is not.
            let needed = Hook::ALL.iter().filter(|hook| !hook.is_optional());
            let complete = needed.into_iter().all(|hook| path.join(format!("link_{}", hook.name())).exists());
            if complete && !place.exists() {
                std::fs::rename(&path, &place).map_err(io_error("cannot move into place", &place))?;
            } else {
                remove(&path)?;
            }
        }
    }
    for path in list(dir)? {
        let Some(id) = file_name(&path).and_then(|n| n.strip_suffix(OLD).map(str::to_owned)) else {
            continue;
        };
        let place = dir.join(id);
        if place.exists() {
            remove(&path)?;
        } else {
            std::fs::rename(&path, &place).map_err(io_error("cannot put back", &place))?;
        }
    }
    let ids = list(dir)?.iter().filter_map(|p| file_name(p)?.parse().ok().map(CgroupId)).collect();
    Ok(ids)
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
