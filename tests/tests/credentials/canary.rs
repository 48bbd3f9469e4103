//! A search for canaries, byte by byte, in everything that a run leaves behind or gives away.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use sluice_tests::canary::{Found, Search};

use crate::rig::{Keys, WWW, credential, curl, rule, seen, sluice, world};

#[test]
fn nothing_that_is_left_or_given_has_a_secret() {
    let keys = Keys::new();
    let secrets =
        ["bearer-canary-7f3a9c", "basic-canary-51be02", "query-canary-c0ffee", "cookie-canary-9d1e44"];
    let ways =
        ["inject.bearer = true", "inject.basic = \"me\"", "inject.query = \"key\"", "inject.cookie = \"s\""];
    let mut config = "[record]\ndurable = true\n".to_owned();
    for (at, (secret, way)) in secrets.iter().zip(ways).enumerate() {
        let file = keys.put(&format!("{at}"), secret);
        config += &credential(&format!("c{at}"), &file, &format!("hosts = [\"www.example.test\"]\n{way}"));
        config += &rule(&format!("c{at}"));
    }
    let world = world(&config);
    let mut given = String::new();
    for at in 0..secrets.len() {
        for (path, more) in [
            ("status/200", &["--http2"][..]),
            ("status/401", &["--http1.1"]),
            ("echo", &["--http1.1", "-d", "body"]),
            ("status/500", &["--http2", "-v"]),
        ] {
            let url = format!("https://{WWW}/{path}?is=c{at}");
            let (_, body, ended) = curl(&world, &[more, &[&url]].concat());
            given += &format!("{body}{}{}", ended.stdout, ended.stderr);
        }
        // Refused: nobody else's host.
        let (_, body, _) = curl(&world, &[&format!("https://api.openai.com/x?is=c{at}")]);
        given += &body;
    }
    assert_eq!(seen(&world, "/").len(), 4 * secrets.len());
    for verb in [
        &["credentials"][..],
        &["credentials", "--json"],
        &["status", "--json"],
        &["credentials", "test", "c0"],
    ] {
        let ended = sluice(&world, verb);
        given += &format!("{}{}", ended.stdout, ended.stderr);
    }
    given += &world.daemon().log();
    for session in world.sessions().expect("sessions") {
        given += &serde_json::to_string(&session).expect("JSON");
    }
    let search = Search::new(secrets.map(|secret| (secret, secret))).expect("a search");
    let mut found = Found::new();
    search.text("given", &given, &mut found);
    for place in ["state", "runtime"] {
        search.place(&world.space().dir().join(place), &mut found).expect("searched");
    }
    assert_eq!(found, Found::new());
    // The search finds what is there.
    search.place(&keys.path(""), &mut found).expect("searched");
    assert_eq!(found.len(), secrets.len());
}

#[test]
fn kill_nine_and_the_processes_leave_no_secret() {
    let keys = Keys::new();
    let secret = "sk-killed-canary-0a1b2c3d4e5f";
    let file = keys.put("0", secret);
    let config = "[record]\ndurable = true\n".to_owned()
        + &credential("c0", &file, "hosts = [\"www.example.test\"]\ninject.bearer = true")
        + &rule("c0");
    let world = world(&config);
    let search = Search::new([("c0", secret)]).expect("a search");
    for how in ["plain", "one", "base64", "head"] {
        curl(&world, &["--http1.1", &format!("https://{WWW}/mirror/{how}?is=c0")]);
    }
    let mut found = Found::new();
    let pids = [world.daemon().warden_pid().expect("a warden"), world.daemon().gate_pid().expect("a gate")];
    for pid in pids {
        for file in ["environ", "cmdline"] {
            search.place(Path::new(&format!("/proc/{pid}/{file}")), &mut found).expect("searched");
        }
        let status = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = status.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
    for pid in pids.into_iter().rev() {
        world.daemon().signal(pid, Signal::SIGKILL).expect("killed");
    }
    search.text("log", world.daemon().log(), &mut found);
    for place in ["state", "runtime"] {
        search.place(&world.space().dir().join(place), &mut found).expect("searched");
    }
    assert_eq!(found, Found::new());
}
