//! Clients inside a tag that misbehave: see `bad_input`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use sluice::types::Summary;
use sluice_tests::client;
use sluice_tests::client::judged::{
    Bystander, End, GROWTH_KIB, curl, gate_kib, raw, record, until_the_gate_rests,
};
use sluice_tests::harness::{World, address};
use sluice_tests::process::{PATIENCE, eventually, finish, run};
use sluice_tests::upstream::hostile;

#[test]
fn clients_that_misbehave_before_http() {
    let world = World::start().expect("world");
    let mut bystander = Bystander::start(&world);
    let before = gate_kib(&world);
    for (mode, wanted) in [
        ("garbage", "after"),
        ("half-hello", "after"),
        ("half-hello-close", "closed by us"),
        ("bad-name", "after"),
        ("slow-hello", "\\x16\\x03\\x03"),
    ] {
        let ended = raw(&world, mode, "www.example.test", 443);
        assert!(ended.good() && ended.stdout.contains(wanted), "{mode}: {ended:?}");
        assert!(world.is_direct() || !ended.stdout.contains("timeout"), "{mode}: nobody ended it: {ended:?}");
        bystander.goes_on(mode);
    }
    if !world.is_direct() {
        // garbage, half-hello twice, six bad names, slow-hello.
        let all = eventually(PATIENCE, || {
            let raw: Vec<Summary> = world.sessions()?.into_iter().filter(|s| s.tag == "raw").collect();
            Ok((raw.len() >= 10 && raw.iter().all(|s| s.duration_us.is_some())).then_some(raw))
        });
        let all = all.expect("no error").expect("a record of each");
        assert!(all.iter().all(|s| s.protocol == "tunnel" || s.error.is_some()), "{all:#?}");
        assert!(gate_kib(&world).saturating_sub(before) < GROWTH_KIB);
    }
}

#[test]
fn server_speaks_first() {
    let world = World::start().expect("world");
    let ended = raw(&world, "greeted", "hostile.example.test", 1004);
    assert_eq!(ended.stdout, "b'220 greeting\\r\\n'\nb'HELO there\\r\\n'\n", "{ended:?}");
    let same = |s: &Summary| s.address == "203.0.113.12:1004" && s.duration_us.is_some();
    if let Some(s) = world.expect("the tunnel", same).expect("recorded") {
        assert_eq!((s.protocol.as_str(), s.bytes_up, s.bytes_down), ("tunnel", 12, 26), "{s:?}");
    }
}

#[test]
fn requests_that_could_be_read_two_ways() {
    let world = World::start().expect("world");
    let ended = raw(&world, "smuggle", "h1.example.test", 443);
    assert!(ended.good(), "{ended:?}");
    if !world.is_direct() {
        for line in ended.stdout.lines() {
            let refused = line.contains(" 400 ")
                || line.contains(" 403 ")
                || line.contains(" 421 ")
                || line.contains(" 501 ")
                || line == "closed"
                || line.ends_with("Error");
            assert!(refused, "passed: {line}\n{}", ended.stdout);
        }
        assert!(
            world.seen().requests().iter().all(|r| !r.path.contains("smuggled")),
            "a smuggled request reached the upstream"
        );
        assert_eq!(world.seen().requests().len(), 0, "{:?}", world.seen().requests());
    }
}

#[test]
fn names_must_agree() {
    let world = World::start().expect("world");
    for version in ["--http1.1", "--http2"] {
        let (end, ended) =
            curl(&world, &[version, "-H", "Host: other.example.test", "https://www.example.test/bytes/1"]);
        if !world.is_direct() {
            assert_eq!(end, End::Refused, "{ended:?}");
        }
    }
    if !world.is_direct() {
        assert_eq!(world.seen().requests().len(), 0);
    }
}

#[test]
fn slow_and_large_requests() {
    let world = World::start().expect("world");
    let mut bystander = Bystander::start(&world);
    bystander.goes_on("the start");
    let before = gate_kib(&world);
    let slow = raw(&world, "slow-request", "www.example.test", 443);
    assert_eq!(slow.stdout, "HTTP/1.1 200 OK b'xxx'\n", "{slow:?}");
    for version in ["--http1.1", "--http2"] {
        let script = format!(
            "head -c {} /dev/zero | curl -sS {version} -T - https://www.example.test/sink",
            hostile::GIB
        );
        let mut upload = world.job("bad", "sh").expect("job");
        let ended = run(upload.args(["-c", &script]), Duration::from_secs(90)).expect("started");
        assert_eq!(ended.stdout.trim(), hostile::GIB.to_string(), "{version}: {ended:?}");
        let grown = gate_kib(&world).saturating_sub(before);
        assert!(grown < GROWTH_KIB, "{version} upload: the gate grew by {grown} KiB");
        bystander.goes_on("an upload");
    }
    let many: String = (0..10_000).map(|i| format!("header = \"x-h-{i}: {i}\"\n")).collect();
    let file = world.space().dir().join("headers");
    fs::write(&file, many).expect("file");
    let (end, ended) =
        curl(&world, &["-K", file.to_str().expect("UTF-8"), "--http1.1", "https://www.example.test/bytes/2"]);
    assert!(matches!(end, End::Whole(2) | End::Refused | End::Closed), "{end:?} {ended:?}");
    bystander.goes_on("10,000 headers");
    if !world.is_direct() {
        let uploads =
            world.sessions().expect("sessions").into_iter().filter(|s| s.path.as_deref() == Some("/sink"));
        assert!(uploads.inspect(|s| assert_eq!(s.bytes_up, hostile::GIB, "{s:?}")).count() == 2);
    }
}

#[test]
fn slow_reader_does_not_fill_the_gate() {
    let world = World::start().expect("world");
    let before = gate_kib(&world);
    let mut python = world.job("raw", "/usr/bin/python3").expect("job");
    python.arg(client::program("raw.py")).args([
        "slow-reader",
        &address("www.example.test").to_string(),
        "443",
        "www.example.test",
    ]);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut first).expect("the answer begins");
    // Until everything that holds a part of the answer is full.
    let highest = until_the_gate_rests(&world);
    drop(child.stdin.take());
    let ended = finish(child, PATIENCE).expect("waited");
    assert!(ended.good(), "{first}{ended:?}");
    assert!(highest.saturating_sub(before) < GROWTH_KIB, "the gate grew from {before} to {highest} KiB");
    record(&world, "www.example.test", None);
}

#[test]
fn client_that_rejects_our_authority() {
    let world = World::start().expect("world");
    if world.is_direct() {
        return;
    }
    let other = world.space().dir().join("upstream-ca.pem");
    let mut curl = world.job("bad", "curl").expect("job");
    let ended = run(curl.args(["-sS", "--cacert"]).arg(other).arg("https://www.example.test/"), PATIENCE)
        .expect("started");
    assert_eq!(ended.status.and_then(|s| s.code()), Some(60), "{ended:?}");
    let s = record(&world, "www.example.test", None).expect("recorded");
    let said = s.error.clone().unwrap_or_default();
    assert!(said.contains("sluice trust"), "no remedy: {s:?}");
    assert_eq!(s.exe.as_deref(), Some("/usr/bin/curl"), "{s:?}");
}
