//! Configuration as users write it: every mistake at once, each with its line.

use std::fs;

use super::*;
use crate::policy::lookup::Denial;

mod credentials;
mod masks;
mod rules;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, text).expect("file");
    }
    dir
}

/// `file:line: what (remedy)`, the directory cut off.
fn complaints(files: &[(&str, &str)]) -> Vec<String> {
    let all = all_complaints(files);
    assert!(!all.is_empty(), "problems");
    all
}

/// The same, of a configuration that may be good.
fn all_complaints(files: &[(&str, &str)]) -> Vec<String> {
    let dir = directory(files);
    let base = format!("{}/", dir.path().display());
    let problems = load(dir.path()).err().unwrap_or_default();
    problems.iter().map(|p| p.to_string().replace(&base, "")).collect()
}

#[test]
fn nothing_is_the_default() {
    let dir = directory(&[]);
    assert_eq!(load(dir.path()).expect("empty directory"), Config::default());
    assert_eq!(load(&dir.path().join("absent")).expect("no directory"), Config::default());
}

/// Every key that there is.
const EVERY_KEY: &str = r#"mode = "observe"
user = "gate"
[[intercept]]
name = "ci"
unit = "gitlab-runner"
[[intercept]]
name = "builds"
slice = "builds.slice"
loopback = "take"
metadata = true
inbound = true
mptcp = false
udp = ["10.0.0.0/8:123", "[2001:db8::1]:*"]
[[issuer]]
url = "https://issuer.example"
audience = ["a", "b"]
groups_claim = "realm.roles"
token_env = ["ID", "CI"]
token_file = "id.jwt"
accept_bearer = true
jwks_file = "keys.json"
[record]
body_limit = "2MiB"
max_bytes = "1GiB"
max_age = "30d"
durable = true
[tls]
extra_roots = ["corp.pem"]
[dns]
upstream = ["192.0.2.1", "[2001:db8::1]:5353"]
deny = ["Evil.example.", "*.evil.example"]
answer = "refused"
max_label = 40
rate = 50
new_names = 300
types = ["a", "TYPE65"]
[limits]
sessions = 1_000
[drain]
grace = "3s"
[paths]
state = "/srv/sluice"
runtime = "/run/other"
bpf = "/sys/fs/bpf/other"
"#;

const KEYS: &str = r#"{"keys":[{}]}"#;

/// [`EVERY_KEY`] loaded, with two more tags in a file of their own.
fn every_key() -> (tempfile::TempDir, Config) {
    let pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let more =
        "[[intercept]]\nname = \"box\"\ncgroup = \"machine/box\"\n[[intercept]]\nname=\"u\"\nuser=\"1000\"\n";
    let dir = directory(&[
        ("sluice.toml", EVERY_KEY),
        ("corp.pem", pem),
        ("keys.json", KEYS),
        ("policy.d/10.toml", more),
    ]);
    let config = load(dir.path()).expect("good configuration");
    (dir, config)
}

#[test]
fn what_the_page_on_identity_shows_is_good() {
    let page = include_str!("../../../docs/identity.md");
    let shown: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!shown.is_empty());
    for text in shown {
        let dir = directory(&[("sluice.toml", text)]);
        load(dir.path()).unwrap_or_else(|problems| panic!("{problems:?}"));
    }
}

#[test]
fn every_key_of_an_intercept() {
    let (_dir, config) = every_key();
    let udp = ["10.0.0.0/8:123", "[2001:db8::1/128]:*"].map(|rule| rule.parse().expect("a rule"));
    let open =
        Options { loopback: Loopback::Take, metadata: true, inbound: true, mptcp: false, udp: udp.to_vec() };
    let intercept = |name: &str, designation, options| Intercept {
        name: crate::types::TagName::parse(name).expect("name"),
        designation,
        options,
    };
    assert_eq!(
        config.intercepts,
        [
            intercept("ci", Designation::Unit("gitlab-runner.service".into()), Options::default()),
            intercept("builds", Designation::Slice("builds.slice".into()), open),
            intercept("box", Designation::Cgroup("/machine/box".into()), Options::default()),
            intercept("u", Designation::User("1000".into()), Options::default()),
        ]
    );
}

#[test]
fn every_other_key() {
    let (dir, config) = every_key();
    assert_eq!(config.user, "gate");
    assert_eq!(
        config.record,
        Record {
            body_limit: 2 << 20,
            max_bytes: 1 << 30,
            max_age: Some(Duration::from_secs(30 * 86_400)),
            durable: true
        }
    );
    assert_eq!(config.tls.extra_roots, [dir.path().join("corp.pem")]);
    let shown: Vec<String> = config.dns.upstream.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["192.0.2.1:53", "[2001:db8::1]:5353"]);
    let lookups = &config.dns.lookups;
    let deny: Vec<&str> = lookups.deny.iter().map(crate::policy::lookup::NamePattern::as_str).collect();
    assert_eq!((deny, lookups.answer), (vec!["evil.example", "*.evil.example"], Denial::Refused));
    assert_eq!((lookups.max_label, lookups.rate, lookups.new_names), (40, 50, 300));
    assert_eq!(lookups.types, ["A", "TYPE65"]);
    assert_eq!(config.limits.sessions, 1000);
    assert_eq!(config.drain.grace, Duration::from_secs(3));
    assert_eq!(config.paths.bpf, Path::new("/sys/fs/bpf/other"));
}

#[test]
fn each_mistake_in_dns_has_its_line() {
    let text = "[dns]\nupstream = [\"192.0.2.1\", \"dns.google\"]\ndeny = [\"a..b\"]\nanswer = \"nxdomian\"\n\
                max_label = 64\nrate = \"fast\"\ntypes = [\"AAAAA\"]\nupstraem = 1\n";
    assert_eq!(
        complaints(&[
            ("sluice.toml", text),
            ("policy.d/1.toml", "[dns]\nrate = 7\n"),
            ("policy.d/2.toml", "[dns]\nrate = 8\n")
        ]),
        [
            "sluice.toml:2:26: dns.upstream has \"dns.google\" (write \"system\", or addresses such as \"192.0.2.1\" or \
             \"[2001:db8::1]:5353\")",
            "sluice.toml:3:9: dns.deny: \"a..b\" is not a name pattern (write a name, or *. before it for all below it)",
            "sluice.toml:4:10: dns.answer is \"nxdomian\" (did you mean \"nxdomain\"?)",
            "sluice.toml:5:13: dns.max_label is \"64\" (write a number from 1 to 63)",
            "sluice.toml:6:8: dns.rate is \"fast\" (write a number from 0 to 100000)",
            "sluice.toml:7:10: dns.types has \"AAAAA\" (did you mean AAAA?)",
            "sluice.toml:8:1: unknown key dns.upstraem (did you mean dns.upstream?)",
            "policy.d/2.toml:2:8: dns.rate is set already at policy.d/1.toml:2:8 (keep one of the two)",
        ]
    );
    let system = directory(&[("sluice.toml", "[dns]\nupstream = \"system\"\n")]);
    assert_eq!(load(system.path()).expect("good").dns, Dns::default());
}

#[test]
fn all_problems_at_once_with_lines() {
    let main = r#"mode = "enforce"
usr = "sluice"
[[intercept]]
name = "ci"
unit = "a.service"
slice = "b.slice"
[[intercept]]
nmae = "x"
unit = "a.timer"
[record]
body_limit = "1 mega"
durable = "yes"
[limits]
sessions = 0
"#;
    let second = "mode = \"observe\"\n[recrod]\n[[intercept]]\nname = \"root\"\ncgroup = \"/\"\n";
    assert_eq!(
        complaints(&[("sluice.toml", main), ("policy.d/50-more.toml", second)]),
        [
            "sluice.toml:2:1: unknown key usr (did you mean user?)",
            "sluice.toml:3:1: [[intercept]] says twice what it tags (write exactly one of unit, slice, cgroup or user)",
            "sluice.toml:7:1: [[intercept]] has no name (add name = \"…\")",
            "sluice.toml:8:1: unknown key intercept.nmae (did you mean intercept.name?)",
            "sluice.toml:9:8: \"a.timer\" runs no job (name the .service that it starts)",
            "sluice.toml:11:14: record.body_limit is \"1 mega\" (write a size up to 1GiB, such as \"1MiB\")",
            "sluice.toml:12:11: record.durable is a text, not true or false (write true or false)",
            "sluice.toml:14:12: limits.sessions is \"0\" (write a number from 1 to 1000000)",
            "policy.d/50-more.toml:1:8: mode is set already at sluice.toml:1:8 (keep one of the two)",
            "policy.d/50-more.toml:2:2: unknown key recrod (did you mean record?)",
            "policy.d/50-more.toml:5:10: the root cgroup cannot be tagged (name a cgroup below it)",
        ]
    );
}

#[test]
fn broken_syntax_names_its_line_and_does_not_hide_the_rest() {
    let found = complaints(&[("sluice.toml", "user = \"sluice\"\nmode = \n[drain]\ngarce = \"1s\"\n")]);
    assert!(found.iter().any(|c| c.starts_with("sluice.toml:2:8: ")), "{found:?}");
    assert!(found.iter().any(|c| c.contains("did you mean drain.grace?")), "{found:?}");
}

#[test]
fn names_and_processes_are_taken_once() {
    let text = "[[intercept]]\nname = \"a\"\nunit = \"x\"\n[[intercept]]\nname = \"a\"\nunit = \"y\"\n\
                [[intercept]]\nname = \"b\"\nunit = \"x.service\"\n";
    let found = complaints(&[("sluice.toml", text)]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0]
            .starts_with("sluice.toml:4:1: [[intercept]] a: its name is taken already at sluice.toml:1:1")
    );
    assert!(found[1].starts_with("sluice.toml:7:1: [[intercept]] b: its unit is taken already"));
}

#[test]
fn files_that_cannot_be_used() {
    let dir =
        directory(&[("policy.d/a.toml", ""), ("policy.d/.hidden.toml", "nonsense"), ("policy.d/b.txt", "=")]);
    assert!(load(dir.path()).is_ok());
    fs::write(dir.path().join("policy.d/c.toml"), b"a = 1\n\xff").expect("file");
    fs::create_dir(dir.path().join(MAIN_FILE)).expect("directory");
    let problems = load(dir.path()).expect_err("problems");
    assert!(problems[0].what.starts_with("cannot be read"), "{problems:?}");
    assert_eq!((problems[1].line, problems[1].what.as_str()), (2, "not UTF-8"));
    let huge = directory(&[(MAIN_FILE, &"# filler\n".repeat(200_000))]);
    assert!(load(huge.path()).expect_err("too large")[0].what.starts_with("larger than"));
}

#[test]
fn designations() {
    for (text, want) in [
        ("ssh", Some("ssh.service")),
        ("run-u1.scope", Some("run-u1.scope")),
        ("a@b.service", Some("a@b.service")),
        ("a@.service", None),
        ("a@", None),
        ("../x.service", None),
        ("x.slice", None),
        ("", None),
    ] {
        let got = Designation::unit(text).ok();
        assert_eq!(got.as_ref().map(Designation::target), want, "{text:?}");
    }
    for (text, want) in
        [("/a/b", Some("/a/b")), ("a", Some("/a")), ("/a/../b", None), ("//", None), ("/a/", None)]
    {
        let got = Designation::cgroup(text).ok();
        assert_eq!(got.as_ref().map(Designation::target), want, "{text:?}");
    }
    assert!(Designation::slice("-.slice").is_err());
    assert!(Designation::slice("a--b").is_err());
    assert!(Designation::user("root").is_err());
    assert!(Designation::user("a b").is_err());
}

#[test]
fn what_a_tag_lets_through_is_checked() {
    let text = "[[intercept]]\nname = \"a\"\nunit = \"a\"\nloopback = \"some\"\nudp = [\"10.0.0.1\", \"10.0.0.1:53\"]\n";
    let dir = directory(&[(MAIN_FILE, text)]);
    let problems = load(dir.path()).expect_err("three mistakes");
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [4, 5, 5], "{problems:?}");
    assert!(problems[2].remedy.contains("resolver"));
}

/// What we ship must load: each file in `config/` alone, as the main file.
#[test]
fn shipped_files_resolve() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    let mut folders = vec![shipped];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("config/") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("readable");
            let dir = directory(&[(MAIN_FILE, &text)]);
            load(dir.path()).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
            // The commented keys are promises too: uncommented, they must resolve to the same defaults.
            if path.file_name().is_some_and(|n| n == MAIN_FILE) {
                let bare: String = text
                    .lines()
                    .map(|l| l.strip_prefix("#:").unwrap_or(l))
                    .fold(String::new(), |all, line| all + line + "\n");
                let dir = directory(&[(MAIN_FILE, &bare), ("gitlab-keys.json", KEYS)]);
                let mut config = load(dir.path()).unwrap_or_else(|e| panic!("uncommented: {e:?}"));
                // Each source has a credential to show it; one rule is enough to show how one is named.
                config.warnings.retain(|warning| !warning.what.ends_with(": no rule uses it"));
                let written = Config {
                    intercepts: config.intercepts.clone(),
                    issuers: config.issuers.clone(),
                    policy: config.policy.clone(),
                    cases: config.cases.clone(),
                    ..Config::default()
                };
                assert_eq!(config, written);
                assert_eq!(config.policy.mode, Config::default().policy.mode);
                let policy = crate::policy::Policy::compile(config.policy.clone()).expect("rules");
                config.cases.iter().for_each(|case| assert_eq!(case.run(&policy), None));
                assert_eq!((config.intercepts.len(), config.issuers.len()), (4, 1));
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn every_key_of_an_issuer() {
    let (_dir, config) = every_key();
    let [issuer] = &config.issuers[..] else { panic!("one issuer: {:?}", config.issuers) };
    let told = crate::types::Issuer {
        url: "https://issuer.example".into(),
        audiences: vec!["a".into(), "b".into()],
        groups_claim: "realm.roles".into(),
        accept_bearer: true,
        jwks: Some(KEYS.into()),
    };
    assert_eq!(issuer.told, told);
    assert_eq!(
        (&issuer.token_env[..], issuer.token_file.as_deref()),
        (&["ID".into(), "CI".into()][..], Some(Path::new("id.jwt")))
    );
}

#[test]
fn mistakes_in_issuers() {
    let text = "[[issuer]]\nurl = \"http://a.example\"\naudience = \"\"\ntoken_env = [\"A B\"]\ntoken_file = \"../id\"\n\
        jwks_file = \"absent.json\"\nacept_bearer = true\n[[issuer]]\nurl = \"https://b.example?x\"\n[[issuer]]\naudience = \"x\"\n\
        [[issuer]]\nurl = \"https://c.example\"\naudience = \"x\"\n[[issuer]]\nurl = \"https://c.example\"\naudience = \"y\"\n";
    let said = complaints(&[("sluice.toml", text)]);
    for wanted in [
        "sluice.toml:2:7: issuer.url is \"http://a.example\": it must begin with https://",
        "sluice.toml:3:12: issuer.audience names no audience",
        "sluice.toml:4:14: issuer.token_env has \"A B\"",
        "sluice.toml:5:14: issuer.token_file is \"../id\"",
        "sluice.toml:6:13: absent.json cannot be read",
        "sluice.toml:7:1: unknown key issuer.acept_bearer (did you mean issuer.accept_bearer?)",
        "sluice.toml:8:1: [[issuer]] has no audience",
        "sluice.toml:9:7: issuer.url is \"https://b.example?x\": it has a query",
        "sluice.toml:10:1: [[issuer]] has no url",
        "sluice.toml:16:7: [[issuer]] https://c.example stands twice",
    ] {
        assert!(said.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{said:#?}");
    }
    assert_eq!(said.len(), 10, "{said:#?}");
}
