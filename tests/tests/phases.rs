//! Fail closed in every phase: whatever is missing, stopped or used up, nothing leaves a tag but through the agent, seen by
//! a capture at the far end of the veth, and the client gets an error or waits. Afterwards all works again.
//!
//! Elsewhere: killed at random points, while starting too (`kill.rs`); killed, stopped and ended under load with every
//! answer recorded (`failclosed.rs`); no listener, full maps, another network namespace (`kernel/`); a full disk
//! (`store.rs`); no journal (`journal.rs`); restart and upgrade under systemd (`systemd.rs`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use sluice_tests::capture::Capture;
use sluice_tests::harness::{Options, World};
use sluice_tests::host::unique;
use sluice_tests::leaks::descriptors;
use sluice_tests::markers::{Job, is_stranger};
use sluice_tests::netns::Place;
use sluice_tests::process::{Ended, PATIENCE, eventually, finish, run};

/// A world with the agent and a job at work in a tag; `work` does something to the agent and puts it right again.
fn while_a_job_tries(work: impl FnOnce(&mut World, &Job)) {
    let options = Options { place: Place::Far, no_roots: true, ..Options::default() };
    let mut world = World::with(options).expect("world");
    if world.is_direct() {
        return;
    }
    let capture = Capture::start(&world.space().outside(), is_stranger).expect("capture");
    let job = Job::start(&world, "job", world.job("job", "/usr/bin/python3").expect("job")).expect("started");
    job.goes_on(5).expect("the job works");
    work(&mut world, &job);
    job.goes_on(5).expect("the job works again");
    job.end().expect("ended");
    let captured = capture.end().expect("capture");
    assert_eq!(captured.kept, [], "left past the agent");
    assert_eq!(world.seen().strangers(), []);
    assert!(captured.seen >= 10, "each answer is some frames: {} of 10 answers at least", captured.seen);
}

/// A client in the job's tag, started by the space since no warden may be there to ask.
fn client(world: &World, patience: u32) -> Ended {
    let mut curl = world.space().command("sluice/job", "curl").expect("command");
    curl.args(["-sS", "-m", &patience.to_string(), "http://www.example.test/bytes/4"]);
    run(&mut curl, PATIENCE * 2).expect("started")
}

/// curl's exit status.
#[track_caller]
fn code(ended: &Ended) -> i32 {
    ended.status.and_then(|status| status.code()).unwrap_or_else(|| panic!("{ended:?}"))
}

/// Sets a soft limit: lifting the hard one again wants a right that the test need not have.
fn limit(pid: u32, what: &str) {
    let mut prlimit = Command::new("prlimit");
    let ended = run(prlimit.args(["--pid", &pid.to_string(), what]), PATIENCE).expect("prlimit");
    assert!(ended.good(), "{ended:?}");
}

/// Without anybody there, clients are refused at once; it takes no agent to do it.
#[test]
fn nobody_there() {
    while_a_job_tries(|world, _| {
        world.daemon_mut().kill_warden().expect("killed");
        let gone = eventually(PATIENCE, || {
            let refused = client(world, 5);
            Ok((code(&refused) == 7).then_some(refused))
        });
        let refused = gone.expect("no error").expect("refused");
        assert!(refused.stderr.contains("Couldn't connect"), "{refused:?}");
        world.daemon_mut().start().expect("started");
        assert_eq!(client(world, 20).stdout, "xxxx");
    });
}

/// A gate that hangs is killed by the warden; whoever connected meanwhile is answered by the next.
#[test]
fn a_gate_that_hangs() {
    while_a_job_tries(|world, _| {
        let gate = world.daemon().gate_pid().expect("gate");
        world.daemon().signal(gate, Signal::SIGSTOP).expect("stopped");
        let start = Instant::now();
        let waited = client(world, 40);
        assert_eq!(waited.stdout, "xxxx", "waits for the next gate: {waited:?}");
        println!("a stopped gate was replaced within {:?}", start.elapsed());
        assert_ne!(world.daemon().gate_pid().expect("the next"), gate);
    });
}

/// A warden that hangs: nobody says whose a connection is, so it waits, and is closed unread.
#[test]
fn a_warden_that_hangs() {
    while_a_job_tries(|world, _| {
        let warden = world.daemon().warden_pid().expect("warden");
        world.daemon().signal(warden, Signal::SIGSTOP).expect("stopped");
        let given_up = client(world, 2);
        assert_eq!(code(&given_up), 28, "waits: {given_up:?}");
        let closed = client(world, 25);
        assert!([52, 56].contains(&code(&closed)), "closed without a word: {closed:?}");
        world.daemon().signal(warden, Signal::SIGCONT).expect("continued");
    });
}

/// A gate with few descriptors serves as many as it can; the others wait for their turn or are refused.
#[test]
fn a_gate_out_of_descriptors() {
    while_a_job_tries(|world, _| {
        let (warden, gate) =
            (world.daemon().warden_pid().expect("warden"), world.daemon().gate_pid().expect("gate"));
        // The next gate inherits it.
        limit(warden, &format!("--nofile={}:", descriptors(warden).len().max(descriptors(gate).len()) + 12));
        world.daemon().signal(gate, Signal::SIGKILL).expect("killed");
        let gate = world.daemon().gate_pid_other_than(gate).expect("the next");
        let many: Vec<_> = (0..40)
            .map(|_| {
                let mut curl = world.space().command("sluice/job", "curl").expect("command");
                curl.args(["-sS", "-m", "60", "http://www.example.test/slow?ms=300"]);
                curl.stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("started")
            })
            .collect();
        for (n, child) in many.into_iter().enumerate() {
            let ended = finish(child, PATIENCE * 3).expect("ended");
            // Accepted with the last descriptor, it has none left for the upstream: refused with a reset.
            let answered = ended.stdout == "slept\n";
            assert!(answered || [52, 56].contains(&code(&ended)), "{n}: {ended:?}");
        }
        assert!(
            world.daemon().log().contains("Too many open files"),
            "it never ran out:\n{}",
            world.daemon().log()
        );
        assert_eq!(world.daemon().gate_pid().expect("gate"), gate, "it lives");
        limit(warden, "--nofile=4096:");
    });
}

/// A warden without descriptors tags nobody (the command is not started), and refuses when it can make no gate.
#[test]
fn a_warden_out_of_descriptors() {
    while_a_job_tries(|world, _| {
        let warden = world.daemon().warden_pid().expect("warden");
        let open = descriptors(warden).len();
        limit(warden, &format!("--nofile={open}:"));
        let told = world.space().dir().join("told");
        let mut job = world.job("late", "/usr/bin/touch").expect("job");
        let refused = run(job.arg(&told), PATIENCE).expect("started");
        assert!(!refused.good() && !told.exists(), "not started untagged: {refused:?}");
        let gate = world.daemon().gate_pid().expect("gate");
        limit(warden, "--nofile=8:");
        world.daemon().signal(gate, Signal::SIGKILL).expect("killed");
        let refused = eventually(PATIENCE, || {
            let refused = client(world, 2);
            Ok((code(&refused) == 7).then_some(refused))
        });
        assert!(
            refused.expect("no error").is_some(),
            "refused by the kernel programs:\n{}",
            world.daemon().log()
        );
        limit(warden, "--nofile=4096:");
    });
}

/// A gate that gets no more memory is killed by the kernel, and made anew.
#[test]
fn a_gate_out_of_memory() {
    let controller = Path::new("/sys/fs/cgroup/memory");
    if !controller.join("memory.limit_in_bytes").exists() {
        eprintln!("not tried: there is no memory controller at {}", controller.display());
        return;
    }
    let tiny = controller.join(unique("memory"));
    fs::create_dir(&tiny).expect("cgroup");
    while_a_job_tries(|world, _| {
        fs::write(tiny.join("memory.limit_in_bytes"), "262144").expect("a limit");
        let gate = world.daemon().gate_pid().expect("gate");
        fs::write(tiny.join("cgroup.procs"), gate.to_string()).expect("moved");
        let dead = eventually(PATIENCE, || {
            let _asks_for_more = client(world, 5);
            Ok((world.daemon().gate_now() != Some(gate)).then_some(()))
        });
        assert!(dead.expect("no error").is_some(), "lives without memory");
        assert_ne!(world.daemon().gate_pid_other_than(gate).expect("the next"), gate);
    });
    let removed = eventually(PATIENCE, || Ok(fs::remove_dir(&tiny).ok()));
    assert!(removed.expect("no error").is_some(), "{} stays", tiny.display());
}

/// The configuration is gone: a reload changes nothing, a start does not happen and leaves everybody refused.
#[test]
fn the_configuration_is_gone() {
    while_a_job_tries(|world, job| {
        let (etc, away) = (world.space().dir().join("etc"), world.space().dir().join("away"));
        fs::rename(&etc, &away).expect("moved");
        let warden = world.daemon().warden_pid().expect("warden");
        world.daemon().signal(warden, Signal::SIGHUP).expect("told");
        let kept = || Ok(world.daemon().log().contains("the old configuration stays in force").then_some(()));
        assert!(eventually(PATIENCE, kept).expect("no error").is_some(), "{}", world.daemon().log());
        job.goes_on(5).expect("the old configuration serves");
        world.daemon_mut().stop().expect("ended");
        world.daemon_mut().start().expect_err("without a configuration");
        assert_eq!(code(&client(world, 5)), 7, "refused");
        fs::rename(&away, &etc).expect("moved");
        world.daemon_mut().start().expect("started");
    });
}

/// Reloads that start the gate anew, one after another, and drains with something long under way.
#[test]
fn reloads_and_drains() {
    while_a_job_tries(|world, job| {
        let file = world.space().dir().join("etc/sluice.toml");
        let text = fs::read_to_string(&file).expect("configuration");
        let warden = world.daemon().warden_pid().expect("warden");
        for round in 1..=3 {
            let gate = world.daemon().gate_pid().expect("gate");
            fs::write(&file, format!("{text}[limits]\nsessions = {}\n", 1000 + round)).expect("written");
            world.daemon().signal(warden, Signal::SIGHUP).expect("told");
            world.daemon().gate_pid_other_than(gate).expect("the next gate");
            job.goes_on(3).expect("goes on");
        }
        fs::write(&file, text).expect("written");
    });
}
