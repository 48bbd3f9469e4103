//! What `sluice status` shows of the running daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_ebpf::Counter;
use time::OffsetDateTime;

use super::bound::Bound;
use super::enforcement;
use crate::control::{ProcessStatus, Status, StoreStatus};
use crate::doctor;
use crate::paths;
use crate::policy::Mode;
use crate::types::SelfTest;

/// The counters' names, in the order of [`Counter`].
const COUNTERS: &[(Counter, &str)] = &[
    (Counter::Taken, "connections_taken"),
    (Counter::MapFull, "refused_map_full"),
    (Counter::BoundDevice, "refused_bound_device"),
    (Counter::NoListener, "refused_no_gate"),
    (Counter::Loopback, "loopback_left_alone"),
    (Counter::OwnListener, "refused_own_listener"),
    (Counter::Protocol, "refused_protocol"),
    (Counter::Agent, "agent_left_alone"),
    (Counter::SourceRoute, "refused_source_route"),
    (Counter::NewNamespace, "new_namespaces"),
    (Counter::HeldBack, "held_back"),
    (Counter::Udp, "refused_udp"),
    (Counter::Quic, "refused_quic"),
    (Counter::DnsOverTls, "refused_dns_over_tls"),
    (Counter::NoResolver, "refused_no_resolver"),
    (Counter::Dns, "dns_taken"),
    (Counter::UdpAllowed, "udp_allowed"),
    (Counter::LoopbackDenied, "refused_loopback"),
    (Counter::Metadata, "refused_metadata"),
    (Counter::Bind, "refused_bind"),
    (Counter::Disguise, "refused_disguise"),
    (Counter::Inbound, "refused_inbound"),
    (Counter::Egress, "refused_egress"),
    (Counter::Mptcp, "refused_mptcp"),
    (Counter::Family, "refused_family"),
    (Counter::ForeignSocket, "refused_foreign_socket"),
    (Counter::PassedSocket, "refused_passed_socket"),
    (Counter::UnixPeer, "refused_unix_peer"),
    (Counter::Ptrace, "refused_ptrace"),
    (Counter::DnsPace, "refused_dns_pace"),
];

const _: () = assert!(COUNTERS.len() == Counter::ALL.len(), "a counter without a name");

/// Facts that change while the daemon lives. Cheap to clone.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<Facts>>);

#[derive(Clone, Default)]
struct Facts {
    gate: Option<ProcessStatus>,
    gates: u64,
    sessions: u32,
    /// How much this gate has masked, by detector, and those before it.
    masked: BTreeMap<String, u64>,
    masked_before: BTreeMap<String, u64>,
    store_trouble: Option<String>,
    self_test: Option<SelfTest>,
    mode: Mode,
}

impl Live {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gate was started.
    pub fn gate_started(&self, pid: Option<u32>) {
        let mut facts = self.facts();
        facts.gates += 1;
        let masked = std::mem::take(&mut facts.masked);
        add(&mut facts.masked_before, masked);
        facts.gate = pid.map(|pid| ProcessStatus { pid, since: OffsetDateTime::now_utc() });
    }

    /// The gate ended.
    pub fn gate_ended(&self) {
        let mut facts = self.facts();
        facts.gate = None;
        facts.sessions = 0;
    }

    /// So many sessions are under way.
    pub fn sessions(&self, count: u32) {
        self.facts().sessions = count;
    }

    /// So much was masked by this gate, by detector. What it says is not believed further: few names, and short.
    pub fn masked(&self, counts: BTreeMap<String, u64>) {
        self.facts().masked =
            counts.into_iter().filter(|(name, _)| name.len() <= MASKED_NAME).take(MASKED).collect();
    }

    /// This mode is in force.
    pub fn mode(&self, mode: Mode) {
        self.facts().mode = mode;
    }

    /// The store refuses, or works again.
    pub fn store(&self, trouble: Option<String>) {
        self.facts().store_trouble = trouble;
    }

    /// What the self-test found.
    pub fn self_test(&self, result: SelfTest) {
        self.facts().self_test = Some(result);
    }

    /// What answers the doctor. Not for the daemon's loop: it takes a while.
    pub fn doctor(&self, bound: &Bound) -> Arc<dyn Fn() -> doctor::Facts + Send + Sync> {
        let live = self.clone();
        let (tags, examiner) = (bound.tags.clone(), bound.examiner.clone());
        let state = bound.config.paths.state.clone();
        Arc::new(move || {
            let self_test = live.facts().self_test.clone();
            enforcement::survey(&examiner, &tags, self_test, state.clone())
        })
    }

    /// What answers `sluice status`.
    pub fn reporter(&self, bound: &Bound) -> Box<dyn Fn() -> Status + Send + Sync> {
        let live = self.clone();
        let (tags, kernel, host) = (bound.tags.clone(), bound.kernel.clone(), bound.host.clone());
        live.mode(bound.config.policy.mode);
        let store = bound.config.paths.state.join(paths::STORE_DIR);
        let warden = ProcessStatus { pid: std::process::id(), since: OffsetDateTime::now_utc() };
        Box::new(move || {
            let Facts { gate, gates, sessions, masked, masked_before, store_trouble, self_test, mode } =
                live.facts().clone();
            let mut all_masked = masked_before;
            add(&mut all_masked, masked);
            let mut notes = Vec::new();
            let counters: BTreeMap<String, u64> = match kernel.lock().counters() {
                Ok(counters) => {
                    let value = |counter: Counter| counters.get(counter as usize).copied().unwrap_or(0);
                    COUNTERS.iter().map(|(counter, name)| ((*name).to_owned(), value(*counter))).collect()
                }
                Err(error) => {
                    notes.push(format!("the kernel's counters cannot be read: {error}"));
                    BTreeMap::new()
                }
            };
            if gate.is_none() {
                notes.push("the gate is being restarted: tagged connections wait or are refused".to_owned());
            }
            let pids: Vec<u32> =
                [Some(&warden), gate.as_ref()].into_iter().flatten().map(|one| one.pid).collect();
            let (memory, well) = doctor::memory::Shown::default().state(&pids);
            if !well {
                notes.push(format!("the agent's memory {memory}"));
            }
            Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                mode: format!("{mode:?}").to_lowercase(),
                warden: warden.clone(),
                sessions: gate.as_ref().map(|_| u64::from(sessions)),
                gate,
                gate_restarts: gates.saturating_sub(1),
                tags: tags.list(),
                blocked: blocked(&counters),
                masked: all_masked,
                counters,
                layers: host.layers(),
                self_test,
                store: Some(StoreStatus { path: store.clone(), bytes: size(&store), trouble: store_trouble }),
                memory,
                notes,
            }
        })
    }
}

/// So many names are kept, and so many bytes of them.
const MASKED: usize = 512;
const MASKED_NAME: usize = 64;

fn add(all: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        if all.contains_key(&name) || all.len() < MASKED {
            let sum = all.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// The counters of refusals, by way.
fn blocked(counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let way = |(name, count): (&String, &u64)| Some((name.strip_prefix("refused_")?.to_owned(), *count));
    counters.iter().filter_map(way).filter(|(_, count)| *count > 0).collect()
}

/// Bytes of the files in a directory; `None` when it cannot be read.
fn size(directory: &Path) -> Option<u64> {
    let files = std::fs::read_dir(directory).ok()?;
    Some(files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum())
}
