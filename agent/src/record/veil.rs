//! What must not be seen in the streams of one session: in its record, and in what its client is given. A value that
//! everybody may be given is looked for everywhere; one that was made for an identity, in all of the tag in which that was
//! asked for; one that was made for a session, in that session. So whatever a job has values made for, no other job's
//! streams are searched for more, and it has its bound in memory, beyond which it is given no more of them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use crate::codec::scrub::{Needles, Set, Texts};

/// Bytes that texts may take, perhaps within a larger room.
pub struct Room {
    most: usize,
    taken: AtomicUsize,
    within: Option<Arc<Room>>,
}

/// There is no room for a value's texts: it cannot be looked for, so it must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many values are in use: there is no room to look for one more in what must not show it")]
pub struct Full;

impl Room {
    /// For so many bytes.
    pub fn new(most: usize, within: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), within })
    }

    fn take(&self, bytes: usize) -> Result<(), Full> {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| Full)?;
        match self.within.as_ref().map_or(Ok(()), |within| within.take(bytes)) {
            Ok(()) => Ok(()),
            Err(full) => {
                self.taken.fetch_sub(bytes, Ordering::AcqRel);
                Err(full)
            }
        }
    }

    fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::AcqRel);
        if let Some(within) = &self.within {
            within.give(bytes);
        }
    }
}

/// What is looked for in some streams.
pub struct Scope {
    room: Arc<Room>,
    members: Mutex<Members>,
    /// How many had been added when the set was made last. Held while one is made.
    made: Mutex<u64>,
    now: RwLock<Option<Arc<Set>>>,
    generation: AtomicU64,
}

#[derive(Default)]
struct Members {
    all: Vec<Member>,
    /// How many were ever added.
    added: u64,
}

struct Member {
    /// Whoever may still use the value.
    alive: Weak<Hidden>,
    texts: Arc<Texts>,
}

/// A value is looked for as long as this is there. Gives its room back.
pub struct Hidden {
    scope: Arc<Scope>,
    cost: usize,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.scope.room.give(self.cost);
    }
}

impl Scope {
    /// With nothing in it.
    pub fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self {
            room,
            members: Mutex::default(),
            made: Mutex::default(),
            now: RwLock::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// The same room.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// From its return on, `texts` are looked for. Takes as long as it takes to sort all that is looked for here: not for
    /// the threads that serve connections.
    ///
    /// # Errors
    /// [`Full`]: the value must not be used.
    pub fn hide(self: &Arc<Self>, texts: Texts) -> Result<Arc<Hidden>, Full> {
        let cost = texts.cost();
        self.room.take(cost)?;
        let hidden = Arc::new(Hidden { scope: Arc::clone(self), cost });
        if texts.is_empty() {
            return Ok(hidden);
        }
        let mine = {
            let mut members = lock(&self.members);
            members.all.push(Member { alive: Arc::downgrade(&hidden), texts: Arc::new(texts) });
            members.added += 1;
            members.added
        };
        // Of many that come at once, one makes the set for all that wait.
        let mut made = lock(&self.made);
        if *made < mine {
            *made = self.make();
        }
        Ok(hidden)
    }

    /// Forgets the texts of values that nobody can use any more.
    pub fn forget(&self) {
        if lock(&self.members).all.iter().any(|member| member.alive.strong_count() == 0) {
            let mut made = lock(&self.made);
            *made = self.make();
        }
    }

    fn make(&self) -> u64 {
        let (texts, added) = {
            let mut members = lock(&self.members);
            members.all.retain(|member| member.alive.strong_count() > 0);
            let texts = members.all.iter().map(|member| Arc::clone(&member.texts)).collect();
            (texts, members.added)
        };
        let set = Set::new(texts).map(Arc::new);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = set;
        // Behind what it tells of.
        self.generation.fetch_add(1, Ordering::Release);
        added
    }

    fn now(&self) -> Option<Arc<Set>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What must not be seen in one session.
pub struct Veil {
    /// Of everybody, of the tag, of the session.
    scopes: [Arc<Scope>; 3],
    /// Made of which generation.
    made: Mutex<(u64, Option<Arc<Needles>>)>,
}

impl Veil {
    /// A session's: its own scope takes room of its tag's.
    pub fn new(everyone: &Arc<Scope>, tag: &Arc<Scope>) -> Arc<Self> {
        let own = Scope::new(Arc::clone(tag.room()));
        let scopes = [Arc::clone(everyone), Arc::clone(tag), own];
        Arc::new(Self { scopes, made: Mutex::default() })
    }

    /// Where nothing is hidden, nor can be.
    pub fn none() -> Arc<Self> {
        let scope = Scope::new(Room::new(0, None));
        Self::new(&scope, &scope)
    }

    /// What is looked for in all of the tag.
    pub fn tag(&self) -> &Arc<Scope> {
        &self.scopes[1]
    }

    /// What is looked for in this session alone.
    pub fn own(&self) -> &Arc<Scope> {
        &self.scopes[2]
    }

    /// What must not be seen now. Three loads while there is nothing; no lock is waited for that another session takes, but
    /// when there is another value.
    pub fn needles(&self) -> Option<Arc<Needles>> {
        // Each only grows, so the sum tells a change of any.
        let generation = self.scopes.iter().map(|scope| scope.generation.load(Ordering::Acquire)).sum();
        if generation == 0 {
            return None;
        }
        let mut made = lock(&self.made);
        if made.0 != generation {
            let sets = self.scopes.iter().filter_map(|scope| scope.now());
            *made = (generation, Needles::new(sets).map(Arc::new));
        }
        made.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Texts {
        Texts::new("[x]", [text.as_bytes().to_vec()])
    }

    fn shows(veil: &Veil, text: &str) -> bool {
        veil.needles().is_some_and(|needles| needles.is_in(text.as_bytes()))
    }

    #[test]
    fn each_value_is_looked_for_where_it_may_come() {
        let room = Room::new(10_000, None);
        let everyone = Scope::new(Arc::clone(&room));
        let tags = [(); 2].map(|()| Scope::new(Room::new(5_000, Some(Arc::clone(&room)))));
        let [a, b, other] = [&tags[0], &tags[0], &tags[1]].map(|tag| Veil::new(&everyone, tag));
        assert!(a.needles().is_none());
        let all = everyone.hide(texts("for-everyone")).expect("room");
        let tag = a.tag().hide(texts("for-the-tag")).expect("room");
        let own = a.own().hide(texts("for-the-session")).expect("room");
        let seen = |veil: &Veil| ["for-everyone", "for-the-tag", "for-the-session"].map(|t| shows(veil, t));
        assert_eq!(
            [seen(&a), seen(&b), seen(&other)],
            [[true, true, true], [true, true, false], [true, false, false]]
        );
        drop((all, tag, own));
        everyone.forget();
        assert_eq!(seen(&other), [false, false, false]);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_hidden_and_says_so() {
        let all = Room::new(1_000, None);
        let [a, b] = [(); 2].map(|()| Scope::new(Room::new(600, Some(Arc::clone(&all)))));
        let text = |n: usize| texts(&format!("a-secret-{n:03}"));
        let cost = text(0).cost();
        let mut held: Vec<_> = (0..600 / cost).map(|n| a.hide(text(n)).expect("room")).collect();
        assert_eq!(a.hide(text(99)).err(), Some(Full), "its own bound");
        let theirs: Vec<_> = std::iter::from_fn(|| b.hide(text(7)).ok()).take(100).collect();
        assert_eq!(theirs.len(), 1_000 / cost - 600 / cost, "the bound of all");
        held.pop();
        a.hide(text(98)).expect("room again");
        drop((held, theirs));
        a.forget();
        assert_eq!((a.room.taken.load(Ordering::Relaxed), all.taken.load(Ordering::Relaxed)), (0, 0));
    }
}
