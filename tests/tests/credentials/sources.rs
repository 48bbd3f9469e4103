//! Sources that fail: refused by name, never by value; the last good value for its time; recovery without a restart.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sluice_tests::harness::{Options, World};
use sluice_tests::process::eventually;

use crate::rig::{Keys, WWW, credential, curl, field, rule, seen, sluice, with, world};

const BINDING: &str = "hosts = [\"www.example.test\"]\ninject.bearer = true";

fn get(world: &World, path: &str) -> (String, String) {
    let (status, body, _) = curl(world, &[&format!("https://{WWW}{path}")]);
    (status, body)
}

/// Sources that are bad, each with its file and what is said of it.
fn bad(keys: &Keys) -> [(&'static str, String, &'static str); 8] {
    let open = keys.put("open", "open-canary");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).expect("mode");
    let others = keys.put("others", "others-canary");
    std::os::unix::fs::chown(&others, Some(65534), None).expect("owner");
    [
        ("missing", keys.path("missing").display().to_string(), "No such file or directory"),
        ("empty", keys.put("empty", "\u{feff}\r\n"), "it is empty"),
        ("huge", keys.put("huge", "huge-canary".repeat(4000)), "is longer than 32768 bytes"),
        (
            "newline",
            keys.put("newline", "new-canary\r\nX-Evil: 1\n"),
            "it has a control character (byte 0x0d)",
        ),
        ("escape", keys.put("escape", "esc-canary\u{1b}[31m"), "it has a control character (byte 0x1b)"),
        ("binary", keys.put("binary", b"\xff\xfeb\0i\0n\0"), "it is not UTF-8 text"),
        ("open", open, "is open to its group or others (mode 0644)"),
        ("others", others, "belongs to user 65534"),
    ]
}

#[test]
fn a_bad_source_is_refused_by_name() {
    let keys = Keys::new();
    let bad = bad(&keys);
    let mut config = String::new();
    for (name, file, _) in &bad {
        config += &credential(name, file, BINDING);
        config += &rule(name);
    }
    config += &format!(
        "[[credential]]\nname = \"fails\"\nsource.command = [\"/bin/sh\", \"-c\", \"echo err-canary >&2; exit 3\"]\n{BINDING}\n"
    );
    config += &rule("fails");
    let world = world(&config);
    let all = bad.iter().map(|(name, _, why)| (*name, *why)).chain([("fails", "exit status: 3")]);
    for (name, why) in all {
        let (status, body) = get(&world, &format!("/status/200?is={name}"));
        assert_eq!(status, "503", "{name}: {body}");
        assert!(
            body.contains(&format!("credential {name}: it cannot be had")) && body.contains(why),
            "{name}: {body}"
        );
        assert!(!body.contains("canary") && !body.contains("Evil"), "{name}: {body}");
    }
    assert!(seen(&world, "/").is_empty(), "nothing was sent without one");
    let listed = sluice(&world, &["credentials", "--json"]);
    let lines: Vec<serde_json::Value> =
        listed.stdout.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| line["state"] == "failing" && line["error"].is_string()), "{listed:?}");
    assert!(
        !listed.stdout.contains("canary") && !world.daemon().log().contains("canary"),
        "{}",
        world.daemon().log()
    );

    // Mended, each serves without a restart.
    for name in ["missing", "empty", "newline", "open"] {
        keys.put(name, format!("{name}-good\n"));
        let served = eventually(Duration::from_secs(10), || {
            Ok((get(&world, &format!("/status/200?is={name}")).0 == "200").then_some(()))
        });
        assert!(served.expect("asked").is_some(), "{name}");
    }
}

#[test]
fn the_last_good_value_has_its_time() {
    let keys = Keys::new();
    let config =
        credential("key", &keys.put("key", "one"), &format!("{BINDING}\nttl = \"3s\"")) + &rule("key");
    let world = world(&config);
    assert_eq!(get(&world, "/status/200?is=key&a").0, "200");
    fs::remove_file(keys.path("key")).expect("removed");
    let told = eventually(Duration::from_secs(10), || {
        // Asked for until it is known that the source fails; each request is served all the same.
        assert_eq!(get(&world, "/status/200?is=key&b").0, "200");
        Ok(sluice(&world, &["credentials"]).stdout.contains("failing").then_some(()))
    });
    assert!(told.expect("asked").is_some());
    let refused = eventually(Duration::from_secs(20), || {
        Ok((get(&world, "/status/200?is=key&c").0 == "503").then_some(()))
    });
    assert!(refused.expect("asked").is_some());
    keys.put("key", "two");
    let served = eventually(Duration::from_secs(10), || {
        Ok((get(&world, "/status/200?is=key&d").0 == "200").then_some(()))
    });
    assert!(served.expect("asked").is_some());
    assert_eq!(field(&seen(&world, "/status/200?is=key&d")[0], "authorization"), ["Bearer two"]);
}

#[test]
fn variables_commands_and_systemd() {
    let keys = Keys::new();
    keys.put("unit", "systemd-canary\n");
    let more = format!(
        "[[credential]]\nname = \"env\"\nsource.env = \"SLUICE_CANARY\"\n{BINDING}\n\
         [[credential]]\nname = \"command\"\nsource.command = [\"/usr/bin/printf\", \"%s\", \"command $HOME canary\"]\n{BINDING}\n\
         [[credential]]\nname = \"systemd\"\nsource.systemd = \"unit\"\n{BINDING}\n"
    );
    let rules = ["env", "command", "systemd"].map(rule).concat();
    let directory = keys.path("").display().to_string();
    let environment = vec![
        ("SLUICE_CANARY".to_owned(), "env-canary-12345".to_owned()),
        ("CREDENTIALS_DIRECTORY".to_owned(), directory),
    ];
    let config = format!("mode = \"enforce\"\n{more}{rules}");
    let world = with(Options { config, no_roots: true, environment, ..Options::default() });
    for (name, value) in
        [("env", "env-canary-12345"), ("command", "command $HOME canary"), ("systemd", "systemd-canary")]
    {
        assert_eq!(get(&world, &format!("/status/200?is={name}")).0, "200", "{name}");
        let requests = seen(&world, &format!("/status/200?is={name}"));
        assert_eq!(field(&requests[0], "authorization"), [format!("Bearer {value}")]);
    }
    for pid in [world.daemon().warden_pid().expect("warden"), world.daemon().gate_pid().expect("gate")] {
        for file in ["environ", "cmdline"] {
            let shown = fs::read(format!("/proc/{pid}/{file}")).expect("read");
            assert!(!shown.windows(10).any(|window| window == b"env-canary"), "{file} of {pid}");
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
        assert!(core.split_whitespace().rev().nth(2) == Some("0"), "{core}");
        // Not dumpable: what is in /proc is root's, whoever the process is.
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).expect("there").uid(), 0);
    }
    // Fetched, and no name server in this world says where its host is.
    let tested = sluice(&world, &["credentials", "test", "env"]);
    assert!(!tested.good() && tested.stdout.contains("env: fetched 2"), "{tested:?}");
    assert!(tested.stdout.contains("env: www.example.test:443: name server"), "{tested:?}");
    let unknown = sluice(&world, &["credentials", "test", "nobody"]);
    assert!(!unknown.good() && unknown.stderr.contains("there is no such credential"), "{unknown:?}");
}
