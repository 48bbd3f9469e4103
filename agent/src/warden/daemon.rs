//! `sluice daemon`: binds what needs privilege, then answers events one at a time until it is told to end.
//!
//! Order of a start: configuration, CA, listeners, kernel maps, tags, gate. Tags of an earlier daemon keep refusing or
//! waiting until the gate is ready: nothing is let through in between.

mod beside;
mod reload;
mod restart;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::blocked::Teller;
use super::bound::{self, Bound};
use super::gate_process::{GateProcess, Heard};
use super::journal::Event;
use super::live::Live;
use super::notify;
use super::supervise::{SILENT_TICKS, Supervisor};
use crate::config;
use crate::memory;
use crate::report::Chain;
use crate::wire::{Identity, ToGate, ToWarden};

/// How often the watchdog is fed, forgotten connections are swept and the gate's silence is looked at.
const TICK: Duration = Duration::from_secs(2);

/// How often the trust bundle is compared with the system's roots: some milliseconds of reading.
const BUNDLE: Duration = Duration::from_secs(60);

/// What the gate may take beyond its grace period to cut its sessions and close the store.
const CLOSING: Duration = Duration::from_secs(3);

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has problems, each printed as `file:line: what (remedy)`.
    #[error("the configuration cannot be used:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<config::Problem>),
    /// Something that needs privilege could not be had.
    #[error("the agent cannot start")]
    Bind(#[source] bound::Error),
    /// The control socket could not be made.
    #[error("the control socket cannot be made")]
    Control(#[source] io::Error),
    /// The event loop could not be made.
    #[error("the event loop cannot be made")]
    Loop(#[source] io::Error),
}

/// Runs the daemon with the configuration in `directory` until SIGTERM or SIGINT.
///
/// # Errors
/// [`Error`] when it cannot start.
pub fn run(directory: &Path) -> Result<(), Error> {
    let config = config::load(directory).map_err(Error::Config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Loop)?;
    runtime.block_on(async {
        let bound = Bound::bind(config, config::is_there(directory)).await.map_err(Error::Bind)?;
        let live = Live::default();
        let beside = beside::start(&bound, live.clone())?;
        let daemon = Daemon::new(directory.to_owned(), bound, live, beside).map_err(Error::Loop)?;
        daemon.serve().await;
        Ok(())
    })
}

/// Where the daemon is in its life.
enum Phase {
    Running,
    /// The gate drains; when it has ended, the daemon ends (`then_exit`) or starts the next gate.
    Draining {
        until: Instant,
        then_exit: bool,
    },
}

struct Daemon {
    directory: PathBuf,
    bound: Bound,
    gate: Option<GateProcess>,
    /// When the next gate is started, while there is none.
    next_start: Instant,
    supervisor: Supervisor,
    phase: Phase,
    announced: bool,
    /// The gate was asked to stand aside and has not answered.
    aside_asked: bool,
    live: Live,
    signals: Signals,
    tick: Interval,
    /// See [`beside::start`]. Dropped with the daemon; the control socket's file goes then.
    beside: JoinSet<()>,
    /// When the trust bundle is compared with the system's roots again.
    next_bundle: Instant,
    /// Hears the kernel programs.
    teller: Teller,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What woke the daemon.
enum Woken {
    Gate(Heard),
    StartGate,
    DrainOver,
    Terminate,
    Reload,
    Tick,
    /// The kernel programs have something to tell.
    Told,
    /// Something that runs beside the loop ended.
    Beside(Result<(), JoinError>),
}

impl Daemon {
    fn new(directory: PathBuf, bound: Bound, live: Live, beside: JoinSet<()>) -> io::Result<Self> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        let mut tick = tokio::time::interval(TICK);
        // After a long step one tick follows, not all that were missed: the gate's words are heard in between.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let namespaces = Arc::clone(bound.namespaces());
        let teller =
            Teller::new(bound.kernel.clone(), bound.journal.clone(), bound.tags.clone(), namespaces)?;
        Ok(Self {
            directory,
            bound,
            gate: None,
            next_start: Instant::now(),
            supervisor: Supervisor::default(),
            phase: Phase::Running,
            announced: false,
            aside_asked: false,
            live,
            signals,
            tick,
            beside,
            next_bundle: Instant::now() + BUNDLE,
            teller,
        })
    }

    async fn serve(mut self) {
        self.bound.journal.send(Event::Started);
        for warning in std::mem::take(&mut self.bound.config.warnings) {
            self.trouble(format!("warning: {warning}"));
        }
        loop {
            match self.wake().await {
                Woken::Gate(Heard::Said(ToWarden::Aside { refused })) => {
                    match (std::mem::take(&mut self.aside_asked), refused) {
                        (true, None) => {
                            self.leave_behind().await;
                            return self.bound.journal.close();
                        }
                        (true, Some(why)) => {
                            tracing::info!("the next gate waits for the end of this one: {why}");
                            self.drain(true);
                        }
                        (false, _) => {
                            self.trouble("the gate stands aside though nobody asked it to".to_owned())
                        }
                    }
                }
                Woken::Gate(Heard::Said(message)) => self.answer(message),
                Woken::Gate(Heard::Ended(how)) => {
                    if self.gate_ended(&how) {
                        break;
                    }
                }
                Woken::StartGate => self.start_gate().await,
                Woken::DrainOver => self.cut_drain(),
                Woken::Terminate => {
                    notify::stopping();
                    self.end().await;
                    if self.gate.is_none() {
                        break;
                    }
                }
                Woken::Reload => self.reload().await,
                Woken::Tick => self.tick(),
                Woken::Told => self.teller.tell_all(),
                // An orderly end has said why; a panic has told nobody yet.
                Woken::Beside(Ok(())) => {}
                Woken::Beside(Err(error)) => {
                    self.trouble(format!(
                        "the control socket or the tags' watch broke, restart the daemon: {error}"
                    ));
                }
            }
        }
        self.bound.journal.send(Event::Stopped);
        self.bound.journal.close();
    }

    /// Waits for the next event. Every branch is cancel-safe.
    async fn wake(&mut self) -> Woken {
        let gate = async {
            match &mut self.gate {
                Some(gate) => Woken::Gate(gate.hear().await),
                None => {
                    tokio::time::sleep_until(self.next_start).await;
                    Woken::StartGate
                }
            }
        };
        let over = async {
            match self.phase {
                Phase::Draining { until, .. } => tokio::time::sleep_until(until).await,
                Phase::Running => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Woken::Terminate,
            _ = self.signals.interrupt.recv() => Woken::Terminate,
            // Before the gate, which under load (or taken over) always has something to say: neither the watchdog nor the
            // end of a drain may wait for its silence.
            () = over => Woken::DrainOver,
            _ = self.tick.tick() => Woken::Tick,
            _ = self.signals.hangup.recv() => Woken::Reload,
            Some(ended) = self.beside.join_next() => Woken::Beside(ended),
            () = self.teller.heard() => Woken::Told,
            woken = gate => woken,
        }
    }

    async fn start_gate(&mut self) {
        match self.bound.start_gate().await {
            Ok(gate) => {
                self.live.gate_started(gate.pid());
                self.bound.secrets.gate(gate.mailbox());
                self.bound.notes.gate(gate.mailbox());
                self.gate = Some(gate);
            }
            Err(error) => {
                self.trouble(format!("the gate cannot be started: {}", Chain(&error)));
                self.gate_failed(None);
            }
        }
    }

    fn answer(&mut self, message: ToWarden) {
        let Some(gate) = &self.gate else { return };
        match message {
            ToWarden::Ready => self.serves(),
            ToWarden::Alive => {}
            ToWarden::Sessions(count) => self.live.sessions(count),
            ToWarden::Masked(counts) => self.live.masked(counts),
            ToWarden::Identify { call, client, listener, netns } => {
                let mut identity: Option<Box<Identity>> =
                    self.bound.identify(client, listener, netns).map(Box::new);
                if let Some(identity) = &mut identity {
                    self.bound.look_further(identity, call, &gate.mailbox());
                }
                gate.answer(ToGate::Identified { call, identity });
            }
            ToWarden::Asker { call, client, listener, netns } => {
                let identity = self.bound.asker(client, listener, netns).map(Box::new);
                gate.answer(ToGate::Identified { call, identity });
            }
            ToWarden::Socket { call, netns, v6, udp } => {
                self.bound.namespaces().socket(gate.mailbox(), call, netns, v6, udp);
            }
            ToWarden::Forgotten { netns } => self.bound.namespaces().forgotten(netns),
            ToWarden::SignLeaf { call, request } => {
                let leaf = self.bound.ca.sign(&request).map_err(|refusal| Chain(&refusal).to_string());
                gate.answer(ToGate::Leaf { call, leaf });
            }
            ToWarden::Sign { call, unsigned } => {
                self.bound.signer.ask(call, unsigned, gate.mailbox());
            }
            ToWarden::Secret { call, credential, source } => {
                self.bound.secrets.ask(call, &credential, &source, gate.mailbox());
            }
            ToWarden::Fetched { credential, outcome } => self.bound.secrets.fetched(&credential, outcome),
            ToWarden::Noted { call, outcome } => self.bound.notes.noted(call, outcome),
            ToWarden::Tested { call, outcome } => self.bound.secrets.tested(call, outcome),
            ToWarden::Journal(summary) => self.bound.journal.send(Event::Exchange(summary)),
            ToWarden::JournalFold { example, more } => {
                self.bound.journal.send(Event::Fold { example, more });
            }
            ToWarden::Trouble(text) => self.trouble(text),
            ToWarden::Store { refusing, last } => {
                self.live.store(refusing.clone());
                self.trouble(match (refusing, last) {
                    (Some(why), _) => format!("the store takes no records, exchanges are refused: {why}"),
                    (None, Some(last)) => format!("the store works, after: {last}"),
                    (None, None) => "the store works".to_owned(),
                });
            }
            // `serve` takes the one; the end of the process, which follows, is what counts of the other.
            ToWarden::Aside { .. } | ToWarden::Drained => {}
        }
    }

    /// The gate serves.
    fn serves(&mut self) {
        self.bound.open_for_connections();
        if !std::mem::replace(&mut self.announced, true) {
            notify::ready();
            if let Err(error) = beside::self_test(&self.bound, &self.live) {
                self.trouble(format!("the self-test cannot be run: {error}"));
            }
        }
        // Loading the kernel programs took fifty times what serving takes.
        memory::give_back();
        tracing::info!("the gate serves");
    }

    /// Returns whether the daemon is over too.
    fn gate_ended(&mut self, how: &str) -> bool {
        let Some(gate) = self.gate.take() else { return false };
        self.live.gate_ended();
        match self.phase {
            Phase::Draining { then_exit: true, .. } => return true,
            Phase::Draining { then_exit: false, .. } => {
                self.phase = Phase::Running;
                self.next_start = Instant::now();
            }
            Phase::Running => {
                tracing::error!("the gate ended ({how}); the sessions under way were cut");
                self.bound.journal.send(Event::GateRestarted { why: how.to_owned() });
                self.gate_failed(gate.is_ready().then(|| gate.age()));
            }
        }
        false
    }

    fn gate_failed(&mut self, served: Option<Duration>) {
        let next = self.supervisor.ended(served);
        self.next_start = Instant::now() + next.pause;
        if next.refuse {
            self.bound.refuse_connections();
        }
    }

    fn drain(&mut self, then_exit: bool) {
        // Whoever was told to end ends, whatever else comes.
        let then_exit = then_exit || matches!(self.phase, Phase::Draining { then_exit: true, .. });
        let grace = self.bound.config.drain.grace;
        if let Some(gate) = &self.gate {
            gate.answer(ToGate::Drain { grace_ms: grace.as_millis().try_into().unwrap_or(u64::MAX) });
        }
        self.phase = Phase::Draining { until: Instant::now() + grace + CLOSING, then_exit };
    }

    fn cut_drain(&mut self) {
        self.trouble("the gate did not end within its drain time: killed".to_owned());
        if let Some(gate) = &mut self.gate {
            gate.kill();
        }
        // `hear` reports the end.
        let then_exit = matches!(self.phase, Phase::Draining { then_exit: true, .. });
        self.phase = Phase::Draining { until: Instant::now() + CLOSING, then_exit };
    }

    fn tick(&mut self) {
        notify::watchdog();
        self.bound.sweep();
        self.teller.tell_all();
        if self.next_bundle <= Instant::now() {
            self.next_bundle = Instant::now() + BUNDLE;
            self.bound.refresh_bundle();
        }
        if let (Some(servers), Some(gate)) = (self.bound.changed_servers(), &self.gate) {
            gate.answer(ToGate::Servers(servers));
        }
        if let Some(gate) = &mut self.gate
            && gate.tick() > SILENT_TICKS
        {
            gate.kill();
            self.trouble("the gate said nothing for too long: killed".to_owned());
        }
    }

    fn trouble(&self, text: String) {
        tracing::error!("{text}");
        self.bound.journal.send(Event::Trouble(text));
    }
}
