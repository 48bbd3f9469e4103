//! A stand-in for api.anthropic.com: messages, plain and streaming, in the shapes that the `anthropic` packages parse. It
//! answers with the request's own last words, and knows a caller by `x-api-key` alone.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::routes::{Answer, Body, full, streamed, with_type};

/// Gap between two events of a stream, so that buffering anywhere would show.
const GAP: Duration = Duration::from_millis(20);

pub(super) async fn answer(request: Request<Body>) -> Answer {
    let headers = request.headers();
    if !headers.contains_key("x-api-key") || !headers.contains_key("anthropic-version") {
        return problem(StatusCode::UNAUTHORIZED, "authentication_error", "x-api-key header is required");
    }
    let Ok(body) = request.into_body().collect().await else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request_error", "the body was cut off");
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not JSON");
    };
    let last = asked["messages"].as_array().and_then(|list| list.last()).unwrap_or(&Value::Null);
    let text = last["content"].as_str().or(last["content"][0]["text"].as_str()).unwrap_or("nothing");
    let words: Vec<String> = format!("echo: {text}").split_inclusive(' ').map(str::to_owned).collect();
    if asked["stream"] == true { events(&asked, &words) } else { json_answer(&message(&asked, &words, true)) }
}

fn message(asked: &Value, words: &[String], ended: bool) -> Value {
    let content =
        if words.is_empty() { json!([]) } else { json!([{"type": "text", "text": words.concat()}]) };
    let stop = if ended { json!("end_turn") } else { Value::Null };
    json!({"id": "msg_test", "type": "message", "role": "assistant", "model": asked["model"], "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4}})
}

fn events(asked: &Value, words: &[String]) -> Answer {
    let mut events = vec![
        json!({"type": "message_start", "message": message(asked, &[], false)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ];
    events.extend(words.iter().map(|word| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
    }));
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": 4}}));
    events.push(json!({"type": "message_stop"}));
    let events = events
        .into_iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()));
    let frames = stream::iter(events).then(|event| async move {
        tokio::time::sleep(GAP).await;
        Frame::data(Bytes::from(event))
    });
    with_type(StatusCode::OK, "text/event-stream", streamed(frames))
}

fn json_answer(value: &Value) -> Answer {
    with_type(StatusCode::OK, "application/json", full(value.to_string()))
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Answer {
    let error = json!({"type": "error", "error": {"type": kind, "message": message}});
    with_type(status, "application/json", full(error.to_string()))
}
