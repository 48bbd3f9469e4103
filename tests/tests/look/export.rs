//! The formats, read by those that they are for.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice_tests::client;
use sluice_tests::process::{PATIENCE, run};

use crate::scene::{CHAT, ESCAPES, LONG, export, id, lines, sessions, sluice};
use crate::show::{came_when_they_were_sent, nanos};

fn entry<'a>(har: &'a Value, url: &str, version: &str) -> &'a Value {
    let entries = har["log"]["entries"].as_array().expect("entries");
    let found = entries.iter().find(|e| {
        let request = &e["request"];
        request["url"].as_str().is_some_and(|u| u.contains(url)) && request["httpVersion"] == version
    });
    found.unwrap_or_else(|| panic!("no {url} {version}"))
}

#[test]
fn har_is_what_the_schema_and_browsers_ask_for() {
    let file = export("har", "all.har", &[]);
    let node = client::node().expect("node clients");
    let mut check = Command::new("/usr/bin/node");
    let ended = run(check.arg(node.join("har_check.mjs")).arg(&file), PATIENCE).expect("started");
    assert!(ended.good(), "{ended:?}");
    let http = sessions().iter().filter(|s| s.method.is_some() && s.protocol != "dns").count();
    assert_eq!(ended.stdout.trim(), http.to_string());
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(!text.contains(['\x1b', '\u{9b}', '\u{202e}']), "nothing drives a terminal");
    let har: Value = serde_json::from_str(&text).expect("JSON");

    let echo = entry(&har, "/echo?q=1", "HTTP/1.1");
    assert_eq!(echo["request"]["url"], "https://www.example.test/echo?q=1&name=a%20b");
    assert_eq!(echo["request"]["queryString"][1], json!({"name": "name", "value": "a b"}));
    assert_eq!(echo["request"]["postData"]["text"], r#"{"b":[1.0e2,{}],"a":"text"}"#);
    assert_eq!(echo["response"]["content"]["text"], r#"{"b":[1.0e2,{}],"a":"text"}"#);
    assert_eq!(
        (&echo["response"]["status"], &echo["serverIPAddress"]),
        (&json!(200), &json!("203.0.113.10"))
    );
    assert_eq!((&echo["_sluice"]["rule"], &echo["_sluice"]["verdict"]), (&json!("all"), &json!("allow")));
    assert!(echo["_sluice"]["masked"].is_object() && echo["_sluice"]["identity"].is_null());
    let form = entry(&har, "/echo", "HTTP/1.1");
    assert_eq!(form["_sluice"]["tag"], "job");
    let xml = har["log"]["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .find(|e| e["request"]["postData"]["mimeType"] == "application/xml");
    assert_eq!(xml.expect("the XML")["response"]["content"]["text"], format!("<note>{ESCAPES}</note>"));

    // What was coded is decoded and says so; what was cut says so; what was refused has its refusal.
    let gzip = entry(&har, "/mirror/gzip", "HTTP/2");
    assert!(gzip["response"]["content"]["text"].as_str().expect("text").contains("in-a-haystack"), "{gzip}");
    assert!(gzip["response"]["content"]["compression"].is_i64());
    let long = entry(&har, "/sink", "HTTP/1.1");
    let kept = long["_sluice"]["request_body"]["kept"].as_u64().expect("a number");
    assert_eq!((long["request"]["bodySize"].as_u64(), kept < LONG as u64), (Some(LONG as u64), true));
    let comment = format!("cut: the first {kept} of {LONG} bytes are here");
    assert_eq!(long["request"]["postData"]["comment"], comment);
    assert_eq!(entry(&har, "/denied/path", "HTTP/2")["_sluice"]["verdict"], "deny");

    socket_in(&har);
}

fn socket_in(har: &Value) {
    let socket = entry(har, "wss://www.example.test/ws", "HTTP/1.1");
    let said: Vec<(&str, u64, &str)> = socket["_webSocketMessages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| {
            (
                m["type"].as_str().unwrap_or(""),
                m["opcode"].as_u64().unwrap_or(0),
                m["data"].as_str().unwrap_or(""),
            )
        })
        .filter(|(_, opcode, _)| *opcode < 8)
        .collect();
    for way in ["send", "receive"] {
        let one: Vec<_> = said.iter().filter(|(w, ..)| *w == way).map(|(_, o, d)| (*o, *d)).collect();
        assert_eq!(one, [(1, "a message on a socket"), (2, &*STANDARD.encode(b"\x00\x01\xff"))], "{way}");
    }
}

#[test]
fn json_lines_have_all_of_it() {
    let all = lines(&export("jsonl", "all.jsonl", &["--host", "*.openai.com"]));
    assert_eq!(all.len(), 1);
    let line = &all[0];
    assert_eq!(line["request"]["body"]["text"], CHAT);
    assert_eq!(line["session"]["caller"]["tag"], "job");
    assert_eq!(line["response"]["heads"][0]["status"], 200);
    let answer = &line["conversation"]["answer"]["turns"][0];
    assert_eq!(
        (&answer["role"], &answer["parts"][0]["content"]),
        (&json!("assistant"), &json!("echo: the quick brown fox"))
    );
    // By ids, and one exchange.
    let id = id("/mirror/gzip", "");
    let one = sluice(&["export", "--format", "jsonl", &id]);
    let line: Value = serde_json::from_str(&one.stdout).expect("one line");
    let decoded = line["response"]["body"]["decoded"]["text"].as_str().expect("decoded");
    assert!(decoded.contains("in-a-haystack") && line["response"]["body"]["base64"].is_string());
    let none = sluice(&["export", "--format", "jsonl", "00000000"]);
    assert!(!none.good() && none.stderr.contains("no session 00000000"), "{none:?}");
}

#[test]
fn otlp_logs_speak_the_conventions() {
    let file = export("otlp", "all.otlp.jsonl", &[]);
    let requests = lines(&file);
    let records: Vec<&Value> = requests
        .iter()
        .flat_map(|r| r["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().expect("records"))
        .collect();
    assert_eq!(records.len(), sessions().len());
    let get = |record: &Value, key: &str| -> Value {
        let found = record["attributes"].as_array().expect("attributes").iter().find(|a| a["key"] == key);
        found.map_or(Value::Null, |a| a["value"].clone())
    };
    let chat =
        records.iter().find(|r| get(r, "gen_ai.provider.name")["stringValue"] == "openai").expect("the chat");
    for (key, value) in [
        ("http.request.method", json!({"stringValue": "POST"})),
        ("url.full", json!({"stringValue": "https://api.openai.com/v1/chat/completions"})),
        ("http.response.status_code", json!({"intValue": "200"})),
        ("server.address", json!({"stringValue": "api.openai.com"})),
        ("network.protocol.version", json!({"stringValue": "2"})),
        ("gen_ai.request.model", json!({"stringValue": "gpt-4o-mini"})),
        ("gen_ai.response.finish_reasons", json!({"arrayValue": {"values": [{"stringValue": "stop"}]}})),
        ("sluice.verdict", json!({"stringValue": "allow"})),
    ] {
        assert_eq!(get(chat, key), value, "{key}");
    }
    let said = get(chat, "gen_ai.input.messages")["stringValue"].as_str().expect("messages").to_owned();
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        said[1],
        json!({"role": "user", "parts": [{"type": "text", "content": "the quick brown fox"}]})
    );
    assert!(chat["timeUnixNano"].as_str().expect("text").len() == 19 && chat["severityNumber"] == 9);
    let denied =
        records.iter().find(|r| get(r, "sluice.verdict")["stringValue"] == "deny").expect("the refused");
    assert_eq!(denied["severityNumber"], 13);
    let long = records.iter().find(|r| get(r, "url.path")["stringValue"] == "/sink").expect("the long");
    let trouble = get(long, "sluice.request.body.trouble");
    assert!(trouble["stringValue"].as_str().is_some_and(|t| t.starts_with("cut: the first ")), "{trouble}");
}

/// What tshark finds: a field's values, one line a packet that passes the filter.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-n", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let ended = run(&mut command, PATIENCE * 2).expect("tshark is started");
    assert!(ended.good(), "{ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn wireshark_reads_the_packets() {
    let file = export("pcapng", "all.pcapng", &[]);
    let bad = tshark(
        &file,
        "_ws.malformed || (_ws.expert.severity >= 6291456 && !(_ws.expert.message contains \"Unencrypted HTTP\")) || tcp.checksum.status == 0 || ip.checksum.status == 0",
        &["frame.number", "_ws.expert.message"],
    );
    assert!(bad.is_empty(), "{bad:#?}");
    let requests = tshark(
        &file,
        "http.request",
        &["http.request.method", "http.request.uri", "http.host", "ip.dst", "tcp.dstport"],
    );
    for want in [
        "POST|/echo?q=1&name=a%20b|www.example.test|203.0.113.10|443",
        "HEAD|/bytes/70|www.example.test|203.0.113.10|443",
        "GET|/bytes/300|www.example.test|203.0.113.10|80",
        "POST|/v1/chat/completions|api.openai.com|203.0.113.10|443",
        "GET|/ws|www.example.test|203.0.113.10|443",
        "POST|/sink|www.example.test|203.0.113.10|443",
    ] {
        assert!(requests.iter().any(|line| line == want), "{want} in {requests:#?}");
    }
    let http = sessions().iter().filter(|s| s.method.is_some() && s.protocol != "dns").count();
    assert_eq!(requests.len(), http, "{requests:#?}");
    // Every request has its answer, by tshark's own pairing, and bodies are there.
    let answers =
        tshark(&file, "http.response && http.request_in", &["http.response.code", "http.response_for.uri"]);
    assert!(
        answers.iter().any(|line| line == "403|https://www.example.test/denied/path"
            || line == "403|http://www.example.test/denied/path"),
        "{answers:#?}"
    );
    assert_eq!(answers.len(), http, "{answers:#?}");
    let json = tshark(&file, "http.request && json", &["http.request.uri", "http.file_data"]);
    assert!(json.iter().any(|line| line.starts_with("/v1/chat/completions|")), "{json:#?}");
    streams_and_comments(&file);
}

fn streams_and_comments(file: &Path) {
    let http = |s: &sluice::types::Summary| s.method.is_some() && s.protocol != "dns";
    // One stream a session, from the caller's own address; text of HTTP/2 is said to be that.
    let streams = tshark(file, "tcp.flags.syn == 1 && tcp.flags.ack == 0", &["tcp.stream", "frame.comment"]);
    let mut ids: Vec<String> = sessions().into_iter().filter(|s| http(s)).map(|s| s.session).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(streams.len(), ids.len());
    assert!(ids.iter().all(|id| streams.iter().any(|line| line.contains(id.as_str()))));
    let comments = tshark(
        file,
        "http.request && frame.comment contains \"HTTP/2, written here as HTTP/1.1 text\"",
        &["http.request.uri"],
    );
    assert!(
        comments.contains(&"/v1/chat/completions".to_owned()) && !comments.contains(&"/sink".to_owned()),
        "{comments:?}"
    );
    let cut = tshark(file, "frame.comment contains \"body is cut: the first\"", &["frame.number"]);
    assert!(!cut.is_empty());
    let messages = tshark(
        file,
        "websocket.opcode == 1 || websocket.opcode == 2",
        &["websocket.opcode", "websocket.fin"],
    );
    assert_eq!(messages.len(), 4, "{messages:?}");
    let events = tshark(file, "tcp.payload contains \"data: at=\"", &["frame.time_epoch", "tcp.payload"]);
    came_when_they_were_sent(events.iter().map(|event| {
        let (at, payload) = event.split_once('|').expect("two fields");
        // In hexadecimal digits, as those of numbers are in ASCII: each second one is the number's.
        let (_, hex) = payload.rsplit_once("61743d").expect("at=");
        let sent: String = hex.bytes().skip(1).step_by(2).map(char::from).collect();
        (at.parse().expect("seconds"), nanos(&sent))
    }));
}

#[test]
fn text_is_for_people() {
    let file = export("text", "all.txt", &[]);
    let text = std::fs::read_to_string(file).expect("readable");
    assert!(!text.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}', '\r']));
    assert!(text.contains("> POST www.example.test/sink  (http/1.1)\n"), "{text}");
    assert!(text.contains(&format!("of {LONG} bytes were kept)")));
}

#[test]
fn chromium_imports_the_archive() {
    let file = export("har", "browser.har", &[]);
    let python = client::python().expect("python clients");
    let mut command = Command::new(python);
    command.arg(client::program("har_devtools.py")).arg(&file);
    let ended = run(&mut command, PATIENCE * 3).expect("started");
    assert!(ended.good(), "{ended:?}");
    let said: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    let http = sessions().iter().filter(|s| s.method.is_some() && s.protocol != "dns").count();
    assert_eq!(said.len(), http, "{said:#?}");
    for want in [
        json!(["https://www.example.test/echo?q=1&name=a%20b", "POST", 200, "application/json", 0]),
        json!(["http://www.example.test/bytes/300", "GET", 200, "application/octet-stream", 0]),
        json!(["https://www.example.test/denied/path", "GET", 403, "application/problem+json", 0]),
        // Two messages each way, and both close frames.
        json!(["wss://www.example.test/ws", "GET", 101, "", 6]),
    ] {
        assert!(said.contains(&want), "{want} in {said:#?}");
    }
}
