//! Who reads bodies: the same option wherever bodies are read.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{DaemonAt, Failure, strange};
use crate::control::{Answer, Request};
use crate::paths::{AUDIT_DIR, IDENTITY, STATE_DIR};
use crate::record::read::Reader;
use crate::record::read::unseal::{Access, identity};

/// The option.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Reading {
    /// File with the age identity that opens bodies; without it the host's own, where it can be read
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl Reading {
    /// Who has this file, where the option has another name.
    pub fn new(identity: Option<PathBuf>) -> Self {
        Self { identity }
    }

    /// Has the daemon record that bodies of its store are read now, by one who can. What nobody records is said.
    pub fn record(&self, daemon: &DaemonAt, store: &Path, what: String) {
        let can = self.identity.is_some() || own(store).iter().any(|path| File::open(path).is_ok());
        let Ok(reader) = Reader::open(store) else { return };
        // A copy has no daemon, and no host beside it.
        let hosts = reader.live() || own(store)[0].exists();
        if !can || !hosts {
            return;
        }
        let store = store.to_owned();
        match daemon.ask(&Request::Read { store, what }) {
            Ok(Answer::Done) => {}
            Ok(_) => eprintln!("sluice: this reading is not recorded: {}", strange()),
            Err(why) => eprintln!("sluice: this reading is not recorded: {why}"),
        }
    }

    /// What it opens of `store`. Whoever gives none and may not read the host's is shown heads.
    ///
    /// # Errors
    /// [`Failure`]: the file cannot be read, or holds no identity.
    pub fn access(&self, store: &Path) -> Result<Access, Failure> {
        let Some(path) = &self.identity else {
            let found = own(store).into_iter().find_map(|path| identity(&path).ok());
            return Ok(found.map_or_else(Access::none, Access::with));
        };
        identity(path).map(Access::with).map_err(|error| Failure {
            why: format!("{}: {error}", path.display()),
            remedy: "give a file as age-keygen writes it; the host's own is read by root".to_owned(),
            code: 1,
        })
    }
}

/// Where the host's own identity may be: beside its store, and a copy's where the agent is installed.
fn own(store: &Path) -> [PathBuf; 2] {
    let of = |state: &Path| state.join(AUDIT_DIR).join(IDENTITY);
    [of(store.parent().unwrap_or(store)), of(Path::new(STATE_DIR))]
}
