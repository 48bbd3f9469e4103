//! Each key of a rule, for and against, and the modes.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use sluice::types::Verdict;
use sluice_tests::harness::{World, address};
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{TAG, curl, fetched, judged, record, world};

const RULES: &str = r#"
[[intercept]]
name = "apart"
cgroup = "/apart"
mode = "observe"

[[rule]]
name = "no-address"
addresses = ["2001:db8::/32"]
verdict = "deny"

[[rule]]
name = "no-path"
paths = ["/status/**"]
verdict = "deny"

[[rule]]
name = "no-delete"
method = "DELETE"
verdict = "deny"

[[rule]]
name = "no-query"
query = { zone = "**" }
verdict = "deny"

[[rule]]
name = "no-header"
headers = { X-Team = ["red", "blue"] }
verdict = "deny"

[[rule]]
name = "no-host"
host = "*.cold.example.test"
verdict = "deny"

[[rule]]
name = "no-nobody"
user = "nobody"
verdict = "deny"

[[rule]]
name = "no-wget"
exe = "/usr/bin/wget"
verdict = "deny"

[[rule]]
name = "no-other"
tag = "oth*"
verdict = "deny"

[[rule]]
name = "tried"
path = "/bytes/7"
mode = "observe"
verdict = "deny"

[[rule]]
name = "web"
tags = ["job", "other"]
hosts = ["www.example.test", "*.cold.example.test", "h1.example.test"]
ports = [443, 4433]
protocols = "http"
verdict = "allow"
"#;

fn enforcing() -> World {
    world("mode = \"enforce\"", RULES)
}

/// curl's arguments, the status that it sees, the path that the record has, the rule.
const CASES: [(&[&str], &str, &str, &str); 14] = [
    (&["https://www.example.test/"], "200", "/", "web"),
    (&["--http1.1", "https://www.example.test/bytes/1"], "200", "/bytes/1", "web"),
    (&["https://www.example.test/status/204"], "403", "/status/204", "no-path"),
    (&["--http1.1", "https://www.example.test/status/201?a=b"], "403", "/status/201?a=b", "no-path"),
    (&["-XDELETE", "https://www.example.test/echo"], "403", "/echo", "no-delete"),
    (&["-XPUT", "https://www.example.test/sink"], "200", "/sink", "web"),
    (&["https://www.example.test/bytes/2?x=1&%7Aone=1"], "403", "/bytes/2?x=1&%7Aone=1", "no-query"),
    (&["https://www.example.test/bytes/3?zones=1"], "200", "/bytes/3?zones=1", "web"),
    (&["-HX-Team: red", "https://www.example.test/bytes/4"], "403", "/bytes/4", "no-header"),
    (&["-HX-Team: green", "https://www.example.test/bytes/5"], "200", "/bytes/5", "web"),
    (&["https://a.cold.example.test/bytes/6"], "403", "", "no-host"),
    (&["https://www.example.test/bytes/7"], "200", "/bytes/7", "tried"),
    (&["http://www.example.test/bytes/8"], "403", "/bytes/8", "(none)"),
    (&["https://git.example.test/bytes/9"], "403", "", "(none)"),
];

#[test]
fn each_key_of_a_request() {
    let world = enforcing();
    for (args, status, path, rule) in CASES {
        let before = world.seen().requests().len();
        let (got, body, ended) = fetched(&mut curl(&world, TAG, args));
        assert_eq!(got, status, "{args:?}: {body} {}", ended.stderr);
        let denied = status == "403";
        if denied {
            let said: serde_json::Value = serde_json::from_str(&body).expect("problem+json");
            assert_eq!((said["status"].as_u64(), said["rule"].as_str()), (Some(403), Some(rule)), "{said}");
            let session = said["session"].as_str().expect("session").to_owned();
            let summary = record(&world, "the refusal", |s| s.session == session);
            assert_eq!(judged(&summary), (Some(rule), Verdict::Deny), "{args:?}");
            assert_eq!(world.seen().requests().len(), before, "{args:?} reached the upstream");
        } else {
            let summary = record(&world, path, |s| s.path.as_deref() == Some(path) && s.status == Some(200));
            let verdict = if rule == "tried" { Verdict::Deny } else { Verdict::Allow };
            assert_eq!(judged(&summary), (Some(rule), verdict), "{args:?}");
            assert_eq!(world.seen().requests().len(), before + 1, "{args:?}");
        }
    }
    assert_eq!(world.seen().strangers(), []);
}

#[test]
fn each_key_of_a_caller() {
    let world = enforcing();
    let (status, body, _) = fetched(&mut curl(&world, "other", &["https://www.example.test/"]));
    assert_eq!(status, "403", "{body}");
    assert!(body.contains("\"rule\":\"no-other\""), "{body}");

    let mut wget = world.job(TAG, "wget").expect("a job");
    let ended = run(wget.args(["-qO-", "https://www.example.test/bytes/1"]), PATIENCE).expect("started");
    assert_eq!(ended.status.and_then(|s| s.code()), Some(8), "{}", ended.stderr);
    let summary = record(&world, "wget", |s| s.rule.as_deref() == Some("no-wget"));
    assert_eq!((summary.verdict, summary.status), (Verdict::Deny, Some(403)));

    let mut nobody = world.job(TAG, "setpriv").expect("a job");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-ksS", "-w", "\n%{http_code}"]);
    let (status, body, ended) = fetched(nobody.arg("https://www.example.test/bytes/2"));
    assert_eq!(status, "403", "{body} {}", ended.stderr);
    assert!(body.contains("\"rule\":\"no-nobody\""), "{body}");
    assert!(world.seen().requests().is_empty());
}

#[test]
fn an_address_is_refused_before_it_is_dialled() {
    let world = enforcing();
    let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://six.example.test/"]));
    assert_eq!(status, "000");
    let summary = record(&world, "the refusal", |s| s.address == "[2001:db8::10]:443");
    assert_eq!(judged(&summary), (Some("no-address"), Verdict::Deny));
    assert!(world.seen().connections().is_empty(), "{:?}", world.seen().connections());
}

#[test]
fn a_refused_name_reaches_nobody() {
    // The rule that is only tried would send /bytes/7 to whatever host: without it nothing can allow this name.
    let tried = RULES.find("[[rule]]\nname = \"tried\"").expect("a rule");
    let web = RULES.find("[[rule]]\nname = \"web\"").expect("a rule");
    let world = world("mode = \"enforce\"", &format!("{}{}", &RULES[..tried], &RULES[web..]));
    let at = SocketAddr::new(address("www.example.test"), 4433);
    let listener = world.space().listen(at).expect("listener");
    let (tell, heard) = mpsc::channel();
    listener.set_nonblocking(false).expect("a listener that waits");
    std::thread::spawn(move || {
        let (mut io, _) = listener.accept().expect("the gate dials");
        let mut bytes = Vec::new();
        io.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let _ended = io.read_to_end(&mut bytes);
        tell.send(bytes)
    });
    let (status, body, ended) =
        fetched(&mut curl(&world, TAG, &["https://git.example.test:4433/secret-in-the-path"]));
    assert_eq!(status, "403", "{body} {}", ended.stderr);
    let heard = heard.recv_timeout(PATIENCE).expect("the gate lets the upstream go");
    assert_eq!(heard, b"", "not one byte of a ClientHello");
}

#[test]
fn a_tag_may_be_observed_where_others_are_not() {
    let world = enforcing();
    let mut apart = world.space().command("apart", "curl").expect("a command");
    apart.args(["-ksS", "-w", "\n%{http_code}", "https://www.example.test/status/200"]);
    let (status, body, ended) = fetched(&mut apart);
    assert_eq!(status, "200", "{body} {}", ended.stderr);
    let summary = record(&world, "what was let through", |s| s.path.as_deref() == Some("/status/200"));
    assert_eq!((judged(&summary), summary.tag.as_str()), ((Some("no-path"), Verdict::Deny), "apart"));
    let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/status/200"]));
    assert_eq!(status, "403");
}

#[test]
fn observing_sends_and_says_what_it_would_refuse() {
    let rules = "[[rule]]\nname = \"no\"\npath = \"/bytes/*\"\nverdict = \"deny\"\n\
                 [[rule]]\nname = \"never\"\npath = \"/status/*\"\nmode = \"enforce\"\nverdict = \"deny\"\n";
    let world = world("mode = \"observe\"", rules);
    for (path, status, rule) in
        [("/bytes/1", "200", "no"), ("/", "200", "(none)"), ("/status/200", "403", "never")]
    {
        let url = format!("https://www.example.test{path}");
        let (got, body, ended) = fetched(&mut curl(&world, TAG, &[&url]));
        assert_eq!(got, status, "{path} {body} {}", ended.stderr);
        let summary = record(&world, path, |s| s.path.as_deref() == Some(path));
        assert_eq!(judged(&summary), (Some(rule), Verdict::Deny), "{path}");
    }
}

#[test]
fn enforcing_without_a_rule_refuses_everything_and_warns() {
    let world = world("mode = \"enforce\"", "");
    let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/"]));
    assert_eq!(status, "000");
    assert!(world.seen().connections().is_empty());
    assert!(world.daemon().log().contains("there is no [[rule]]"), "{}", world.daemon().log());
}
