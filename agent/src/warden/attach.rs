//! The kernel part as the tags use it, and as the daemon asks it: one [`Kernel`] behind one lock.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kernel::{self, Kernel};
use super::namespaces::Known;
use super::tags::{Adopted, Attach, AttachError, TagNumber};
use crate::config::Options;
use crate::report::Chain;
use crate::types::{NetnsCookie, TagName};

/// A handle on the kernel part. Cheap to clone.
#[derive(Clone)]
pub struct SharedKernel(Arc<Mutex<Kernel>>);

impl SharedKernel {
    /// Shares `kernel`.
    pub fn new(kernel: Kernel) -> Self {
        Self(Arc::new(Mutex::new(kernel)))
    }

    /// The kernel part, for the length of one operation.
    pub fn lock(&self) -> MutexGuard<'_, Kernel> {
        // Every operation leaves the kernel's state whole or says what it left; a panic between is no worse.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known for SharedKernel {
    fn add(&self, netns: NetnsCookie) -> Result<(), String> {
        self.lock().add_namespace(netns.0).map_err(|error| Chain(&error).to_string())
    }

    fn remove(&self, netns: NetnsCookie) -> Result<(), String> {
        self.lock().remove_namespace(netns.0).map_err(|error| Chain(&error).to_string())
    }
}

fn refused(error: kernel::Error) -> AttachError {
    AttachError(Chain(&error).to_string())
}

impl Attach for SharedKernel {
    fn prepare(&mut self, name: &TagName, number: TagNumber, options: &Options) -> Result<(), AttachError> {
        self.lock().prepare(name, number.0, options).map(drop).map_err(refused)
    }

    fn attach(
        &mut self,
        name: &TagName,
        number: TagNumber,
        cgroup: &Path,
        options: &Options,
    ) -> Result<(), AttachError> {
        self.lock().attach(name, number.0, cgroup, options).map_err(refused)
    }

    fn detach(&mut self, name: &TagName) -> Result<(), AttachError> {
        self.lock().detach(name).map_err(refused)
    }

    fn adopt(&mut self) -> Result<Vec<Adopted>, AttachError> {
        let adopted = self.lock().adopt().map_err(refused)?;
        let told = adopted.into_iter().map(|tag| Adopted {
            name: tag.name,
            number: TagNumber(tag.number),
            alive: !tag.cgroups.is_empty() && !tag.stale,
            cgroup: tag.cgroups.into_iter().next(),
        });
        Ok(told.collect())
    }
}
