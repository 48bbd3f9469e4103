//! The machine that is measured on: its processors, and what a report says of it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::process::run;

/// Binds this thread, and what it starts, to one processor, if that is wanted.
///
/// # Errors
/// The kernel refuses.
pub fn pin(wanted: bool, core: usize) -> Result<()> {
    if wanted {
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set).context("pinning")?;
    }
    Ok(())
}

/// The upstream's threads were started on the agent's processor: moves them too.
///
/// # Errors
/// taskset failed.
pub fn pin_all_threads(wanted: bool, core: usize) -> Result<()> {
    if wanted {
        let mut taskset = Command::new("taskset");
        taskset.args(["-a", "-p", "-c", &core.to_string(), &std::process::id().to_string()]);
        let ended = run(&mut taskset, Duration::from_secs(10))?;
        ensure!(ended.good(), "taskset: {}", ended.stderr);
    }
    Ok(())
}

/// What a report says of the machine.
pub fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find(|l| l.starts_with("model name")).map(str::to_owned);
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    json!({"kernel": read("/proc/sys/kernel/osrelease").trim(), "processor": model, "load": read("/proc/loadavg").trim(), "time": epoch})
}
