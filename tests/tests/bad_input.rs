//! Bad input from either side, and a host that fails underneath: each ends in a clear refusal or a clean relay, with
//! a record that says what happened, in bounded memory, and without effect on another session.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluice::types::Summary;
use sluice_tests::client;
use sluice_tests::daemon::rss_kib;
use sluice_tests::harness::{Ended, Options, PATIENCE, World, address, eventually, run};
use sluice_tests::upstream::hostile;

/// What the gate may grow by over a whole test, however much passes through it.
const GROWTH_KIB: u64 = 64 * 1024;

/// How an exchange may end for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Whole, with this many bytes of body.
    Whole(u64),
    /// An HTTP answer of the agent's own that says what is wrong: 4xx or 5xx.
    Refused,
    /// The answer had begun and was cut, visibly.
    Cut,
    /// No TLS connection came about, by the agent's alert or close.
    NoTls,
    /// The client's own patience ended.
    GaveUp,
    /// Anything else, by curl's exit code: never right.
    Other(i32),
}

/// Runs curl in a tag and says how it ended.
fn curl(world: &World, arguments: &[&str]) -> (End, Ended) {
    let mut curl = world.job("bad", "curl").expect("job");
    curl.args([
        "-sS",
        "-o",
        "/dev/null",
        "--max-time",
        "60",
        "-w",
        "%{http_code} %{size_download} %{errormsg}",
    ]);
    let ended = run(curl.args(arguments), Duration::from_secs(90)).expect("started");
    let mut words = ended.stdout.split(' ');
    let status: u16 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    let size: u64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
    let end = match (ended.status.and_then(|s| s.code()), status) {
        (Some(0), 200) => End::Whole(size),
        (Some(0), 400..) => End::Refused,
        // 18 partial file, 56 receive failure, 92 HTTP/2 stream error, 8 weird answer.
        (Some(18 | 56 | 92), 200) => End::Cut,
        // 7 connect, 35 handshake, 52 nothing came, 55 send failure, 56 receive failure.
        (Some(7 | 35 | 52 | 55 | 56), 0) => End::NoTls,
        (Some(28), _) => End::GaveUp,
        (code, _) => End::Other(code.unwrap_or(-1)),
    };
    (end, ended)
}

/// A well-behaved session beside the others: a stream of events that must go on.
struct Bystander {
    child: Child,
    file: PathBuf,
}

impl Bystander {
    fn start(world: &World) -> Self {
        let file = world.space().dir().join("bystander");
        let mut curl = world.job("bystander", "curl").expect("job");
        curl.args(["-sSN", "https://www.example.test/sse?n=100000&ms=20", "-o"]).arg(&file);
        Self { child: curl.stdin(Stdio::null()).spawn().expect("started"), file }
    }

    /// Events came since the last look, or come now.
    #[track_caller]
    fn goes_on(&mut self, after: &str) {
        let had = fs::metadata(&self.file).map_or(0, |m| m.len());
        let grew = eventually(PATIENCE, || {
            Ok((fs::metadata(&self.file).map_or(0, |m| m.len()) > had + 200).then_some(()))
        });
        assert!(grew.expect("no error").is_some(), "another session stood still after {after}");
        assert!(self.child.try_wait().expect("waited").is_none(), "another session ended after {after}");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gate_kib(world: &World) -> u64 {
    if world.is_direct() {
        return 0;
    }
    rss_kib(world.daemon().gate_pid().expect("gate")).expect("the gate's memory")
}

/// The record of one exchange, by its host and path.
#[track_caller]
fn record(world: &World, host: &str, path: Option<&str>) -> Option<Summary> {
    let what = format!("{host} {path:?}");
    let same = |s: &Summary| {
        s.host == host && path.is_none_or(|p| s.path.as_deref() == Some(p)) && s.duration_us.is_some()
    };
    world.expect(&what, same).expect("recorded")
}

#[test]
fn upstreams_that_misbehave() {
    let world = World::start().expect("world");
    let mut bystander = Bystander::start(&world);
    bystander.goes_on("the start");
    let before = gate_kib(&world);
    let cases: [(&str, &[End]); 15] = [
        ("/reset", &[End::Refused]),
        ("/reset-mid-body", &[End::Cut]),
        ("/stall", &[End::GaveUp, End::Refused]),
        ("/stall-mid-body", &[End::GaveUp, End::Cut]),
        ("/headers-forever", &[End::Refused]),
        ("/long-header", &[End::Refused]),
        ("/one-byte", &[End::Whole(6)]),
        ("/many-headers", &[End::Whole(5), End::Refused]),
        ("/gib", &[End::Whole(hostile::GIB)]),
        ("/truncated", &[End::Cut]),
        ("/garbage", &[End::Refused]),
        ("/both-lengths", &[End::Refused, End::Whole(3)]),
        ("/bad-chunk", &[End::Refused, End::Cut]),
        ("/split-header", &[End::Refused]),
        ("/two-answers", &[End::Whole(4)]),
    ];
    for (path, allowed) in cases {
        let url = format!("https://hostile.example.test{path}");
        let mut arguments = vec![url.as_str()];
        if path.contains("stall") {
            arguments.extend(["--max-time", "3"]);
        }
        let (end, ended) = curl(&world, &arguments);
        if world.is_direct() {
            eprintln!("{path}: {end:?} {}", ended.stderr.trim());
            continue;
        }
        assert!(allowed.contains(&end), "{path}: {end:?}, not {allowed:?}: {ended:?}");
        if let Some(s) = record(&world, "hostile.example.test", Some(path)) {
            let clean = matches!(end, End::Whole(_));
            assert_eq!(s.error.is_none(), clean, "{path} ended as {end:?}: {s:?}");
            if end == End::Refused {
                assert!(s.status.is_some_and(|c| c >= 500), "{path}: the status that the client saw: {s:?}");
            }
        }
        bystander.goes_on(path);
        let grown = gate_kib(&world).saturating_sub(before);
        assert!(grown < GROWTH_KIB, "{path}: the gate grew by {grown} KiB");
    }
}

#[test]
fn upstreams_that_fail_before_tls() {
    let world = World::start().expect("world");
    let mut bystander = Bystander::start(&world);
    // Reset, silent, garbage, half a record; 1009 is closed.
    for port in [1001, 1002, 1003, 1005, 1009] {
        let (end, ended) = curl(&world, &[&format!("https://hostile.example.test:{port}/")]);
        if !world.is_direct() {
            assert!(matches!(end, End::NoTls | End::Refused), "port {port}: {end:?} {ended:?}");
            let to = format!("203.0.113.12:{port}");
            let s = world.expect(&to, |s| s.address == to && s.duration_us.is_some()).expect("recorded");
            assert!(s.as_ref().is_some_and(|s| s.error.is_some()), "port {port}: {s:?}");
        }
        bystander.goes_on(&format!("port {port}"));
    }
}

/// `openssl s_server` with a 1024-bit RSA key signed by the trusted authority: rustls itself would not serve it.
fn weak_server(world: &World) -> Child {
    let dir = world.space().dir().join("weak");
    fs::create_dir_all(&dir).expect("directory");
    let good = world.authority();
    fs::write(dir.join("ca.pem"), good.pem()).expect("file");
    fs::write(dir.join("ca.key"), good.key_pem()).expect("file");
    fs::write(dir.join("ext"), "subjectAltName=DNS:weak.example.test\nextendedKeyUsage=serverAuth\n")
        .expect("file");
    let script = "openssl req -newkey rsa:1024 -nodes -keyout key.pem -subj /CN=weak -out csr.pem 2>/dev/null && \
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -days 5 -extfile ext -out cert.pem 2>/dev/null";
    let made = Command::new("sh").args(["-c", script]).current_dir(&dir).status().expect("openssl");
    assert!(made.success());
    let mut server = world.space().command("upstream", "openssl").expect("command");
    let listen = format!("{}:443", address("weak.example.test"));
    server.args(["s_server", "-quiet", "-www", "-cipher", "ALL:@SECLEVEL=0", "-accept", &listen, "-cert"]);
    server.arg(dir.join("cert.pem")).arg("-key").arg(dir.join("key.pem"));
    let child = server.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("started");
    let up = eventually(PATIENCE, || {
        let mut curl = world.untagged("curl")?;
        let ended = run(
            curl.args(["-sSk", "--ciphers", "DEFAULT@SECLEVEL=0", "https://weak.example.test/"]),
            PATIENCE,
        )?;
        Ok(ended.good().then_some(()))
    });
    assert!(up.expect("no error").is_some(), "openssl s_server does not come up");
    child
}

#[test]
fn bad_certificates() {
    let world = World::start().expect("world");
    let mut weak = weak_server(&world);
    let cases = [
        ("expired", "expired"),
        ("selfsigned", "signed"),
        ("wrongname", "name"),
        ("untrusted", "issuer"),
        ("revoked", "revoked"),
        ("weak", "key"),
    ];
    for (name, word) in cases {
        let host = format!("{name}.example.test");
        // -k: the client would take anything, so a refusal is the agent's own.
        let (end, ended) = curl(&world, &["-k", &format!("https://{host}/")]);
        if !world.is_direct() {
            assert!(matches!(end, End::NoTls | End::Refused), "{name}: {end:?} {ended:?}");
        }
        if let Some(s) = record(&world, &host, None) {
            let said = s.error.clone().unwrap_or_default().to_lowercase();
            assert!(said.contains(word), "{name}: the record does not say {word:?}: {s:?}");
        }
    }
    assert!(
        world.is_direct() || world.seen().requests().is_empty(),
        "a request went to an upstream that was not verified"
    );
    weak.kill().expect("killed");
    weak.wait().expect("waited");
}

/// Runs the misbehaving client.
fn raw(world: &World, mode: &str, host: &str, port: u16) -> Ended {
    let mut python = world.job("raw", "/usr/bin/python3").expect("job");
    python.arg(client::program("raw.py")).args([mode, &address(host).to_string(), &port.to_string(), host]);
    run(&mut python, Duration::from_secs(90)).expect("started")
}

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
    assert!(matches!(end, End::Whole(2) | End::Refused | End::NoTls), "{end:?} {ended:?}");
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
    let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
    let mut highest = 0;
    let ended = eventually(PATIENCE, || {
        highest = highest.max(gate_kib(&world));
        Ok(child.try_wait()?)
    });
    assert!(ended.expect("no error").is_some_and(|s| s.success()));
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
    assert!(said.contains("/usr/bin/curl") && said.contains("trust"), "neither exe nor remedy: {s:?}");
}

#[test]
fn disk_full() {
    let world = World::with(Options { store_kib: Some(160 * 1024), ..Options::default() }).expect("world");
    if world.is_direct() {
        return;
    }
    assert_eq!(curl(&world, &["https://www.example.test/bytes/10"]).0, End::Whole(10));
    let filler = world.daemon().store().join("filler");
    let mut fill = world.space().command("", "dd").expect("command");
    let full = run(fill.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())), PATIENCE)
        .expect("started");
    assert!(!full.good(), "the tmpfs should be full: {full:?}");
    // What was set aside before may still be used; then it must end, long before 400 MiB more are recorded.
    let mut refused = None;
    for n in 0..400 {
        let (end, ended) = curl(&world, &[&format!("https://www.example.test/bytes/1000000?n={n}")]);
        if end != End::Whole(1_000_000) {
            refused = Some((n, end, ended));
            break;
        }
    }
    let (n, end, ended) = refused.expect("exchanges go on unrecorded on a full disk");
    assert!(matches!(end, End::Refused | End::NoTls | End::Cut), "{end:?} {ended:?}");
    assert!(
        world.daemon().log().to_lowercase().contains("space"),
        "the daemon does not say that the disk is full"
    );
    // Refused is refused: nothing of the next one reaches the upstream.
    let (end, _) = curl(&world, &["https://www.example.test/bytes/11?after=full"]);
    assert!(matches!(end, End::Refused | End::NoTls), "{end:?}");
    assert!(
        world.seen().requests().iter().all(|r| !r.path.contains("after=full")),
        "passed unrecorded after request {n}"
    );
    // Space again: the agent goes on by itself.
    let mut free = world.space().command("", "rm").expect("command");
    assert!(run(free.arg(&filler), PATIENCE).expect("started").good());
    let back = eventually(PATIENCE, || {
        Ok((curl(&world, &["https://www.example.test/bytes/12"]).0 == End::Whole(12)).then_some(()))
    });
    assert!(back.expect("no error").is_some(), "refused although there is space again");
}

#[test]
fn store_unreadable() {
    let mut world = World::start().expect("world");
    if world.is_direct() {
        return;
    }
    assert_eq!(curl(&world, &["https://www.example.test/bytes/10"]).0, End::Whole(10));
    world.daemon_mut().stop().expect("stopped");
    let store = world.daemon().store();
    fs::rename(&store, store.with_extension("away")).expect("moved");
    fs::write(&store, "no directory").expect("file");
    let start = world.daemon_mut().start();
    if start.is_ok() {
        let (end, _) = curl(&world, &["https://www.example.test/bytes/1?without=store"]);
        assert!(matches!(end, End::Refused | End::NoTls), "passed without a store: {end:?}");
    } else {
        assert!(world.daemon().log().contains("store"), "{}", world.daemon().log());
    }
    assert!(world.seen().requests().iter().all(|r| !r.path.contains("without=store")));
    let _ = world.daemon_mut().stop();
    fs::remove_file(&store).expect("removed");
    fs::rename(store.with_extension("away"), &store).expect("moved back");
    world.daemon_mut().start().expect("started again");
    assert_eq!(curl(&world, &["https://www.example.test/bytes/13"]).0, End::Whole(13));
    record(&world, "www.example.test", Some("/bytes/10"));
}
