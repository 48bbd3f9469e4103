//! What the agent says about its own limits is true: the enforcement in each record, the doctor's findings, the self-test.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sluice::control::Status;
use sluice::doctor::{Finding, Severity};
use sluice::types::{Enforcement, LayerState, Outcome, SelfTest, Summary, Weakness};
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually};

/// What a command says on its standard output; it must succeed.
#[track_caller]
fn run(mut command: Command) -> Result<String, String> {
    let ended = sluice_tests::process::run(&mut command, PATIENCE).map_err(|e| format!("{e:#}"))?;
    if ended.good() { Ok(ended.stdout) } else { Err(format!("{ended:?}")) }
}

/// A user that nothing else on the machine runs as.
const UID: &str = "47113";

fn world() -> World {
    World::with(Options { journal: true, ..Options::default() }).expect("world")
}

/// curl in a tag, as a user without rights; gives its record.
fn fetched(world: &World, tag: &str, uid: &str) -> Summary {
    // A machine under load answers late, and then nothing is known: asked again, it has the answer.
    let seen = eventually(PATIENCE, || {
        let record = fetched_once(world, tag, uid);
        Ok((!record.weakened.contains(&Weakness::Unseen)).then_some(record))
    });
    seen.expect("no error").expect("the caller was looked at")
}

fn fetched_once(world: &World, tag: &str, uid: &str) -> Summary {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = format!("/{tag}/{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut job = world.job(tag, "/usr/bin/setpriv").expect("job");
    job.args(["--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    job.args(["--", "/usr/bin/curl", "-sS", "-o", "/dev/null", &format!("http://www.example.test{path}")]);
    run(job).expect("curl");
    world.expect(tag, |s| s.path.as_deref() == Some(&path)).expect("recorded").expect("an agent")
}

/// A process that stays in a tag until it is dropped.
struct Stays(Child);

impl Stays {
    fn start(mut job: Command) -> Self {
        Self(job.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started"))
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(world: &World) -> Status {
    let output =
        run(world.daemon().cli(world.space(), &["status", "--json"]).expect("command")).expect("status");
    serde_json::from_str(output.trim()).expect("one JSON object")
}

fn self_tested(world: &World) -> SelfTest {
    let tested = world.daemon().self_tested(world.space()).expect("the self-test ends");
    tested.self_test.expect("what it found")
}

/// Whether the LSM layer works on this machine's kernel.
fn has_lsm(world: &World) -> bool {
    let layers = status(world).layers;
    let mut hooks = layers.iter().filter(|layer| layer.is_lsm()).peekable();
    hooks.peek().is_some() && hooks.all(|layer| layer.state == LayerState::Active)
}

/// The doctor's findings and exit code.
fn doctor(world: &World, args: &[&str]) -> (Vec<Finding>, Option<i32>) {
    let mut all = vec!["doctor", "--json"];
    all.extend(args);
    let output = world.daemon().cli(world.space(), &all).expect("command").output().expect("doctor runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let findings =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    (findings.collect(), output.status.code())
}

#[test]
fn a_session_tells_what_weakens_it() {
    let mut world = world();
    if world.is_direct() {
        return;
    }
    let test = self_tested(&world);
    let of_host: BTreeSet<Weakness> = [
        (!has_lsm(&world)).then_some(Weakness::NoLsm),
        status(&world)
            .layers
            .iter()
            .any(|l| !l.is_lsm() && l.name != "lsm" && l.state != LayerState::Active)
            .then_some(Weakness::LayerMissing),
        test.unexpected().next().map(|_| Weakness::WayOpen),
    ]
    .into_iter()
    .flatten()
    .collect();

    let job = fetched(&world, "job", UID);
    assert_eq!(job.weakened.iter().copied().collect::<BTreeSet<_>>(), of_host, "{job:?}");
    let want = if of_host.is_empty() { Enforcement::Full } else { Enforcement::Weakened };
    assert_eq!(job.enforcement, Some(want));

    let mut root = world.job("root", "/usr/bin/curl").expect("job");
    root.args(["-sS", "-o", "/dev/null", "http://www.example.test/root"]);
    run(root).expect("curl");
    let root =
        world.expect("root", |s| s.path.as_deref() == Some("/root")).expect("recorded").expect("an agent");
    for weakness in [Weakness::Root, Weakness::CapNetAdmin, Weakness::CapSysAdmin, Weakness::CapLikeRoot] {
        assert!(root.weakened.contains(&weakness), "{weakness} in {root:?}");
    }

    // The journal says so too, and `show`.
    let journal = world.journal_mut().take().expect("a journal");
    let entry = eventually(PATIENCE, || {
        Ok(journal.entries().into_iter().find(|e| e.get("SLUICE_SESSION") == Some(&root.session)))
    });
    let entry = entry.expect("no error").expect("an entry");
    assert_eq!(entry.get("SLUICE_ENFORCEMENT").map(String::as_str), Some("weakened"));
    let store = world.space().dir().join("state/store").display().to_string();
    let shown =
        run(world.daemon().cli(world.space(), &["show", "--store", &store, &root.session]).expect("command"))
            .expect("show");
    assert!(shown.contains("enforced  weakened: root, "), "{shown}");
}

#[test]
fn an_engine_in_reach_is_named() {
    let world = world();
    if world.is_direct() {
        return;
    }
    let path = world.space().dir().join("run/docker.sock");
    let _engine = UnixListener::bind(&path).expect("socket");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).expect("mode");
    std::os::unix::fs::chown(&path, Some(0), Some(47114)).expect("group");
    let outside = fetched(&world, "outside", UID);
    assert!(!outside.weakened.contains(&Weakness::ContainerSocket), "{outside:?}");
    let member = fetched(&world, "member", "47114");
    assert!(member.weakened.contains(&Weakness::ContainerSocket), "{member:?}");
}

#[test]
fn the_doctor_names_the_job_and_the_remedy() {
    let world = world();
    if world.is_direct() {
        return;
    }
    let mut job = world.job("rooted", "/bin/cat").expect("job");
    job.env("LC_ALL", "C");
    let _job = Stays::start(job);
    let named = eventually(PATIENCE, || {
        let (found, code) = doctor(&world, &[]);
        assert_eq!(code, Some(1), "{found:#?}");
        Ok(found
            .into_iter()
            .find(|f| f.id == "root" && f.tag.as_deref() == Some("rooted") && f.what.contains("cat (pid")))
    });
    let named = named.expect("no error").expect("the root job is found");
    assert_eq!(named.severity, Severity::High);
    assert!(!named.why.is_empty() && named.remedy.contains("User="), "{named:?}");

    let (found, _) = doctor(&world, &["--tag", "another"]);
    assert!(found.iter().all(|f| f.tag.is_none()), "{found:#?}");
    assert_eq!(found.iter().any(|f| f.id == "no-lsm"), !has_lsm(&world), "{found:#?}");
    assert!(found.iter().any(|f| f.id == "kernel" && f.severity == Severity::Note));
    assert!(
        !found.iter().any(|f| f.id == "daemon" || f.id == "way-open" || f.id == "self-test"),
        "{found:#?}"
    );

    // For people: the same, without a control character, and a summary at the end.
    let output =
        world.daemon().cli(world.space(), &["doctor"]).expect("command").output().expect("doctor runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("tag rooted runs as root") && text.contains("\n        do:  "), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.contains("high")), "{text}");
}

#[test]
fn without_a_daemon_the_rest_is_looked_at() {
    let mut world = world();
    if world.is_direct() {
        return;
    }
    world.daemon_mut().stop().expect("stopped");
    let (found, code) = doctor(&world, &[]);
    assert_eq!(code, Some(1));
    assert!(found.iter().any(|f| f.id == "daemon" && f.what.contains("not running")), "{found:#?}");
    assert!(found.iter().any(|f| f.id == "kernel"), "{found:#?}");
    assert!(found.iter().all(|f| f.tag.is_none()));
}

#[test]
fn the_drop_in_is_printed_for_services_only() {
    let world = world();
    if world.is_direct() {
        return;
    }
    let print = |unit: &str| {
        let mut command = world.daemon().cli(world.space(), &["doctor", "--drop-in", unit]).expect("command");
        command.output().expect("doctor runs")
    };
    let good = print("legacy");
    let text = String::from_utf8(good.stdout).expect("text");
    assert!(good.status.success() && text.contains("/etc/systemd/system/legacy.service.d/"), "{text}");
    assert!(
        text.contains("\nCapabilityBoundingSet=\n") && text.contains("\nRestrictAddressFamilies="),
        "{text}"
    );
    let bad = print("jobs.slice");
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("is no service"));
}

/// That the self-test takes less than a second where nothing else runs: of some starts, since others work on the machine. An
/// emulated one takes its time.
fn is_quick(world: &mut World, first: u64) {
    let bound = if std::env::var_os("SLUICE_VM").is_some() { 10_000 } else { 1000 };
    let mut took = vec![first];
    while took.iter().all(|ms| *ms >= bound) && took.len() < 6 {
        world.daemon_mut().stop().expect("ended");
        world.daemon_mut().start().expect("started");
        took.push(self_tested(world).took_ms);
    }
    println!("the self-test took {took:?} ms");
    assert!(took.iter().any(|ms| *ms < bound), "it took {took:?} ms");
}

fn nothing_is_out_of_order(test: &SelfTest, lsm: bool) {
    // PPP sockets are closed by the LSM or not at all, and then they weaken every session.
    let in_order = |way: &&sluice::types::Way| !lsm && way.name.starts_with(sluice::types::Way::PPPOX);
    let wrong: Vec<_> = test.unexpected().filter(|way| !in_order(way)).collect();
    assert_eq!(wrong, Vec::<&sluice::types::Way>::new());
    // Most ways work on any kernel that the tests run on: what is not tried proves nothing.
    let untried = test.ways.iter().filter(|way| matches!(way.outcome, Outcome::Untried { .. })).count();
    assert!(untried <= 10, "{:#?}", test.ways);
}

fn options_and_netlink(test: &SelfTest, lsm: bool) {
    let outcome = |name: &str| test.ways.iter().find(|way| way.name == name).map(|way| &way.outcome);
    for option in ["mark packets", "source route", "multicast group"] {
        assert_eq!(outcome(option), Some(&Outcome::Closed { by: "options".to_owned() }), "{option}");
    }
    match outcome("netlink between processes") {
        Some(Outcome::Closed { by }) => assert!(lsm && by == "lsm", "{by}"),
        Some(Outcome::Open { unexpected, .. }) => assert!(!lsm && !unexpected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_self_test_tells_each_way_and_leaves_nothing() {
    let mut world = world();
    if world.is_direct() {
        return;
    }
    let test = self_tested(&world);
    assert_eq!(test.trouble, None);
    is_quick(&mut world, test.took_ms);
    let lsm = has_lsm(&world);
    nothing_is_out_of_order(&test, lsm);
    let outcome = |name: &str| {
        let way = test.ways.iter().find(|way| way.name == name);
        way.map(|way| way.outcome.clone()).unwrap_or_else(|| panic!("no way {name:?} in {:#?}", test.ways))
    };
    let by = |name: &str| match outcome(name) {
        Outcome::Closed { by } => by,
        other => panic!("{name}: {other:?}"),
    };
    for led in
        ["tcp connect, IPv4", "tcp connect, IPv6", "tcp connect, IPv4 mapped into IPv6", "tcp fast open"]
    {
        assert!(by(led).contains("led it to the agent"), "{led}: {}", by(led));
    }
    for refused in ["udp sendto, IPv4", "udp sendto, IPv6", "udp connect", "quic (udp, port 443)"] {
        assert_eq!(by(refused), "sendmsg and connect", "{refused}");
    }
    assert_eq!(by("udp-lite"), "create");
    options_and_netlink(&test, lsm);
    assert!(by("dns past the resolver (udp, port 53)").contains("led it to the agent"));
    match outcome("socket from before the tag") {
        Outcome::Closed { by } => assert!(lsm && by == "lsm", "{by}"),
        Outcome::Open { unexpected, .. } => assert!(!lsm && !unexpected),
        other => panic!("{other:?}"),
    }

    // Nothing is left of it, and no tag ever was.
    assert!(status(&world).tags.is_empty());
    let left = run({
        let mut find = world.untagged("/usr/bin/find").expect("command");
        find.args(["/sys/fs/cgroup", "-name", "sluice-self-test*", "-type", "d"]);
        find
    });
    assert_eq!(left.expect("find").trim(), "");
    let journal = world.journal_mut().take().expect("a journal");
    let told = eventually(PATIENCE, || {
        Ok(journal
            .entries()
            .into_iter()
            .find(|e| e.get("MESSAGE").is_some_and(|m| m.starts_with("self-test: "))))
    });
    let told = told.expect("no error").expect("an entry");
    let priority = match (test.unexpected().next(), lsm) {
        (Some(_), _) => "3",
        (None, true) => "6",
        (None, false) => "4",
    };
    assert_eq!(told.get("PRIORITY").map(String::as_str), Some(priority), "{told:?}");
}
