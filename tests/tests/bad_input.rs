//! Upstreams that misbehave: each ends in a clear refusal or a clean relay, with a record that says what happened, in
//! bounded memory, and without effect on another session. `bad_clients` has the other side, `bad_host` what is below.

use std::fs;
use std::process::{Child, Command, Stdio};

use sluice_tests::client::judged::{Bystander, End, GROWTH_KIB, curl, gate_kib, record};
use sluice_tests::harness::{World, address};
use sluice_tests::process::{PATIENCE, eventually, run};
use sluice_tests::upstream::hostile;
use sluice_tests::upstream::hostile_h2::{self, H2};

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
        ("/bad-chunk", &[End::Refused, End::Cut, End::Closed]),
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
fn upstreams_that_misbehave_in_http2() {
    let world = World::start().expect("world");
    let mut bystander = Bystander::start(&world);
    bystander.goes_on("the start");
    let before = gate_kib(&world);
    for (port, what) in (1101..).zip(hostile_h2::ALL) {
        let url = format!("https://hostile.example.test:{port}/{what:?}");
        // Some of these a server may do for as long as it likes: the client's patience ends them.
        let (end, ended) = curl(&world, &["--http2", "--max-time", "5", &url]);
        if world.is_direct() {
            eprintln!("{what:?}: {end:?} {}", ended.stderr.trim());
            continue;
        }
        let allowed: &[End] = match what {
            // A reset is relayed as the reset that it is, with its code.
            H2::ResetStream => &[End::Closed, End::Refused],
            // The reset may overtake what came just before it: senders drop what is queued on a stream that is reset.
            H2::ResetMidBody => &[End::Cut, End::Closed],
            // Whether the window overflows depends on how fast the client reads.
            H2::WindowOverflow => &[End::Cut, End::GaveUp],
            H2::PingFlood | H2::SettingsFlood => &[End::GaveUp, End::Refused],
            _ => &[End::Refused],
        };
        assert!(allowed.contains(&end), "{what:?}: {end:?}, not {allowed:?}: {ended:?}");
        if let Some(s) = record(&world, "hostile.example.test", Some(&format!("/{what:?}"))) {
            assert!(s.error.is_some() && s.protocol == "h2", "{what:?}: {s:?}");
        }
        bystander.goes_on(&format!("{what:?}"));
        let grown = gate_kib(&world).saturating_sub(before);
        assert!(grown < GROWTH_KIB, "{what:?}: the gate grew by {grown} KiB");
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
            assert!(matches!(end, End::Closed | End::Refused), "port {port}: {end:?} {ended:?}");
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
            assert!(matches!(end, End::Closed | End::Refused), "{name}: {end:?} {ended:?}");
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
