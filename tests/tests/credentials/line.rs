//! The line: a client without a key, an upstream that gets one.

use sluice::types::Verdict;
use sluice_tests::client;
use sluice_tests::process::{PATIENCE, run};
use sluice_tests::upstream::Request;

use crate::rig::{Keys, TAG, WWW, credential, curl, field, record, rule, seen, sluice, world};

/// Name, secret, way in, field (none: the query), and what stands there.
const WAYS: [(&str, &str, &str, &str, &str); 7] = [
    ("bearer", "sk-bearer-canary", "bearer = true", "authorization", "Bearer sk-bearer-canary"),
    ("header", "key-header-canary", "header = \"X-Api-Key\"", "x-api-key", "key-header-canary"),
    (
        "prefix",
        "prefix-canary",
        "header = \"authorization\"\ninject.prefix = \"token \"",
        "authorization",
        "token prefix-canary",
    ),
    ("basic", "basic-canary", "basic = \"robot\"", "authorization", "Basic cm9ib3Q6YmFzaWMtY2FuYXJ5"),
    ("pair", "me:pair-canary", "basic = true", "authorization", "Basic bWU6cGFpci1jYW5hcnk="),
    ("query", "a&b=query-canary", "query = \"key\"", "", "key=a%26b%3Dquery-canary"),
    ("cookie", "cookie-canary", "cookie = \"session\"", "cookie", "other=1; session=cookie-canary"),
];

/// The caller's own, in each place that there is.
const MINE: [&str; 8] = [
    "-H",
    "Authorization: Bearer sk-sluice-placeholder",
    "-H",
    "X-API-KEY: sk-sluice-placeholder",
    "-H",
    "X_Api_Key: sk-sluice-placeholder",
    "-b",
    "session=sk-sluice-placeholder; other=1",
];

/// What the upstream was sent: the credential where it belongs, and nothing of the caller's in any such place.
fn check(request: &Request, place: &str, wanted: &str) {
    let sent = match place {
        "" => vec![request.path.rsplit('&').next().expect("a query")],
        place => field(request, place),
    };
    assert_eq!(sent, [wanted], "{request:?}");
    // Another's cookie stays, unless that is where the credential goes.
    let placeholder = format!("{request:?}").contains("sk-sluice-placeholder");
    assert_eq!(placeholder, place != "cookie", "{request:?}");
    let fields: usize =
        ["authorization", "x-api-key", "x_api_key"].iter().map(|name| field(request, name).len()).sum();
    assert_eq!(fields, usize::from(!matches!(place, "" | "cookie")), "{request:?}");
}

#[test]
fn each_way_into_a_request() {
    let keys = Keys::new();
    let mut config = String::new();
    for (name, text, way, ..) in WAYS {
        let file = keys.put(name, format!("{text}\n"));
        config += &credential(name, &file, &format!("hosts = [\"www.example.test\"]\ninject.{way}"));
        config += &rule(name);
    }
    let world = world(&config);
    for (name, _, _, place, wanted) in WAYS {
        for version in ["--http1.1", "--http2"] {
            let path = format!("/status/200?is={name}&access_token=sk-sluice-placeholder&v={version}");
            let url = format!("https://{WWW}{path}");
            let (status, body, ended) = curl(&world, &[&[version, &url][..], &MINE].concat());
            assert_eq!(status, "200", "{name}: {body} {ended:?}");
            let requests = seen(&world, &format!("/status/200?is={name}&v={version}"));
            assert_eq!(requests.len(), 1, "{name}: {requests:?}");
            check(&requests[0], place, wanted);
        }
        let summary = record(&world, name, |s| s.credential.as_deref() == Some(name));
        assert_eq!((summary.verdict, summary.rule), (Verdict::Allow, Some(format!("for-{name}"))));
        let store = world.daemon().store().display().to_string();
        let shown = sluice(&world, &["show", &summary.session, "--store", &store]);
        assert!(shown.good() && shown.stdout.contains(&format!("[credential {name}]")), "{shown:?}");
        assert!(!shown.stdout.contains("-canary"), "{shown:?}");
    }
}

#[test]
fn the_openai_package_with_a_placeholder() {
    let keys = Keys::new();
    let file = keys.put("openai", "sk-proj-openai-canary-0123456789\n");
    let config = credential(
        "openai",
        &file,
        "hosts = [\"api.openai.com\"]\nmethods = [\"POST\"]\npaths = [\"/v1/**\"]\ninject.bearer = true",
    ) + "[[rule]]\nname = \"openai\"\nhost = \"api.openai.com\"\nverdict = \"allow\"\ncredential = \"openai\"\n";
    let world = world(&config);
    let mut job = world.job(TAG, client::python().expect("python")).expect("a job");
    job.arg(client::program("openai_chat.py")).env("OPENAI_API_KEY", "sk-sluice-placeholder");
    let ended = run(&mut job, PATIENCE).expect("started");
    assert!(ended.good(), "{ended:?}");
    let requests = seen(&world, "/v1/");
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!(
            field(request, "authorization"),
            ["Bearer sk-proj-openai-canary-0123456789"],
            "{request:?}"
        );
        assert!(!format!("{request:?}").contains("placeholder"), "{request:?}");
    }
    assert!(!ended.stdout.contains("canary") && !ended.stderr.contains("canary"));
    let summary = record(&world, "a chat", |s| s.path.as_deref() == Some("/v1/chat/completions"));
    assert_eq!(summary.credential.as_deref(), Some("openai"));

    let (status, body, _) = curl(&world, &["https://api.openai.com/v1/models"]);
    assert!(status == "403" && body.contains("credential openai: it is not bound to this method"), "{body}");
    let (status, body, _) =
        curl(&world, &["-d", "{}", "--path-as-is", "https://api.openai.com/v1/x/../../admin"]);
    assert!(status == "403" && body.contains("dot segments"), "{body}");
}

#[test]
fn the_anthropic_package_with_a_placeholder() {
    const SECRET: &str = "sk-ant-api03-canary-0123456789";
    let keys = Keys::new();
    let file = keys.put("anthropic", format!("{SECRET}\n"));
    let config = credential(
        "anthropic",
        &file,
        "hosts = [\"api.anthropic.com\"]\ninject.header = \"x-api-key\"",
    ) + "[[rule]]\nname = \"claude\"\nhost = \"api.anthropic.com\"\nverdict = \"allow\"\ncredential = \"anthropic\"\n";
    let world = world(&config);
    let mut job = world.job(TAG, client::python().expect("python")).expect("a job");
    job.arg(client::program("anthropic_chat.py")).env("ANTHROPIC_API_KEY", "sk-sluice-placeholder");
    let ended = run(&mut job, PATIENCE).expect("started");
    assert!(ended.good(), "{ended:?}");
    assert_eq!(ended.stdout, "echo: plain message end_turn\necho: streamed message 3\n");
    let requests = seen(&world, "/v1/messages");
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(field(request, "x-api-key"), [SECRET], "{request:?}");
        assert!(!format!("{request:?}").contains("placeholder"), "{request:?}");
    }
    assert!(!ended.stdout.contains("canary") && !ended.stderr.contains("canary"));
    let summary = record(&world, "a message", |s| s.path.as_deref() == Some("/v1/messages"));
    assert_eq!(summary.credential.as_deref(), Some("anthropic"));
}

#[test]
fn what_the_upstream_refuses_is_fetched_anew_once() {
    let keys = Keys::new();
    let binding = "hosts = [\"www.example.test\"]\ninject.bearer = true\n";
    // Another value each time.
    let command = "[[credential]]\nname = \"fresh\"\nsource.command = [\"/bin/cat\", \"/proc/sys/kernel/random/uuid\"]\n";
    let same = keys.put("same", "never-good");
    let config =
        format!("{command}{binding}") + &credential("same", &same, binding) + &rule("fresh") + &rule("same");
    let world = world(&config);
    let url = |path: &str| format!("https://{WWW}/status/401?is={path}");
    for (path, args, times) in [("fresh&1", &["--http2"][..], 2), ("same", &["--http2"], 1)] {
        let (status, body, _) = curl(&world, &[args, &[&url(path)]].concat());
        assert_eq!(status, "401", "{body}");
        let requests = seen(&world, &format!("/status/401?is={path}"));
        let mut values: Vec<_> = requests.iter().map(|r| field(r, "authorization").join(" ")).collect();
        values.dedup();
        assert_eq!((requests.len(), values.len()), (times, times), "{path}: {requests:?}");
    }
    // Refused again within moments: an upstream that always refuses does not have a value minted by each request.
    let (status, _, _) = curl(&world, &["--http1.1", &url("fresh&2")]);
    assert_eq!((status.as_str(), seen(&world, "/status/401?is=fresh&2").len()), ("401", 1));
    let summary = record(&world, "the retried", |s| s.path.as_deref() == Some("/status/401?is=fresh&1"));
    assert_eq!((summary.status, summary.credential.as_deref()), (Some(401), Some("fresh")));
}

#[test]
fn a_request_is_sent_again_on_the_same_http1_connection() {
    let config = "[[credential]]\nname = \"fresh\"\nsource.command = [\"/bin/cat\", \"/proc/sys/kernel/random/uuid\"]\n\
                  hosts = [\"www.example.test\"]\ninject.bearer = true\n"
        .to_owned()
        + "[[rule]]\nname = \"all\"\nverdict = \"allow\"\ncredential = \"fresh\"\nwhen = 'request.json.a == 1'\n";
    let world = world(&config);
    let url = format!("https://{WWW}/status/401");
    let (status, body, _) =
        curl(&world, &["--http1.1", "-H", "Content-Type: application/json", "-d", "{\"a\": 1}", &url]);
    assert_eq!(status, "401", "{body}");
    let requests = seen(&world, "/status/401");
    assert_eq!(requests.len(), 2, "its body was read for the rule, so it could be sent again: {requests:?}");
    assert!(requests.iter().all(|r| field(r, "content-length") == ["8"]), "{requests:?}");
    let summary = record(&world, "the retried", |s| s.status == Some(401));
    assert_eq!(summary.bytes_up, 8, "recorded once");
}
