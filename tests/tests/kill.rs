//! kill -9 of the gate, of the warden and of both, at random points of their lives, over and over, while jobs try to get
//! a marker out and others come and go: nothing leaves but through the agent, and nothing is left behind.
//!
//! `SLUICE_KILLS` is the number of rounds (300 without it), `SLUICE_SEED` repeats a run.

use std::fs;
use std::ops::ControlFlow;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use sluice::audit::{self, verify};
use sluice::record::read::list;
use sluice_tests::capture::Capture;
use sluice_tests::harness::{Options, World};
use sluice_tests::leaks::{Census, descriptors};
use sluice_tests::markers::{Job, is_stranger};
use sluice_tests::netns::Place;
use sluice_tests::process::{PATIENCE, eventually, run};

/// Tags by configuration: they outlive every daemon.
const CONFIG: &str = r#"
[[intercept]]
name = "placed"
cgroup = "/placed"

[[intercept]]
name = "empty"
cgroup = "/nowhere/yet"
"#;

/// splitmix64: any seed is good.
struct Dice(u64);

impl Dice {
    fn seeded() -> Self {
        let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let seed = given.unwrap_or(now);
        println!("SLUICE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What is pinned and kept while no job runs.
fn kept(world: &World) -> Vec<String> {
    let dir = world.space().dir();
    // The space's bpffs is seen from inside the space only; so are its cgroups under these names.
    let mut find = world.space().command("untagged", "find").expect("command");
    find.arg(dir.join("bpf/sluice")).arg(dir.join("runtime")).args(["-not", "-name", "*.sock"]);
    let found = find.output().expect("find");
    let mut all: Vec<String> =
        String::from_utf8(found.stdout).expect("text").lines().map(str::to_owned).collect();
    let ours = world.space().cgroup().join("sluice");
    all.extend(fs::read_dir(ours).into_iter().flatten().filter_map(|e| {
        let entry = e.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path().display().to_string())
    }));
    all.sort();
    all
}

/// Pins, files and cgroups; what the warden and the gate hold open.
type AtRest = (Vec<String>, Vec<String>, Vec<String>);

/// The agent with nobody in its tags.
fn at_rest(world: &World) -> AtRest {
    let warden = world.daemon().warden_pid().expect("warden");
    let gate = world.daemon().gate_pid().expect("gate");
    (kept(world), descriptors(warden), descriptors(gate))
}

/// What is in the first more often than in the second.
fn more(all: &AtRest, without: &AtRest) -> Vec<String> {
    let one = |all: &[String], without: &[String]| {
        let mut left = all.to_vec();
        for gone in without {
            if let Some(at) = left.iter().position(|here| here == gone) {
                left.swap_remove(at);
            }
        }
        left
    };
    [one(&all.0, &without.0), one(&all.1, &without.1), one(&all.2, &without.2)].concat()
}

/// Whom to kill, at once.
fn kill(world: &mut World, victim: u64) {
    let gate = world.daemon().gate_now();
    if let (0 | 2, Some(gate)) = (victim, gate) {
        let _gone_meanwhile = world.daemon().signal(gate, Signal::SIGKILL);
    }
    // Without a gate to kill it is the warden: no round passes without a death.
    if victim > 0 || gate.is_none() {
        world.daemon_mut().kill_warden().expect("killed");
        world.daemon_mut().launch().expect("launched");
    }
}

/// Has the configured tag attached: its cgroup stays, and so does what is attached to it.
fn attach_placed(world: &World) {
    let made = run(&mut world.space().command("placed", "/bin/true").expect("command"), PATIENCE);
    assert!(made.expect("started").good());
    let links = world.space().dir().join("runtime/tags/placed.json");
    let taken = || Ok((!fs::read_to_string(&links)?.contains("\"attached\":null")).then_some(()));
    assert!(eventually(PATIENCE, taken).expect("no error").is_some(), "not attached");
}

/// The agent once the self-test of the start is over, which holds some itself.
fn come_to_rest(world: &World) -> AtRest {
    let mut rest = at_rest(world);
    let settled = eventually(PATIENCE, || {
        let before = std::mem::replace(&mut rest, at_rest(world));
        let tested = rest.0.iter().all(|path| !path.ends_with("sluice-self-test"));
        Ok((tested && before == rest).then_some(()))
    });
    assert!(settled.expect("no error").is_some(), "the agent does not come to rest: {rest:?}");
    rest
}

/// Waits until the agent holds nothing that it did not hold at `rest`.
fn holds_no_more_than(world: &World, rest: &AtRest) {
    let mut now = at_rest(world);
    let same = eventually(PATIENCE, || {
        now = at_rest(world);
        // Less is no leak: the first daemon's self-test may have held something when it was looked at.
        Ok(more(&now, rest).is_empty().then_some(()))
    });
    if same.expect("no error").is_none() {
        panic!("left behind: {:?}", more(&now, rest));
    }
}

/// Kills one or both of them `rounds` times over, while jobs come and go.
fn storm(world: &mut World, jobs: &[&Job], rounds: u64) {
    let mut dice = Dice::seeded();
    let mut brief: Vec<Child> = Vec::new();
    for round in 0..rounds {
        // Half of them die while they start, at whatever point: that is what the pause is for, it waits for nothing.
        let starting = dice.below(2) == 0;
        if !starting {
            world.daemon_mut().await_ready_once(PATIENCE).expect("ready");
        }
        // Jobs that come and go, whether there is a warden that takes them or not.
        if brief.len() < 4 {
            let mut job = world.job(&format!("brief-{round}"), "/bin/true").expect("job");
            brief.push(job.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("started"));
        }
        std::thread::sleep(Duration::from_micros(dice.below(if starting { 150_000 } else { 30_000 })));
        kill(world, dice.below(3));
        brief.retain_mut(|job| job.try_wait().expect("waited").is_none());
        if round % 50 == 49 {
            works_again(world, jobs, round);
            sound(world, jobs.iter().map(|job| job.answers()).sum());
        }
    }
    for mut job in brief {
        assert!(eventually(PATIENCE, || Ok(job.try_wait()?)).expect("no error").is_some(), "a job hangs");
    }
}

#[test]
fn whoever_is_killed_whenever_nothing_leaves_and_nothing_is_left() {
    let rounds: u64 = std::env::var("SLUICE_KILLS").map_or(300, |n| n.parse().expect("a number"));
    let before = Census::take().expect("census");
    let options =
        Options { place: Place::Far, no_roots: true, config: CONFIG.to_owned(), ..Options::default() };
    let mut world = World::with(options).expect("world");
    if world.is_direct() {
        return;
    }
    attach_placed(&world);
    let rest = come_to_rest(&world);
    let capture = Capture::start(&world.space().outside(), is_stranger).expect("capture");
    let placed =
        Job::start(&world, "placed", world.space().command("placed", "/usr/bin/python3").expect("job"))
            .expect("started");
    let run = Job::start(&world, "run", world.job("run", "/usr/bin/python3").expect("job")).expect("started");
    works_again(&mut world, &[&placed, &run], 0);
    let start = Instant::now();
    storm(&mut world, &[&placed, &run], rounds);
    let (took, answers) = (start.elapsed(), placed.answers() + run.answers());
    works_again(&mut world, &[&placed, &run], rounds);
    placed.end().expect("ended");
    run.end().expect("ended");
    let captured = capture.end().expect("capture");
    println!("{rounds} rounds in {took:?}, {answers} answers, {} frames", captured.seen);
    sound(&world, answers);
    assert_eq!(captured.kept, [], "left past the agent");
    assert_eq!(world.seen().strangers(), []);
    // How much the jobs get done is the machine's business; that they were at work all the time is `works_again`'s.
    assert!(
        captured.seen as u64 >= answers,
        "each answer is some frames: {} of {answers} answers",
        captured.seen
    );
    holds_no_more_than(&world, &rest);
    drop(world);
    let left = Census::left_since(&before, Duration::from_secs(120)).expect("census");
    assert!(left.is_empty(), "left in the kernel: {left:?}");
}

/// The store is good, and has what the jobs had answers to.
#[track_caller]
fn sound(world: &World, answers: u64) {
    let store = world.daemon().store();
    let mut last = None;
    // What the last gate left is bound by the first checkpoint of the next, a second later.
    let good = eventually(PATIENCE, || {
        let report = verify(&store, &audit::Options::default())?;
        let good = report.good();
        last = Some(report);
        Ok(good.then_some(()))
    });
    assert!(good.expect("readable").is_some(), "{last:#?}");
    let mut recorded = 0;
    let damage = list::all(&store, &list::Filter::default(), |_| {
        recorded += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("readable"), [], "the store");
    assert!(recorded >= answers, "{answers} answers, and {recorded} exchanges are recorded");
}

/// Both jobs get answers again.
#[track_caller]
fn works_again(world: &mut World, jobs: &[&Job], round: u64) {
    world.daemon_mut().await_ready_once(PATIENCE).expect("ready");
    for job in jobs {
        let more = job.goes_on(1);
        assert!(more.is_ok(), "{more:?} after round {round}:\n{}", world.daemon().log());
    }
    assert_eq!(world.seen().strangers(), [], "round {round}");
}
