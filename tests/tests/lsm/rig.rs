//! A tag under the LSM's rules, and attempts made inside and outside of it.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use agent_ebpf::{Counter, Event};
use sluice::warden::kernel::{TagOptions, UnixRule};
use sluice_tests::host::{Cgroup, run};

use crate::stage::Stage;

/// Sockets that the rig's deny list names.
pub const DENIED: [&str; 4] =
    ["/run/sl-lsm/denied.sock", "/run/sl-lsm/all/*", "/run/user/*/sl-lsm", "@sl-lsm-*"];

/// A stage under the LSM's rules; nothing is tagged yet.
pub struct Rig {
    pub stage: Stage,
    pub outside: Cgroup,
}

pub fn rules(texts: &[&str]) -> Vec<UnixRule> {
    texts.iter().map(|text| UnixRule::parse(text).expect("a rule")).collect()
}

impl Rig {
    pub fn untagged(label: &str) -> Self {
        let mut stage = Stage::new(label);
        stage.kernel.guard(&rules(&DENIED)).expect("this kernel has BPF LSM on");
        Self { stage, outside: Cgroup::new(&format!("{label}-out")) }
    }

    /// With the stage's cgroup under the tag `ci`, number 7.
    pub fn new(label: &str) -> Self {
        let mut rig = Self::untagged(label);
        rig.tag();
        rig
    }

    pub fn tag(&mut self) {
        self.stage.attach(TagOptions::default());
    }

    fn command(&self, cgroup: &Cgroup, words: &[&str], stdin: Option<&OwnedFd>) -> Command {
        let mut command = self.stage.namespace.command(Some(cgroup), env!("CARGO_BIN_EXE_sluice-lsm-probe"));
        command.args(words).stdin(
            stdin.map_or_else(Stdio::null, |fd| {
                Stdio::from(fd.try_clone().expect("another descriptor of it"))
            }),
        );
        command
    }

    /// An attempt in the tag.
    pub fn inside(&self, words: &[&str]) -> String {
        self.try_in(&self.stage.cgroup, words, None)
    }

    /// The same outside: the positive control.
    pub fn outside(&self, words: &[&str]) -> String {
        self.try_in(&self.outside, words, None)
    }

    pub fn try_in(&self, cgroup: &Cgroup, words: &[&str], stdin: Option<&OwnedFd>) -> String {
        run(&mut self.command(cgroup, words, stdin)).trim().to_owned()
    }

    /// As nobody, who has no right of any kind.
    pub fn try_as_nobody(&self, cgroup: &Cgroup, words: &[&str], stdin: Option<&OwnedFd>) -> String {
        let inner = self.command(cgroup, words, stdin);
        // `sh -c SCRIPT PROCS nsenter --net=… -- PROGRAM WORD…`: the user changes behind nsenter.
        let mut command = Command::new(inner.get_program());
        for word in inner.get_args() {
            command.arg(word);
            if word == "--" {
                command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
            }
        }
        command.stdin(
            stdin.map_or_else(Stdio::null, |fd| {
                Stdio::from(fd.try_clone().expect("another descriptor of it"))
            }),
        );
        run(&mut command).trim().to_owned()
    }

    /// What the programs told since the last time.
    pub fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.stage.kernel.next_event()).collect()
    }

    /// The events of one way since the last time; all others are dropped.
    pub fn told(&self, way: Counter) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.way == way as u32).collect()
    }
}

/// What a process calls itself in an event.
pub fn comm(event: &Event) -> String {
    String::from_utf8_lossy(event.comm.split(|octet| *octet == 0).next().unwrap_or_default()).into_owned()
}
