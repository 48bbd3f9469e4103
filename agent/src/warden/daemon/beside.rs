//! What runs beside the daemon's loop: the control socket, the watches over the tags, and the self-test.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Group;
use tokio::task::JoinSet;

use super::Error;
use crate::memory;
use crate::report::Chain;
use crate::trust;
use crate::warden::bound::Bound;
use crate::warden::control::{Desk, Server};
use crate::warden::journal::Event;
use crate::warden::live::Live;
use crate::warden::self_test::{self, Setting};

/// How often systemd is asked which tagged units have address filters.
const FILTERS: Duration = Duration::from_secs(30);

/// What runs beside the event loop: the control socket and the tags' watch over the cgroup tree.
///
/// # Errors
/// The control socket cannot be made.
pub(super) fn start(bound: &Bound, live: Live) -> Result<JoinSet<()>, Error> {
    // Who may ask is decided by group membership; the gate's group is not it when the gate runs as somebody's user.
    let group = Group::from_name(CONTROL_GROUP).ok().flatten().map(|group| group.gid.as_raw());
    let server = Server::bind(&bound.config.paths.runtime, group).map_err(Error::Control)?;
    let desk = Desk {
        tags: bound.tags.clone(),
        tokens: bound.tokens.clone(),
        secrets: bound.secrets.clone(),
        notes: bound.notes.clone(),
        status: live.reporter(bound),
        doctor: live.doctor(bound),
        environment: {
            let runtime = bound.config.paths.runtime.clone();
            Box::new(move || trust::environment(&runtime))
        },
        group,
        gate_uid: Some(bound.gate_uid()),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(Arc::new(desk)));
    let (tags, host) = (bound.tags.clone(), bound.host.clone());
    tasks.spawn(async move {
        loop {
            // Where systemd cannot be asked the last answer stands.
            if let Ok(filtered) = tags.filtered().await {
                host.tell_filtered(filtered.into_iter().map(String::from).collect());
            }
            tokio::time::sleep(FILTERS).await;
        }
    });
    let (tags, journal) = (bound.tags.clone(), bound.journal.clone());
    tasks.spawn(async move {
        if let Err(error) = tags.watch().await {
            let text = format!("units that restart are no longer followed: {}", Chain(&error));
            tracing::error!("{text}");
            journal.send(Event::Trouble(text));
        }
    });
    Ok(tasks)
}

/// Members may run commands in tags and look at the daemon.
const CONTROL_GROUP: &str = "sluice";

/// Tries the ways out in a thread of its own; nobody waits for it.
///
/// # Errors
/// The thread cannot be made.
pub(super) fn self_test(bound: &Bound, live: &Live) -> io::Result<()> {
    let (live, host, journal) = (live.clone(), bound.host.clone(), bound.journal.clone());
    let (bpf_dir, kernel) = (bound.config.paths.bpf.clone(), bound.kernel.clone());
    let test = move || {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/sluice"));
        let guard = |cgroup, path: &Path, under| {
            let mut kernel = kernel.lock();
            if under { kernel.guard_trial(cgroup, path) } else { kernel.unguard_trial(cgroup) }
        };
        let setting = Setting { program: &program, bpf_dir: &bpf_dir, lsm: host.has_lsm(), guard: &guard };
        let result = self_test::run(&setting);
        // It loads kernel programs, too.
        memory::give_back();
        host.tell_way_open(result.unexpected().next().is_some());
        live.self_test(result.clone());
        journal.send(Event::SelfTest(result));
    };
    std::thread::Builder::new().name("self-test".to_owned()).spawn(test).map(drop)
}
