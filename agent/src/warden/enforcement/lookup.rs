//! Questions about the host that may take long: answered by a thread of their own, remembered for a while, waited for only
//! a moment. The daemon's loop must not hang on a file system that a job serves (FUSE), nor on a host with many processes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Answers that are remembered; beyond it those that are stale go, then all.
const REMEMBERED: usize = 4096;

/// Questions that wait; beyond it they have no answer.
const QUEUE: usize = 256;

/// How it is asked: `K` is what the answer depends on, `H` helps to find it, `V` is the answer.
pub struct Lookup<K, H, V> {
    shared: Arc<Shared<K, H, V>>,
    fresh: Duration,
    patience: Duration,
}

struct Shared<K, H, V> {
    state: Mutex<State<K, H, V>>,
    changed: Condvar,
}

struct State<K, H, V> {
    known: HashMap<K, (V, Instant)>,
    queue: VecDeque<(K, H)>,
    /// When the question under way was taken up.
    since: Option<Instant>,
    closed: bool,
}

impl<K, H, V> Shared<K, H, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, H, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, H: Send + 'static, V: Clone + Send + 'static> Lookup<K, H, V> {
    /// Starts the thread. `answer` gives `None` where it cannot tell. An answer is good for `fresh`, and after that until the
    /// next one is there; a first one is waited for at most `patience`.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(
        name: &str,
        fresh: Duration,
        patience: Duration,
        answer: impl Fn(&K, H) -> Option<V> + Send + 'static,
    ) -> io::Result<Self> {
        let state = State { known: HashMap::new(), queue: VecDeque::new(), since: None, closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let run = shared.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || run.run(&answer))?;
        Ok(Self { shared, fresh, patience })
    }

    /// The answer; `None` when there is none in time. An old answer is given at once, and a new one is asked for.
    pub fn ask(&self, key: &K, hint: H) -> Option<V> {
        let mut state = self.shared.lock();
        let known = state.known.get(key).cloned();
        if let Some((answer, at)) = known {
            if at.elapsed() >= self.fresh {
                self.enqueue(&mut state, key, hint);
            }
            return Some(answer);
        }
        // The thread hangs on an earlier question: it is not waited for again and again.
        if state.since.is_some_and(|since| since.elapsed() > self.patience) {
            return None;
        }
        if !self.enqueue(&mut state, key, hint) {
            return None;
        }
        let open = |state: &mut State<K, H, V>| {
            !state.known.contains_key(key)
                && (state.queue.iter().any(|(k, _)| k == key) || state.since.is_some())
        };
        let waited = self.shared.changed.wait_timeout_while(state, self.patience, open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.known.get(key).map(|(answer, _)| answer.clone())
    }

    fn enqueue(&self, state: &mut State<K, H, V>, key: &K, hint: H) -> bool {
        if state.queue.iter().any(|(k, _)| k == key) {
            return true;
        }
        if state.queue.len() >= QUEUE {
            return false;
        }
        state.queue.push_back((key.clone(), hint));
        self.shared.changed.notify_all();
        true
    }
}

impl<K, H, V> Drop for Lookup<K, H, V> {
    fn drop(&mut self) {
        // The thread ends after the question under way; one that hangs dies with the process.
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl<K: Clone + Eq + Hash, H, V> Shared<K, H, V> {
    fn run(&self, answer: &dyn Fn(&K, H) -> Option<V>) {
        let mut state = self.lock();
        while !state.closed {
            let Some((key, hint)) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.since = Some(Instant::now());
            drop(state);
            let answered = answer(&key, hint);
            state = self.lock();
            state.since = None;
            match answered {
                Some(answer) => state.remember(key, answer),
                None => drop(state.known.remove(&key)),
            }
            self.changed.notify_all();
        }
    }
}

impl<K: Eq + Hash, H, V> State<K, H, V> {
    fn remember(&mut self, key: K, answer: V) {
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, (_, at)| at.elapsed() < Duration::from_secs(60));
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
        }
        self.known.insert(key, (answer, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn an_answer_is_remembered_and_an_unknown_one_is_not() {
        let (told, asked) = mpsc::channel();
        let lookup = Lookup::start("t", LONG, LONG, move |key: &u32, hint: u32| {
            told.send(*key).expect("test listens");
            (hint > 0).then_some(*key == 1)
        })
        .expect("thread");
        assert_eq!(lookup.ask(&1, 1), Some(true));
        assert_eq!(lookup.ask(&1, 1), Some(true));
        assert_eq!(lookup.ask(&2, 1), Some(false));
        assert_eq!(lookup.ask(&3, 0), None);
        assert_eq!(lookup.ask(&3, 1), Some(false));
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), [1, 2, 3, 3]);
    }

    #[test]
    fn what_hangs_is_waited_for_once_and_answers_later() {
        let (go, wait) = mpsc::channel::<()>();
        let lookup = Lookup::start("t", LONG, Duration::from_millis(50), move |_: &u32, ()| {
            wait.recv().expect("test goes on");
            Some(true)
        })
        .expect("thread");
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(lookup.ask(&1, ()), None);
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "each of them waited");
        for _ in 0..QUEUE + 10 {
            go.send(()).expect("thread waits");
        }
        let deadline = Instant::now() + LONG;
        while lookup.ask(&1, ()).is_none() {
            assert!(Instant::now() < deadline, "no answer came");
            std::thread::yield_now();
        }
    }
}
