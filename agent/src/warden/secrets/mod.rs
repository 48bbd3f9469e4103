//! The warden's sources of secrets: files, systemd's credentials, commands, the daemon's environment. The gate asks for a
//! credential by name; which file that is, the configuration says and never the gate.
//!
//! A file system or a command can let a reader wait for ever. So threads apart from the daemon's loop read, one for each
//! source at most: one that hangs takes its own place alone. What is read is cleaned, handed over, and kept nowhere here.

mod command;
mod environment;
mod file;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use time::OffsetDateTime;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::gate_process::Mailbox;
use crate::config::Config;
use crate::control::{CredentialState, CredentialStatus, Tested};
use crate::policy::credential::Credential;
use crate::types::CredentialName;
use crate::types::credential::{Secret, Source};
use crate::wire::{Sealed, ToGate};
use watch::Watch;

/// Sources that are read at once: as many as there can be credentials, and some whose configuration is gone while they hang.
const READERS: usize = 1100;
/// A reader's stack: a secret is on the heap.
const STACK: usize = 256 << 10;
/// Tests of credentials that are awaited at once.
const TESTS: usize = 16;

/// All sources. Cheap to clone.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    credentials: Mutex<BTreeMap<CredentialName, Credential>>,
    /// Variables that were taken, by name; `None`: there was none.
    environment: Mutex<HashMap<String, Option<Zeroizing<Vec<u8>>>>>,
    outcomes: Mutex<HashMap<CredentialName, Outcome>>,
    /// The gate that asked last: it is told of changes.
    gate: Mutex<Option<Mailbox>>,
    /// The sources that are read now, and since when. As many as [`READERS`].
    reading: Mutex<Vec<(CredentialName, Source, Instant)>>,
    /// `None`: files are read when they are asked for, and changes are not noticed.
    watch: Mutex<Option<Arc<Watch>>>,
    tests: Mutex<HashMap<u64, oneshot::Sender<Result<Tested, String>>>>,
    calls: AtomicU64,
}

/// What became of the last readings.
#[derive(Clone, Default)]
struct Outcome {
    good: Option<OffsetDateTime>,
    expires: Option<OffsetDateTime>,
    failed: Option<String>,
}

/// A reader's place: that of its source.
struct Place(Arc<Inner>, CredentialName, Source);

impl Place {
    fn enter(inner: &Arc<Inner>, credential: &Credential) -> Result<Self, String> {
        let Credential { name, source, .. } = credential;
        let mut reading = lock(&inner.reading);
        if let Some((.., since)) = reading.iter().find(|(of, from, _)| of == name && from == source) {
            let seconds = since.elapsed().as_secs();
            return Err(format!("its source has been read for {seconds} s, and gives no answer"));
        }
        if reading.len() >= READERS {
            return Err("too many sources are being read".to_owned());
        }
        reading.push((name.clone(), source.clone(), Instant::now()));
        Ok(Self(Arc::clone(inner), name.clone(), source.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(inner, name, source) = self;
        lock(&inner.reading).retain(|(of, from, _)| (of, from) != (name, source));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Secrets {
    /// Those of the configuration. Variables of the environment that it names are taken now.
    pub fn new(config: &Config) -> Self {
        let secrets = Self(Arc::default());
        let telling = Arc::downgrade(&secrets.0);
        let watch = Watch::start(Box::new(move |name| {
            if let Some(inner) = telling.upgrade() {
                inner.tell(ToGate::SecretChanged { credential: name.clone() });
            }
        }));
        match watch {
            Ok(watch) => *lock(&secrets.0.watch) = Some(watch),
            Err(error) => {
                tracing::error!("files of credentials cannot be watched, a change takes a restart: {error}")
            }
        }
        secrets.configure(config);
        secrets
    }

    /// Takes a new configuration into force.
    pub fn configure(&self, config: &Config) {
        let credentials = &config.policy.credentials;
        for credential in credentials {
            if let Source::Env(name) = &credential.source {
                lock(&self.0.environment).entry(name.clone()).or_insert_with(|| {
                    let taken = environment::take(name).unwrap_or_else(|error| {
                        tracing::error!("credential {}: {name} cannot be taken: {error}", credential.name);
                        None
                    });
                    taken.map(Zeroizing::new)
                });
            }
        }
        let named: BTreeMap<_, _> = credentials.iter().map(|one| (one.name.clone(), one.clone())).collect();
        lock(&self.0.outcomes).retain(|name, _| named.contains_key(name));
        if let Some(watch) = &*lock(&self.0.watch) {
            watch.retain(|name| named.contains_key(name));
        }
        *lock(&self.0.credentials) = named;
    }

    /// This gate is told of changes from now on, and tests credentials.
    pub fn gate(&self, gate: Mailbox) {
        *lock(&self.0.gate) = Some(gate);
    }

    /// Begins to read a credential for the gate, which gets it under `call`; only from the source that the gate has in
    /// mind: what is read from another is bound to other hosts than those that the gate judges by.
    pub fn ask(&self, call: u64, name: &CredentialName, source: &Source, gate: Mailbox) {
        let answer = move |gate: &Mailbox, answer: Result<Secret, String>| {
            // A gate that does not read, or is gone, wants none.
            let _ = gate.post(vec![(ToGate::Secret { call, answer: answer.map(Sealed::new) }, None)]);
        };
        let credential = lock(&self.0.credentials).get(name).cloned();
        let credential = match credential {
            Some(credential) if credential.source != *source => {
                return answer(&gate, Err("the configuration is changing: try again".to_owned()));
            }
            Some(credential) if credential.source.is_local() => credential,
            Some(_) => return answer(&gate, Err("its source is none of the warden's".to_owned())),
            None => return answer(&gate, Err("the configuration has no such credential".to_owned())),
        };
        let place = match Place::enter(&self.0, &credential) {
            Ok(place) => place,
            Err(why) => {
                self.0.note(name, Err(why.clone()));
                return answer(&gate, Err(why));
            }
        };
        let (inner, told) = (Arc::clone(&self.0), gate.clone());
        let read = move || {
            let read = inner.read(&credential);
            // Whoever is answered may ask again at once.
            drop(place);
            inner.note(&credential.name, read.as_ref().map(|_| None).map_err(Clone::clone));
            answer(&told, read);
        };
        let thread = std::thread::Builder::new().name("credential".to_owned()).stack_size(STACK);
        if let Err(error) = thread.spawn(read) {
            answer(&gate, Err(format!("no thread to read it: {error}")));
        }
    }

    /// What became of a fetch of the gate's own.
    pub fn fetched(&self, name: &CredentialName, outcome: Result<Option<u64>, String>) {
        if lock(&self.0.credentials).contains_key(name) {
            let time = |seconds: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok();
            self.0.note(name, outcome.map(|expires| expires.and_then(time)));
        }
    }

    /// All credentials, as `sluice credentials` shows them.
    pub fn list(&self) -> Vec<CredentialStatus> {
        let outcomes = lock(&self.0.outcomes).clone();
        let describe = |credential: &Credential| {
            let Outcome { good, expires, failed } =
                outcomes.get(&credential.name).cloned().unwrap_or_default();
            let state = match (&good, &failed) {
                (_, Some(_)) => CredentialState::Failing,
                (Some(_), None) => CredentialState::Good,
                (None, None) => CredentialState::Unread,
            };
            CredentialStatus::new(credential, state, good, expires, failed)
        };
        lock(&self.0.credentials).values().map(describe).collect()
    }

    /// Has the gate fetch a credential and try its hosts.
    ///
    /// # Errors
    /// Why that cannot be done, or what went wrong.
    pub async fn test(&self, name: &CredentialName) -> Result<Tested, String> {
        if !lock(&self.0.credentials).contains_key(name) {
            return Err("there is no such credential".to_owned());
        }
        let gate = lock(&self.0.gate).clone().ok_or("there is no gate now: try again")?;
        let (sender, tested) = oneshot::channel();
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed);
        {
            let mut tests = lock(&self.0.tests);
            tests.retain(|_, sender| !sender.is_closed());
            if tests.len() >= TESTS {
                return Err("too many credentials are being tested".to_owned());
            }
            tests.insert(call, sender);
        }
        let question = ToGate::TestCredential { call, credential: name.clone() };
        gate.post(vec![(question, None)]).map_err(|_| "the gate does not read")?;
        match tokio::time::timeout(TEST_WITHIN, tested).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the gate has ended".to_owned()),
            Err(_) => Err(format!("the gate did not answer within {} s", TEST_WITHIN.as_secs())),
        }
    }

    /// The gate's answer to a test.
    pub fn tested(&self, call: u64, outcome: Result<Tested, String>) {
        if let Some(sender) = lock(&self.0.tests).remove(&call) {
            let _ = sender.send(outcome); // who asked has left
        }
    }
}

/// A fetch, and a handshake with each host.
const TEST_WITHIN: std::time::Duration = std::time::Duration::from_secs(45);

impl Inner {
    fn tell(&self, message: ToGate) {
        if let Some(gate) = &*lock(&self.gate) {
            // One that does not read is ended by the watchdog; one that is gone is told nothing.
            let _ = gate.post(vec![(message, None)]);
        }
    }

    fn note(&self, name: &CredentialName, outcome: Result<Option<OffsetDateTime>, String>) {
        let mut outcomes = lock(&self.outcomes);
        let noted = outcomes.entry(name.clone()).or_default();
        match outcome {
            Ok(expires) => {
                *noted = Outcome { good: Some(OffsetDateTime::now_utc()), expires, failed: None };
            }
            Err(why) => noted.failed = Some(why),
        }
    }

    /// Reads a source of ours. The error never has a word of what was read.
    fn read(&self, credential: &Credential) -> Result<Secret, String> {
        let bytes = match &credential.source {
            Source::File(path) => self.file(&credential.name, Path::new(path))?,
            Source::Systemd(name) => self.file(&credential.name, &systemd(name)?)?,
            Source::Command(words) => {
                command::run(words, command::WITHIN).map_err(|failed| failed.to_string())?
            }
            Source::Env(name) => {
                let taken = lock(&self.environment).get(name).and_then(|taken| taken.as_deref().cloned());
                taken.ok_or_else(|| {
                    format!("the daemon's environment had no {name} when it was first asked for: restart it with one")
                })?
            }
            other => return Err(format!("source.{} is none of the warden's", other.key())),
        };
        Secret::clean(bytes, credential.shape()).map_err(|why| why.to_string())
    }

    fn file(&self, name: &CredentialName, path: &Path) -> Result<Vec<u8>, String> {
        // Looked at before it is read: what changes meanwhile is a change.
        let before = file::stamp(path);
        let read = file::read(path);
        if let Some(watch) = &*lock(&self.watch) {
            match &read {
                Ok(content) => watch.file(name, path, Some(content.stamp), &content.places),
                Err(_) => watch.file(name, path, before, &[]),
            }
        }
        read.map(|content| content.bytes).map_err(|refused| refused.to_string())
    }
}

/// Where systemd has put a credential (systemd.exec(5), Credentials).
fn systemd(name: &str) -> Result<PathBuf, String> {
    #[expect(clippy::disallowed_methods, reason = "systemd's word, no setting of ours")]
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(
        "systemd gave the daemon no credentials: add LoadCredential= to sluice.service, and restart it",
    )?;
    Ok(Path::new(&directory).join(name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::credential::Binding;

    fn credential(name: &str, source: Source) -> Credential {
        Credential {
            name: CredentialName::parse(name).expect("name"),
            binding: Binding::default(),
            source,
            inject: None,
            ttl: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn a_source_that_hangs_takes_its_own_place_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("key");
        std::fs::write(&path, "sk-1\n").expect("file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(dir.path(), mode(0o755)).expect("mode");
        std::fs::set_permissions(&path, mode(0o600)).expect("mode");
        let sleep = Source::Command(vec!["/bin/sleep".into(), "3".into()]);
        let file = Source::File(path.to_str().expect("text").into());
        let mut all: Vec<Credential> =
            (0..100).map(|n| credential(&format!("hangs-{n}"), sleep.clone())).collect();
        all.push(credential("file", file.clone()));
        let secrets = Secrets(Arc::default());
        *lock(&secrets.0.credentials) = all.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let (gate, mut letters) = Mailbox::new();
        for (call, one) in (0..).zip(&all) {
            secrets.ask(call, &one.name, &one.source, gate.clone());
        }
        // Again: it has its place.
        secrets.ask(1000, &all[0].name, &sleep, gate.clone());
        let mut answers = HashMap::new();
        while !answers.contains_key(&100) || !answers.contains_key(&1000) {
            let next = tokio::time::timeout(Duration::from_secs(2), letters.recv()).await;
            let Some((ToGate::Secret { call, answer }, None)) = next.expect("nobody waits for what hangs")
            else {
                panic!("another letter")
            };
            answers.insert(call, answer.map(drop));
        }
        assert_eq!(answers[&100], Ok(()));
        assert!(answers[&1000].as_ref().is_err_and(|why| why.contains("gives no answer")));
        assert_eq!(lock(&secrets.0.reading).len(), 100, "as many as hang");
        let known = secrets.list().into_iter().find(|one| one.name.as_str() == "hangs-0").expect("listed");
        assert_eq!(known.state, CredentialState::Failing);
    }
}
