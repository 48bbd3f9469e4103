//! Upstreams that tell what they were sent: the client never sees its credential, and the record has none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sluice_tests::canary::{Found, Search};

use crate::rig::{Keys, WWW, credential, curl, record, rule, seen, sluice, world};

const HOW: [&str; 11] = [
    "plain",
    "base64",
    "base64url",
    "hex",
    "url",
    "error",
    "one",
    "gzip-clean",
    "head",
    "location",
    "trailer",
];

#[test]
fn what_an_upstream_echoes_is_masked() {
    let keys = Keys::new();
    let secrets = ["sk-mirror/canary+7f3a9c1d==", "basic-mirror-canary-51be02", "query-mirror-canary-c0ffee"];
    let ways = ["inject.bearer = true", "inject.basic = \"me\"", "inject.query = \"key\""];
    let mut config = String::new();
    for (at, (secret, way)) in secrets.iter().zip(ways).enumerate() {
        let file = keys.put(&format!("{at}"), secret);
        config += &credential(&format!("c{at}"), &file, &format!("hosts = [\"www.example.test\"]\n{way}"));
        config += &rule(&format!("c{at}"));
    }
    let world = world(&config);
    let pair = BASE64_STANDARD.encode(format!("me:{}", secrets[1]));
    let named = secrets.iter().copied().chain([pair.trim_end_matches('=')]);
    let search = Search::new(named.map(|secret| (secret, secret))).expect("a search");
    let mut given = Vec::new();
    for at in 0..secrets.len() {
        for (how, version) in HOW.iter().flat_map(|how| [(how, "--http1.1"), (how, "--http2")]) {
            let url = format!("https://{WWW}/mirror/{how}?is=c{at}");
            let (status, body, ended) = curl(&world, &[version, "-i", "--raw", "-H", "TE: trailers", &url]);
            let want = match *how {
                "head" | "location" => "302",
                "error" => "401",
                _ => "200",
            };
            assert_eq!(status, want, "{how} {version}: {body}{}", ended.stderr);
            assert!(
                body.contains("[credential") || matches!(*how, "gzip-clean" | "trailer"),
                "{how} {version}: {body}"
            );
            given.push((how, version, format!("{body}{}", ended.stderr)));
        }
        // Inside a coding nothing can be masked.
        let url = format!("https://{WWW}/mirror/gzip?is=c{at}");
        let (_, body, ended) = curl(&world, &["--http1.1", "--raw", &url]);
        assert!(!ended.good(), "{body}");
        given.push((&"gzip", "--http1.1", body));
    }
    let cut = record(&world, "the one that was cut", |s| {
        s.path.as_deref().is_some_and(|p| p.starts_with("/mirror/gzip?")) && s.error.is_some()
    });
    assert!(cut.error.as_deref().is_some_and(|e| e.contains("shows a credential inside")), "{cut:?}");
    let mut found = Found::new();
    for (how, version, text) in &given {
        search.text(&format!("{how} {version}"), text, &mut found);
    }
    // The upstream was sent them: what was searched for was there.
    assert!(seen(&world, "/mirror/plain?is=c2&key=").len() == 2);
    let store = world.daemon().store().display().to_string();
    let shown = sluice(&world, &["show", &format!("{}/{}", cut.session, cut.exchange), "--store", &store]);
    search.text("show", &shown.stdout, &mut found);
    for place in ["state", "runtime"] {
        search.place(&world.space().dir().join(place), &mut found).expect("searched");
    }
    assert_eq!(found, Found::new());
}
