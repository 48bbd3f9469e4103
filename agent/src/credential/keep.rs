//! Values that were fetched, kept until shortly before they end. One fetch at a time for each value (however many wait), a
//! refresh ahead of the end, the last good value while the source fails, and no storm on a source that is down.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use lru::LruCache;

use super::fetch::{Ask, Failed, Fetch, Fetched, Fetching, For, Revoke, Run};
use super::scrub;
use crate::codec::scrub::Needles;
use crate::policy::InForce;
use crate::policy::credential::Credential;
use crate::types::SessionId;
use crate::types::credential::{CredentialName, Secret, Source};

mod entry;

use entry::Entry;

/// Values that are kept at once; the one used least recently goes, and is fetched again when it is wanted.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// One value of a credential.
pub struct Value {
    secret: Secret,
    fetched: SystemTime,
    expires: Option<SystemTime>,
    revoke: Mutex<Option<Revoke>>,
}

impl Value {
    pub(super) fn new(fetched: Fetched) -> Self {
        let Fetched { secret, expires, revoke } = fetched;
        Self { secret, fetched: SystemTime::now(), expires, revoke: Mutex::new(revoke) }
    }

    /// The secret.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// When it was fetched.
    pub fn fetched(&self) -> SystemTime {
        self.fetched
    }

    /// When it ends, as its source says.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

/// What became of a fetch: for who shows it.
pub type Tell = Arc<dyn Fn(&Credential, Result<Option<SystemTime>, &Failed>) + Send + Sync>;

/// All values. One for the process.
pub struct Keeper {
    me: Weak<Keeper>,
    policy: InForce,
    /// The warden's sources.
    local: Fetch,
    /// All others.
    network: Fetch,
    run: Run,
    tell: Tell,
    entries: Mutex<LruCache<(CredentialName, For), Arc<Entry>>>,
    /// Whatever somebody holds still, and the last of each entry.
    alive: Mutex<Vec<(CredentialName, Weak<Value>)>>,
    generation: AtomicU64,
    /// Made of which generation.
    needles: Mutex<(u64, Option<Arc<Needles>>)>,
}

impl Keeper {
    /// Keeps nothing yet.
    pub fn new(policy: InForce, local: Fetch, network: Fetch, run: Run, tell: Tell) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            policy,
            local,
            network,
            run,
            tell,
            entries: Mutex::new(LruCache::new(KEPT)),
            alive: Mutex::default(),
            generation: AtomicU64::new(0),
            needles: Mutex::default(),
        })
    }

    /// A keeper without any source, where no rule names a credential.
    pub fn none() -> Arc<Self> {
        let (_, policy) = tokio::sync::watch::channel(Arc::default());
        let none: Fetch = Arc::new(|_| Box::pin(async { Err(Failed("there is no source".to_owned())) }));
        let run: Run = Arc::new(|_| Box::pin(async { Err("there is no network".to_owned()) }));
        Self::new(policy, Arc::clone(&none), none, run, Arc::new(|_, _| ()))
    }

    /// The value that `ask` is to bear.
    ///
    /// # Errors
    /// [`Failed`]: there is none, and no earlier one may be used any more.
    pub async fn value(&self, credential: &Arc<Credential>, ask: &Ask) -> Result<Arc<Value>, Failed> {
        self.entry(credential, ask)?.value(self, ask).await
    }

    /// The value that comes after one which the upstream refused: fetched anew, unless that has been done already, or was
    /// just now without success.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn renewed(
        &self,
        credential: &Arc<Credential>,
        ask: &Ask,
        refused: &Arc<Value>,
    ) -> Result<Arc<Value>, Failed> {
        self.entry(credential, ask)?.renewed(self, ask, refused).await
    }

    /// The value of a credential that another needs.
    pub(super) async fn needed(&self, name: &CredentialName, ask: &Ask) -> Result<Arc<Value>, Failed> {
        let credential = self.policy.borrow().credentials().get(name).cloned();
        let credential = credential.ok_or_else(|| Failed(format!("there is no credential {name}")))?;
        // Boxed: what it needs may need another.
        let value = Box::pin(self.value(&credential, ask)).await;
        value.map_err(|Failed(why)| Failed(format!("credential {name}, which it needs: {why}")))
    }

    /// The source has changed: what is kept is looked at again before it is used.
    pub fn changed(&self, name: &CredentialName) {
        for (key, entry) in &*self.entries() {
            if key.0 == *name {
                entry.changed();
            }
        }
    }

    /// The rules have changed: values of credentials that are gone go, too.
    pub fn rules_changed(&self) {
        let policy = Arc::clone(&self.policy.borrow());
        self.drop_if(|(name, _)| !policy.credentials().contains_key(name));
    }

    /// A session is over: what was minted for it goes back.
    pub fn session_over(&self, session: SessionId) {
        self.drop_if(|(_, whose)| matches!(whose, For::Session(of, _) if *of == session));
    }

    fn drop_if(&self, gone: impl Fn(&(CredentialName, For)) -> bool) {
        let mut entries = self.entries();
        let keys: Vec<_> = entries.iter().map(|(key, _)| key).filter(|key| gone(key)).cloned().collect();
        for key in keys {
            if let Some(entry) = entries.pop(&key) {
                entry.give_back();
            }
        }
    }

    /// Every value that anybody holds, and the one before it of each that is kept: what must not be seen.
    pub fn live(&self) -> Vec<(CredentialName, Arc<Value>)> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.iter().filter_map(|(name, value)| Some((name.clone(), value.upgrade()?))).collect()
    }

    /// Changes whenever [`Keeper::live`] has more than before.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What must not be seen, to be looked for. Costs nothing while there is no value; made anew only when there is another.
    pub fn needles(&self) -> Option<Arc<Needles>> {
        let generation = self.generation();
        if generation == 0 {
            return None;
        }
        let mut made = self.needles.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != generation {
            let policy = Arc::clone(&self.policy.borrow());
            let inject = |name| policy.credentials().get(name).and_then(|c| c.inject.as_ref());
            let live = self.live();
            let values = live.iter().map(|(name, value)| (name, value.secret(), inject(name)));
            *made = (generation, scrub::needles(values).map(Arc::new));
        }
        made.1.clone()
    }

    fn entry(&self, credential: &Arc<Credential>, ask: &Ask) -> Result<Arc<Entry>, Failed> {
        let whose = For::of(credential.source.scope(), ask)?;
        let key = (credential.name.clone(), whose);
        let mut entries = self.entries();
        // What another source gave under this name is another's.
        if let Some(entry) = entries.get(&key).filter(|entry| entry.is_of(credential)) {
            return Ok(Arc::clone(entry));
        }
        let entry = Arc::new(Entry::new(Arc::clone(credential)));
        if let Some((_, gone)) = entries.push(key, Arc::clone(&entry)) {
            gone.give_back();
        }
        Ok(entry)
    }

    /// A value is there: from now on it must not be seen.
    fn announce(&self, name: &CredentialName, value: &Arc<Value>) {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.retain(|(_, value)| value.strong_count() > 0);
        alive.push((name.clone(), Arc::downgrade(value)));
        drop(alive);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<(CredentialName, For), Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fetching(
        &self,
        credential: &Arc<Credential>,
        ask: &Ask,
        again: bool,
    ) -> Option<(Fetch, Fetching)> {
        let fetch = if credential.source.is_local() { &self.local } else { &self.network };
        let fetching = Fetching {
            credential: Arc::clone(credential),
            ask: ask.clone(),
            again,
            keeper: self.me.upgrade()?,
            run: Arc::clone(&self.run),
        };
        Some((Arc::clone(fetch), fetching))
    }
}

/// How long after it was fetched a value is fetched again, where its source does not tell of changes; before its end in any
/// case.
fn refresh_after(credential: &Credential, lifetime: Option<Duration>) -> Option<Duration> {
    match (&credential.source, lifetime) {
        (_, Some(lifetime)) => Some(lifetime.mul_f64(0.8)),
        // The warden watches these.
        (Source::File(_) | Source::Systemd(_) | Source::Env(_), None) => None,
        (_, None) => Some(credential.ttl),
    }
}

#[cfg(test)]
mod tests;
