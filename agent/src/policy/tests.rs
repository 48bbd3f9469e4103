//! Decisions at each moment, and in each mode.

use http::HeaderMap;
use time::OffsetDateTime;

use super::facts::Facts;
use super::past::Withheld;
use super::pattern::Glob;
use super::rule::{Effect, RequestAsks, Rule, Source};
use super::*;
use crate::types::action::{Body, Http};
use crate::types::{Action, Caller, Destination, HostName, Identity, TagName};

fn caller() -> Caller {
    let mut caller = Caller::unknown(TagName::parse("ci").expect("tag"), 4242);
    caller.uid = 1000;
    caller.user = Some("ann".to_owned());
    caller.unit = Some("job.service".to_owned());
    caller
}

fn glob(text: &str) -> Vec<Glob> {
    vec![Glob::parse(text).expect("pattern")]
}

fn rule(name: &str, verdict: Effect, host: &str) -> Rule {
    let mut rule = Rule { name: name.to_owned(), verdict, ..Rule::default() };
    if !host.is_empty() {
        rule.to.hosts = vec![lookup::NamePattern::parse(host).expect("pattern")];
    }
    rule
}

fn policy(mode: Mode, rules: Vec<Rule>) -> Policy {
    Policy::compile(Source { mode, rules, ..Source::default() }).expect("compiles")
}

fn destination() -> Destination {
    Destination::new("192.0.2.7".parse().expect("address"), 443)
}

/// What `decide` says, in short: `allow RULE`, `observed RULE`, `deny RULE`, `more`.
fn says(policy: &Policy, action: Action<'_>) -> String {
    says_of(policy, &caller(), Some(None), action)
}

fn says_of(
    policy: &Policy,
    caller: &Caller,
    identity: Option<Option<&Identity>>,
    action: Action<'_>,
) -> String {
    let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).expect("time");
    match decide(policy, &Asked { caller, identity, action, now }) {
        Verdict::Allow(permit) if permit.verdict() == types::Verdict::Allow => {
            format!("allow {}", permit.rule())
        }
        Verdict::Allow(permit) => format!("observed {}", permit.rule()),
        Verdict::Deny(denied) => format!("deny {}", denied.rule),
        Verdict::More { .. } => "more".to_owned(),
    }
}

fn named(host: &HostName) -> Action<'_> {
    Action::Name { destination: destination(), host: Some(host) }
}

fn get<'a>(host: &'a HostName, path: &'a str, headers: &'a HeaderMap) -> Action<'a> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    Action::Http(Http {
        destination: destination(),
        host: Some(host),
        protocol: "http/1.1",
        method: "GET",
        path,
        query,
        headers,
        body: Body::Unread,
    })
}

fn host(name: &str) -> HostName {
    HostName::parse(name).expect("name")
}

#[test]
fn without_rules_everything_is_observed_or_everything_is_refused() {
    let (a, headers) = (host("a.example"), HeaderMap::new());
    for action in [Action::Connect { destination: destination() }, named(&a), get(&a, "/", &headers)] {
        assert_eq!(says(&Policy::default(), action), "allow observe");
        assert_eq!(says(&policy(Mode::Enforce, Vec::new()), action), "deny (none)");
    }
}

#[test]
fn a_rule_decides_as_soon_as_all_that_it_asks_is_known() {
    let policy = policy(
        Mode::Enforce,
        vec![rule("a", Effect::Allow, "a.example"), rule("b", Effect::Deny, "*.b.example")],
    );
    let headers = HeaderMap::new();
    assert_eq!(says(&policy, Action::Connect { destination: destination() }), "more");
    for (name, want) in [
        ("a.example", "allow a"),
        ("x.b.example", "deny b"),
        ("b.example", "deny (none)"),
        ("c.example", "deny (none)"),
    ] {
        let name = host(name);
        assert_eq!(says(&policy, named(&name)), want, "{name}");
        assert_eq!(says(&policy, get(&name, "/", &headers)), want, "{name}");
        let tunnel = Action::Tunnel { destination: destination(), host: Some(&name), why: "unread" };
        assert_eq!(says(&policy, tunnel), want, "{name}");
    }
    let nameless = Action::Tunnel { destination: destination(), host: None, why: "unread" };
    assert_eq!(says(&policy, nameless), "deny (none)");
    assert_eq!(says(&policy, Action::Name { destination: destination(), host: None }), "more");
}

#[test]
fn an_earlier_rule_that_may_yet_match_holds_the_later_ones_back() {
    let mut admin = rule("admin", Effect::Deny, "a.example");
    admin.request.paths = glob("/admin/**");
    let policy = policy(Mode::Enforce, vec![admin, rule("a", Effect::Allow, "a.example")]);
    let (a, headers) = (host("a.example"), HeaderMap::new());
    assert_eq!(says(&policy, named(&a)), "more");
    assert_eq!(says(&policy, get(&a, "/admin/x", &headers)), "deny admin");
    assert_eq!(says(&policy, get(&a, "/", &headers)), "allow a");
    let tunnel = Action::Tunnel { destination: destination(), host: Some(&a), why: "unread" };
    assert_eq!(says(&policy, tunnel), "allow a", "a tunnel has no path");
}

#[test]
fn every_value_of_a_header_and_a_parameter_must_match() {
    let mut one = rule("one", Effect::Allow, "");
    one.request.query.insert("key".to_owned(), glob("good*"));
    one.request.headers.insert("x-kind".to_owned(), glob("plain"));
    let policy = policy(Mode::Enforce, vec![one]);
    let a = host("a.example");
    for (path, values, want) in [
        ("/?key=good", &["plain"][..], "allow one"),
        ("/?key=g%6Fod1&other=1", &["plain", "plain"], "allow one"),
        ("/?key=good&key=evil", &["plain"], "deny (none)"),
        ("/?key=good", &["plain", "evil"], "deny (none)"),
        ("/?key=good", &[], "deny (none)"),
        ("/", &["plain"], "deny (none)"),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-kind", value.parse().expect("value"));
        }
        assert_eq!(says(&policy, get(&a, path, &headers)), want, "{path} {values:?}");
    }
}

#[test]
fn a_mode_is_the_rules_or_the_tags_or_the_whole_ones() {
    let headers = HeaderMap::new();
    let mut soft = rule("soft", Effect::Deny, "soft.example");
    soft.mode = Some(Mode::Observe);
    let rules = vec![soft, rule("hard", Effect::Deny, "hard.example")];
    let (soft, hard, other) = (host("soft.example"), host("hard.example"), host("other.example"));
    let enforced = policy(Mode::Enforce, rules.clone());
    assert_eq!(says(&enforced, get(&soft, "/", &headers)), "observed soft");
    assert_eq!(says(&enforced, get(&hard, "/", &headers)), "deny hard");
    let observed = policy(Mode::Observe, rules.clone());
    assert_eq!(says(&observed, get(&hard, "/", &headers)), "observed hard");
    assert_eq!(says(&observed, get(&other, "/", &headers)), "observed (none)");
    let tag_modes = [(TagName::parse("ci").expect("tag"), Mode::Observe)].into();
    let tagged = Policy::compile(Source { mode: Mode::Enforce, tag_modes, rules, ..Source::default() })
        .expect("compiles");
    assert_eq!(says(&tagged, get(&hard, "/", &headers)), "observed hard");
    let mut another = caller();
    another.tag = TagName::parse("other").expect("tag");
    assert_eq!(says_of(&tagged, &another, Some(None), get(&hard, "/", &headers)), "deny hard");
}

#[test]
fn an_identity_is_nobodys_when_it_has_ended_and_not_yet_known_before_the_request() {
    let mut ml = rule("ml", Effect::Allow, "");
    ml.caller.groups = vec!["ml".to_owned()];
    ml.caller.claims.insert("realm.roles".to_owned(), glob("train*"));
    let policy = policy(Mode::Enforce, vec![ml]);
    let (a, headers) = (host("a.example"), HeaderMap::new());
    let identity = |groups: &str, claims: &str, expires| Identity {
        issuer: "https://idp.example".to_owned(),
        subject: "ann".to_owned(),
        groups: vec![groups.to_owned()],
        claims: serde_json::from_str(claims).expect("JSON"),
        expires,
    };
    let of =
        |identity: Option<Option<&Identity>>| says_of(&policy, &caller(), identity, get(&a, "/", &headers));
    let good = r#"{"realm": {"roles": ["x", "training"]}}"#;
    assert_eq!(of(Some(Some(&identity("ml", good, i64::MAX)))), "allow ml");
    assert_eq!(of(Some(Some(&identity("ml", good, 1_795_000_000)))), "deny (none)", "it has ended");
    assert_eq!(of(Some(Some(&identity("web", good, i64::MAX)))), "deny (none)");
    assert_eq!(
        of(Some(Some(&identity("ml", r#"{"realm": {"roles": [["training"]]}}"#, i64::MAX)))),
        "deny (none)"
    );
    assert_eq!(of(Some(None)), "deny (none)");
    assert_eq!(of(None), "more");
}

/// Rules that ask for every mixture of hosts, methods, paths, fields and parameters, against requests of every mixture:
/// what the index leaves out does not match, whichever way the rule decides and whatever of a past request is withheld.
#[test]
fn the_index_hides_no_rule() {
    const HOSTS: [&str; 6] = ["", "a.example", "*.example", "*", "*.a.example", "b.example"];
    const PATHS: [&[&str]; 5] = [&[], &["/v1/**"], &["**/x", "/v"], &["/v1/*/x"], &["/v1/a/x", "*"]];
    let mut rules = Vec::new();
    for n in 0..HOSTS.len() * 3 * PATHS.len() * 4 {
        let mut rule = rule(&n.to_string(), [Effect::Allow, Effect::Deny][n % 2], HOSTS[n % HOSTS.len()]);
        let n = n / HOSTS.len();
        rule.request.methods =
            [&[][..], &["GET"], &["POST", "PUT"]][n % 3].iter().map(ToString::to_string).collect();
        let n = n / 3;
        rule.request.paths = PATHS[n % PATHS.len()].iter().flat_map(|path| glob(path)).collect();
        if n / PATHS.len() % 2 == 1 {
            rule.request.headers.insert("x-team".to_owned(), glob("r*"));
        }
        if n / PATHS.len() / 2 == 1 {
            rule.request.query.insert("page".to_owned(), glob("1"));
        }
        rules.push(rule);
    }
    let all = policy(Mode::Enforce, rules);
    let (mut none, mut red, mut blue) = (HeaderMap::new(), HeaderMap::new(), HeaderMap::new());
    none.insert("accept", "*/*".parse().expect("value"));
    red.insert("x-team", "red".parse().expect("value"));
    blue.insert("X-Team", "blue".parse().expect("value"));
    let hides =
        Withheld { headers: vec!["x-team".to_owned()], query: vec!["page".to_owned()], ..Withheld::NOTHING };
    let pathless = Withheld { path: true, headers_cut: true, ..Withheld::NOTHING };
    let names = ["a.example", "b.example", "x.a.example", "example", "other.test"].map(host);
    let mut matched = 0;
    for (name, path) in names.iter().flat_map(|name| {
        ["/", "/v", "/v1/", "/v1/a/x", "/v1/a/x?page=1", "/v?page=2", "/v1/b/x?", "x"]
            .map(|path| (name, path))
    }) {
        for (headers, withheld) in [&none, &red, &blue]
            .into_iter()
            .flat_map(|headers| [&past::NOTHING, &hides, &pathless].map(|withheld| (headers, withheld)))
        {
            let Action::Http(http) = get(name, path, headers) else { unreachable!("a request") };
            for action in ["GET", "PUT", "get"].map(|method| Action::Http(Http { method, ..http })) {
                matched += not_hidden(&all, action, withheld);
            }
            matched += not_hidden(&all, named(name), withheld);
            let tunnel = Action::Tunnel { destination: destination(), host: Some(name), why: "unread" };
            matched += not_hidden(&all, tunnel, withheld);
        }
    }
    matched += not_hidden(&all, Action::Connect { destination: destination() }, &past::NOTHING);
    assert!(matched > 10_000, "{matched}");
}

/// Each rule that may match is a candidate; how many there are.
fn not_hidden(policy: &Policy, action: Action<'_>, withheld: &Withheld) -> usize {
    let caller = caller();
    let asked = Asked { caller: &caller, identity: Some(None), action, now: OffsetDateTime::UNIX_EPOCH };
    let facts = Facts::without(&asked, withheld);
    let candidates: Vec<usize> = policy.index.candidates(&facts).collect();
    assert!(candidates.is_sorted(), "{candidates:?}");
    let may = |at: &usize| !matches!(policy.rules[*at].judge(&facts), Match::No(_));
    let all: Vec<usize> = (0..policy.rules.len()).filter(may).collect();
    let left: Vec<usize> = candidates.into_iter().filter(may).collect();
    assert_eq!(left, all, "{action:?} {withheld:?}");
    all.len()
}

/// Denials that depend on what is not known yet, and nothing else: the name is refused before it goes further, but a
/// connection is listened to; a rule that is only tried keeps the way open.
#[test]
fn what_nothing_can_allow_is_refused_at_its_name() {
    let path = |name: &str, mode| Rule {
        name: name.to_owned(),
        mode,
        request: RequestAsks { paths: vec![Glob::parse("/x").expect("glob")], ..RequestAsks::default() },
        ..Rule::default()
    };
    let caller = Caller::unknown(TagName::parse("ci").expect("tag"), 1);
    let destination = Destination::new([192, 0, 2, 1].into(), 443);
    let host = HostName::parse("a.example").expect("name");
    let judge = |rules: Vec<Rule>, action| {
        let source = Source { mode: Mode::Enforce, rules, ..Source::default() };
        let policy = Policy::compile(source).expect("rules");
        let now = OffsetDateTime::UNIX_EPOCH;
        decide(&policy, &Asked { caller: &caller, identity: None, action, now })
    };
    let name = Action::Name { destination, host: Some(&host) };
    assert!(matches!(judge(vec![path("no", None)], name), Verdict::Deny(denied) if denied.rule == NONE));
    assert!(matches!(judge(vec![path("no", None)], Action::Connect { destination }), Verdict::More { .. }));
    assert!(matches!(judge(vec![path("tried", Some(Mode::Observe))], name), Verdict::More { .. }));
}
