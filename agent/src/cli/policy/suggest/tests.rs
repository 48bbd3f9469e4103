//! Rules of a store that was written for it, and what `policy replay` of the same store then says.

use crate::cli::policy::template::tests::Dice;
use crate::types::{HostSource, Verdict};
use store::{Did, chat, did, refused, replayed, suggested, suggested_of, write};

mod speed;
mod store;

/// Lines of the rules that are no comment.
fn bare(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[test]
fn a_rule_says_who_where_and_what() {
    let all = [
        did("GET", "api.example", "/v1/files/file-8vJ2kQ1n5LmZ/content?token=hunter2&x=secret"),
        did("GET", "api.example", "/v1/files/file-aaBB22cc33DD/content"),
        did("DELETE", "api.example", "/v1/files/file-aaBB22cc33DD"),
        chat("gpt-4o-mini"),
        chat("gpt-4o"),
    ];
    let text = suggested(&all);
    assert_eq!(
        bare(&text),
        [
            "[[rule]]",
            "name = \"ci/api.example/1\"",
            "tags = \"ci\"",
            "units = \"job.service\"",
            "hosts = \"api.example\"",
            "ports = 443",
            "protocols = [\"http/1.1\", \"h2\"]",
            "methods = \"DELETE\"",
            "paths = \"/v1/files/file-*\"",
            "verdict = \"allow\"",
            "[[rule]]",
            "name = \"ci/api.example/2\"",
            "tags = \"ci\"",
            "units = \"job.service\"",
            "hosts = \"api.example\"",
            "ports = 443",
            "protocols = [\"http/1.1\", \"h2\"]",
            "methods = \"GET\"",
            "paths = \"/v1/files/file-*/content\"",
            "verdict = \"allow\"",
            "[[rule]]",
            "name = \"ci/api.openai.com/1\"",
            "tags = \"ci\"",
            "units = \"job.service\"",
            "hosts = \"api.openai.com\"",
            "ports = 443",
            "protocols = [\"http/1.1\", \"h2\"]",
            "methods = \"POST\"",
            "paths = \"/v1/chat/completions\"",
            "when = 'request.llm.model in [\"gpt-4o\", \"gpt-4o-mini\"]'",
            "verdict = \"allow\"",
        ],
        "{text}"
    );
    assert!(!text.contains("secret") && !text.contains("hunter2") && !text.contains("8vJ2"), "{text}");
    assert_eq!(refused(&text, &all), 0);
    refuses_others(&text);
}

fn refuses_others(text: &str) {
    let others = [
        did("GET", "other.example", "/v1/files/file-8vJ2kQ1n5LmZ/content"),
        did("PUT", "api.example", "/v1/files/file-8vJ2kQ1n5LmZ/content"),
        did("GET", "api.example", "/v1/models"),
        did("GET", "api.example", "/v1/files/file-8vJ2kQ1n5LmZ/content/x"),
        Did { to: "192.0.2.7:8443", ..did("DELETE", "api.example", "/v1/files/file-1") },
        Did { tag: "other", ..did("DELETE", "api.example", "/v1/files/file-1") },
        Did { unit: Some("other.service"), ..did("DELETE", "api.example", "/v1/files/file-1") },
        Did {
            headers: vec![("upgrade", "websocket".to_owned())],
            ..did("DELETE", "api.example", "/v1/files/file-1")
        },
        chat("gpt-5"),
    ];
    assert_eq!(refused(text, &others), others.len() as u64, "{text}");
    assert_eq!(refused(text, &[did("DELETE", "api.example", "/v1/files/file-1")]), 0);
}

#[test]
fn what_a_job_writes_cannot_widen_or_break_the_rules() {
    let odd = |path: &str| did("GET", "a.example", path);
    let all = [
        odd("/a/*"),
        odd("/b/**"),
        odd("/c\"]\nverdict=\"allow\"\u{1b}[2J"),
        odd("/c'\\u0022"),
        odd("*"),
        did("GETT", "a.example", "/d"),
        did("get", "a.example", "/g"),
        Did { host: "*.com".to_owned(), ..odd("/e") },
        Did { host: "*".to_owned(), ..odd("/e") },
        Did { host: "evil\u{202e}\n[[rule]]".to_owned(), ..odd("/e") },
        chat("a\"]; true || \"\n\u{1b}]0;x\u{7}"),
        chat("'"),
    ];
    let text = suggested(&all);
    assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
    assert!(!bare(&text).iter().any(|line| line.starts_with("hosts") && line.contains('*')), "{text}");
    assert_eq!(refused(&text, &all), 0, "{text}");
    let others =
        [odd("/a/x"), odd("/a/"), odd("/b/x/y"), odd("/b/*"), did("GET", "a.example", "/d"), chat("b")];
    assert_eq!(refused(&text, &others), others.len() as u64, "{text}");
    assert_eq!(refused(&text, &[did("GET", "a.example", "/g")]), 0, "what servers may read it as is allowed");
    let com = [Did { host: "x.com".to_owned(), to: "192.0.2.8:443", ..odd("/e") }];
    assert_eq!(refused(&text, &com), 1, "{text}");
}

#[test]
fn what_drowns_is_left_out_and_nothing_gets_broader() {
    // Eight ways at each of seven depths: some 18,000 nodes, if they were kept.
    let mut dice = Dice(3);
    let letter = |dice: &mut Dice| ["a", "b", "c", "d", "e", "f", "g", "h"][dice.roll(8)];
    let deep: Vec<Did> = (0..6000)
        .map(|_| {
            did("GET", "a.example", &(0..7).map(|_| format!("/{}", letter(&mut dice))).collect::<String>())
        })
        .collect();
    let text = suggested(&deep);
    assert!(text.contains("that have more different paths than are kept"), "{text}");
    assert!(text.len() < 1 << 20);
    assert_eq!(refused(&text, &[did("GET", "a.example", "/a/b/c")]), 1);
    assert!(!bare(&text).iter().any(|line| line.contains('*')), "nothing became a star");
    let hosts: Vec<Did> = (0..300).map(|n| did("GET", &format!("h{n}.example"), "/")).collect();
    let text = suggested(&hosts);
    assert!(text.contains("LEFT OUT: 44 that go to more destinations than are kept."), "{text}");
    let models: Vec<Did> = (0..70).map(|n| chat(&format!("model-{n}"))).collect();
    let text = suggested(&models);
    assert!(text.contains("LEFT OUT: 6 that ask for more different models than are kept."), "{text}");
}

#[test]
fn protocols_and_tunnels() {
    let upgrade = vec![("upgrade", "websocket".to_owned())];
    let grpc = vec![("content-type", "application/grpc".to_owned())];
    let all = [
        Did { protocol: "http/1.1", headers: upgrade, status: Some(101), ..did("GET", "ws.example", "/ws") },
        Did { headers: grpc, ..did("POST", "rpc.example", "/echo.Echo/GetUserV2ProfileById2024") },
        tunnel("192.0.2.9:5432", "db.example", HostSource::Dns),
        tunnel("192.0.2.10:5432", "db.example", HostSource::DnsCaller),
        tunnel("[2001:db8::1]:22", "2001:db8::1", HostSource::Address),
        Did { protocol: "dns", to: "192.0.2.53:53", tls: false, path: None, ..did("A", "far.example", "") },
    ];
    let text = suggested(&all);
    for wanted in [
        "protocols = \"websocket\"",
        "methods = [\"CONNECT\", \"GET\"]",
        "paths = \"/echo.Echo/GetUserV2ProfileById2024\"",
        "addresses = \"192.0.2.10\"",
        "addresses = \"2001:db8::1\"",
        "1 name lookup(s) need no rule",
        "name = \"ci/2001.db8..1/1\"",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(refused(&text, &all), 0, "{text}");
    let others = [
        tunnel("192.0.2.11:5432", "db.example", HostSource::DnsCaller),
        tunnel("192.0.2.9:5433", "db.example", HostSource::Dns),
        did("GET", "ws.example", "/ws"),
        did("POST", "rpc.example", "/echo.Echo/GetUserV2ProfileById2024"),
    ];
    assert_eq!(refused(&text, &others), others.len() as u64, "{text}");
}

fn tunnel(to: &'static str, host: &str, source: HostSource) -> Did {
    Did {
        to,
        tls: false,
        protocol: "tunnel",
        method: None,
        path: None,
        headers: Vec::new(),
        status: None,
        error: Some("not read: the server speaks first"),
        source,
        ..did("", host, "")
    }
}

#[test]
fn a_name_that_the_job_alone_gives_is_none() {
    let plain = |to, host: &str, looked_up| Did {
        to,
        tls: false,
        protocol: "http/1.1",
        looked_up,
        ..did("GET", host, "/")
    };
    let all = [
        plain("192.0.2.20:80", "plain.example", Some("plain.example")),
        plain("192.0.2.21:80", "plain.example", None),
        plain("192.0.2.22:80", "alias.example", Some("real.example")),
        plain("192.0.2.7:443", "plain.example", Some("plain.example")),
        plain("192.0.2.7:443", "192.0.2.7", None),
        did("GET", "plain.example", "/"),
        Did { unit: None, ..did("GET", "plain.example", "/") },
        Did { unit: Some("run-u12345.service"), ..did("GET", "plain.example", "/") },
        Did {
            method: Some("CONNECT".to_owned()),
            path: Some("far.example:443".to_owned()),
            ..plain("192.0.2.40:3128", "far.example", Some("proxy.example"))
        },
    ];
    let text = suggested(&all);
    for wanted in [
        "addresses = \"192.0.2.21\"",
        "hosts = [\"alias.example\", \"real.example\"]",
        "hosts = [\"far.example\", \"proxy.example\"]",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("run-u"), "a unit that never comes again: {text}");
    assert_eq!(refused(&text, &all), 0, "{text}");
    let others = [
        plain("192.0.2.20:80", "plain.example", None),
        plain("192.0.2.20:80", "plain.example", Some("evil.example")),
        plain("192.0.2.23:80", "plain.example", None),
        plain("192.0.2.9:443", "plain.example", Some("evil.example")),
        plain("192.0.2.22:80", "alias.example", Some("other.example")),
    ];
    assert_eq!(refused(&text, &others), others.len() as u64, "{text}");
}

#[test]
fn what_servers_read_in_several_ways_is_allowed_in_all_of_them() {
    let names =
        ["core", "cli", "env", "types", "parser", "runtime", "node", "register", "traverse", "generator"];
    let mut all: Vec<Did> =
        names.iter().map(|name| did("GET", "registry.example", &format!("/@scope%2F{name}"))).collect();
    all.extend([
        did("PUT", "registry.example", "/@scope/core"),
        did("GET", "a.example", "/a//c;v=1/x%20y"),
        did("GET", "a.example", "/%2A"),
        Did {
            headers: vec![("x-http-method-override", "DELETE".to_owned())],
            ..did("POST", "a.example", "/form")
        },
        did("GET", "a.example", "/a;b//%2e%252e/%5c../;x/..%2f"),
    ]);
    let text = suggested(&all);
    assert!(text.contains("LEFT OUT: 1 that servers would read in too many ways"), "{text}");
    assert_eq!(refused(&text, &all), 1, "{text}");
    let others = [
        did("POST", "a.example", "/form/x"),
        did("PUT", "a.example", "/form"),
        did("GET", "a.example", "/%2B"),
        did("DELETE", "registry.example", "/@scope%2Fcore"),
    ];
    assert_eq!(refused(&text, &others), others.len() as u64, "{text}");
}

#[test]
fn refused_and_failed_is_suggested_on_demand_only() {
    let all = [
        did("GET", "a.example", "/ok"),
        Did { rule: Some("(none)"), verdict: Verdict::Deny, ..did("GET", "a.example", "/observed") },
        Did { rule: Some("no"), verdict: Verdict::Deny, ..did("GET", "a.example", "/no") },
        Did {
            rule: Some("(none)"),
            verdict: Verdict::Deny,
            status: Some(403),
            error: Some("no rule allows it (rule (none))"),
            ..did("GET", "a.example", "/refused")
        },
        Did {
            status: Some(502),
            error: Some("the upstream gave no answer"),
            ..did("GET", "a.example", "/dead")
        },
        Did {
            rule: None,
            verdict: Verdict::Deny,
            protocol: "tls",
            method: None,
            path: None,
            status: None,
            error: Some("TLS was refused"),
            ..did("", "bad.example", "")
        },
    ];
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), &all);
    let text = suggested_of(dir.path(), false).expect("rules");
    assert!(
        text.contains("paths = [\"/observed\", \"/ok\"]")
            || text.contains("paths = [\"/ok\", \"/observed\"]"),
        "{text}"
    );
    assert!(!text.contains("/no\"") && !text.contains("/dead") && !text.contains("bad.example"), "{text}");
    assert!(
        text.contains("LEFT OUT: 2 that were refused.") && text.contains("LEFT OUT: 1 that failed."),
        "{text}"
    );
    let wide = suggested_of(dir.path(), true).expect("rules");
    for path in ["/no", "/dead", "/refused"] {
        assert!(wide.contains(&format!("\"{path}\"")), "{path}: {wide}");
    }
    let counts = replayed(&text, &all);
    assert_eq!((counts["refused"].as_u64(), counts["unanswered"].as_u64()), (Some(0), Some(1)), "{counts}");
    assert_eq!((counts["applied"].as_u64(), counts["unknown"].as_u64()), (Some(1), Some(1)), "{counts}");
    let none = [Did { rule: Some("no"), verdict: Verdict::Deny, ..did("GET", "a.example", "/no") }];
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), &none);
    let why = suggested_of(dir.path(), false).expect_err("nothing");
    assert!(why.contains("nothing is recorded") && why.contains("1 were refused"), "{why}");
}

#[test]
fn whatever_was_done_in_whatever_order_the_rules_allow_it_and_are_the_same() {
    let mut dice = Dice(0xFACE);
    for round in 0..12 {
        let hosts = ["a.example", "b.example", "api.openai.com"];
        let mut all: Vec<Did> = (0..150)
            .map(|_| match dice.roll(8) {
                0 => chat(["gpt-4o", "gpt-5", "o3"][dice.roll(3)]),
                1 => Did { unit: None, ..did("GET", hosts[dice.roll(3)], &dice.path()) },
                n => did(["GET", "POST", "PUT"][n % 3], hosts[dice.roll(2)], &dice.path()),
            })
            .filter(|did| {
                !did.path.as_ref().is_some_and(|path| path.contains("v1/chat") && did.body.is_empty())
            })
            .collect();
        let text = suggested(&all);
        let counts = replayed(&text, &all);
        // What nothing can allow is said to be left out.
        let left = text.lines().find_map(|line| {
            let count = line
                .strip_prefix("# LEFT OUT: ")?
                .strip_suffix(" that servers would read in too many ways: no rule allows them.")?;
            count.parse().ok()
        });
        assert_eq!(counts["refused"].as_u64(), left.or(Some(0)), "round {round}: {counts}\n{text}");
        (1..all.len()).rev().for_each(|at| all.swap(at, dice.roll(at + 1)));
        let other = suggested(&all);
        assert_eq!(bare(&text), bare(&other), "round {round}");
    }
}

#[test]
fn bodies_that_the_record_has_not_are_not_guessed() {
    let long = Did {
        body: format!(r#"{{"model": "big", "x": "{}"}}"#, "x".repeat(2 << 20)).into_bytes(),
        ..chat("")
    };
    let refused = Did {
        body: Vec::new(),
        headers: vec![("content-length", "40".to_owned())],
        rule: Some("(none)"),
        verdict: Verdict::Deny,
        status: Some(403),
        error: Some("no rule allows it"),
        ..chat("")
    };
    let packed = Did { headers: vec![("content-encoding", "gzip".to_owned())], ..chat("a") };
    let all = [chat("a"), long, refused, packed];
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), &all);
    let text = suggested_of(dir.path(), true).expect("rules");
    assert!(text.contains("request.llm.model in [\"a\"]") && !text.contains("NOT LIMITED"), "{text}");
    assert!(
        text.contains("LEFT OUT: 3 that are to a model, and the record has not all of their body."),
        "{text}"
    );
    let counts = replayed(&text, &all);
    // The long one is longer than what the rule reads, and packed ones are not read: no guess is needed.
    assert_eq!((counts["refused"].as_u64(), counts["unknown"].as_u64()), (Some(2), Some(1)), "{counts}");
    let wide = text.replace("verdict =", "body_max = \"4MiB\"\nverdict =");
    let counts = replayed(&wide, &all);
    assert_eq!((counts["refused"].as_u64(), counts["unknown"].as_u64()), (Some(1), Some(2)), "{counts}");
}
