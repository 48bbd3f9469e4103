//! Upstreams that tell what they were sent: the client never sees its credential, and the record has none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::canary::{find, looks};
use crate::rig::{Keys, WWW, credential, curl, record, rule, seen, sluice, world};

const HOW: [&str; 11] = [
    "plain",
    "base64",
    "base64url",
    "hex",
    "url",
    "error",
    "one",
    "gzip-clean",
    "head",
    "location",
    "trailer",
];

#[test]
fn what_an_upstream_echoes_is_masked() {
    let keys = Keys::new();
    let secrets = ["sk-mirror/canary+7f3a9c1d==", "basic-mirror-canary-51be02", "query-mirror-canary-c0ffee"];
    let ways = ["inject.bearer = true", "inject.basic = \"me\"", "inject.query = \"key\""];
    let mut config = String::new();
    for (at, (secret, way)) in secrets.iter().zip(ways).enumerate() {
        let file = keys.put(&format!("{at}"), secret);
        config += &credential(&format!("c{at}"), &file, &format!("hosts = [\"www.example.test\"]\n{way}"));
        config += &rule(&format!("c{at}"));
    }
    let world = world(&config);
    let mut looks: Vec<String> = secrets.iter().flat_map(|secret| looks(secret)).collect();
    looks.push(BASE64_STANDARD.encode(format!("me:{}", secrets[1])).trim_end_matches('=').to_owned());
    let mut given = Vec::new();
    for at in 0..secrets.len() {
        for (how, version) in HOW.iter().flat_map(|how| [(how, "--http1.1"), (how, "--http2")]) {
            let url = format!("https://{WWW}/mirror/{how}?is=c{at}");
            let (status, body, ended) = curl(&world, &[version, "-i", "--raw", "-H", "TE: trailers", &url]);
            let want = match *how {
                "head" | "location" => "302",
                "error" => "401",
                _ => "200",
            };
            assert_eq!(status, want, "{how} {version}: {body}{}", ended.stderr);
            assert!(
                body.contains("[credential") || matches!(*how, "gzip-clean" | "trailer"),
                "{how} {version}: {body}"
            );
            given.push((how, version, format!("{body}{}", ended.stderr)));
        }
        // Inside a coding nothing can be masked.
        let url = format!("https://{WWW}/mirror/gzip?is=c{at}");
        let (_, body, ended) = curl(&world, &["--http1.1", "--raw", &url]);
        assert!(!ended.good(), "{body}");
        given.push((&"gzip", "--http1.1", body));
    }
    let cut = record(&world, "the one that was cut", |s| {
        s.path.as_deref().is_some_and(|p| p.starts_with("/mirror/gzip?")) && s.error.is_some()
    });
    assert!(cut.error.as_deref().is_some_and(|e| e.contains("shows a credential inside")), "{cut:?}");
    for (how, version, text) in &given {
        for look in &looks {
            assert!(!text.contains(look), "{how} {version}: {look} in {text}");
        }
    }
    // The upstream was sent them: what was searched for was there.
    assert!(seen(&world, "/mirror/plain?is=c2&key=").len() == 2);
    let store = world.daemon().store().display().to_string();
    let shown = sluice(&world, &["show", &format!("{}/{}", cut.session, cut.exchange), "--store", &store]);
    let mut found: Vec<_> =
        looks.iter().filter(|look| shown.stdout.contains(look.as_str())).cloned().collect();
    for place in ["state", "runtime"] {
        find(&world.space().dir().join(place), &looks, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
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
    let looks = looks(secret);
    for how in ["plain", "one", "base64", "head"] {
        curl(&world, &["--http1.1", &format!("https://{WWW}/mirror/{how}?is=c0")]);
    }
    let mut found = Vec::new();
    let pids = [world.daemon().warden_pid().expect("a warden"), world.daemon().gate_pid().expect("a gate")];
    for pid in pids {
        for file in ["environ", "cmdline"] {
            find(std::path::Path::new(&format!("/proc/{pid}/{file}")), &looks, &mut found);
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = status.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    }
    for pid in pids.into_iter().rev() {
        world.daemon().signal(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    }
    let log = world.daemon().log();
    found.extend(looks.iter().filter(|look| log.contains(look.as_str())).cloned());
    for place in ["state", "runtime"] {
        find(&world.space().dir().join(place), &looks, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}
