//! Values that were fetched, kept until shortly before they end. One fetch at a time for each value (however many wait), a
//! refresh ahead of the end, the last good value while the source fails, and no storm on a source that is down. No value is
//! used before it is looked for in whatever must not show it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use lru::LruCache;

use super::fetch::{Ask, Failed, Fetch, Fetched, Fetching, For, Run};
use super::scrub;
use crate::policy::InForce;
use crate::policy::credential::Credential;
use crate::record::veil::{Hidden, Room, Scope, Veil};
use crate::types::credential::{CredentialName, Scope as Whose, Source};
use crate::types::{SessionId, TagName};

mod entry;
mod value;

use entry::Entry;
use value::Giving;
pub use value::Value;

/// Values of identities and sessions that are kept at once; the one used least recently goes, and is fetched again when it is
/// wanted. Of values for everyone there are as many as credentials.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Bytes of texts (a value in all forms in which it is looked for) of values that are for everyone. A key takes about
/// 4 KiB, a token of 1.5 KiB some 60.
const TEXTS: usize = 64 << 20;
/// The same of all values that are for one identity or one session.
const OWN_TEXTS: usize = 64 << 20;
/// And of those in one tag.
const TAG_TEXTS: usize = 16 << 20;

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
    entries: Mutex<Entries>,
    /// Where values for everyone are looked for.
    everyone: Arc<Scope>,
    /// For values of identities and sessions in all tags.
    own: Arc<Room>,
    tags: Mutex<HashMap<TagName, Weak<Scope>>>,
    giving: Arc<Giving>,
}

struct Entries {
    everyone: HashMap<CredentialName, Arc<Entry>>,
    own: LruCache<(CredentialName, For), Arc<Entry>>,
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
            entries: Mutex::new(Entries { everyone: HashMap::new(), own: LruCache::new(KEPT) }),
            everyone: Scope::new(Room::new(TEXTS, None)),
            own: Room::new(OWN_TEXTS, None),
            tags: Mutex::default(),
            giving: Giving::new(),
        })
    }

    /// A keeper without any source, where no rule names a credential.
    pub fn none() -> Arc<Self> {
        let (_, policy) = tokio::sync::watch::channel(Arc::default());
        let none: Fetch = Arc::new(|_| Box::pin(async { Err(Failed("there is no source".to_owned())) }));
        let run: Run = Arc::new(|_| Box::pin(async { Err("there is no network".to_owned()) }));
        Self::new(policy, Arc::clone(&none), none, run, Arc::new(|_, _| ()))
    }

    /// What must not be seen in a session of this tag's that begins now.
    pub fn veil(&self, tag: &TagName) -> Arc<Veil> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let scope = tags.get(tag).and_then(Weak::upgrade).unwrap_or_else(|| {
            tags.retain(|_, scope| scope.strong_count() > 0);
            let scope = Scope::new(Room::new(TAG_TEXTS, Some(Arc::clone(&self.own))));
            tags.insert(tag.clone(), Arc::downgrade(&scope));
            scope
        });
        drop(tags);
        Veil::new(&self.everyone, &scope)
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
        let entries = self.entries();
        let own = entries.own.iter().filter(|((of, _), _)| of == name).map(|(_, entry)| entry);
        entries.everyone.get(name).into_iter().chain(own).for_each(|entry| entry.changed());
    }

    /// The rules have changed: values of credentials that are gone go, too.
    pub fn rules_changed(&self) {
        let policy = Arc::clone(&self.policy.borrow());
        self.drop_if(|name, _, _| !policy.credentials().contains_key(name));
        self.forget();
    }

    /// A session is over: what was minted for it goes back.
    pub fn session_over(&self, session: SessionId) {
        self.drop_if(|_, whose, _| matches!(whose, For::Session(of, _) if *of == session));
    }

    /// To be called now and then: what has ended goes from memory, and what was made for somebody who has not asked for it
    /// in a while goes back.
    pub fn tend(&self) {
        self.drop_if(|_, whose, entry| entry.tend() && *whose != For::Everyone);
        self.forget();
    }

    /// Gives back what providers take back, and waits until they have, or `within` is over. Nothing is fetched for long any
    /// more: the agent is ending.
    pub async fn close(&self, within: Duration) {
        self.drop_if(|_, _, _| true);
        self.giving.close(within).await;
    }

    fn drop_if(&self, gone: impl Fn(&CredentialName, &For, &Entry) -> bool) {
        let mut entries = self.entries();
        let is_gone = |name: &CredentialName, entry: &mut Arc<Entry>| gone(name, &For::Everyone, entry);
        let mut dropped: Vec<_> = entries.everyone.extract_if(is_gone).map(|(_, entry)| entry).collect();
        let own = entries.own.iter().filter(|((name, whose), entry)| gone(name, whose, entry));
        let own: Vec<_> = own.map(|(key, _)| key.clone()).collect();
        dropped.extend(own.iter().filter_map(|key| entries.own.pop(key)));
        drop(entries);
        dropped.iter().for_each(|entry| entry.let_go());
    }

    /// Texts of values that are gone are looked for no more.
    fn forget(&self) {
        let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scopes: Vec<_> = tags.values().filter_map(Weak::upgrade).collect();
        drop(tags);
        scopes.push(Arc::clone(&self.everyone));
        let forget = move || scopes.iter().for_each(|scope| scope.forget());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(forget)),
            Err(_) => forget(),
        }
    }

    fn entry(&self, credential: &Arc<Credential>, ask: &Ask) -> Result<Arc<Entry>, Failed> {
        let whose = For::of(credential.source.scope(), ask)?;
        let mut entries = self.entries();
        let (name, new) = (credential.name.clone(), || Arc::new(Entry::new(Arc::clone(credential))));
        // What another source gave under this name is another's.
        let (entry, gone) = match whose {
            For::Everyone => match entries.everyone.get(&name).filter(|entry| entry.is_of(credential)) {
                Some(entry) => return Ok(Arc::clone(entry)),
                None => {
                    let entry = new();
                    let gone = entries.everyone.insert(name, Arc::clone(&entry));
                    (entry, gone)
                }
            },
            whose => {
                let key = (name, whose);
                if let Some(entry) = entries.own.get(&key).filter(|entry| entry.is_of(credential)) {
                    return Ok(Arc::clone(entry));
                }
                let entry = new();
                let gone = entries.own.push(key, Arc::clone(&entry));
                (entry, gone.map(|(_, gone)| gone))
            }
        };
        drop(entries);
        if let Some(gone) = gone {
            gone.let_go();
        }
        Ok(entry)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
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

    /// Makes a value of what was fetched: from now on it is looked for. What cannot be looked for is not used.
    async fn hidden(
        &self,
        credential: &Arc<Credential>,
        ask: &Ask,
        fetched: Fetched,
    ) -> Result<Value, Failed> {
        let scope = match credential.source.scope() {
            Whose::Everyone => &self.everyone,
            Whose::Identity => ask.veil.tag(),
            Whose::Session => ask.veil.own(),
        };
        let (scope, of) = (Arc::clone(scope), Arc::clone(credential));
        let hide = move || {
            let texts = scrub::texts(&of.name, &fetched.secret, of.inject.as_ref());
            let hidden: Result<Arc<Hidden>, _> = scope.hide(texts);
            (fetched, hidden)
        };
        let done = tokio::task::spawn_blocking(hide).await;
        let (fetched, hidden) = done.map_err(|_| Failed("it cannot be hidden".to_owned()))?;
        match hidden {
            Ok(hidden) => Ok(Value::new(credential.name.clone(), fetched, hidden, &self.giving)),
            Err(full) => {
                if let Some(revoke) = fetched.revoke {
                    self.giving.give(&credential.name, revoke);
                }
                Err(Failed(full.to_string()))
            }
        }
    }
}

/// How long a value of a source is good that neither says so itself nor is watched.
fn good_for(credential: &Credential) -> Option<Duration> {
    match &credential.source {
        // The warden watches these.
        Source::File(_) | Source::Systemd(_) | Source::Env(_) => None,
        _ => Some(credential.ttl),
    }
}

#[cfg(test)]
mod tests;
