//! inotify on cgroup files: says which tags to look at again, never what happened. The queue may overflow and events
//! may be stale, so whoever is told looks at the tree itself.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::types::TagName;

/// The watched files and who wants to know of each.
pub(super) struct Watch {
    inotify: Inotify,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    by_tag: HashMap<TagName, BTreeSet<PathBuf>>,
    by_path: HashMap<PathBuf, WatchDescriptor>,
}

/// What to look at again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// These tags.
    At(BTreeSet<TagName>),
    /// All: events were lost.
    Everywhere,
}

/// The reading side, for the one event loop.
pub(super) struct Events {
    /// inotify's descriptor reads like a pipe: whole events, `EAGAIN` when there are none.
    reader: pipe::Receiver,
    buffer: Vec<u8>,
}

impl Watch {
    pub fn open() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Self { inotify, wanted: Mutex::default() })
    }

    /// The reading side. Needs a tokio runtime.
    pub fn events(&self) -> io::Result<Events> {
        let fd = self.inotify.as_fd().try_clone_to_owned()?;
        Ok(Events { reader: pipe::Receiver::from_owned_fd_unchecked(fd)?, buffer: vec![0; 16 * 1024] })
    }

    /// Watches exactly `paths` for `tag` from now on. A path that is not there is left out: the caller watches a parent
    /// and looks again.
    pub fn set(&self, tag: &TagName, paths: BTreeSet<PathBuf>) -> io::Result<()> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        for path in &paths {
            // Adding again is cheap and right: the path may be another file by now, which gets another descriptor.
            match self.inotify.add_watch(path, mask(path)) {
                Ok(wd) => {
                    wanted.by_path.insert(path.clone(), wd);
                }
                Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENODEV) => {}
                Err(e) => failed = Some(e),
            }
        }
        let before = wanted.by_tag.insert(tag.clone(), paths).unwrap_or_default();
        self.drop_unwanted(&mut wanted, before);
        failed.map_or(Ok(()), |e| Err(e.into()))
    }

    /// Watches nothing for `tag` any more.
    pub fn forget(&self, tag: &TagName) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wanted.by_tag.remove(tag).unwrap_or_default();
        self.drop_unwanted(&mut wanted, before);
    }

    fn drop_unwanted(&self, wanted: &mut Wanted, before: BTreeSet<PathBuf>) {
        for path in before {
            if !wanted.by_tag.values().any(|paths| paths.contains(&path))
                && let Some(wd) = wanted.by_path.remove(&path)
            {
                // EINVAL when the file is gone: the kernel dropped the watch by itself.
                let _ = self.inotify.rm_watch(wd);
            }
        }
    }

    fn interested(&self, wds: &BTreeSet<i32>) -> BTreeSet<TagName> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let paths: Vec<&PathBuf> =
            wanted.by_path.iter().filter(|(_, wd)| wds.contains(&wd.as_raw())).map(|(p, _)| p).collect();
        let told = wanted.by_tag.iter().filter(|(_, wants)| paths.iter().any(|p| wants.contains(*p)));
        told.map(|(tag, _)| tag.clone()).collect()
    }
}

impl Events {
    /// Waits for the next events. Cancel-safe: an event that was read is answered in the same poll.
    pub async fn next(&mut self, watch: &Watch) -> io::Result<Look> {
        let n = self.reader.read(&mut self.buffer).await?;
        let mut wds = BTreeSet::new();
        let mut rest = &self.buffer[..n];
        // inotify(7): wd i32, mask u32, cookie u32, len u32, then len bytes of name.
        while let Some((head, tail)) = rest.split_first_chunk::<16>() {
            let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
            if u32::from_ne_bytes(word(4)) & libc::IN_Q_OVERFLOW != 0 {
                return Ok(Look::Everywhere);
            }
            wds.insert(i32::from_ne_bytes(word(0)));
            let name = usize::try_from(u32::from_ne_bytes(word(12))).unwrap_or(usize::MAX);
            rest = tail.get(name..).unwrap_or_default();
        }
        Ok(Look::At(watch.interested(&wds)))
    }
}

fn mask(path: &Path) -> AddWatchFlags {
    if path.file_name().is_some_and(|n| n == "cgroup.events") {
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF
    } else {
        AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR
    }
}
