//! Each way alone, each scope, and what stands beside masks: trailers, HTTP/1.0, signatures of AWS, the journal.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually, run};

use crate::rig::{EMAIL, WWW, curl, kept_nowhere, record, sent, with};

const RULES: &str = r#"mode = "enforce"

[[mask]]
name = "up"
detect = ["email"]
directions = "request"

[[mask]]
name = "down"
detect = ["email"]
directions = "response"
with = "redact"

[[mask]]
name = "shared"
detect = ["email"]
scope = "tag"

[[rule]]
name = "up"
query = { how = "up" }
verdict = "allow"
mask = "up"

[[rule]]
name = "down"
query = { how = "down" }
verdict = "allow"
mask = "down"

[[rule]]
name = "shared"
query = { how = "shared" }
verdict = "allow"
mask = "shared"
"#;

/// The stand-ins for addresses that the upstreams were sent.
fn tokens(sent: &str) -> Vec<String> {
    let words = sent.split(|letter: char| !(letter.is_ascii_alphanumeric() || "@.-_".contains(letter)));
    words.filter(|word| word.ends_with("@masked.example")).map(str::to_owned).collect()
}

/// SHA-256, in hexadecimal digits, by a program that is not ours.
fn sum(text: &str) -> String {
    let mut sum = Command::new("sha256sum");
    let mut sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    sum.stdin.take().expect("open").write_all(text.as_bytes()).expect("written");
    let said = String::from_utf8(sum.wait_with_output().expect("a sum").stdout).expect("text");
    said.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn each_direction_alone() {
    let world = with(RULES);
    let body = format!("{{\"mail\":\"{EMAIL}\"}}");
    for version in [&["--http1.0", "--no-alpn"][..], &["--http1.1"], &["--http2"]] {
        let ask = |how: &str| {
            let url = format!("{WWW}/echo?how={how}");
            curl(&world, &[version, &["--json", &body, &url]].concat())
        };
        world.seen().forget();
        let (status, back, ended) = ask("up");
        assert_eq!((status.as_str(), back.as_str()), ("200", body.as_str()), "{version:?}: {ended:?}");
        assert!(!sent(&world).contains("jane.roe") && tokens(&sent(&world)).len() == 1, "{version:?}");
        world.seen().forget();
        let (status, back, ended) = ask("down");
        assert_eq!((status.as_str(), back.as_str()), ("200", "{\"mail\":\"[email]\"}"), "{ended:?}");
        assert_eq!(sent(&world), body, "{version:?}");
    }
    // Of an answer alone: the record has the request masked as well.
    for (how, count) in [("up", 1), ("down", 2)] {
        let path = format!("/echo?how={how}");
        let summary = record(&world, how, |s| s.path.as_deref() == Some(&path) && s.duration_us.is_some());
        assert_eq!(summary.masked.get("email"), Some(&count), "{summary:?}");
    }
    kept_nowhere(&world, &["jane.roe"]);
}

#[test]
fn trailers_of_an_answer() {
    let world = with(RULES);
    let header = format!("X-Note: {EMAIL}");
    for (how, shows) in [("down", "[email]"), ("up", "@masked.example")] {
        let url = format!("{WWW}/mirror/trailer?how={how}");
        let (status, back, ended) = curl(&world, &["--http2", "-D", "-", "-H", &header, &url]);
        assert_eq!(status, "200", "{ended:?}");
        let told = back.lines().find(|line| line.starts_with("x-told:"));
        let told = told.unwrap_or_else(|| panic!("a trailer: {back}"));
        assert!(told.contains(shows) && !told.contains("jane.roe"), "{told}");
    }
    kept_nowhere(&world, &["jane.roe"]);
}

#[test]
fn tokens_of_a_tag_outlive_a_connection() {
    let world = with(RULES);
    let body = format!("{{\"mail\":\"{EMAIL}\"}}");
    for (how, same) in [("shared", true), ("up", false)] {
        world.seen().forget();
        for _ in 0..2 {
            let url = format!("{WWW}/echo?how={how}");
            let (status, back, ended) = curl(&world, &["--json", &body, &url]);
            assert_eq!((status.as_str(), back.as_str()), ("200", body.as_str()), "{ended:?}");
        }
        let tokens = tokens(&sent(&world));
        assert_eq!((tokens.len(), tokens[0] == tokens[1]), (2, same), "{how}: {tokens:?}");
    }
}

#[test]
fn what_aws_signatures_cover_is_the_masked_request() {
    let keys = tempfile::tempdir().expect("a directory");
    let file = keys.path().join("aws");
    std::fs::write(&file, "REALKEYID:real/secret+access=key\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let aws = format!(
        "[[credential]]\nname = \"aws\"\nhosts = [\"www.example.test\"]\nsource.file = \"{}\"\ninject.sigv4 = {{}}\n\
         [[rule]]\nname = \"s3\"\npath = \"/echo\"\nverdict = \"allow\"\ncredential = \"aws\"\nmask = \"up\"\n",
        file.display()
    );
    let world = with(&format!("{RULES}{aws}"));
    let body = format!("{{\"mail\":\"{EMAIL}\"}}");
    let signs = ["--aws-sigv4", "aws:amz:eu-west-1:s3", "--user", "AKIDPLACEHOLDER:nothing", "-H"];
    let hash = format!("x-amz-content-sha256: {}", sum(&body));
    let (status, back, ended) =
        curl(&world, &[&signs[..], &[&hash, "--json", &body, &format!("{WWW}/echo")]].concat());
    assert_eq!((status.as_str(), back.as_str()), ("200", body.as_str()), "{ended:?}");
    let (seen, sent) = (world.seen().requests(), sent(&world));
    assert!(!sent.contains("jane.roe") && tokens(&sent).len() == 1, "{sent}");
    let field = |name: &str| {
        let found = seen[0].headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("{name}: {seen:?}"))
    };
    assert!(field("authorization").contains("Credential=REALKEYID/"), "{}", field("authorization"));
    assert_eq!(field("x-amz-content-sha256"), sum(&sent));
    kept_nowhere(&world, &["jane.roe"]);
}

#[test]
fn the_journal_has_counts_and_no_value() {
    let options = Options { config: RULES.to_owned(), no_roots: true, journal: true, ..Options::default() };
    let mut world = World::with(options).expect("a world with the agent");
    let body = format!("[\"{EMAIL}\", \"{EMAIL}\"]");
    let (status, _, ended) = curl(&world, &["--json", &body, &format!("{WWW}/echo?how=up&to={EMAIL}")]);
    assert_eq!(status, "200", "{ended:?}");
    let journal = world.journal_mut().take().expect("a journal");
    let counted = eventually(PATIENCE, || {
        Ok(journal.entries().into_iter().find(|entry| entry.contains_key("SLUICE_MASKED")))
    });
    let counted = counted.expect("no error").expect("an entry");
    let masked = eventually(PATIENCE, || {
        let mut status = world.daemon().cli(world.space(), &["status", "--json"])?;
        let ended = run(&mut status, PATIENCE)?;
        let status: serde_json::Value = serde_json::from_str(&ended.stdout)?;
        Ok((status["masked"] == serde_json::json!({ "email": 3 })).then_some(()))
    });
    assert!(masked.expect("a status").is_some(), "`sluice status` counts");
    assert_eq!(counted["SLUICE_MASKED"], "{\"email\":3}", "{counted:?}");
    assert!(!format!("{:?}", journal.entries()).contains("jane.roe"));
}
