//! All stores of a host together: what `sluice trust install`, `remove` and `status` do.

use std::fs;
use std::path::{Path, PathBuf};

use super::java::{self, Keystore};
use super::ledger::Ledger;
use super::tree::Tree;
use super::{CaCertificate, Error, system};
use crate::paths;

/// Which stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The system's and every JRE's.
    All,
    /// The system's only. On Debian its own hook passes the CA on to the JREs of packages.
    System,
    /// The JREs' only.
    Java,
}

/// Whether a store's users trust our CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trusted {
    /// The present CA is in it.
    #[serde(rename = "trusted")]
    Yes,
    /// It is not.
    #[serde(rename = "not")]
    No,
    /// A CA of ours is in it, but not the present one: install again.
    Stale,
}

/// One store and how it stands.
#[derive(Debug)]
pub struct StoreStatus {
    /// `debian`, `redhat`, `suse`, `arch`, or `java:` and the keystore's path.
    pub store: String,
    /// What applications read.
    pub path: PathBuf,
    /// How it stands, or why that cannot be told.
    pub trusted: Result<Trusted, Error>,
}

/// Puts the CA into the stores, and prints each change through `say`. A store that has it is left alone; one that has an
/// earlier CA of ours is restored first. A store that fails does not keep the others from it: all failures come back,
/// each with the store's name.
pub fn install(
    host: &Tree,
    ca: &CaCertificate,
    scope: Scope,
    java_homes: &[PathBuf],
    say: &mut dyn FnMut(&str),
) -> Result<Vec<(String, Error)>, Error> {
    let _locked = lock(host)?;
    let mut ledger = Ledger::load(host)?;
    let mut failures = Vec::new();
    if !ledger.stores.is_empty() && ledger.ca != ca.pem() {
        say("the CA has changed: removing the earlier one");
        failures = remove_recorded(host, &mut ledger, say)?;
        if !failures.is_empty() {
            // The ledger knows one CA at a time: two would be confused at removal.
            return Ok(failures);
        }
    }
    ca.pem().clone_into(&mut ledger.ca);
    if scope != Scope::Java {
        install_system(host, ca, &mut ledger, &mut failures, say);
    }
    if scope != Scope::System {
        for keystore in java::find(host, java_homes) {
            let name = keystore.store();
            let done = keystore.holds(host, ca).and_then(|there| match there {
                true => Ok("trusted already"),
                false => keystore.install(host, ca, &mut ledger, &mut named(&name, say)).map(|()| "trusted"),
            });
            match done {
                Ok(done) => say(&format!("{name}: {done}")),
                Err(error) => failures.push((name, error)),
            }
        }
    }
    Ok(failures)
}

fn install_system(
    host: &Tree,
    ca: &CaCertificate,
    ledger: &mut Ledger,
    failures: &mut Vec<(String, Error)>,
    say: &mut dyn FnMut(&str),
) {
    let Some(store) = system::find(host) else {
        say("system: no certificate store that Sluice knows; `sluice trust env` works without one");
        return;
    };
    if store.status(host, Some(ca)) == Trusted::Yes {
        say(&format!("{}: trusted already", store.name));
        return;
    }
    let installed = store.install(host, ca, ledger, &mut named(store.name, say));
    match installed {
        Ok(()) => say(&format!("{}: trusted", store.name)),
        Err(error) => failures.push((store.name.to_owned(), error)),
    }
}

/// Takes out all that [`install`] put in, the latest change first.
pub fn remove(host: &Tree, say: &mut dyn FnMut(&str)) -> Result<Vec<(String, Error)>, Error> {
    let _locked = lock(host)?;
    let mut ledger = Ledger::load(host)?;
    if ledger.stores.is_empty() {
        say("nothing is installed");
        ledger.save(host)?;
        return Ok(Vec::new());
    }
    remove_recorded(host, &mut ledger, say)
}

fn remove_recorded(
    host: &Tree,
    ledger: &mut Ledger,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<(String, Error)>, Error> {
    let ca = CaCertificate::parse(Path::new("trust.json"), ledger.ca.as_bytes())?;
    let mut failures = Vec::new();
    let mut left = Vec::new();
    while let Some(record) = ledger.stores.pop() {
        let name = record.store.clone();
        let say = &mut named(&name, say);
        let done = match system::named(&name) {
            Some(store) => store.remove(host, &record, &ca, say).and_then(|()| {
                keystores_of(host, &record.changes).try_for_each(|one| one.remove(host, None, &ca, say))
            }),
            None => match name.strip_prefix("java:") {
                Some(path) => keystore_at(host, Path::new(path)).remove(host, Some(&record), &ca, say),
                None => Ok(()),
            },
        };
        match done {
            Ok(()) => say("restored"),
            Err(error) => {
                failures.push((name.clone(), error));
                left.insert(0, record);
            }
        }
    }
    // What could not be removed stays on record, for the next try.
    ledger.stores = left;
    ledger.save(host)?;
    Ok(failures)
}

/// How every store stands. `ca` is `None` when there is no CA (any more).
pub fn status(
    host: &Tree,
    ca: Option<&CaCertificate>,
    java_homes: &[PathBuf],
) -> Result<Vec<StoreStatus>, Error> {
    let ledger = Ledger::load(host)?;
    let earlier = CaCertificate::parse(Path::new("trust.json"), ledger.ca.as_bytes()).ok();
    let mut all = Vec::new();
    if let Some(store) = system::find(host) {
        let path = PathBuf::from(store.bundle);
        all.push(StoreStatus { store: store.name.to_owned(), path, trusted: Ok(store.status(host, ca)) });
    }
    for keystore in java::find(host, java_homes) {
        let store = keystore.store();
        let trusted = keystore.status(host, ca, earlier.as_ref());
        all.push(StoreStatus { store, path: keystore.path, trusted });
    }
    Ok(all)
}

/// Keystores that the system's own hook changed together with the system's store.
fn keystores_of(
    host: &Tree,
    changes: &std::collections::BTreeMap<PathBuf, super::ledger::Change>,
) -> impl Iterator<Item = Keystore> {
    let changed: Vec<PathBuf> = changes.keys().cloned().collect();
    java::find(host, &[]).into_iter().filter(move |keystore| changed.contains(&keystore.path))
}

/// The keystore of a record, found again; a home that was named by hand is known by its path alone.
fn keystore_at(host: &Tree, path: &Path) -> Keystore {
    let home = path.ancestors().nth(3).map(Path::to_owned);
    let found = java::find(host, home.as_slice()).into_iter().find(|keystore| keystore.path == path);
    found.unwrap_or_else(|| Keystore::at(path))
}

/// Puts the store's name before each line.
fn named(store: &str, say: &mut dyn FnMut(&str)) -> impl FnMut(&str) {
    move |line| say(&format!("{store}: {line}"))
}

/// One at a time: held until the file is closed.
fn lock(host: &Tree) -> Result<fs::File, Error> {
    let state = host.at(Path::new(paths::STATE_DIR));
    let locked = fs::create_dir_all(&state).and_then(|()| {
        let folder = fs::File::open(&state)?;
        folder.lock()?;
        Ok(folder)
    });
    locked.map_err(|source| Error::Write { path: state, source })
}
