//! What the agent asks of systemd about itself, over the line that the tags have to it.

use std::time::Duration;

use super::{TagError, Tags};

impl Tags {
    /// Whether systemd is restarting the unit of a process.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub async fn is_restarting(&self, pid: u32) -> Result<bool, TagError> {
        self.systemd().await?.is_restarting(pid).await.map_err(TagError::Systemd)
    }

    /// Takes processes of the agent's out of its unit, so that they outlive it: for `within` at most.
    ///
    /// # Errors
    /// They are where they were.
    pub async fn put_apart(&self, processes: &[u32], within: Duration) -> Result<(), TagError> {
        // No tag's scope is called so: these have a dash behind the agent's name.
        let scope = format!("sluice.drain-{}.scope", std::process::id());
        let what = "Sluice: sessions from before a restart";
        let apart = self.systemd().await?;
        apart.scope(&scope, processes, "system.slice", what, Some(within)).await.map_err(TagError::Systemd)
    }
}
