//! Notices that a secret's file has changed. inotify says at once that something has happened in a directory, and a look
//! each second finds what it cannot see (other machines on a network file system, an overflown queue). Neither says what a
//! file holds: that is read when somebody needs it. A file system that does not answer holds up its own files alone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::file::{self, Stamp};
use crate::types::CredentialName;

/// A look at every file, whatever inotify says.
const LOOK: u16 = 1000;
/// A look at one file that takes longer is given up, and the file is not looked at until that look has come back.
const HANGS: Duration = Duration::from_secs(2);
/// Between two looks, whatever happens in a directory that others may write to.
const REST: Duration = Duration::from_millis(5);

/// Who is told.
pub type Tell = Box<dyn Fn(&CredentialName) + Send + Sync>;

/// The watch over all files. Lives as long as the daemon.
pub struct Watch {
    /// `None`: the kernel gives none; the look each second is left.
    inotify: Option<Inotify>,
    files: Mutex<HashMap<CredentialName, Watched>>,
    /// Files at which somebody looks and does not come back: as many threads wait.
    hanging: Arc<Mutex<HashSet<PathBuf>>>,
    stamp: Stamped,
    tell: Tell,
}

/// Looks at a file.
type Stamped = Arc<dyn Fn(&Path) -> Option<Stamp> + Send + Sync>;

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
    /// The thread cannot be had.
    pub fn start(tell: Tell) -> io::Result<Arc<Self>> {
        Self::start_with(tell, Arc::new(file::stamp))
    }

    fn start_with(tell: Tell, stamp: Stamped) -> io::Result<Arc<Self>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.inspect_err(|error| {
            tracing::warn!("files of credentials are looked at each second only: inotify: {error}");
        });
        let watch = Arc::new(Self {
            inotify: inotify.ok(),
            files: Mutex::default(),
            hanging: Arc::default(),
            stamp,
            tell,
        });
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
            let added =
                self.inotify.as_ref().map_or(Ok(()), |inotify| inotify.add_watch(place, seen).map(drop));
            if let Err(error) = added {
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
        let mut fds = Vec::from_iter(
            self.inotify.as_ref().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)),
        );
        let _ = poll(&mut fds, PollTimeout::from(LOOK));
        // What happened is not asked: all are looked at.
        while self.inotify.as_ref().is_some_and(|inotify| inotify.read_events().is_ok()) {}
    }

    fn look(&self) {
        let mut left: Vec<(CredentialName, PathBuf)> =
            self.files().iter().map(|(name, watched)| (name.clone(), watched.path.clone())).collect();
        {
            let hanging = lock(&self.hanging);
            left.retain(|(_, path)| !hanging.contains(path));
        }
        while !left.is_empty() {
            let paths = left.iter().map(|(_, path)| path.clone()).collect();
            let Ok(looking) = Looking::start(paths, &self.stamp, &self.hanging) else { return };
            let mut seen = 0;
            while let Some(stamp) = (seen < left.len()).then(|| looking.stamp(seen)).flatten() {
                let name = &left[seen].0;
                if self.files().get_mut(name).is_some_and(|watched| watched.has_changed(stamp)) {
                    (self.tell)(name);
                }
                seen += 1;
            }
            // What hangs, if anything does, is passed over.
            left.drain(..left.len().min(seen + 1));
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<CredentialName, Watched>> {
        lock(&self.files)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that looks at files, one after the other.
struct Looking {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    paths: Arc<Vec<PathBuf>>,
    hanging: Arc<Mutex<HashSet<PathBuf>>>,
}

#[derive(Default)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    given_up: bool,
}

impl Looking {
    fn start(
        paths: Vec<PathBuf>,
        stamp: &Stamped,
        hanging: &Arc<Mutex<HashSet<PathBuf>>>,
    ) -> io::Result<Self> {
        let looking = Self { seen: Arc::default(), paths: Arc::new(paths), hanging: Arc::clone(hanging) };
        let (seen, paths, hanging) =
            (Arc::clone(&looking.seen), Arc::clone(&looking.paths), Arc::clone(hanging));
        let look_at = Arc::clone(stamp);
        let look = move || {
            for path in &*paths {
                let stamp = look_at(path);
                let mut seen_now = lock(&seen.0);
                if seen_now.given_up {
                    lock(&hanging).remove(path);
                    return;
                }
                seen_now.stamps.push(stamp);
                seen.1.notify_one();
            }
        };
        std::thread::Builder::new().name("look".to_owned()).stack_size(64 << 10).spawn(look)?;
        Ok(looking)
    }

    /// What the file at this place looks like: `None` where nobody comes back to say so.
    fn stamp(&self, place: usize) -> Option<Option<Stamp>> {
        let waits = |seen: &mut Seen| seen.stamps.len() <= place;
        let waited = self.seen.1.wait_timeout_while(lock(&self.seen.0), HANGS, waits);
        let mut seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        if waits(&mut seen) {
            seen.given_up = true;
            let path = &self.paths[place];
            tracing::warn!("{} does not answer: its changes are not seen until it does", path.display());
            lock(&self.hanging).insert(path.clone());
        }
        seen.stamps.get(place).copied()
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

    #[test]
    fn a_file_system_that_does_not_answer_holds_up_its_own_files_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let (told, heard) = mpsc::channel();
        let (let_go, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let stamp: Stamped = Arc::new(move |path| {
            if path.ends_with("hangs") {
                let _ = lock(&held).recv();
            }
            file::stamp(path)
        });
        let tell: Tell = Box::new(move |name| {
            let _ = told.send(name.clone());
        });
        let watch = Watch::start_with(tell, stamp).expect("watch");
        for name in ["hangs", "a", "z"] {
            let credential = CredentialName::parse(name).expect("name");
            watch.file(&credential, &dir.path().join(name), None, &[]);
        }
        for name in ["a", "z"] {
            fs::write(dir.path().join(name), "one").expect("written");
        }
        let mut names: Vec<String> = (0..2)
            .map(|_| heard.recv_timeout(Duration::from_secs(20)).expect("told").as_str().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "z"]);
        fs::write(dir.path().join("hangs"), "one").expect("written");
        drop(let_go);
        let name = heard.recv_timeout(Duration::from_secs(20)).expect("it answers again");
        assert_eq!(name.as_str(), "hangs");
    }
}
