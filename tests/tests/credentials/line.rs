//! The line: a client without a key, an upstream that gets one.

use sluice::types::Verdict;
use sluice_tests::client;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{Keys, TAG, WWW, credential, curl, field, record, rule, seen, sluice, world};

#[test]
fn each_way_into_a_request() {
    let keys = Keys::new();
    let mut config = String::new();
    for (name, text, inject) in [
        ("bearer", "sk-bearer-canary", "inject.bearer = true"),
        ("header", "key-header-canary", "inject.header = \"X-Api-Key\""),
        ("prefix", "prefix-canary", "inject.header = \"authorization\"\ninject.prefix = \"token \""),
        ("basic", "basic-canary", "inject.basic = \"robot\""),
        ("pair", "me:pair-canary", "inject.basic = true"),
        ("query", "a&b=query-canary", "inject.query = \"key\""),
        ("cookie", "cookie-canary", "inject.cookie = \"session\""),
    ] {
        let file = keys.put(name, format!("{text}\n"));
        let binding = "hosts = [\"www.example.test\"]";
        config += &credential(name, &file, &format!("{binding}\n{inject}"));
        config += &rule(name);
    }
    let world = world(&config);
    let mine = [
        "-H",
        "Authorization: Bearer sk-sluice-placeholder",
        "-H",
        "X-API-KEY: sk-sluice-placeholder",
        "-H",
        "X_Api_Key: sk-sluice-placeholder",
        "-b",
        "session=sk-sluice-placeholder; other=1",
    ];
    for (name, place, wanted) in [
        ("bearer", "authorization", "Bearer sk-bearer-canary"),
        ("header", "x-api-key", "key-header-canary"),
        ("prefix", "authorization", "token prefix-canary"),
        ("basic", "authorization", "Basic cm9ib3Q6YmFzaWMtY2FuYXJ5"),
        ("pair", "authorization", "Basic bWU6cGFpci1jYW5hcnk="),
        ("query", "", "key=a%26b%3Dquery-canary"),
        ("cookie", "cookie", "other=1; session=cookie-canary"),
    ] {
        for version in ["--http1.1", "--http2"] {
            let path = format!("/status/200?is={name}&access_token=sk-sluice-placeholder&v={version}");
            let url = format!("https://{WWW}{path}");
            let (status, body, ended) = curl(&world, &[&[version, &url][..], &mine].concat());
            assert_eq!(status, "200", "{name}: {body} {ended:?}");
            let path = format!("/status/200?is={name}&v={version}");
            let requests = seen(&world, &path);
            assert_eq!(requests.len(), 1, "{name}: {requests:?}");
            let request = &requests[0];
            let sent = if place.is_empty() {
                vec![request.path.rsplit('&').next().expect("a query")]
            } else {
                field(request, place)
            };
            assert_eq!(sent, [wanted], "{name} {version}: {request:?}");
            let placeholder = format!("{request:?}").contains("sk-sluice-placeholder");
            assert_eq!(
                placeholder,
                name != "cookie" && place != "cookie",
                "the cookie stays where none is injected: {request:?}"
            );
            let all = ["authorization", "x-api-key", "x_api_key"]
                .map(|field_name| field(request, field_name).len());
            assert_eq!(
                all.iter().sum::<usize>(),
                usize::from(!place.is_empty() && place != "cookie"),
                "{request:?}"
            );
        }
        let summary = record(&world, name, |s| s.credential.as_deref() == Some(name));
        assert_eq!((summary.verdict, summary.rule), (Verdict::Allow, Some(format!("for-{name}"))));
        let shown = sluice(
            &world,
            &["show", &summary.session, "--store", world.daemon().store().to_str().expect("text")],
        );
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
