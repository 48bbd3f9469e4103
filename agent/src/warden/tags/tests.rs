//! Tags on this host's real cgroup tree, below cgroups of the test's own, with a fake in place of the kernel programs.
//! What needs systemd is tried in a booted tree.

use std::fs;
use std::process::{Command, Stdio};

use super::*;

use crate::config::{Intercept, Loopback};

mod host;
use host::*;

#[tokio::test]
async fn a_run_is_taken_before_it_starts_and_cleared_away_when_it_ends() {
    let Some(mut host) = Host::new() else { return };
    let (tags, _running) = host.start().await;
    let job = Job::start();
    let placed = tags.run_request(&job.process(), 1000, None).await.expect("placed");
    assert!(placed.tag.as_str().starts_with("run-") && !placed.already, "{placed:?}");
    assert_eq!(job.cgroup(), host.cgroup(&format!("tags/{}", placed.tag)));
    let number = tags.entry(&placed.tag).expect("entry").number;
    assert_eq!(tags.resolve(number), Some(placed.tag.clone()));
    assert_eq!(host.fake.state().too_early, 0, "the programs come before the process");
    assert_eq!(tags.list()[0].processes, 1);
    assert_eq!(host.state_files(), 1);

    // Whoever is in a tag stays in it.
    let again = tags.run_request(&job.process(), 1000, None).await.expect("stays");
    assert_eq!((again.tag, again.already), (placed.tag.clone(), true));
    let other = tags.run_request(&job.process(), 1000, Some(tag("other"))).await;
    assert!(matches!(other, Err(TagError::Within(t)) if t == placed.tag));

    let cgroup = job.cgroup();
    job.end();
    host.expect("end", |e| matches!(e, Event::Ended { tag, .. } if *tag == placed.tag)).await;
    assert_eq!(host.tree.id(&cgroup).expect("tree"), None);
    assert!(host.fake.is_clean());
    assert_eq!((host.state_files(), tags.list().len(), tags.resolve(number)), (0, 0, None));
    assert_eq!(host.troubles(), []);
}

#[tokio::test]
async fn children_keep_a_run_alive() {
    let Some(mut host) = Host::new() else { return };
    let (tags, _running) = host.start().await;
    // The shell ends at once when told to; its child then lives on until its standard input closes.
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; exec 3<&0; cat <&3 >/dev/null & exit 0"]).stdin(Stdio::piped());
    let mut job = Job(shell.spawn().expect("sh"));
    let placed = tags.run_request(&job.process(), 0, Some(tag("build"))).await.expect("placed");
    let clash = Job::start();
    let refused = tags.run_request(&clash.process(), 0, Some(tag("build"))).await;
    assert!(matches!(refused, Err(TagError::Exists(_))), "{refused:?}");
    let mut stdin = job.0.stdin.take().expect("stdin");
    io::Write::write_all(&mut stdin, b"go\n").expect("told");
    job.0.wait().expect("the shell ended");
    tags.settle(&placed.tag);
    assert_eq!(tags.list().len(), 1, "its child lives");
    drop(stdin);
    host.expect("end", |e| matches!(e, Event::Ended { .. })).await;
    assert!(tags.list().is_empty());
}

#[tokio::test]
async fn one_job_after_the_other_has_the_same_name() {
    let Some(mut host) = Host::new() else { return };
    let (tags, _running) = host.start().await;
    for _ in 0..100 {
        let job = Job::start();
        let placed = tags.run_request(&job.process(), 0, Some(tag("build"))).await.expect("the name is free");
        assert!(!placed.already);
        job.end();
    }
    host.expect("end", |e| matches!(e, Event::Ended { .. })).await;
    assert_eq!(host.troubles(), []);
}

#[tokio::test]
async fn untag_asks_before_it_lets_a_run_go() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let job = Job::start();
    let home = job.cgroup();
    tags.run_request(&job.process(), 0, Some(tag("build"))).await.expect("placed");
    let refused = tags.untag(&tag("build"), false).await;
    assert!(matches!(refused, Err(TagError::Live { processes: 1, .. })), "{refused:?}");
    assert!(matches!(tags.untag(&tag("none"), true).await, Err(TagError::NoSuch(_))));
    tags.untag(&tag("build"), true).await.expect("forced");
    assert_eq!(job.cgroup(), home, "back where it came from");
    assert_eq!(host.tree.below(&host.cgroup("tags")).expect("tree"), []);
    assert_eq!(host.state_files(), 0);
}

#[tokio::test]
async fn a_failed_placement_leaves_nothing_behind() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let job = Job::start();
    let home = job.cgroup();
    host.fake.state().broken = true;
    let refused = tags.run_request(&job.process(), 0, None).await;
    assert!(matches!(refused, Err(TagError::Kernel(_))), "{refused:?}");
    let refused = tags.tag_pid(job.0.id(), None, Options::default(), 0).await;
    assert!(matches!(refused, Err(TagError::Kernel(_))), "{refused:?}");
    assert_eq!(job.cgroup(), home);
    assert_eq!(host.tree.below(&host.cgroup("tags")).expect("tree"), []);
    assert_eq!((host.state_files(), tags.list().len()), (0, 0));
}

#[tokio::test]
async fn a_process_that_is_gone_is_not_tagged() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let job = Job::start();
    let (process, pid) = (job.process(), job.0.id());
    job.end();
    assert!(tags.run_request(&process, 0, None).await.is_err());
    assert!(matches!(tags.tag_pid(pid, None, Options::default(), 0).await, Err(TagError::NotFound(_))));
    assert!(matches!(tags.tag_pid(1, None, Options::default(), 0).await, Err(TagError::Unsuitable { .. })));
    let own = std::process::id();
    assert!(matches!(tags.tag_pid(own, None, Options::default(), 0).await, Err(TagError::Unsuitable { .. })));
    assert!(tags.list().is_empty());
}

#[tokio::test]
async fn a_tagged_pid_runs_on_without_its_old_connections() {
    let Some(mut host) = Host::new() else { return };
    let (tags, _running) = host.start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let port = listener.local_addr().expect("address").port();
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat")]).stdin(Stdio::piped());
    let job = Job(bash.stdout(Stdio::null()).spawn().expect("bash"));
    let (stream, _) = listener.accept().await.expect("connected");
    let pid = job.0.id();

    tags.tag_pid(pid, None, Options::default(), 0).await.expect("tagged");
    let name = tag(&format!("pid-{pid}"));
    let mut byte = [0];
    assert_eq!(stream.try_read(&mut byte).expect_err("open").kind(), io::ErrorKind::WouldBlock);
    tags.untag(&name, false).await.expect("untagged");

    let entry = tags
        .tag_pid(pid, Some(tag("mine")), Options::with_loopback(Loopback::Take), 0)
        .await
        .expect("tagged");
    assert_eq!(entry.notes, ["1 sockets from before were sealed, 1 connections ended, 0 shut down"]);
    tokio::time::timeout(PATIENCE, stream.readable()).await.expect("ended").expect("readable");
    assert_eq!(stream.try_read(&mut byte).expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(job.cgroup(), host.cgroup("tags/mine"));
    let frozen =
        fs::read_to_string(host.tree.directory(&job.cgroup()).join("cgroup.freeze")).expect("freezer");
    assert_eq!(frozen.trim(), "0", "it runs on");
    job.end();
    host.expect("end", |e| matches!(e, Event::Ended { tag: t, .. } if *t == tag("mine"))).await;
    assert_eq!(host.troubles(), []);
}

#[tokio::test]
async fn a_designated_cgroup_is_followed_over_its_lives() {
    let Some(mut host) = Host::new() else { return };
    let (tags, _running) = host.start().await;
    let deep = host.cgroup("a/b/box");
    let absent = tags.tag(Designation::Cgroup(deep.0.clone()), None, Options::default(), 0).await;
    assert!(matches!(absent, Err(TagError::NotFound(_))), "{absent:?}");
    assert!(tags.apply_config(&[intercept("box", &deep)]).await.is_empty());
    assert_eq!(tags.list()[0].state, TagState::Waiting);
    assert!(host.fake.state().prepared.contains_key(&tag("box")), "pinned for systemd before it is there");
    let taken = |e: &Event| matches!(e, Event::Taken { .. });
    for _ in 0..3 {
        host.tree.create(&deep).expect("made");
        host.expect("taken", taken).await;
        assert_eq!(host.fake.state().attached[&tag("box")].1, host.tree.directory(&deep));
        host.tree.remove(&host.cgroup("a")).expect("removed, parents too");
        host.expect("waiting", |e| matches!(e, Event::Waiting { .. })).await;
    }
    // Gone and back before anybody looks: another cgroup of the same name.
    host.tree.create(&deep).expect("made");
    host.expect("taken", taken).await;
    host.tree.remove(&deep).expect("removed");
    let second = host.tree.create(&deep).expect("made again");
    host.expect("taken again", taken).await;
    assert_eq!(tags.entry(&tag("box")).expect("entry").attached, Some(second));
    assert_eq!(host.troubles(), []);
}

#[tokio::test]
async fn the_configuration_is_applied_as_a_difference() {
    let Some(mut host) = Host::new() else { return };
    let tags = host.open().await;
    let (a, b) = (host.cgroup("a"), host.cgroup("b"));
    host.tree.create(&a).expect("made");
    assert!(tags.apply_config(&[intercept("one", &a), intercept("two", &b)]).await.is_empty());
    let before = tags.entry(&tag("one")).expect("entry");
    assert!(tags.apply_config(&[intercept("one", &a), intercept("three", &b)]).await.is_empty());
    assert_eq!(tags.entry(&tag("one")), Some(before), "untouched");
    assert_eq!(tags.entry(&tag("two")), None);
    assert!(matches!(tags.untag(&tag("one"), true).await, Err(TagError::Configured(_))));

    // What cannot be made is listed as failed, and made when it can be.
    let unit = Intercept { designation: Designation::Unit("x.service".into()), ..intercept("unit", &a) };
    let failed = tags.apply_config(std::slice::from_ref(&unit)).await;
    assert!(matches!(failed.as_slice(), [(_, TagError::NeedsSystemd(_))]), "{failed:?}");
    assert_eq!(tags.list()[0].state, TagState::Failed);
    host.fake.state().broken = true;
    let failed = tags.apply_config(&[intercept("one", &a)]).await;
    assert_eq!(failed.len(), 1);
    host.fake.state().broken = false;
    tags.retry().await;
    assert_eq!(tags.list()[0].state, TagState::Taken);
    assert!(!host.troubles().is_empty());
    assert!(tags.apply_config(&[]).await.is_empty());
    assert!(tags.list().is_empty() && host.fake.is_clean());
}

#[tokio::test]
async fn places_that_must_not_be_tagged() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    host.tree.create(&host.cgroup("a")).expect("made");
    let place = |c: CgroupPath| Designation::Cgroup(c.0);
    tags.tag(place(host.cgroup("a")), None, Options::default(), 0).await.expect("tagged");
    let mounted = host.tree.directory(&host.cgroup("a")).to_string_lossy().into_owned();
    let twice = tags.tag(Designation::Cgroup(mounted), Some(tag("other")), Options::default(), 0).await;
    assert!(matches!(twice, Err(TagError::Taken { .. })), "{twice:?}");
    let mount = host.tree.mount().to_string_lossy().into_owned();
    let root = tags.tag(Designation::Cgroup(mount), Some(tag("root")), Options::default(), 0).await;
    assert!(matches!(root, Err(TagError::Bad(_))), "{root:?}");
    let job = Job::start();
    tags.run_request(&job.process(), 0, Some(tag("run"))).await.expect("placed");
    let ours = tags.tag(place(host.cgroup("tags/run")), Some(tag("x")), Options::default(), 0).await;
    assert!(matches!(ours, Err(TagError::Unsuitable { .. })), "{ours:?}");
    assert_eq!(tags.list().len(), 2);
}

#[tokio::test]
async fn the_next_daemon_resumes_what_lives_and_clears_the_rest() {
    let Some(mut host) = Host::new() else { return };
    let place = host.cgroup("place");
    host.tree.create(&place).expect("made");
    let (live, dead) = (Job::start(), Job::start());
    let numbers = {
        let (tags, _running) = host.start().await;
        tags.run_request(&live.process(), 0, Some(tag("live"))).await.expect("placed");
        tags.run_request(&dead.process(), 0, Some(tag("dead"))).await.expect("placed");
        tags.tag(Designation::Cgroup(place.0.clone()), None, Options::with_loopback(Loopback::Take), 0)
            .await
            .expect("tagged");
        tags.apply_config(&[intercept("conf", &host.cgroup("conf"))]).await;
        ["live", "place"].map(|n| tags.entry(&tag(n)).expect("entry").number)
    };
    // While the daemon is dead: a process ends, and something else leaves a cgroup and half a file.
    dead.end();
    host.wait_empty(&host.cgroup("tags/dead"));
    host.tree.create(&host.cgroup("tags/stray/below")).expect("made");
    fs::write(host.runtime.path().join("tags/x.json.new"), "{").expect("file");
    let stranger = host.cgroup("stranger");
    host.tree.create(&stranger).expect("made");
    let folder = host.tree.directory(&stranger);
    host.fake.state().attached.insert(tag("stranger"), (TagNumber(7), folder));
    host.fake.state().attached.insert(tag("ghost"), (TagNumber(8), "/gone".into()));

    let (tags, _running) = host.start().await;
    assert_eq!(numbers.map(|n| tags.resolve(n)), [Some(tag("live")), Some(tag("place"))]);
    let names: Vec<String> = tags.list().into_iter().map(|t| t.name.to_string()).collect();
    assert_eq!(names, ["conf", "live", "place", "stranger"]);
    assert_eq!(host.tree.below(&host.cgroup("tags")).expect("tree"), [host.cgroup("tags/live")]);
    assert!(!host.fake.state().attached.contains_key(&tag("ghost")));
    assert_eq!(host.state_files(), 4);
    let new = Job::start();
    let placed = tags.run_request(&new.process(), 0, None).await.expect("placed").tag;
    assert!(tags.entry(&placed).expect("entry").number > numbers[1], "numbers are not used twice");
    // Known by its pins alone, it ends with its cgroup; the configuration may take it over before that.
    assert!(tags.apply_config(&[intercept("stranger", &stranger)]).await.is_empty());
    assert_eq!(tags.entry(&tag("stranger")).expect("entry").number, TagNumber(7));
    live.end();
    host.expect("end", |e| matches!(e, Event::Ended { tag: t, .. } if *t == tag("live"))).await;
    assert_eq!(host.troubles(), []);
}

#[tokio::test]
async fn links_that_are_gone_are_made_again() {
    let Some(host) = Host::new() else { return };
    let job = Job::start();
    host.open().await.run_request(&job.process(), 0, Some(tag("x"))).await.expect("placed");
    host.fake.state().attached.clear();
    host.fake.state().broken = true;
    let tags = host.open().await;
    assert_eq!(tags.list()[0].state, TagState::Failed, "said, not hidden");
    host.fake.state().broken = false;
    tags.retry().await;
    assert_eq!(tags.list()[0].state, TagState::Taken);
    assert!(host.fake.state().attached.contains_key(&tag("x")));
}

#[tokio::test]
async fn one_user_cannot_use_up_the_tags() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let kind = || Kind::Run { pid: 1 };
    let user = Asker::User { uid: 1000 };
    for n in 0..MAX_TAGS_PER_USER {
        tags.reserve(tag(&format!("u{n}")), kind(), user, Options::default()).expect("room");
    }
    let more = tags.reserve(tag("more"), kind(), user, Options::default());
    assert!(matches!(more, Err(TagError::FullForUser)));
    for n in MAX_TAGS_PER_USER..MAX_TAGS_OF_USERS {
        let many = Asker::User { uid: 100_000 + u32::try_from(n).expect("small") };
        tags.reserve(tag(&format!("s{n}")), kind(), many, Options::default()).expect("room");
    }
    let more = tags.reserve(tag("more"), kind(), Asker::User { uid: 2000 }, Options::default());
    assert!(matches!(more, Err(TagError::Full)), "many users together neither");
    for n in MAX_TAGS_OF_USERS..MAX_TAGS {
        tags.reserve(tag(&format!("r{n}")), kind(), Asker::User { uid: 0 }, Options::default())
            .expect("room");
    }
    let more = tags.reserve(tag("more"), kind(), Asker::Configuration, Options::default());
    assert!(matches!(more, Err(TagError::Full)));
}

#[tokio::test]
async fn a_run_inside_a_tag_that_is_not_in_force_does_not_start() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let place = host.cgroup("x");
    assert!(tags.apply_config(&[intercept("x", &place)]).await.is_empty());
    host.fake.state().broken = true;
    host.tree.create(&place).expect("made");
    let job = Job::start();
    host.tree.adopt(&place, job.process().pid()).expect("moved");
    let untaken = tags.run_request(&job.process(), 1000, None).await;
    assert!(matches!(untaken, Err(TagError::NotTaken { .. })), "{untaken:?}");
    host.fake.state().broken = false;
    assert!(tags.run_request(&job.process(), 1000, None).await.expect("attached now").already);
    assert!(host.fake.state().attached.contains_key(&tag("x")));
}

#[tokio::test]
async fn a_unit_asks_whether_it_is_taken() {
    let Some(host) = Host::new() else { return };
    let tags = host.open().await;
    let (place, other) = (host.cgroup("x"), host.cgroup("y"));
    tags.apply_config(&[intercept("x", &place)]).await;
    assert!(matches!(tags.taken(&tag("x"), &place), Err(TagError::NotTaken { .. })), "not there");
    host.tree.create(&place).expect("made");
    tags.taken(&tag("x"), &place).expect("attached while it asked, no event was read");
    assert!(host.fake.state().attached.contains_key(&tag("x")));
    assert!(matches!(tags.taken(&tag("x"), &other), Err(TagError::NotTaken { .. })));
    assert!(matches!(tags.taken(&tag("none"), &place), Err(TagError::NoSuch(_))));
}

#[tokio::test]
async fn what_only_its_pins_tell_of_stays_in_force_until_its_cgroup_goes() {
    let Some(mut host) = Host::new() else { return };
    let job = Job::start();
    host.open().await.run_request(&job.process(), 0, Some(tag("x"))).await.expect("placed");
    fs::remove_dir_all(host.runtime.path().join("tags")).expect("as RuntimeDirectory= does at a stop");
    let (tags, _running) = host.start().await;
    let found = tags.list();
    assert_eq!((found[0].kind, found[0].state, found[0].processes), (TagKind::Found, TagState::Taken, 1));
    assert_eq!(tags.tag_of(&job.cgroup()), Some(tag("x")));
    job.end();
    host.expect("end", |e| matches!(e, Event::Ended { .. })).await;
    assert!(host.fake.is_clean() && tags.list().is_empty());
    assert_eq!(host.tree.below(&host.cgroup("tags")).expect("tree"), []);
}
