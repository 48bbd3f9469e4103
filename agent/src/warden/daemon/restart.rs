//! `systemctl restart`: the gate drains beside the next one, so that nobody waits for what is under way.
//!
//! A restart is a stop and a start, and systemd begins the start when the stop is over. So the gate, told to stand aside,
//! and a [`keeper`](crate::warden::keeper) that answers it are put into a scope of their own, and this daemon ends. On a
//! stop nothing of this happens: it is over when the drain is.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::{CLOSING, Daemon, Phase};
use crate::paths;
use crate::report::Chain;
use crate::warden::gate_process::GateProcess;
use crate::warden::tags;
use crate::wire::ToGate;

/// How long systemd may take to say what it is about.
const ASK_WITHIN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Told to end: at the end of the drain, or, on a restart, when the gate stands aside.
    pub(super) async fn end(&mut self) {
        let serves = self.gate.as_ref().is_some_and(GateProcess::is_ready);
        if serves && matches!(self.phase, Phase::Running) && self.is_restart().await {
            self.ask_to_stand_aside();
        } else {
            self.drain(true);
        }
    }

    /// Whether this end is the first half of a restart, and the gate can be left behind. Where the agent itself lives inside
    /// a tag it cannot: it is known by its cgroup there.
    async fn is_restart(&self) -> bool {
        let is_tagged = || {
            tags::of_process(std::process::id()).map_or(true, |own| self.bound.tags.tag_of(&own).is_some())
        };
        if !self.bound.may_stand_aside() || is_tagged() {
            return false;
        }
        match tokio::time::timeout(ASK_WITHIN, self.bound.tags.is_restarting(std::process::id())).await {
            Ok(Ok(restarting)) => restarting,
            Ok(Err(error)) => {
                tracing::warn!("whether this is a restart cannot be told: {}", Chain(&error));
                false
            }
            Err(_) => false,
        }
    }

    /// Asks the gate to stand aside; its answer decides.
    fn ask_to_stand_aside(&mut self) {
        let grace = self.bound.config.drain.grace;
        let grace_ms = grace.as_millis().try_into().unwrap_or(u64::MAX);
        if let Some(gate) = &self.gate {
            gate.answer(ToGate::StandAside { grace_ms });
            self.aside_asked = true;
        }
        self.phase = Phase::Draining { until: Instant::now() + grace + CLOSING, then_exit: true };
    }

    /// The gate stands aside: a keeper takes it over. Returns when this daemon may end: at once, or, where systemd does not
    /// let the two out of the unit, when the drain is over.
    pub(super) async fn leave_behind(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        let within = self.bound.config.drain.grace + CLOSING;
        let (Some(pid), ca) = (gate.pid(), self.bound.config.paths.state.join(paths::CA_DIR)) else { return };
        let channel = match gate.hand_over().await {
            Ok(channel) => channel,
            Err(error) => return self.trouble(format!("the gate cannot be left behind: {error}")),
        };
        let mut keeper = Command::new("/proc/self/exe");
        keeper.arg("keep").arg("--ca").arg(ca).args(["--gate", &pid.to_string()]);
        keeper.args(["--within", &within.as_millis().to_string()]);
        let keeper = keeper.stdin(Stdio::from(channel)).stdout(Stdio::null()).kill_on_drop(false).spawn();
        let mut keeper = match keeper {
            Ok(keeper) => keeper,
            Err(error) => return self.trouble(format!("nobody keeps the gate while it drains: {error}")),
        };
        let apart = match keeper.id() {
            Some(keeper) => self.bound.tags.put_apart(&[keeper, pid], within).await,
            None => Ok(()),
        };
        if apart.is_ok() {
            tracing::info!("what is under way goes on beside the next daemon");
        }
        if let Err(error) = apart {
            self.trouble(format!("the next gate waits for the end of the drain: {}", Chain(&error)));
            // The keeper has its own deadline.
            if let Err(error) = keeper.wait().await {
                tracing::error!("waiting for the drain: {error}");
            }
        }
    }
}
