//! One value: the secret, its end, and the way back to its provider.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::credential::fetch::{Fetched, Renew, Revoke};
use crate::record::veil::Hidden;
use crate::types::credential::{CredentialName, Secret};

/// Giving one value back takes no longer.
const WITHIN: Duration = Duration::from_secs(15);
/// Values that are given back at once.
const AT_ONCE: usize = 16;
/// Values that wait for that: those beyond are left to their end.
const WAITING: usize = 1024;

/// One value of a credential. When the last who holds it lets go, it goes back to its provider, where that takes it.
pub struct Value {
    name: CredentialName,
    secret: Secret,
    fetched: SystemTime,
    expires: Mutex<Option<SystemTime>>,
    renew: Option<Renew>,
    revoke: Option<(Revoke, Arc<Giving>)>,
    /// It is looked for as long as it is there; `None` in tests alone.
    _hidden: Option<Arc<Hidden>>,
}

impl Value {
    pub(super) fn new(
        name: CredentialName,
        fetched: Fetched,
        hidden: Arc<Hidden>,
        giving: &Arc<Giving>,
    ) -> Self {
        let Fetched { secret, expires, revoke, renew } = fetched;
        Self {
            name,
            secret,
            fetched: SystemTime::now(),
            expires: Mutex::new(expires),
            renew,
            revoke: revoke.map(|revoke| (revoke, Arc::clone(giving))),
            _hidden: Some(hidden),
        }
    }

    /// What nothing looks for.
    #[cfg(test)]
    pub(in crate::credential) fn bare(secret: Secret) -> Self {
        Self {
            name: CredentialName::parse("bare").expect("a name"),
            secret,
            fetched: SystemTime::now(),
            expires: Mutex::default(),
            renew: None,
            revoke: None,
            _hidden: None,
        }
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
        *self.end()
    }

    /// What has it live longer, where that can be had.
    pub(super) fn renew(&self) -> Option<&Renew> {
        self.renew.as_ref()
    }

    /// It lives longer.
    pub(super) fn lives_until(&self, end: Option<SystemTime>) {
        *self.end() = end;
    }

    fn end(&self) -> MutexGuard<'_, Option<SystemTime>> {
        self.expires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // What has ended needs no giving back.
        let ended = self.expires().is_some_and(|end| end <= SystemTime::now());
        if let Some((revoke, giving)) = self.revoke.take().filter(|_| !ended) {
            giving.give(&self.name, revoke);
        }
    }
}

/// What is on its way back to providers.
pub(super) struct Giving {
    /// `None`: there is no runtime, and so no provider.
    runtime: Option<Handle>,
    places: Arc<Semaphore>,
    under_way: TaskTracker,
    full: AtomicBool,
}

impl Giving {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            runtime: Handle::try_current().ok(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            under_way: TaskTracker::new(),
            full: AtomicBool::new(false),
        })
    }

    /// Begins to give a value back.
    pub(super) fn give(self: &Arc<Self>, name: &CredentialName, revoke: Revoke) {
        let Some(runtime) = &self.runtime else { return };
        if self.under_way.len() >= WAITING {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!("{WAITING} values wait to be given back: more are left to their end");
            }
            return;
        }
        self.full.store(false, Ordering::Relaxed);
        let (name, places) = (name.clone(), Arc::clone(&self.places));
        let giving = async move {
            let Ok(_place) = places.acquire().await else { return };
            match timeout(WITHIN, revoke()).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!("credential {name}: it cannot be given back: {why}"),
                Err(_) => tracing::warn!("credential {name}: giving it back took too long"),
            }
        };
        self.under_way.spawn_on(giving, runtime);
    }

    /// Waits until all is given back, or `within` is over.
    pub(super) async fn close(&self, within: Duration) {
        self.under_way.close();
        if timeout(within, self.under_way.wait()).await.is_err() {
            let left = self.under_way.len();
            tracing::warn!(
                "{left} values are not given back within {} s: they are left to their end",
                within.as_secs()
            );
        }
    }
}
