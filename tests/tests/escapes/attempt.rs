//! One way, walked once without a tag and once in it.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use sluice_tests::escape::{Entry, Proof, Way, group4};
use sluice_tests::process::{PATIENCE, run, slowness};

use crate::judge::{Ended, Row};
use crate::stage::{JOB, Stage, Talker};

/// Longest time for one walk.
const WALK: Duration = Duration::from_secs(15);
/// How long an attempt that has sent something a little later waits for it to be seen.
const SEEN: Duration = Duration::from_millis(1500);

/// Walks a way for a user, untagged and tagged.
pub fn both(stage: &mut Stage, way: &'static Way, uid: u32) -> Row {
    let number = sluice_tests::escape::WAYS.iter().position(|w| w.name == way.name).unwrap_or_default();
    let marker = |phase: char| {
        let who = if uid == 0 { 'r' } else { 'u' };
        // Twelve letters: they fit a multicast group, and no two attempts of a run share any three of them at the end.
        let code = number * 4 + if uid == 0 { 2 } else { 0 } + usize::from(phase == 't');
        let last: String = [code / 26 / 26, code / 26 % 26, code % 26]
            .map(|n| char::from(b'A' + n as u8))
            .into_iter()
            .collect();
        format!("mark{phase}{who}xyz{last}")
    };
    let (control, tagged) = (marker('c'), marker('t'));
    let proof = |marker: &str| match way.proof {
        Proof::Group => group4(marker).to_vec(),
        _ => marker.as_bytes().to_vec(),
    };
    let mut row = Row::new(way, uid, proof(&control), proof(&tagged));
    if !way.alone && !way.last {
        let known = stage.count();
        row.control = walk(stage, way, uid, &control, false);
        // The far end sees it before anything else begins.
        let patience = if row.control.sent() { PATIENCE / 10 } else { Duration::from_millis(1) };
        stage.comes(known, &row.control_proof, patience);
    }
    stage.sync();
    let before = stage.count();
    row.tagged = walk(stage, way, uid, &tagged, true);
    stage.sync();
    row.window = before..stage.count();
    row
}

fn walk(stage: &mut Stage, way: &Way, uid: u32, marker: &str, tagged: bool) -> Ended {
    let cgroup = match (tagged, way.entry) {
        (true, Entry::Run) => JOB,
        _ => "untagged",
    };
    let mut command = match way.entry {
        Entry::Kept(kind) => kept(stage, way, kind, uid, marker, tagged),
        _ => stage.program(cgroup, &[way.name], uid, marker),
    };
    let mut talker = Talker::start(&mut command);
    let pid = talker.pid();
    // A walk that hangs is killed, which ends its output.
    let (ended, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(WALK * slowness()) == Err(mpsc::RecvTimeoutError::Timeout) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let mut result = Ended::default();
    loop {
        let line = talker.line();
        if line.is_empty() {
            break;
        }
        if let Some(wish) = line.strip_prefix("ask ") {
            grant(stage, way, pid, wish, marker, tagged);
            talker.tell("done");
        } else if line.starts_with('{') {
            let note = std::mem::take(&mut result.note);
            result = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
            result.note = note;
        } else {
            result.note = line;
        }
    }
    drop(ended);
    watch.join().expect("the watch does not panic");
    result
}

/// `sluice run` of the way by a process that has a socket open.
fn kept(stage: &Stage, way: &Way, kind: &str, uid: u32, marker: &str, tagged: bool) -> Command {
    let mut command = stage.program("untagged", &["before", kind], 0, marker);
    command.arg("--");
    if tagged && !stage.world.is_direct() {
        command.arg(sluice_tests::binary::sluice_binary().expect("sluice")).arg("--runtime");
        command.arg(stage.world.space().dir().join("runtime"));
        command.args(["run", "--tag", &format!("{}-{uid}", way.name), "--"]);
    }
    command.arg(Stage::path()).args([way.name, "--tag", &format!("{}-{uid}", way.name)]);
    command.args(stage.arguments(uid, marker));
    command
}

/// What a walk asks for.
fn grant(stage: &mut Stage, way: &Way, pid: u32, wish: &str, marker: &str, tagged: bool) {
    let own4 = sluice_tests::netns::OTHERS_V4;
    let own6 = sluice_tests::netns::OTHERS_V6;
    match wish.split(' ').collect::<Vec<_>>().as_slice() {
        ["tcp", port] => stage.far_does(&format!("tcp {own4} {port}")),
        ["tcp6", port] => stage.far_does(&format!("tcp [{own6}] {port}")),
        ["udp", port] => stage.far_does(&format!("udp {own4} {port}")),
        ["knock", to, from] => stage.far_does(&format!("knock {own4} {to} {from}")),
        ["enter"] if tagged => enter(stage, way, pid),
        ["enter"] => {}
        ["seen"] => {
            let bytes = match way.proof {
                Proof::Group => group4(marker).to_vec(),
                _ => marker.as_bytes().to_vec(),
            };
            // Markers are of one walk each.
            stage.comes(0, &bytes, SEEN * slowness());
        }
        ["later"] => {
            // What cron or a shell would do with it, in its own time.
            let text = std::fs::read_to_string(stage.later()).unwrap_or_default();
            let line = text.lines().last().unwrap_or_default().to_owned();
            let mut command = stage.program("untagged", &["udp-sendto"], 0, &line);
            assert!(run(&mut command, PATIENCE).expect("started").good());
        }
        ["settle"] => std::thread::sleep(Duration::from_millis(500)),
        other => panic!("what is {other:?}?"),
    }
}

fn enter(stage: &Stage, way: &Way, pid: u32) {
    if stage.world.is_direct() {
        return;
    }
    if way.entry == Entry::Pid {
        let name = format!("pid-{pid}");
        let arguments = ["tag", "--pid", &pid.to_string(), "--name", &name];
        let mut command = stage.world.daemon().cli(stage.world.space(), &arguments).expect("command");
        let ended = run(&mut command, PATIENCE).expect("started");
        assert!(ended.good(), "sluice tag --pid: {}", ended.stderr);
    } else {
        let procs = stage.world.space().cgroup().join(JOB).join("cgroup.procs");
        std::fs::write(procs, pid.to_string()).expect("moved");
    }
}
