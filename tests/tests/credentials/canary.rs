//! A search for canaries, byte by byte, in everything that a run with every credential leaves behind or gives away: what
//! jobs receive, the store, the journal, the log, the output of every verb, and what the kernel shows a job of the agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use sluice_tests::canary::Found;
use sluice_tests::client;
use sluice_tests::daemon::Daemon;
use sluice_tests::harness::World;
use sluice_tests::netns::agent_uid;
use sluice_tests::process::{PATIENCE, eventually};
use sluice_tests::provider::told;

use crate::everything::{Everything, PLANTED, names};
use crate::rig::{TAG, WWW, curl, seen, sluice};

/// A client of S3 that signs no body.
const SIGNED_SO: &str = "-Hx-amz-content-sha256: UNSIGNED-PAYLOAD";

/// Requests that are to bear `name`, one after another, with whatever its credential needs of the client: their statuses,
/// and what the client received.
fn ask(all: &mut Everything, name: &str, each: &[(&str, &[&str])]) -> (Vec<String>, String) {
    let host = if name == "certificate" { format!("{WWW}:9443") } else { WWW.to_owned() };
    let bearer = match name {
        "exchange" => all.mock.token("alice").expect("a token"),
        _ => "sk-sluice-placeholder".to_owned(),
    };
    let bearer = format!("Authorization: Bearer {bearer}");
    let own = match name {
        "keys" | "assumed" => {
            ["--aws-sigv4", "aws:amz:eu-west-1:s3", "-uAKIAPLACEHOLDER:placeholder", SIGNED_SO]
        }
        _ => ["-A", "a job", "-H", &bearer],
    };
    let mut args = Vec::new();
    for (at, (how, more)) in each.iter().enumerate() {
        args.extend((at > 0).then_some("--next"));
        args.extend(["-isSv", "--max-time", "20", "-w", "\nSTATUS=%{http_code}\n"].into_iter().chain(own));
        args.extend(more.iter().copied());
        args.push(how);
    }
    let urls: Vec<String> = each.iter().map(|(how, _)| format!("https://{host}/{how}?is={name}")).collect();
    let args = args.into_iter().map(|arg| match each.iter().position(|(how, _)| *how == arg) {
        Some(at) => urls[at].as_str(),
        None => arg,
    });
    let (_, _, ended) = curl(&all.world, &args.collect::<Vec<_>>());
    // What curl says of its own request is the client's word.
    let said = ended.stderr.lines().filter(|line| !line.starts_with('>'));
    let statuses = ended.stdout.lines().filter_map(|line| line.strip_prefix("STATUS=").map(str::to_owned));
    (statuses.collect(), said.fold(ended.stdout.clone(), |all, line| all + line + "\n"))
}

/// Every credential, to an upstream that answers well, refuses, breaks, and tells what it was sent each time.
fn every_way(all: &mut Everything, given: &mut String) {
    let each: [(&str, &[&str]); 4] = [
        ("mirror/plain", &["--http2"]),
        ("mirror/base64", &["--http1.1"]),
        ("mirror/broken", &["--http1.1", "-d", "x=1"]),
        ("mirror/error", &["--http2"]),
    ];
    for name in names() {
        let (statuses, received) = ask(all, name, &each);
        let wanted = if name == "certificate" { ["200"; 4] } else { ["200", "200", "500", "401"] };
        assert_eq!(
            statuses,
            wanted,
            "{name}: {received} {:?}",
            told(&all.log).ok().and_then(|mut all| all.pop())
        );
        *given += &received;
    }
    // Bound to none of these.
    for name in ["file", "leased", "keys"] {
        *given += &curl(&all.world, &[&format!("https://api.openai.com/x?is={name}")]).1;
    }
    // What a job sends of its own.
    let planted = all.search().looks_of(PLANTED).map(str::to_owned).collect::<Vec<_>>().join("\n");
    let body = all.keys.put("planted", planted);
    let url = format!("https://{WWW}/echo");
    *given += &curl(&all.world, &["--data-binary", &format!("@{body}"), &url]).1;
    let url = format!("https://{WWW}/seen/{}", all.secret(PLANTED));
    *given += &curl(&all.world, &["--path-as-is", &url]).1;
}

/// Providers that fail and tell what they were sent, files that are gone: requests are refused, or bear what was good.
fn while_sources_fail(all: &mut Everything, given: &mut String) {
    fs::write(&all.control, "echo").expect("written");
    for name in ["file", "kubernetes", "command"] {
        let from = all.keys.path(if name == "kubernetes" { "k8s/..data" } else { name });
        fs::rename(&from, all.keys.path(&format!("away-{name}"))).expect("moved");
    }
    let mut refused = 0;
    for name in names() {
        // A refusal by the upstream has it fetched anew.
        let each: [(&str, &[&str]); 2] = [("mirror/error", &["--http1.1"]), ("mirror/plain", &["--http1.1"])];
        let (statuses, received) = ask(all, name, &each);
        refused += statuses.iter().filter(|status| *status == "503").count();
        *given += &received;
    }
    for name in ["file", "client", "leased"] {
        let tested = sluice(&all.world, &["credentials", "test", name]);
        *given += &format!("{}{}", tested.stdout, tested.stderr);
    }
    // What was fetched anew a moment ago is not again at once.
    let failed = |log: &Path| told(log).expect("a log").iter().filter(|one| one["status"] == 500).count();
    let until = Instant::now() + PATIENCE;
    while failed(&all.log) <= 3 {
        assert!(Instant::now() < until, "{} providers failed", failed(&all.log));
        for name in names() {
            *given += &ask(all, name, &[("mirror/error", &["--http1.1"])]).1;
        }
    }
    assert!(refused > 0, "nothing was refused");
    fs::remove_file(&all.control).expect("removed");
}

/// What people are shown.
fn shown(world: &World, given: &mut String) {
    let store = world.daemon().store().display().to_string();
    let mut verbs: Vec<Vec<String>> = [
        &["credentials"][..],
        &["credentials", "--json"],
        &["credentials", "leaks", "--json", "--store", &store],
        &["status", "--json"],
        &["tags", "--json"],
        &["doctor"],
        &["sessions", "--store", &store],
        &["policy", "suggest", "--store", &store],
    ]
    .iter()
    .map(|verb| verb.iter().map(|&word| word.to_owned()).collect())
    .collect();
    // One of each kind is shown whole; the store is searched itself.
    let mut kinds = BTreeMap::new();
    for session in world.sessions().expect("sessions") {
        *given += &serde_json::to_string(&session).expect("JSON");
        kinds.insert((session.credential, session.rule, session.status), session.session);
    }
    verbs.extend(kinds.into_values().map(|id| ["show", &id, "--store", &store].map(str::to_owned).to_vec()));
    for verb in verbs {
        let ended = sluice(world, &verb.iter().map(String::as_str).collect::<Vec<_>>());
        *given += &format!("{}{}", ended.stdout, ended.stderr);
    }
    *given += &world.daemon().log();
}

/// What /proc shows jobs of the agent, as nobody and as the gate's own user.
fn peeked(all: &Everything, given: &mut String) {
    let daemon = all.world.daemon();
    let pids = [daemon.warden_pid().expect("a warden"), daemon.gate_pid().expect("a gate")];
    for uid in [65534, agent_uid().expect("a user")] {
        let mut job = all.world.job(TAG, "/usr/bin/python3").expect("a job");
        job.arg(client::program("peek.py")).arg(uid.to_string()).args(pids.map(|pid| pid.to_string()));
        // Its own environment is its to see: the search sees what the kernel shows.
        let out = all.keys.path("peeked");
        let file = fs::File::create(&out).expect("file");
        let child = job.env("PLANTED", all.secret(PLANTED)).stdout(file).spawn().expect("started");
        assert!(child.wait_with_output().expect("ended").status.success());
        let text = String::from_utf8_lossy(&fs::read(&out).expect("read")).into_owned();
        let (text, tried) = text.trim_end().rsplit_once('\n').expect("a line of JSON");
        let tried: serde_json::Value = serde_json::from_str(tried).expect("JSON");
        for pid in pids {
            let tried = tried[pid.to_string()].as_object().expect("tried");
            assert!(tried.len() == 7 && tried.values().all(|why| !why.is_null()), "{uid}: {tried:?}");
        }
        assert!(text.contains(all.secret(PLANTED)), "what is there is seen");
        *given += text;
    }
}

/// Cores that lie where a process would leave them.
fn cores(world: &World) -> Vec<PathBuf> {
    let places = [PathBuf::from("/"), world.space().dir().to_owned()];
    let entries = places.iter().flat_map(|place| fs::read_dir(place).expect("a directory"));
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")))
        .collect()
}

/// The next gate, once it serves.
fn next_gate(world: &World, old: u32) {
    world.daemon().gate_pid_other_than(old).expect("another gate");
    let served =
        eventually(
            PATIENCE,
            || Ok((curl(world, &[&format!("https://{WWW}/echo")]).0 == "200").then_some(())),
        );
    assert!(served.expect("asked").is_some());
}

/// Signals that would dump a core, and kill -9, of both processes.
fn killed(all: &mut Everything, before: &[PathBuf], given: &mut String) {
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        let gate = all.world.daemon().gate_pid().expect("a gate");
        all.world.daemon().signal(gate, signal).expect("sent");
        next_gate(&all.world, gate);
        let (statuses, received) = ask(all, "env", &[("mirror/plain", &[])]);
        assert_eq!(statuses, ["200"], "{received}");
        *given += &received;
    }
    let ended = |daemon: &mut Daemon, signal| daemon.end_by(signal).expect("ended");
    for signal in [Signal::SIGABRT, Signal::SIGKILL] {
        use std::os::unix::process::ExitStatusExt as _;
        let status = ended(all.world.daemon_mut(), signal);
        assert!(status.signal() == Some(signal as i32) && !status.core_dumped(), "{status}");
        if signal == Signal::SIGABRT {
            all.world.daemon_mut().start().expect("started");
            *given += &ask(all, "env", &[("mirror/plain", &[])]).1;
        }
    }
    let log = all.world.daemon().log();
    assert!(log.contains("signal: 3") && !log.contains("core dumped"), "{log}");
    assert_eq!(cores(&all.world), before, "no core was left");
}

/// What this process and those that it starts do at a signal is what they do by default: a shell without job control has
/// its background ignore SIGQUIT, which is inherited.
#[expect(unsafe_code, reason = "changes what a signal does")]
fn not_ignored(signal: Signal) {
    // SAFETY: no handler of anybody's is replaced, nor is one set.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.expect("not ignored");
}

/// Lets processes dump cores, and shows that they do here.
fn dumps_are_on(world: &World) {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).expect("limit");
    assert!(hard == RLIM_INFINITY || hard > 1 << 30, "this test needs leave to dump cores");
    let dir = tempfile::tempdir().expect("directory");
    let status =
        Command::new("sh").args(["-c", "kill -QUIT $$"]).current_dir(dir.path()).status().expect("sh");
    use std::os::unix::process::ExitStatusExt as _;
    assert!(status.core_dumped(), "{status}: a process like any other does not dump here");
    for pid in [world.daemon().warden_pid().expect("a warden"), world.daemon().gate_pid().expect("a gate")] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
}

/// What was found and was not to be.
fn unwanted(found: &Found) -> Vec<&String> {
    found.iter().filter(|one| !one.contains(&format!(": {PLANTED} as "))).collect()
}

#[test]
fn nothing_that_is_left_or_given_has_a_secret() {
    not_ignored(Signal::SIGQUIT);
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).expect("limit");
    setrlimit(Resource::RLIMIT_CORE, hard, hard).expect("cores are dumped");
    let mut all = Everything::start();
    let cores_before = cores(&all.world);
    dumps_are_on(&all.world);
    let mut given = String::new();
    every_way(&mut all, &mut given);
    for name in names() {
        let sent = seen(&all.world, "/mirror/")
            .into_iter()
            .filter(|one| one.path.contains(&format!("is={name}")))
            .count();
        assert!(sent >= 4 || name == "certificate", "{name} was sent {sent} times");
    }
    shown(&all.world, &mut given);
    peeked(&all, &mut given);
    while_sources_fail(&mut all, &mut given);
    shown(&all.world, &mut given);
    killed(&mut all, &cores_before, &mut given);
    given += &all.world.daemon().log();
    let journal = all.world.journal_mut().as_ref().expect("a journal").entries();
    assert!(journal.len() > 100, "{}", journal.len());

    let search = all.search();
    let mut found = Found::new();
    search.text("given", &given, &mut found);
    search.text("journal", format!("{journal:?}"), &mut found);
    search.place(all.world.space().dir(), &mut found).expect("searched");
    assert_eq!(unwanted(&found), Vec::<&String>::new());
    // The search finds what is there: all that was planted, in each place that could have had it.
    let store = all.world.daemon().store().display().to_string();
    for place in ["given", &store] {
        for look in search.looks_of(PLANTED) {
            let is = |one: &&String| one.starts_with(place) && one.ends_with(&format!("{PLANTED} as {look}"));
            assert!(found.iter().any(|one| is(&one)), "{look} is not found in {place}: {found:?}");
        }
    }
    assert!(found.iter().any(|one| one.starts_with("journal: planted")), "{found:?}");
    // And every secret was there to be found.
    let mut there = Found::new();
    search.place(&all.keys.path(""), &mut there).expect("searched");
    for (name, secret) in &all.secrets {
        assert!(
            name == "env" || there.iter().any(|one| one.contains(&format!(": {name} as "))),
            "{name}: {secret}"
        );
    }
}
