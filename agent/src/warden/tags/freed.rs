//! A name whose last job has just ended is free for the next one. The kernel tells of an empty cgroup a little after the
//! last process's parent has heard of its end, and a script that runs one job after the other under one name is quicker.

use std::pin::pin;
use std::time::Duration;

use super::state::{Asker, Entry, Kind};
use super::{TagError, TagName, Tags};
use crate::config::Options;

/// How long a name in which nobody lives may take to come free.
const FREED: Duration = Duration::from_secs(5);

impl Tags {
    /// As [`Tags::reserve`]; waits for a name whose tag is about to end.
    pub(super) async fn reserve_freed(
        &self,
        name: TagName,
        kind: Kind,
        asker: Asker,
        options: Options,
    ) -> Result<Entry, TagError> {
        let reserved = async {
            loop {
                let mut changed = pin!(self.inner.changed.notified());
                changed.as_mut().enable();
                self.settle(&name);
                match self.reserve(name.clone(), kind.clone(), asker, options.clone()) {
                    Err(TagError::Exists(_)) if self.is_ending(&name) => changed.await,
                    decided => return decided,
                }
            }
        };
        let late = tokio::time::timeout(FREED, reserved).await;
        late.unwrap_or(Err(TagError::Exists(name)))
    }

    /// Whether a tag ends with its last process and has none: `cgroup.procs` leaves the dead out before
    /// `cgroup.events` does.
    fn is_ending(&self, name: &TagName) -> bool {
        let Some(entry) = self.entry(name) else { return true };
        let empty = |cgroup| self.inner.tree.processes(cgroup).is_ok_and(|living| living.is_empty());
        entry.is_ephemeral() && entry.cgroup.as_ref().is_some_and(empty)
    }
}
