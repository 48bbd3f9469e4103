//! Answers as the providers give them.

use http::HeaderValue;

use super::*;

fn answer(kind: &'static str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Answer::of(&headers)
}

/// What is told, and how much is written, in one piece and octet by octet.
fn read(kind: &'static str, body: &[u8]) -> (Option<u64>, u64) {
    let mut whole = answer(kind);
    whole.push(body);
    let mut pieces = answer(kind);
    body.chunks(1).for_each(|octet| pieces.push(octet));
    let both = [&whole, &pieces].map(|answer| (answer.tokens(), answer.written()));
    assert_eq!(both[0], both[1], "{}", String::from_utf8_lossy(body));
    both[0]
}

const JSON: &str = "application/json; charset=utf-8";
const SSE: &str = "text/event-stream; charset=utf-8";

#[test]
fn whole_answers() {
    for (body, tokens, written) in [
        (
            r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"Hi you"}}],
            "usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            Some(21),
            6,
        ),
        (
            r#"{"object":"response","output":[{"content":[{"type":"output_text","text":"a\"b"}]}],
            "usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}"#,
            Some(123),
            4,
        ),
        (
            r#"{"object":"list","data":[{"embedding":[0.1,-0.2,1e-5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Some(8),
            0,
        ),
        (
            r#"{"type":"message","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":10,"cache_creation_input_tokens":5,
            "cache_read_input_tokens":100,"output_tokens":7}}"#,
            Some(122),
            2,
        ),
        (
            r#"{"candidates":[{"content":{"parts":[{"text":"Hi!"}]}}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":5,
            "thoughtsTokenCount":6,"totalTokenCount":15}}"#,
            Some(15),
            3,
        ),
        (
            r#"[{"candidates":[],"usageMetadata":{"promptTokenCount":4}},
            {"candidates":[],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":9,"totalTokenCount":13}}]"#,
            Some(13),
            0,
        ),
        (
            r#"{"output":{"message":{"content":[{"text":"Hi"}]}},"usage":{"inputTokens":30,"outputTokens":20,"totalTokens":50}}"#,
            Some(50),
            2,
        ),
        (r#"{"usage":{"prompt_tokens":3.0,"completion_tokens":4}}"#, Some(7), 0),
        (r#"{"choices":[{"text":"no usage"}]}"#, None, 8),
        (r#"{"choices":[{"usage":{"total_tokens":5}}],"x":{"usage":{"total_tokens":5}}}"#, None, 0),
        (r#"{"content":"{\"usage\":{\"total_tokens\":5}}"}"#, None, 32),
        (r#"{"usage":null,"error":{"message":"no"}}"#, None, 0),
    ] {
        assert_eq!(read(JSON, body.as_bytes()), (tokens, written), "{body}");
    }
}

#[test]
fn streamed_answers() {
    let openai = "data: {\"choices\":[{\"delta\":{\"content\":\"He\"}}],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"llo\"}}]}\n\n\
                  data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n";
    assert_eq!(read(SSE, openai.as_bytes()), (Some(7), 5));
    let anthropic = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\r\n\r\n\
                     : ping\r\n\r\nevent: content_block_delta\r\ndata:{\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\r\n\r\n\
                     event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\r\n\r\n";
    assert_eq!(read(SSE, anthropic.as_bytes()), (Some(40), 5));
    let responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
                     data: {\"type\":\"response.completed\",\"response\":{\"output\":[],\ndata: \"usage\":{\"input_tokens\":3,\"output_tokens\":4}}}\n\n";
    assert_eq!(read(SSE, responses.as_bytes()), (Some(7), 2));
    let broken = "data: {\"choices\":[{\"x\":\"\n\ndata: {\"usage\":{\"total_tokens\":9}}\r\rdata: {\"usage\":{\"total_tokens\":1}}";
    assert_eq!(read(SSE, broken.as_bytes()), (Some(9), 0), "an event does not spoil the next");
    let cut = &openai.as_bytes()[..60];
    assert_eq!(read(SSE, cut), (None, 2));
}

fn message(payload: &str) -> Vec<u8> {
    let headers = b"\x0b:event-type\x07\x00\x05chunk";
    let whole = u32::try_from(16 + headers.len() + payload.len()).expect("short");
    let mut message = whole.to_be_bytes().to_vec();
    message.extend(u32::try_from(headers.len()).expect("short").to_be_bytes());
    message.extend([0; 4]);
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend([0; 4]);
    message
}

#[test]
fn bedrock() {
    use base64::Engine as _;
    let kind = "application/vnd.amazon.eventstream";
    let converse = [
        message(r#"{"contentBlockIndex":0,"delta":{"text":"Hello"},"p":"abc"}"#),
        message(
            r#"{"metrics":{"latencyMs":7},"usage":{"inputTokens":10,"outputTokens":20,"totalTokens":30}}"#,
        ),
    ];
    assert_eq!(read(kind, &converse.concat()), (Some(30), 5));
    let invoke = |inner: &str| {
        let inner = base64::engine::general_purpose::STANDARD.encode(inner);
        message(&format!(r#"{{"bytes":"{inner}","p":"abcdef"}}"#))
    };
    let claude = [
        invoke(r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"}}"#),
        invoke(
            r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":8,"outputTokenCount":9,"invocationLatency":1}}"#,
        ),
    ];
    assert_eq!(read(kind, &claude.concat()), (Some(17), 5));
    for bad in [
        vec![0; 64],
        vec![0xff; 64],
        message("x")[..20].to_vec(),
        vec![0, 0, 0, 16, 0, 0, 0, 9, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(read(kind, &bad), (None, 0));
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-bedrock-input-token-count", HeaderValue::from_static("11"));
    headers.insert("x-amzn-bedrock-output-token-count", HeaderValue::from_static("31"));
    assert_eq!(Answer::of(&headers).tokens(), Some(42));
}

#[test]
fn lies() {
    for (usage, tokens) in [
        (r#"{"total_tokens":-5}"#, None),
        (r#"{"total_tokens":-5,"prompt_tokens":7}"#, Some(7)),
        (r#"{"total_tokens":NaN}"#, None),
        (r#"{"total_tokens":1e400}"#, None),
        (r#"{"total_tokens":1e300}"#, Some(TOKENS_MAX)),
        (
            r#"{"total_tokens":18446744073709551615,"prompt_tokens":18446744073709551615,"completion_tokens":1}"#,
            Some(TOKENS_MAX),
        ),
        (r#"{"total_tokens":"7"}"#, None),
        (r#"{"total_tokens":1.5}"#, None),
        (r#"{"total_tokens":[7]}"#, None),
        (r#"{"total_tokens":1,"prompt_tokens":50,"completion_tokens":50}"#, Some(100)),
        ("[7]", None),
        ("7", None),
    ] {
        assert_eq!(read(JSON, format!("{{\"usage\":{usage}}}").as_bytes()).0, tokens, "{usage}");
    }
}

#[test]
fn memory_and_time_are_bounded() {
    let mut deep = answer(JSON);
    deep.push(&[b'['; 100_000]);
    deep.push(br#"{"usage":{"total_tokens":7}}"#);
    assert_eq!(deep.tokens(), None);
    let mut long = answer(JSON);
    long.push(br#"{"usage":{"x":""#);
    (0..100).for_each(|_| long.push(&[b'x'; 1 << 16]));
    long.push(br#""},"usage":{"total_tokens":7}}"#);
    assert_eq!(long.tokens(), Some(7), "one that is too long is passed over");
    let mut names = answer(JSON);
    names.push(b"{\"");
    (0..100).for_each(|_| names.push(&[b'n'; 1 << 16]));
    names.push(br#"":1,"usage":{"total_tokens":8}}"#);
    assert_eq!(names.tokens(), Some(8));
    let mut blob = answer("application/vnd.amazon.eventstream");
    blob.push(&message(&format!(r#"{{"bytes":"{}"}}"#, "A".repeat(300_000))));
    assert!(blob.decoded.capacity() < 1 << 20);
    let mut unread = answer("audio/mpeg");
    unread.push(br#"{"usage":{"total_tokens":7}}"#);
    assert_eq!((unread.tokens(), unread.written()), (None, 0));
}

/// Octets at random, and answers with octets changed: nothing panics, nothing is believed beyond its bound.
#[test]
fn garbage() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((seed >> 33) % n as u64).expect("small")
    };
    let good =
        br#"data: {"message":{"usage":{"input_tokens":12,"output_tokens":3}},"delta":{"text":"\u00e9\""}}"#;
    for round in 0..3000 {
        let mut body: Vec<u8> = if round % 3 == 0 {
            (0..next(200)).map(|_| b"{}[]\",:\\ \n\rda12\xff"[next(16)]).collect()
        } else {
            good.to_vec()
        };
        for _ in 0..next(6) {
            if !body.is_empty() {
                let at = next(body.len());
                body[at] = u8::try_from(next(256)).expect("octet");
            }
        }
        for kind in [JSON, SSE, "application/vnd.amazon.eventstream"] {
            let (tokens, written) = read(kind, &body);
            assert!(tokens.is_none_or(|tokens| tokens <= TOKENS_MAX) && written <= body.len() as u64);
        }
    }
}
