//! Threads that read for tags: few for one tag, and not many for all tags of one user, so that a job which stops its own
//! identity from being read stops nobody else's; what comes while they are busy waits in its tag's own line.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::TagName;

/// Threads that read. A tag whose threads are all stuck keeps them: it takes the tags of several users to keep all.
const READERS: usize = 64;
/// Of them for one user, who may have many tags.
const READERS_OF_USER: usize = 16;
/// Of them for one tag.
const READERS_OF_TAG: usize = 4;
/// Connections of one tag that wait for one: a job that opens many at once. More have no identity.
const WAITING: usize = 256;

/// One reading. Dropped without having run, it was not to be: whoever waits for it goes on without.
type Reading = Box<dyn FnOnce() + Send>;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<TagName, OfTag>>>);

#[derive(Default)]
struct OfTag {
    threads: usize,
    /// Of the caller for whom the first was made: the others are counted as its.
    user: u32,
    waiting: VecDeque<Reading>,
}

/// There is no place, not even to wait: what was to run.
pub(super) struct NoPlace;

impl Readers {
    fn tags(&self) -> MutexGuard<'_, HashMap<TagName, OfTag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `reading` run for `tag`, a process of `user` in it, now or as soon as one of its threads is free.
    ///
    /// # Errors
    /// [`NoPlace`]: it is dropped.
    pub fn run(&self, tag: &TagName, user: u32, reading: Reading) -> Result<(), NoPlace> {
        let mut tags = self.tags();
        let all: usize = tags.values().map(|of| of.threads).sum();
        let users = tags.values().filter(|of| of.user == user).map(|of| of.threads).sum::<usize>();
        let of = tags.entry(tag.clone()).or_default();
        if of.threads < READERS_OF_TAG && all < READERS && users < READERS_OF_USER {
            if of.threads == 0 {
                of.user = user;
            }
            of.threads += 1;
        } else if of.threads > 0 && of.waiting.len() < WAITING {
            of.waiting.push_back(reading);
            return Ok(());
        } else {
            if of.threads == 0 {
                tags.remove(tag);
            }
            return Err(NoPlace);
        }
        drop(tags);
        let mut thread = Thread { readers: self.clone(), tag: tag.clone(), user, next: Some(reading) };
        let work = move || {
            while let Some(reading) = thread.next.take() {
                reading();
                thread.next =
                    thread.readers.tags().get_mut(&thread.tag).and_then(|of| of.waiting.pop_front());
            }
        };
        // Not made: it is dropped, and the gate goes on without when its time is over.
        if let Err(error) = std::thread::Builder::new().name("tokens".to_owned()).spawn(work) {
            tracing::error!("no thread to read an environment: {error}");
        }
        Ok(())
    }
}

/// A thread's place.
struct Thread {
    readers: Readers,
    tag: TagName,
    user: u32,
    next: Option<Reading>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut tags = self.readers.tags();
        let left = tags.get_mut(&self.tag).map(|of| {
            of.threads -= 1;
            of.threads
        });
        // What came to wait since the thread looked last waits for nobody now.
        let unserved = if left == Some(0) { tags.remove(&self.tag) } else { None };
        drop(tags);
        for reading in unserved.into_iter().flat_map(|of| of.waiting) {
            let _again = self.readers.run(&self.tag, self.user, reading);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn tag(name: &str) -> TagName {
        TagName::parse(name).expect("name")
    }

    /// A reading that says when it begins, and ends when it is let go.
    fn stuck(begun: &Sender<()>) -> (Reading, Sender<()>) {
        let (go, wait): (Sender<()>, Receiver<()>) = mpsc::channel();
        let begun = begun.clone();
        let reading = move || {
            begun.send(()).expect("the test waits");
            let _let_go = wait.recv();
        };
        (Box::new(reading), go)
    }

    #[test]
    fn a_tag_that_is_stuck_stops_no_other_and_a_burst_waits() {
        let readers = Readers::default();
        let (begun, begins) = mpsc::channel();
        let mut held = Vec::new();
        for _ in 0..READERS_OF_TAG {
            let (reading, go) = stuck(&begun);
            assert!(readers.run(&tag("greedy"), 1, reading).is_ok());
            begins.recv_timeout(SOON).expect("it begins");
            held.push(go);
        }
        let (ran, runs) = mpsc::channel();
        for n in 0..WAITING {
            let ran = ran.clone();
            let reading = Box::new(move || ran.send(n).expect("the test waits"));
            assert!(readers.run(&tag("greedy"), 1, reading).is_ok(), "{n}");
        }
        assert!(readers.run(&tag("greedy"), 1, Box::new(|| {})).is_err(), "the line is full");
        let ran = ran.clone();
        let other = Box::new(move || ran.send(usize::MAX).expect("the test waits"));
        assert!(readers.run(&tag("other"), 1, other).is_ok());
        assert_eq!(runs.recv_timeout(SOON), Ok(usize::MAX), "the other tag is read at once");
        held.pop();
        let order: Vec<usize> = (0..WAITING).map(|_| runs.recv_timeout(SOON).expect("it runs")).collect();
        assert_eq!(order, (0..WAITING).collect::<Vec<_>>());
    }

    #[test]
    fn all_tags_together_have_a_bound() {
        let readers = Readers::default();
        let (begun, begins) = mpsc::channel();
        let mut held = Vec::new();
        for n in 0..READERS {
            let (reading, go) = stuck(&begun);
            let user = u32::try_from(n / READERS_OF_USER).expect("few");
            assert!(readers.run(&tag(&format!("t{}", n / READERS_OF_TAG)), user, reading).is_ok());
            begins.recv_timeout(SOON).expect("it begins");
            held.push(go);
        }
        assert!(readers.run(&tag("late"), 9, Box::new(|| {})).is_err());
    }

    #[test]
    fn the_tags_of_one_user_leave_room_for_others() {
        let readers = Readers::default();
        let (begun, begins) = mpsc::channel();
        let mut held = Vec::new();
        for n in 0..READERS_OF_USER {
            let (reading, go) = stuck(&begun);
            assert!(readers.run(&tag(&format!("t{}", n / READERS_OF_TAG)), 1000, reading).is_ok());
            begins.recv_timeout(SOON).expect("it begins");
            held.push(go);
        }
        assert!(readers.run(&tag("fresh"), 1000, Box::new(|| {})).is_err(), "one more tag of the same user");
        let (ran, runs) = mpsc::channel();
        let reading = Box::new(move || ran.send(()).expect("the test waits"));
        assert!(readers.run(&tag("hers"), 1001, reading).is_ok());
        assert_eq!(runs.recv_timeout(SOON), Ok(()));
    }
}
