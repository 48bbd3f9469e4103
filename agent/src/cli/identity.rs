//! Who reads bodies: the same option wherever bodies are read.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::paths::{AUDIT_DIR, IDENTITY, STATE_DIR};
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

    /// What it opens. Whoever gives none and may not read the host's is shown heads.
    ///
    /// # Errors
    /// [`Failure`]: the file cannot be read, or holds no identity.
    pub fn access(&self) -> Result<Access, Failure> {
        let own = Path::new(STATE_DIR).join(AUDIT_DIR).join(IDENTITY);
        let path = self.identity.as_ref().unwrap_or(&own);
        match identity(path) {
            Ok(identity) => Ok(Access::with(identity)),
            Err(_) if self.identity.is_none() => Ok(Access::none()),
            Err(error) => Err(Failure {
                why: format!("{}: {error}", path.display()),
                remedy: "give a file as age-keygen writes it; the host's own is read by root".to_owned(),
                code: 1,
            }),
        }
    }
}
