//! `sluice show`, on what was recorded.

use crate::scene::{id, sessions, sluice};

fn shown(args: &[&str]) -> String {
    let ended = sluice(&[&["show"], args].concat());
    assert!(ended.good(), "{ended:?}");
    assert!(!ended.stdout.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}', '\r']), "{:?}", ended.stdout);
    ended.stdout
}

#[test]
fn bodies_by_their_types() {
    let json = shown(&[&id("/echo?q=1", "")]);
    assert!(
        json.contains("\n  {\n    \"b\": [\n      1.0e2,\n      {}\n    ],\n    \"a\": \"text\"\n  }\n"),
        "{json}"
    );
    assert!(shown(&["--raw", &id("/echo?q=1", "")]).contains("\n  {\"b\":[1.0e2,{}],\"a\":\"text\"}\n"));
}

#[test]
fn what_streams_and_codings_stood_for() {
    let chat = shown(&[&id("/v1/chat/completions", "")]);
    let turns = "  OpenAI chat completions, model gpt-4o-mini, streamed\n  system     be brief\n  user       the quick brown fox\n< 200";
    assert!(chat.contains(turns), "{chat}");
    assert!(chat.contains("\n  assistant  echo: the quick brown fox\n  (ended: stop; tokens: "), "{chat}");
    let message = shown(&[&id("/v1/messages", "")]);
    assert!(
        message.contains("  Anthropic messages, model claude\n  user       over the lazy dog\n"),
        "{message}"
    );
    assert!(
        message.contains("  assistant  echo: over the lazy dog\n  (ended: end_turn; tokens: 3 in, 4 out)\n")
    );
    let raw = shown(&["--raw", &id("/v1/chat/completions", "")]);
    assert!(raw.contains("  data: {\"") && !raw.contains("  assistant  "), "{raw}");
    let gzip = shown(&[&id("/mirror/gzip", "")]);
    assert!(gzip.contains("  https://www.example.test/mirror/gzip?needle=in-a-haystack\n"), "{gzip}");
    assert!(gzip.contains("  (gzip undone: "), "{gzip}");
    let form = shown(&[&id("/echo", "http/1.1").replace("/1", "")]);
    assert!(form.contains("exchange  1 at "), "{form}");
    let events = shown(&[&id("/sse", "")]);
    assert_eq!(events.matches("  event message (id ").count(), 4, "{events}");
    let socket = shown(&[&id("/ws", "")]);
    assert!(socket.contains("  > text\n    a message on a socket\n"), "{socket}");
    assert!(socket.contains("  < binary of 3 bytes\n"), "{socket}");
    let cut = shown(&[&id("/sink", "")]);
    assert!(cut.contains(" of 3145728 bytes were kept)"), "{}", &cut[cut.len() - 200..]);
}

#[test]
fn full_text_finds_heads_bodies_and_messages() {
    let found = |text: &str| -> Vec<String> {
        let ended = sluice(&["sessions", "--json", "--grep", text]);
        assert!(ended.good(), "{ended:?}");
        let lines =
            ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.map(|line| line["path"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(found("quick BROWN fox"), ["/v1/chat/completions"]);
    assert_eq!(found("A message on a socket"), ["/ws"], "unmasked, and inflated where it was compressed");
    assert_eq!(found("user-agent: curl/").len() + 1, sessions().len(), "all but the socket's");
    assert_eq!(found("accept:.*"), Vec::<String>::new(), "the text as it is");
    assert_eq!(found("path of gzip that is nowhere"), Vec::<String>::new());
    // Only a decoded body says this: the path is percent-encoded otherwise.
    assert!(found("gzip?needle=in-a-haystack").contains(&"/mirror/gzip?needle=in-a-haystack".to_owned()));
    let limited = sluice(&["sessions", "--json", "--grep", "www.example.test", "--limit", "2"]);
    assert_eq!(limited.stdout.lines().count(), 2);
}

/// The number at the beginning, of nanoseconds, in seconds.
pub fn nanos(text: &str) -> f64 {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next().expect("one");
    digits.parse::<u64>().expect("nanoseconds") as f64 / 1e9
}

/// Of each event the recorded time and the one that it says it was sent at, in seconds. Were they spread over the answer,
/// the last would be a third of a second off.
pub fn came_when_they_were_sent(events: impl Iterator<Item = (f64, f64)>) {
    let events: Vec<_> = events.collect();
    let [first, .., last] = events[..] else { panic!("{events:?}") };
    assert!(events.len() == 4 && last.1 - first.1 >= 1.2, "{events:?}");
    for (at, sent) in &events {
        assert!(((at - first.0) - (sent - first.1)).abs() < 0.12, "{events:?}");
    }
}

#[test]
fn replay_keeps_order_and_pace() {
    let id = id("/sse", "");
    let begun = std::time::Instant::now();
    let ended = sluice(&["replay", &id]);
    let took = begun.elapsed();
    assert!(ended.good(), "{ended:?}");
    // Four events: the last came 1.2 s after the first.
    assert!(took >= std::time::Duration::from_millis(1200), "{took:?}");
    assert!(ended.stdout.contains("times of pieces of bodies: as recorded\n"), "{}", ended.stdout);
    let events = ended.stdout.split("\n[+").filter_map(|said| said.split_once("s] < event message\n    at="));
    came_when_they_were_sent(events.map(|(at, sent)| (at.parse().expect("seconds"), nanos(sent))));
    let at = |text: &str| ended.stdout.find(text).unwrap_or_else(|| panic!("no {text} in {}", ended.stdout));
    assert!(
        at("] > GET www.example.test/sse") < at("] < 200  ")
            && at("] < 200  ") < at("] < event message\n    at=")
    );
    assert_eq!(ended.stdout.matches("] < event message\n    at=").count(), 4);
    let begun = std::time::Instant::now();
    assert!(sluice(&["replay", &id, "--speed", "1000"]).good());
    assert!(begun.elapsed() < took, "faster");
    // Nobody presses Enter: --step says the first and ends.
    let stepped = sluice(&["replay", &id, "--step"]);
    assert!(stepped.good() && !stepped.stdout.contains("event message"), "{stepped:?}");
    let socket = sluice(&["replay", &crate::scene::id("/ws", "")]);
    let text = socket.stdout;
    let (up, down) = (text.find("] > text\n    a message"), text.find("] < text\n    a message"));
    assert!(up.is_some() && up < down, "{text}");
    let hostile = sluice(&["replay", "--speed", "1000", &crate::scene::id("/echo", "h2")]);
    assert!(hostile.good());
    let all = sessions();
    for one in &all {
        let replayed =
            sluice(&["replay", "--speed", "1000000", &format!("{}/{}", one.session, one.exchange)]);
        assert!(replayed.good(), "{replayed:?}");
        assert!(!replayed.stdout.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}']), "{:?}", replayed.stdout);
    }
}
