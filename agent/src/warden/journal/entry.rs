//! Entries: which fields an event has, and how the journal's native protocol writes them
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>). No I/O but one look at /proc.

use serde_json::Value;

use super::{Blocked, Event};
use crate::record::visible::{Keep, visible};
use crate::types::{Caller, CallerKey, Outcome, SelfTest, Summary, Verdict};

/// An exchange was sent on.
pub const EXCHANGE: &str = "91429dbde0e44635be0a2fafe20a29e1";
/// An exchange was refused.
pub const REFUSAL: &str = "f090bebf420440ccb7d46ff1fd063bc9";
/// One entry stands for many exchanges.
pub const FOLD: &str = "0b8d1f4a9bb34166a186b0aeff3df0be";
/// An attempt to get past the agent was stopped in the kernel.
pub const BLOCKED: &str = "9195686417e1409eab36759db938ebcb";
/// A tag was made.
pub const TAG_ADDED: &str = "56a28fe937d04cc4b57b48ee1c214e21";
/// A tag is gone.
pub const TAG_REMOVED: &str = "95bc5cdb9fb9428a911a835b243645e2";
/// The gate died.
pub const GATE_RESTARTED: &str = "d7883fb5ef384c97b66e2dac8f1a8d23";
/// The agent failed at something.
pub const TROUBLE: &str = "2ba33c00373843beac52a5f9e2a5643b";
/// The agent serves.
pub const STARTED: &str = "83cdf0ce2d8f41fe8ce012f7cb3ae0e5";
/// The agent ends.
pub const STOPPED: &str = "e1e2a69576bb4553b9e49b27ca174d35";
/// The journal was too slow for all entries.
pub const LOST: &str = "7201129145e84355a05f74c87bd6ad81";
/// A caller sent a long-lived key of its own.
pub const LEAK: &str = "5f0c5e0c7cbf4f7a9e0c6b3d2a8147e6";
/// The ways out were tried at the start.
pub const SELF_TEST: &str = "a1d914b3768945fab7423fba765f2a59";
/// A tree over what is recorded was signed.
pub const CHECKPOINT: &str = "c5b8a1f06d2e4f3a9b74d1e0a86c3f52";

/// Every message id, for the catalog's test.
pub const IDS: [&str; 14] = [
    EXCHANGE,
    REFUSAL,
    FOLD,
    BLOCKED,
    TAG_ADDED,
    TAG_REMOVED,
    GATE_RESTARTED,
    TROUBLE,
    STARTED,
    STOPPED,
    LOST,
    SELF_TEST,
    LEAK,
    CHECKPOINT,
];

const ERR: u8 = 3;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
const INFO: u8 = 6;

/// One entry: fields in order, MESSAGE first.
#[derive(Debug)]
pub struct Entry {
    priority: u8,
    fields: Vec<(String, String)>,
}

impl Entry {
    /// The entry for an event. `lives` says whether the process of this pid and start time is still there.
    pub fn of(event: &Event, lives: impl Fn(u32, u64) -> bool) -> Self {
        match event {
            Event::Exchange(summary) => Self::exchange(summary, None, lives),
            Event::Fold { example, more } => Self::exchange(example, Some(*more), lives),
            Event::Leak { example, key } => Self::leak(example, key, lives),
            Event::Blocked(blocked) => Self::blocked(blocked, lives),
            Event::TagAdded { tag, what } => {
                Self::new(TAG_ADDED, NOTICE, &format!("tag {tag} added: {what}"))
                    .with("SLUICE_TAG", tag.as_str())
            }
            Event::TagRemoved { tag, why } => {
                Self::new(TAG_REMOVED, NOTICE, &format!("tag {tag} removed: {why}"))
                    .with("SLUICE_TAG", tag.as_str())
            }
            Event::Checkpoint { log, size, note } => {
                Self::new(CHECKPOINT, INFO, &format!("checkpoint: {size} records of log {log} are signed"))
                    .with("SLUICE_LOG", log)
                    .with("SLUICE_SIZE", &size.to_string())
                    .with("SLUICE_CHECKPOINT", note)
            }
            Event::GateRestarted { why } => {
                Self::new(GATE_RESTARTED, ERR, &format!("the gate was restarted: {why}"))
                    .with("SLUICE_ERROR", why)
            }
            Event::SelfTest(result) => Self::self_test(result),
            Event::Trouble(what) => Self::new(TROUBLE, ERR, what).with("SLUICE_ERROR", what),
            Event::Started => Self::new(STARTED, INFO, "started: connections of tagged processes are taken")
                .with("SLUICE_VERSION", env!("CARGO_PKG_VERSION")),
            Event::Stopped => {
                Self::new(STOPPED, INFO, "stopped: tagged processes are refused until the next start")
            }
            Event::Lost(count) => Self::new(
                LOST,
                WARNING,
                &format!("{count} more entries came too fast for the journal; the store has them"),
            )
            .with("SLUICE_FOLDED", &count.to_string()),
        }
    }

    fn self_test(result: &SelfTest) -> Self {
        let open: Vec<&str> = result
            .ways
            .iter()
            .filter(|way| matches!(way.outcome, Outcome::Open { .. }))
            .map(|way| way.name.as_str())
            .collect();
        let priority = match (result.unexpected().next(), open.is_empty() && result.trouble.is_none()) {
            (Some(_), _) => ERR,
            (None, false) => WARNING,
            (None, true) => INFO,
        };
        let mut line = format!("self-test: {}", result.line());
        if !open.is_empty() {
            line.push_str(&format!("; open: {}", open.join(", ")));
        }
        let mut entry = Self::new(SELF_TEST, priority, &line);
        for way in open {
            entry = entry.with("SLUICE_WAY", way);
        }
        entry
    }

    /// What MESSAGE says.
    pub fn message(&self) -> &str {
        self.fields.first().map_or("", |(_, message)| message)
    }

    /// syslog(3) level.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// As the socket takes it. A value with a line feed goes with its length, so that none can add a field.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        for (name, value) in &self.fields {
            out.extend_from_slice(name.as_bytes());
            if value.contains('\n') {
                out.push(b'\n');
                out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            } else {
                out.push(b'=');
            }
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        }
        out
    }

    fn new(id: &str, priority: u8, message: &str) -> Self {
        let entry = Self { priority, fields: Vec::with_capacity(32) };
        entry
            .with("MESSAGE", &visible(message, Keep::Nothing))
            .with("MESSAGE_ID", id)
            .with("PRIORITY", &priority.to_string())
            .with("SYSLOG_IDENTIFIER", "sluice")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn exchange(summary: &Summary, more: Option<u64>, lives: impl Fn(u32, u64) -> bool) -> Self {
        let mut line = summary.line();
        if let Some(more) = more {
            line.push_str(&format!(" (and {more} more of this kind)"));
        }
        let (id, priority) = match (summary.verdict, &summary.error) {
            (Verdict::Deny, _) => (REFUSAL, WARNING),
            (Verdict::Allow, Some(_)) => (EXCHANGE, NOTICE),
            (Verdict::Allow, None) => (EXCHANGE, INFO),
        };
        let mut entry = Self::new(if more.is_some() { FOLD } else { id }, priority, &line);
        if let Some(more) = more {
            entry = entry.with("SLUICE_FOLDED", &(more + 1).to_string());
        }
        // journald looks the process up and adds its unit. A pid that another process has by now would name the wrong one.
        let there = summary.start_time.is_some_and(|start| lives(summary.pid, start));
        entry = match &summary.unit {
            _ if there => entry.with("OBJECT_PID", &summary.pid.to_string()),
            Some(unit) => entry.with("OBJECT_SYSTEMD_UNIT", unit),
            None => entry,
        };
        // A summary is a map of plain fields: it always has a JSON form.
        if let Ok(Value::Object(fields)) = serde_json::to_value(summary) {
            for (name, value) in &fields {
                entry.add(&format!("SLUICE_{}", name.to_ascii_uppercase()), value);
            }
        }
        entry
    }

    fn leak(summary: &Summary, key: &CallerKey, lives: impl Fn(u32, u64) -> bool) -> Self {
        let CallerKey { kind, fingerprint, last4 } = key;
        let by = summary.exe.as_deref().unwrap_or("a process");
        let line = format!(
            "a key of the caller's own ({kind}, …{last4}) was sent to {} by {by} in tag {}: give the job a credential instead",
            summary.host, summary.tag
        );
        let mut entry = Self::new(LEAK, WARNING, &line)
            .with("SLUICE_KEY_KIND", kind)
            .with("SLUICE_KEY_FINGERPRINT", fingerprint)
            .with("SLUICE_KEY_LAST4", last4);
        let there = summary.start_time.is_some_and(|start| lives(summary.pid, start));
        entry = match &summary.unit {
            _ if there => entry.with("OBJECT_PID", &summary.pid.to_string()),
            Some(unit) => entry.with("OBJECT_SYSTEMD_UNIT", unit),
            None => entry,
        };
        if let Some(exe) = &summary.exe {
            entry = entry.with("SLUICE_EXE", exe);
        }
        entry
            .with("SLUICE_TAG", &summary.tag)
            .with("SLUICE_HOST", &summary.host)
            .with("SLUICE_PID", &summary.pid.to_string())
            .with("SLUICE_SESSION", &summary.session)
            .with("SLUICE_EXCHANGE", &summary.exchange.to_string())
    }

    fn blocked(blocked: &Blocked, lives: impl Fn(u32, u64) -> bool) -> Self {
        let Blocked { way, caller, address, protocol, netns, more } = blocked;
        let by = match (&caller.exe, caller.pid) {
            (_, 0) => "somebody".to_owned(),
            (Some(exe), pid) => format!("{} ({pid})", exe.path),
            (None, pid) => format!("{} ({pid})", caller.comm),
        };
        let of = caller.unit.as_ref().map_or_else(String::new, |unit| format!(" of {unit}"));
        let to = address.map_or_else(String::new, |address| format!(" {address}"));
        let remedy = way.remedy_for(*address);
        let others = if *more == 0 { String::new() } else { format!(" (and {more} more of this kind)") };
        let line = format!(
            "blocked in tag {}: {protocol}{to} by {by}{of}: {}; remedy: {remedy}{others}",
            caller.tag, way.what
        );
        let mut entry = Self::new(BLOCKED, WARNING, &line).with("SLUICE_WAY", way.name);
        let there = caller.start_time.is_some_and(|start| lives(caller.pid, start));
        entry = match &caller.unit {
            _ if there => entry.with("OBJECT_PID", &caller.pid.to_string()),
            Some(unit) => entry.with("OBJECT_SYSTEMD_UNIT", unit),
            None => entry,
        };
        if *more > 0 {
            entry = entry.with("SLUICE_FOLDED", &(more + 1).to_string());
        }
        if *netns != 0 {
            entry = entry.with("SLUICE_NETNS", &netns.to_string());
        }
        if let Some(address) = address {
            entry = entry.with("SLUICE_ADDRESS", &address.to_string());
        }
        entry = entry
            .with("SLUICE_PROTOCOL", protocol)
            .with("SLUICE_ERROR", way.what)
            .with("SLUICE_REMEDY", &remedy);
        entry.of_caller(caller)
    }

    /// The caller's fields, under the names that exchanges have.
    fn of_caller(self, caller: &Caller) -> Self {
        let entry = self.with("SLUICE_TAG", caller.tag.as_str());
        if caller.pid == 0 {
            return entry; // Nobody knows: a user id of 0 would accuse root.
        }
        let mut entry = entry
            .with("SLUICE_PID", &caller.pid.to_string())
            .with("SLUICE_UID", &caller.uid.to_string())
            .with("SLUICE_COMM", &caller.comm)
            .with("SLUICE_CGROUP", &caller.cgroup);
        let exe = caller.exe.as_ref().map(|exe| exe.path.as_str());
        let known = [
            ("SLUICE_EXE", exe),
            ("SLUICE_USER", caller.user.as_deref()),
            ("SLUICE_UNIT", caller.unit.as_deref()),
            ("SLUICE_CONTAINER", caller.container.as_deref()),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                entry = entry.with(name, value);
            }
        }
        entry
    }

    /// Absent facts have no field; of a list each item has one; a map is its JSON.
    fn add(&mut self, name: &str, value: &Value) {
        let text = match value {
            Value::Null => return,
            Value::Array(items) => return items.iter().for_each(|item| self.add(name, item)),
            Value::Object(map) if map.is_empty() => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.fields.push((name.to_owned(), text));
    }
}

/// Whether the process with this pid is the one that began then (clock ticks since boot).
pub fn lives(pid: u32, start_time: u64) -> bool {
    // The command name may hold spaces and parentheses: fields count from the last `)`. Field 22 is the 20th after it.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.iter().rposition(|b| *b == b')').map_or(&[][..], |at| &stat[at + 1..]);
    let field = String::from_utf8_lossy(after).split_ascii_whitespace().nth(19).and_then(|f| f.parse().ok());
    field == Some(start_time)
}
