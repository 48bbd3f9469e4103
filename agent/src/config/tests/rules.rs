//! Rules and their tests as users write them.

use super::*;

const RULES: &str = r#"mode = "enforce"
[[intercept]]
name = "dev"
unit = "dev"
mode = "observe"
[[rule]]
name = "all"
tag = "ci"
units = ["ci", "a-*.scope"]
user = "1000"
exe = "/usr/bin/curl"
container = "x"
identity = "s*"
groups = "g"
issuer = "https://i.example"
claims = { a = true, "b.c" = [1, "x"] }
protocols = ["h2", "grpc"]
host = "*.Example.com"
addresses = "10.0.0.0/8"
port = 443
methods = ["GET"]
path = "/v1/**"
query = { q = "1" }
headers = { X-Team = ["a", "b"] }
window = "08:00-09:00"
mode = "observe"
durable = true
body_max = "2MiB"
verdict = "allow"
limit = [{ requests = 60, bytes = "1MiB", tokens = 1_000, per = "1m" }, { concurrent = 4, by = "claim:a.b" }]
"#;

#[test]
fn every_key_of_a_rule() {
    let dir = directory(&[(MAIN_FILE, RULES)]);
    let policy = load(dir.path()).expect("good").policy;
    assert_eq!(policy.mode, crate::policy::Mode::Enforce);
    assert_eq!(policy.tag_modes.len(), 1);
    let rule = &policy.rules[0];
    let texts = |globs: &[crate::policy::pattern::Glob]| {
        globs.iter().map(|g| g.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((rule.name.as_str(), rule.durable, rule.body_max), ("all", true, 2 << 20));
    assert_eq!(
        (rule.mode, rule.verdict.to_string()),
        (Some(crate::policy::Mode::Observe), "allow".to_owned())
    );
    assert_eq!(
        (texts(&rule.caller.tags), texts(&rule.caller.units)),
        (vec!["ci".into()], vec!["ci.service".into(), "a-*.scope".into()])
    );
    assert_eq!(
        (&rule.caller.users[..], texts(&rule.caller.exes)),
        (&["1000".to_owned()][..], vec!["/usr/bin/curl".into()])
    );
    assert_eq!(texts(&rule.caller.claims["b.c"]), ["1", "x"]);
    assert_eq!(texts(&rule.caller.claims["a"]), ["true"]);
    assert_eq!((rule.to.hosts[0].as_str(), rule.to.ports.hold(443)), ("*.example.com", true));
    assert_eq!(texts(&rule.request.headers["x-team"]), ["a", "b"]);
    assert_eq!((rule.windows.len(), rule.request.query.len(), rule.to.protocols.len()), (1, 1, 2));
    assert!(rule.asks());
    let limits: Vec<_> = rule.limits.iter().map(ToString::to_string).collect();
    let first = "requests = 60, bytes = 1048576, tokens = 1000, per = \"1m\", by = \"rule\"";
    assert_eq!(limits, [first, "concurrent = 4, by = \"claim:a.b\""]);
}

#[test]
fn each_mistake_in_a_limit_has_its_place() {
    let text = r#"[[rule]]
name = "a"
verdict = "allow"
limit = [
  { requests = 0, per = "1m" },
  { requests = "many", bytes = "10MB/s", tokens = -5, concurrent = 1.5, per = 60 },
  { requests = 1, per = "1m", by = "tags" },
  { requests = 1, per = "999ms", by = "claim:" },
  { requests = 1, per = "745h", by = "host" },
  { by = "tag" },
  { concurrent = 1, per = "1m" },
  { request = 1, per = "1m" },
  1,
]
[[rule]]
name = "b"
verdict = "allow"
limit = [{ requests = 1, per = "1m" }, { bytes = 1, per = "60s" }, { bytes = 1, per = "1h" }, { concurrent = 1 },
         { concurrent = 2 }, { concurrent = 2, by = "tag" }]
[[rule]]
name = "c"
path = "/x"
verdict = "deny"
limit = { requests = 1, per = "1m" }
[[rule]]
name = "d"
path = "/y"
verdict = "allow"
limit = 1
"#;
    let found = complaints(&[(MAIN_FILE, text)]);
    let found: Vec<_> = found.iter().map(|f| f.trim_start_matches("sluice.toml:")).collect();
    const AMOUNT: &str = "write a whole number from 1 on; to refuse all, verdict = \"deny\"";
    const KINDS: &str = "write one of \"rule\", \"identity\", \"tag\", \"unit\", \"user\", \"claim:NAME\"";
    const PER: &str = "write a duration from 1s to 744h, such as \"1m\"";
    const TWICE: &str = "two limits by rule that count the same (write all amounts of one `by` and `per` into one table, and `concurrent` once)";
    let want = [
        format!("5:16: limit.requests is \"0\" ({AMOUNT})"),
        format!("6:16: limit.requests is \"many\" ({AMOUNT})"),
        "6:32: limit.bytes is \"10MB/s\" (write a size such as \"10MiB\")".to_owned(),
        format!("6:51: limit.tokens is \"-5\" ({AMOUNT})"),
        "6:68: rule.limit.concurrent is a fraction, not a number or a text in quotes (write a number or a text in quotes)".to_owned(),
        format!("6:79: limit.per is \"60\" ({PER})"),
        "7:36: limit.by is \"tags\" (did you mean \"tag\"?)".to_owned(),
        format!("8:25: limit.per is \"999ms\" ({PER})"),
        format!("8:39: limit.by is \"claim:\" ({KINDS})"),
        format!("9:25: limit.per is \"745h\" ({PER})"),
        format!("9:38: limit.by is \"host\" ({KINDS})"),
        "10:3: the limit has no amount (add requests, bytes, tokens or concurrent)".to_owned(),
        "11:3: the limit has a window, and `concurrent` alone has none (leave per out, or add requests, bytes or tokens)".to_owned(),
        "12:5: unknown key rule.limit.request (did you mean rule.limit.requests?)".to_owned(),
        "13:3: rule.limit is a whole number, not a list of tables [[rule.limit]] (write a list of tables [[rule.limit]])".to_owned(),
        format!("18:40: {TWICE}"),
        format!("19:10: {TWICE}"),
        "24:9: the rule has a limit and refuses all that it matches (leave the limit out, or write verdict = \"allow\")".to_owned(),
        "29:9: rule.limit is a whole number, not a table { … } or a list of them (write a table { … } or a list of them)".to_owned(),
    ];
    assert_eq!(found, want);
}

/// What is said of them, in order.
const MISTAKES: &[&str] = &[
    "2:8: rule.name is \"a b\" (write up to 100 letters, digits, and - _ . / :)",
    "3:11: verdict is \"alow\" (did you mean \"allow\"?)",
    "4:1: unknown key rule.hots (did you mean rule.host?)",
    "5:10: host \"https://x.example\" is no name (write a name in ASCII without scheme, port and path; *. before it is all below it)",
    "5:31: host \"10.0.0.1\" is an address (write it under addresses)",
    "5:43: host \"a..b\" is no name (write a name in ASCII without scheme, port and path; *. before it is all below it)",
    "6:12: method \"psot\" (did you mean \"POST\"?)",
    "6:20: method \"G T\" (did you mean \"GET\"?)",
    "7:14: protocol \"http2\" (did you mean \"http\"?)",
    "7:23: protocol \"h3\" (did you mean \"h2\"?)",
    "8:10: rule.ports is a whole number, not a text or a list of texts (write a text or a list of texts)",
    "8:17: \"70000\" is no port and no range, such as 443 or 8000-8999 (write 443, or \"8000-8999\")",
    "9:14: \"10.1.2.3/8\" is a network with bits behind its length, such as 10.1.2.3/8 (write addresses and networks; names belong under hosts)",
    "10:10: path \"v1\" never matches (begin it with /)",
    "10:16: path \"/x?y=1\" has a query (write query = { name = \"value\" } beside it)",
    "10:26: \"/a***\" is a pattern with three stars in a row; write * or ** (* is anything but a slash, ** is anything)",
    "11:11: rule.query.q names no value (write \"**\" for any)",
    "11:23: rule.query.r is a fraction (write a text or a list of texts)",
    "12:13: \"a b\" is no header field (write its name)",
    "13:12: \"Mon 8-9\" is no time window, such as \"Mon-Fri 08:00-18:00\" (UTC) (write days and hours in UTC)",
    "14:7: exe \"curl\" is no path (write it from /)",
    "15:14: exe_sha256 \"ab\" (write the 64 hex digits of sha256sum)",
    "16:10: \"a*\" has a star, and patterns are not taken here (write it in full)",
    "17:7: rule.tag and rule.tags are the same key (keep one of the two)",
    "19:8: mode is \"on\" (write one of \"observe\", \"enforce\")",
    "20:12: rule.body_max is \"1GiB\" (write a size from 1 to 64MiB, such as \"1MiB\")",
    "21:9: the limit has no window (add per = \"1m\")",
    "24:11: verdict = \"hold\" is not there yet: nobody could approve what is held (write \"deny\" until approvals are there)",
    "25:1: [[rule]] has no name (add name = \"…\")",
    "27:1: [[rule]] has no verdict (add verdict = \"allow\" or \"deny\")",
];

#[test]
fn each_mistake_in_a_rule_has_its_place() {
    let text = r#"[[rule]]
name = "a b"
verdict = "alow"
hots = ["x"]
hosts = ["https://x.example", "10.0.0.1", "a..b"]
methods = ["psot", "G T"]
protocols = ["http2", "h3"]
ports = [0x1bb, 70000]
addresses = ["10.1.2.3/8"]
paths = ["v1", "/x?y=1", "/a***"]
query = { q = [], r = 1.5 }
headers = { "a b" = "x" }
windows = ["Mon 8-9"]
exe = "curl"
exe_sha256 = "ab"
users = ["a*"]
tag = "ci"
tags = []
mode = "on"
body_max = "1GiB"
limit = { requests = 1 }
[[rule]]
name = "held"
verdict = "hold"
[[rule]]
verdict = "deny"
[[rule]]
name = "none"
"#;
    let found = complaints(&[(MAIN_FILE, text)]);
    for (found, want) in found.iter().zip(MISTAKES) {
        assert_eq!(found.trim_start_matches("sluice.toml:"), *want);
    }
    assert_eq!(found.len(), MISTAKES.len(), "{found:#?}");
}

#[test]
fn rules_that_leave_nothing_to_others() {
    let text = r#"[[rule]]
name = "narrow"
host = "a.example"
path = "/v1/*"
verdict = "allow"
[[rule]]
name = "wide"
host = "*.example"
verdict = "deny"
[[rule]]
name = "lost"
tag = "ci"
hosts = ["a.example", "*.b.example"]
ports = 443
verdict = "allow"
[[rule]]
name = "other"
hosts = ["a.example", "c.test"]
verdict = "allow"
[[rule]]
name = "rest"
verdict = "deny"
[[rule]]
name = "wide"
user = "x"
verdict = "allow"
"#;
    let found = complaints(&[(MAIN_FILE, text)]);
    let want = [
        "10:1: [[rule]] lost is never reached: wide at DIR/sluice.toml:6:1 matches all that it matches and says deny (put the narrower rule first, or take one of the two away)",
        "23:1: [[rule]] wide is never reached: rest at DIR/sluice.toml:20:1 matches everything and says deny (put the narrower rule first, or take one of the two away)",
        "23:1: [[rule]] wide: its name is taken already at DIR/sluice.toml:6:1 (give each rule its own name)",
    ];
    let mut found: Vec<_> = found
        .iter()
        .map(|f| f.trim_start_matches("sluice.toml:").replace("at sluice", "at DIR/sluice"))
        .collect();
    found.sort();
    assert_eq!(found, want);
}

#[test]
fn tests_of_the_rules() {
    let rules = r#"mode = "enforce"
[[rule]]
name = "read"
host = "a.example"
method = "GET"
path = "/v1/*"
verdict = "allow"
[[test]]
name = "good"
url = "https://a.example/v1/x"
expect = "allow"
rule = "read"
[[test]]
name = "not refused"
url = "https://a.example/v1/x"
expect = "deny"
[[test]]
name = "not allowed"
url = "https://a.example/v2/x"
expect = "allow"
rule = "read"
"#;
    let dir = directory(&[(MAIN_FILE, rules)]);
    let config = load(dir.path()).expect("good");
    let policy = crate::policy::Policy::compile(config.policy).expect("rules");
    let base = format!("{}/", dir.path().display());
    let found: Vec<_> = config
        .cases
        .iter()
        .filter_map(|c| c.run(&policy))
        .map(|p| p.to_string().replace(&base, ""))
        .collect();
    assert_eq!(
        found,
        [
            "sluice.toml:13:1: [[test]] not refused: expected deny, got allow by rule read (mend the rule or the test)",
            "sluice.toml:17:1: [[test]] not allowed: expected allow by rule read, got deny by rule (none) (rule read does not \
             match: its paths)",
        ]
    );
    let bad = "[[test]]\nname = \"x\"\nurl = \"a.example\"\nexpect = \"allow\"\njsno = 1\n[[test]]\nurl = \"https://a.example\"\n\
               [[test]]\nname = \"y\"\nurl = \"https://a.example\"\nexpect = \"deny\"\nrule = \"raed\"\n[[rule]]\nname = \"read\"\nverdict = \"deny\"\n";
    assert_eq!(
        complaints(&[(MAIN_FILE, bad)]),
        [
            "sluice.toml:3:7: \"a.example\" is no URL such as https://api.example.com/v1/things?x=1 (write the whole of it)",
            "sluice.toml:5:1: unknown key test.jsno (did you mean test.json?)",
            "sluice.toml:6:1: [[test]] has no name and no expect (add name = \"…\", url = \"https://…\", expect = \"allow\" or \"deny\")",
            "sluice.toml:8:1: [[test]] y: there is no rule \"raed\" (did you mean \"read\"?)",
        ]
    );
}

/// Every key that is taken stands in the shipped file, in its section.
#[test]
fn every_key_is_documented() {
    let shipped = include_str!("../../../../config/sluice.toml");
    let mut keys = 0;
    for section in [
        "",
        "[[intercept]]",
        "[[credential]]",
        "[[mask]]",
        "[record]",
        "[tls]",
        "[dns]",
        "[sockets]",
        "[limits]",
        "[drain]",
        "[paths]",
        "[[rule]]",
        "[[test]]",
    ] {
        let found = complaints(&[(MAIN_FILE, &format!("{section}\n\"?\" = 1\n"))]);
        let list =
            found.iter().find_map(|line| line.split_once("(valid here: ")).expect("the list of keys").1;
        for key in list.trim_end_matches(')').split(", ") {
            let plain = |line: &str| {
                line.starts_with(&format!("#: {key} = "))
                    || line.starts_with(&format!("#: [{key}]"))
                    || line.starts_with(&format!("#: [[{key}]]"))
            };
            let named = shipped.lines().any(plain) || shipped.contains(&format!("`{key}`"));
            assert!(named, "{section} {key} is not in sluice.toml");
            keys += 1;
        }
    }
    assert!(keys > 70, "{keys}");
}
