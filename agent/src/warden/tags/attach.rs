//! What tags need of the kernel programs, and nothing of how they are loaded: the seam between tags and `kernel`.

use std::path::{Path, PathBuf};

use super::TagNumber;
use crate::config::Options;
use crate::types::TagName;

/// The kernel refused, or the object could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("the kernel programs cannot be attached: {0}")]
pub struct AttachError(pub String);

/// Links of an earlier daemon that were found pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The tag's name, from the pins' path.
    pub name: TagName,
    /// The number that its programs write into what they remember.
    pub number: TagNumber,
    /// Whether its links are in force as they are; otherwise they must be attached again.
    pub alive: bool,
    /// The directory of the cgroup that it is attached to; `None`: that is gone.
    pub cgroup: Option<PathBuf>,
}

/// Attaches the programs to tags.
pub trait Attach: Send {
    /// Loads the programs of a tag and pins them (`tags/NAME/prog_connect4` …), attached to nothing yet, so that
    /// systemd can attach them to a unit's cgroup before its first process. Loaded already: does nothing.
    ///
    /// # Errors
    /// [`AttachError`]; nothing is left behind then.
    fn prepare(&mut self, name: &TagName, number: TagNumber, options: &Options) -> Result<(), AttachError>;

    /// Attaches the tag's programs to a cgroup, preparing them if they are not. A tag that was attached to another
    /// cgroup moves: a unit's cgroup is a new one after each restart. In force when this returns.
    ///
    /// # Errors
    /// [`AttachError`]; what was attached before stays so.
    fn attach(
        &mut self,
        name: &TagName,
        number: TagNumber,
        cgroup: &Path,
        options: &Options,
    ) -> Result<(), AttachError>;

    /// Takes links, programs and pins of a tag away. Unknown names are fine.
    ///
    /// # Errors
    /// [`AttachError`] when a pin cannot be removed.
    fn detach(&mut self, name: &TagName) -> Result<(), AttachError>;

    /// Finds the pinned links of an earlier daemon and takes them over. Called once, before anything else.
    ///
    /// # Errors
    /// [`AttachError`] when the pins cannot be read.
    fn adopt(&mut self) -> Result<Vec<Adopted>, AttachError>;
}
