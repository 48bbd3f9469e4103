//! Notices that a secret's file has changed. inotify says at once that something has happened in a directory, and a look
//! each second finds what it cannot see (other machines on a network file system, an overflown queue). Neither says what a
//! file holds: that is read when somebody needs it.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::file::{self, Stamp};
use crate::types::CredentialName;

/// A look at every file, whatever inotify says.
const LOOK: u16 = 1000;
/// Between two looks, whatever happens in a directory that others may write to.
const REST: Duration = Duration::from_millis(5);

/// Who is told.
pub type Tell = Box<dyn Fn(&CredentialName) + Send + Sync>;

/// The watch over all files. Lives as long as the daemon.
pub struct Watch {
    inotify: Inotify,
    files: Mutex<HashMap<CredentialName, Watched>>,
    tell: Tell,
}

struct Watched {
    path: PathBuf,
    /// Of what was read last; `None`: there was nothing.
    stamp: Option<Stamp>,
    /// Seen once, and it looked unfinished.
    unfinished: Option<Stamp>,
}

impl Watch {
    /// Starts the thread that watches.
    ///
    /// # Errors
    /// inotify or the thread cannot be had.
    pub fn start(tell: Tell) -> io::Result<Arc<Self>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watch = Arc::new(Self { inotify, files: Mutex::default(), tell });
        let watching = Arc::downgrade(&watch);
        let run = move || {
            while let Some(watch) = watching.upgrade() {
                watch.wait();
                watch.look();
                drop(watch);
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a bound on how often it looks, not a wait for anything"
                )]
                std::thread::sleep(REST);
            }
        };
        std::thread::Builder::new().name("credentials".to_owned()).spawn(run)?;
        Ok(watch)
    }

    /// From now on changes to the file at `path` are told, seen from `stamp` on.
    pub fn file(&self, name: &CredentialName, path: &Path, stamp: Option<Stamp>, places: &[PathBuf]) {
        let seen = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        for place in places.iter().map(PathBuf::as_path).chain(path.parent()) {
            // A directory that is not there, or one too many for the kernel: the look each second is left.
            if let Err(error) = self.inotify.add_watch(place, seen) {
                tracing::debug!("{} is looked at each second only: {error}", place.display());
            }
        }
        let watched = Watched { path: path.to_owned(), stamp, unfinished: None };
        self.files().insert(name.clone(), watched);
    }

    /// Forgets files of credentials that are gone.
    pub fn retain(&self, still: impl Fn(&CredentialName) -> bool) {
        self.files().retain(|name, _| still(name));
    }

    fn wait(&self) {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(LOOK));
        // What happened is not asked: all are looked at.
        while self.inotify.read_events().is_ok() {}
    }

    fn look(&self) {
        let paths: Vec<(CredentialName, PathBuf)> =
            self.files().iter().map(|(name, watched)| (name.clone(), watched.path.clone())).collect();
        // A file system may let us wait: nobody else waits for the lock meanwhile.
        let now: Vec<_> = paths.into_iter().map(|(name, path)| (name, file::stamp(&path))).collect();
        for (name, stamp) in now {
            if self.files().get_mut(&name).is_some_and(|watched| watched.has_changed(stamp)) {
                (self.tell)(&name);
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<CredentialName, Watched>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn has_changed(&mut self, now: Option<Stamp>) -> bool {
        if now == self.stamp {
            return false;
        }
        // Cut to nothing, and perhaps about to be written: the end of the writing is seen, or the next look counts.
        if now.is_some_and(|now| now.is_empty()) && self.unfinished != now {
            self.unfinished = now;
            return false;
        }
        (self.stamp, self.unfinished) = (now, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_way_to_change_a_file_is_told() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("key");
        let (told, heard) = mpsc::channel();
        let watch =
            Watch::start(Box::new(move |name| told.send(name.clone()).expect("heard"))).expect("watch");
        let name = CredentialName::parse("c").expect("name");
        let stamp = |path: &Path| file::stamp(path);
        watch.file(&name, &path, None, &[]);
        let wait = |what: &str| {
            assert_eq!(heard.recv_timeout(Duration::from_secs(10)).as_ref(), Ok(&name), "{what}");
        };
        fs::write(&path, "one").expect("written");
        wait("made");
        fs::write(&path, "two").expect("written");
        wait("written");
        fs::write(dir.path().join("new"), "three").expect("written");
        fs::rename(dir.path().join("new"), &path).expect("renamed");
        wait("replaced");
        fs::remove_file(&path).expect("removed");
        wait("removed");
        std::os::unix::fs::symlink("other", &path).expect("link");
        fs::write(dir.path().join("other"), "four").expect("written");
        wait("a link and what it leads to");
        watch.file(&name, &path, stamp(&path), &[]);
        fs::write(dir.path().join("unrelated"), "x").expect("written");
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "nothing has changed");
    }
}
