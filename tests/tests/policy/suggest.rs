//! A day of clients in observe mode; the rules that `sluice policy suggest` makes of it; the same clients under them.

use std::fs;
use std::path::Path;
use std::process::Command;

use sluice::types::Verdict;
use sluice_tests::client;
use sluice_tests::client::check::{ok, repository};
use sluice_tests::harness::World;
use sluice_tests::process::{Ended, PATIENCE, eventually, run};

use crate::rig::{TAG, curl, fetched, record, reload, world, write};

/// What every client of the day prints, in order.
fn day(world: &World, to: &Path) -> Vec<String> {
    let python = client::python().expect("python clients");
    let job = |program: &Path| world.job(TAG, program).expect("a job");
    let script = |name: &str, arg: Option<&str>| {
        let mut command = job(&python);
        command.arg(client::program(name)).args(arg).env("OPENAI_API_KEY", "sk-test-hunter2");
        command
    };
    let said = |command: &mut Command| ok(command).stdout;
    let file = "/v1/files/file-8vJ2kQ1n5LmZ3xYw";
    let mut all = vec![
        said(&mut curl(world, TAG, &["https://www.example.test/bytes/7?key=hunter2"])),
        said(&mut curl(world, TAG, &["http://www.example.test/bytes/8"])),
        said(&mut curl(world, TAG, &["-XPUT", "-dx", &format!("https://h1.example.test/echo{file}")])),
        said(&mut script("requests_get.py", Some("https://www.example.test"))),
        said(&mut script("openai_chat.py", None)),
        said(&mut script("websocket_echo.py", Some("wss://www.example.test/ws"))),
        said(&mut script("grpc_echo.py", Some("www.example.test:443"))),
    ];
    let mut git = job(Path::new("/usr/bin/git"));
    ok(git.args(["clone", "-q", "https://git.example.test/git/demo.git"]).arg(to));
    let cloned = fs::read_to_string(to.join("README")).expect("cloned");
    all.push(format!("{} lines", cloned.lines().count()));
    let mut bash = job(Path::new("bash"));
    let dial = "exec 3<>/dev/tcp/203.0.113.12/1004; head -1 <&3";
    all.push(said(bash.args(["-c", dial])));
    all
}

fn sluice(world: &World, verb: &[&str], at: Option<&Path>) -> Ended {
    let mut command = Command::new(sluice_tests::binary::sluice_binary().expect("sluice"));
    command.arg("policy").args(verb).args(at).env_clear();
    if verb[0] != "check" {
        command.arg("--store").arg(world.daemon().store());
    }
    run(&mut command, PATIENCE).expect("started")
}

fn code(ended: &Ended) -> Option<i32> {
    ended.status.and_then(|status| status.code())
}

fn counts(ended: &Ended) -> serde_json::Value {
    let last = ended.stdout.lines().last().unwrap_or_else(|| panic!("{ended:?}"));
    serde_json::from_str(last).expect("JSON")
}

/// Puts the rules in force, and enforces them.
fn enforce(world: &World, rules: &str) {
    let main = world.space().dir().join("etc/sluice.toml");
    let text = fs::read_to_string(&main).expect("configuration");
    fs::write(&main, text.replace("mode = \"observe\"", "mode = \"enforce\"")).expect("configuration");
    write(world, rules);
    reload(world);
    let refused = || {
        let (status, _, _) = fetched(&mut curl(world, TAG, &["https://a.cold.example.test/"]));
        Ok((status == "403").then_some(()))
    };
    let in_force = eventually(PATIENCE, refused).expect("asked");
    assert!(in_force.is_some(), "the rules are not in force:\n{}", world.daemon().log());
}

#[test]
fn a_day_becomes_rules_under_which_it_passes_again() {
    let world = world("mode = \"observe\"", "");
    repository(&world);
    let dir = world.space().dir();
    let said = day(&world, &dir.join("first"));
    record(&world, "the tunnel", |s| s.protocol == "tunnel" && s.duration_us.is_some());
    let today = sluice(&world, &["suggest", "--since", "1h", "--tag", TAG], None);
    assert!(today.good(), "{today:?}");
    let rules = &today.stdout;
    for wanted in [
        "hosts = \"api.openai.com\"",
        "when = 'request.llm.model in [\"gpt-4o-mini\"]'",
        "protocols = \"websocket\"",
        "protocols = \"grpc\"",
        "protocols = \"tunnel\"",
        "paths = \"/echo/v1/files/file-*\"",
        "\"/bytes/*\"",
    ] {
        assert!(rules.contains(wanted), "{wanted}:\n{rules}");
    }
    assert!(!rules.contains("hunter2") && !rules.contains("8vJ2"), "{rules}");
    let again = sluice(&world, &["suggest", "--tag", TAG], None);
    assert_eq!(&again.stdout, rules, "the same input, the same bytes");

    write(&world, rules);
    let etc = dir.join("etc");
    let checked = sluice(&world, &["check"], Some(&etc));
    assert!(checked.good(), "{checked:?}\n{rules}");
    let replayed = sluice(&world, &["replay", "--json"], Some(&etc));
    let found = counts(&replayed);
    assert_eq!(code(&replayed), Some(0), "{replayed:?}\n{rules}");
    for none in ["refused", "unanswered", "applied", "allowed", "unknown"] {
        assert_eq!(found[none], 0, "{none}: {found}\n{}", replayed.stdout);
    }

    enforce(&world, rules);
    assert_eq!(day(&world, &dir.join("second")), said, "under the rules");
    what_was_not_done_is_refused(&world);
    a_stricter_policy_is_told_by_what_it_takes_away(&world, rules);
}

fn what_was_not_done_is_refused(world: &World) {
    for (args, what) in [
        (&["https://h1.example.test/echo/v1/models"][..], "another path"),
        (&["https://www.example.test/sink"], "another path"),
        (&["-XDELETE", "https://www.example.test/bytes/7"], "another method"),
        (&["https://git.example.test/bytes/7"], "another path of a host that was seen"),
        (
            &["-HContent-Type: application/json", "-d{\"model\":\"gpt-5\",\"messages\":[]}", CHAT],
            "another model",
        ),
        (&["-HContent-Type: application/json", "-d{}", CHAT], "no model"),
    ] {
        let (status, body, ended) = fetched(&mut curl(world, TAG, args));
        assert_eq!(status, "403", "{what}: {body} {}", ended.stderr);
    }
    let (status, _, _) = fetched(&mut curl(world, "other", &["https://www.example.test/bytes/7"]));
    assert_eq!(status, "000", "another tag is not even connected");
    let (status, body, _) = fetched(&mut curl(
        world,
        TAG,
        &["-HContent-Type: application/json", "-d{\"model\":\"gpt-4o-mini\",\"messages\":[]}", CHAT],
    ));
    assert_eq!(status, "401", "the upstream answers, and wants a key: {body}");
}

fn a_stricter_policy_is_told_by_what_it_takes_away(world: &World, rules: &str) {
    let fewer = world.space().dir().join("fewer");
    fs::create_dir(&fewer).expect("directory");
    let stricter =
        rules.replace("request.llm.model in [\"gpt-4o-mini\"]", "request.llm.model in [\"gpt-5\"]");
    fs::write(fewer.join("sluice.toml"), format!("mode = \"enforce\"\n{stricter}")).expect("written");
    let replayed = sluice(world, &["replay", "--json", "--host", "api.openai.com"], Some(&fewer));
    assert_eq!(code(&replayed), Some(1), "{replayed:?}");
    assert_eq!(
        counts(&replayed)["unknown"],
        2,
        "the bodies of what was refused were never sent: {}",
        replayed.stdout
    );
    let first: serde_json::Value =
        serde_json::from_str(replayed.stdout.lines().next().expect("a change")).expect("JSON");
    assert_eq!((&first["change"], &first["failed"]), (&"refused".into(), &"when".into()), "{first}");
    let table = sluice(world, &["replay", "--host", "api.openai.com"], Some(&fewer));
    assert!(table.stdout.contains("were allowed and would be refused"), "{table:?}");
    let wrong = sluice(world, &["replay"], Some(Path::new("/nonexistent/file")));
    assert_eq!(code(&wrong), Some(2), "{wrong:?}");
    let denied =
        record(world, "a refusal", |s| s.verdict == Verdict::Deny && s.host == "a.cold.example.test");
    assert_eq!(denied.rule.as_deref(), Some("(none)"));
}

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
