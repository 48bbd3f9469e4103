//! Which tags' units bound their traffic with systemd's own filter (`IPAddressDeny=`), which does not bound what the gate
//! dials for them.

use super::{HostKind, TagError, TagName, Tags};

impl Tags {
    /// The tags whose unit, or a slice above it, denies addresses. None where systemd is not the init.
    ///
    /// # Errors
    /// systemd cannot be asked.
    pub async fn filtered(&self) -> Result<Vec<TagName>, TagError> {
        if self.inner.settings.host != HostKind::Systemd {
            return Ok(Vec::new());
        }
        let tagged: Vec<_> = {
            let registry = self.registry();
            registry.slots.values().map(|s| (s.entry.name.clone(), units(&s.entry))).collect()
        };
        if tagged.is_empty() {
            return Ok(Vec::new());
        }
        let systemd = self.systemd().await?;
        let mut filtered = Vec::new();
        for (tag, units) in tagged {
            for unit in units {
                // A unit that is gone has no filter.
                if systemd.denies_addresses(&unit).await.unwrap_or(false) {
                    filtered.push(tag);
                    break;
                }
            }
        }
        Ok(filtered)
    }
}

/// The tag's unit, and the units that its cgroup lies in.
fn units(entry: &super::Entry) -> Vec<String> {
    let mut units: Vec<String> = entry.unit.iter().cloned().collect();
    let parts = entry.cgroup.iter().flat_map(|cgroup| cgroup.0.split('/'));
    let is_unit = |part: &&str| [".slice", ".service", ".scope"].iter().any(|suffix| part.ends_with(suffix));
    for part in parts.filter(is_unit) {
        if !units.iter().any(|unit| unit == part) {
            units.push(part.to_owned());
        }
    }
    units
}
