//! What is kept of exchanges, and who may read it: `[record]` and `[audit]`.

use std::time::Duration;

use super::Resolver;
use crate::config::section::Section;
use crate::config::{audit, quantity};

impl Resolver<'_> {
    fn record(&mut self, mut section: Section<'_>) {
        let body = (0, 1 << 30, "a size up to 1GiB, such as \"1MiB\"");
        if let Some(n) = self.bytes(&mut section, "body_limit", "record.body_limit", body) {
            self.config.record.body_limit = n;
        }
        let store = (64 << 20, u64::MAX, "a size from 64MiB, such as \"4GiB\"");
        if let Some(text) = section.quantity("max_age", &mut self.problems)
            && self.first("record.max_age", &text.place)
        {
            let age = quantity::duration(&text.value).filter(|age| *age >= Duration::from_secs(60));
            if age.is_none() {
                let what = format!("record.max_age is {:?}", text.value);
                self.problems.add(
                    &text.place,
                    what,
                    "write a time of 1m at least, such as \"90d\" or \"12h\"",
                );
            }
            self.config.record.max_age = age;
        }
        if let Some(n) = self.bytes(&mut section, "max_bytes", "record.max_bytes", store) {
            self.config.record.max_bytes = n;
        }
        if let Some(flag) = section.flag("durable", &mut self.problems)
            && self.first("record.durable", &flag.place)
        {
            self.config.record.durable = flag.value;
        }
        section.finish(&mut self.problems);
    }

    /// What is recorded, and who may read it.
    pub(super) fn kept(&mut self, top: &mut Section<'_>) {
        if let Some(section) = top.table("record", &mut self.problems) {
            self.record(section);
        }
        if let Some(section) = top.table("audit", &mut self.problems) {
            self.audit(section);
        }
    }

    fn audit(&mut self, section: Section<'_>) {
        let keys = audit::read(section, &mut self.problems);
        if let Some((place, value)) = keys.recipients
            && self.first("audit.recipients", &place)
        {
            self.config.audit.recipients = value;
        }
        if let Some((place, value)) = keys.host_can_read
            && self.first("audit.host_can_read", &place)
        {
            self.config.audit.host_can_read = value;
        }
        if let Some((place, value)) = keys.checkpoints_to
            && self.first("audit.checkpoints_to", &place)
        {
            self.config.audit.checkpoints_to = value;
        }
    }
}
