//! Each place of a request, and each way in which a body comes.

use std::io::{Read as _, Write as _};

use sluice_tests::process::{PATIENCE, run};

use crate::rig::{CARD, EMAIL, IBAN, TAG, WWW, curl, file, kept_nowhere, record, sent, world};

#[test]
fn a_form_of_json_there_and_back() {
    let world = world();
    let body = format!(
        "{{\"b\": 1.0,  \"mail\":\"{}\", \"card\": \"{CARD}\",\n\"deep\":{{\"password\":\"hunter22\"}}, \"a\": [\"{IBAN}\"]}}",
        EMAIL.replace('@', "\\u0040")
    );
    for version in ["--http1.1", "--http2"] {
        let (status, back, ended) = curl(&world, &[version, "--json", &body, &format!("{WWW}/echo")]);
        assert_eq!(status, "200", "{ended:?}");
        let said: serde_json::Value = serde_json::from_str(&back).expect("JSON");
        assert_eq!(said["mail"], EMAIL, "{back}");
        assert_eq!((&said["card"], &said["a"][0]), (&CARD.into(), &IBAN.into()), "{back}");
        assert_eq!(said["deep"]["password"], "hunter22", "{back}");
        assert!(back.starts_with("{\"b\": 1.0,  \"mail\":\""), "the rest is as it came: {back}");
    }
    let sent = sent(&world);
    for value in [EMAIL, "jane.roe", CARD, IBAN, "hunter22"] {
        assert!(!sent.contains(value), "{value}: {sent}");
    }
    assert!(sent.contains("@masked.example"), "{sent}");
    let summary = record(&world, "the masked exchange", |s| {
        s.path.as_deref() == Some("/echo") && s.duration_us.is_some()
    });
    assert_eq!(summary.masked.get("email"), Some(&1), "{summary:?}");
    assert_eq!(summary.masked.values().sum::<u64>(), 4, "{summary:?}");
    kept_nowhere(&world, &[EMAIL, "jane.roe", CARD, IBAN, "hunter22"]);
}

#[test]
fn query_headers_and_forms() {
    let world = world();
    let url = format!("{WWW}/mirror/base64?to={}&customer=4711-secret&x=1", EMAIL.replace('@', "%40"));
    let (status, back, ended) =
        curl(&world, &["-H", &format!("X-Note: call {EMAIL}"), "-H", "X-Customer: 4711-secret", &url]);
    assert_eq!(status, "200", "{ended:?}");
    let told = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, back.trim()).expect("base64");
    let told = String::from_utf8_lossy(&told);
    for value in [EMAIL, "jane.roe", "4711-secret"] {
        assert!(!told.contains(value), "{value}: {told}");
    }
    assert!(told.contains("x=1") && told.contains("x-note: call "), "{told}");
    let (status, back, ended) = curl(
        &world,
        &["--data-urlencode", &format!("mail={EMAIL}"), "-d", "pin=0815&x=y+z", &format!("{WWW}/echo")],
    );
    assert_eq!(status, "200", "{ended:?}");
    assert!(back.ends_with("&pin=0815&x=y+z"), "{back}");
    let sent = sent(&world);
    assert!(!sent.contains("0815") && !sent.contains("jane.roe") && sent.ends_with("&x=y+z"), "{sent}");
    kept_nowhere(&world, &[EMAIL, "jane.roe", "4711-secret", "0815"]);
}

#[test]
fn content_codings_are_undone() {
    let world = world();
    let plain = format!("{{\"mail\":\"{EMAIL}\"}}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).expect("written");
    let path = file(&world, "coded.gz", &gzip.finish().expect("coded"));
    let data = format!("@{}", path.display());
    let json = ["-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip"];
    let (status, back, ended) =
        curl(&world, &[&json[..], &["--data-binary", &data, &format!("{WWW}/echo")]].concat());
    assert_eq!((status.as_str(), back.as_str()), ("200", plain.as_str()), "{ended:?}");
    let sent = sent(&world);
    assert!(sent.contains("@masked.example") && !sent.contains("jane.roe"), "{sent}");
    // An answer that shows a header, in gzip: the job gets it plain, with its own value in it.
    let (status, back, ended) = curl(
        &world,
        &["-H", &format!("X-Note: {EMAIL}"), "-H", "Accept-Encoding: gzip", &format!("{WWW}/mirror/gzip")],
    );
    assert_eq!(status, "200", "{ended:?}");
    assert!(back.contains(&format!("x-note: {EMAIL}")), "{back:?}");
    kept_nowhere(&world, &["jane.roe"]);
}

/// A redirect would have the job carry the value to wherever an upstream likes.
#[test]
fn tokens_in_the_fields_of_an_answer_stay_tokens() {
    let world = world();
    let url = format!("{WWW}/redirect/{EMAIL}");
    let (_, back, ended) = curl(&world, &["-D", "-", &url]);
    let location = back.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
    let location = location.unwrap_or_else(|| panic!("a redirect: {ended:?}"));
    assert!(location.contains("masked.example") && !location.contains("jane.roe"), "{location}");
}

#[test]
fn what_has_nothing_to_hide_goes_as_it_came() {
    let world = world();
    let body = "{ \"a\" : [1, 2.50, \"x\\u0041\"] }";
    let (status, back, ended) =
        curl(&world, &["--json", body, "-H", "Content-Digest: sha-256=:eA==:", &format!("{WWW}/echo")]);
    assert_eq!((status.as_str(), back.as_str()), ("200", body), "{ended:?}");
    let seen = world.seen().requests();
    let field = |name: &str| seen[0].headers.iter().any(|(other, _)| other == name);
    assert!(field("content-digest") && field("content-length") && !field("transfer-encoding"), "{seen:?}");
    let (status, back, ended) = curl(&world, &["-r", "0-3", &format!("{WWW}/bytes/10000")]);
    assert_eq!((status.as_str(), back.len()), ("200", 10_000), "{ended:?}");
    let (status, back, ended) = curl(&world, &["--http2", "-D", "-", &format!("{WWW}/trailers")]);
    assert_eq!(status, "200", "{ended:?}");
    assert!(back.contains("x-checksum: ok"), "{back}");
}

/// A job that sends without end what it reads, and counts what comes back.
const STREAM: &str = r#"
import http.client, sys
size, line = int(sys.argv[1]), sys.argv[2].encode() + b" and more words that are nothing, line by line\n"
block = line * (65536 // len(line))
def pieces():
    left = size
    while left > 0:
        yield block
        left -= len(block)
connection = http.client.HTTPSConnection("www.example.test")
connection.request("POST", "/sink?masked", pieces(), {"Content-Type": "text/plain"}, encode_chunked=True)
print(connection.getresponse().read().decode())
"#;

#[test]
fn a_long_stream_takes_little_memory() {
    let world = crate::rig::with(&crate::rig::RULES.replace("\"/sink\", ", ""));
    // SLUICE_MASK_STREAM: bytes; 10 GiB takes minutes.
    let size = std::env::var("SLUICE_MASK_STREAM").unwrap_or_else(|_| (8 << 20).to_string());
    let before = memory(&world);
    let mut job = world.job(TAG, "python3").expect("a job");
    let ended = run(job.args(["-c", STREAM, &size, EMAIL]), PATIENCE * 60).expect("started");
    assert!(ended.good(), "{ended:?}");
    let after = memory(&world);
    assert!(after < before + (48 << 10), "{before} KiB before, {after} KiB after");
    let mut sent = Vec::new();
    std::io::Cursor::new(world.seen().bodies()).read_to_end(&mut sent).expect("read");
    let sent = String::from_utf8_lossy(&sent).into_owned();
    assert!(sent.contains("@masked.example") && !sent.contains("jane.roe"));
    let summary = record(&world, "the stream", |s| {
        s.path.as_deref() == Some("/sink?masked") && s.duration_us.is_some()
    });
    assert!(summary.masked["email"] > 10_000, "{summary:?}");
}

/// Peak memory of the gate, in KiB.
fn memory(world: &sluice_tests::harness::World) -> u64 {
    let gate = world.daemon().gate_pid().expect("a gate");
    let status = std::fs::read_to_string(format!("/proc/{gate}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
