//! A stand-in for api.openai.com: the two endpoints that the `openai` packages call first, plain and streaming, in
//! the shapes that those packages parse. It answers with the request's own last words; where a tool is offered (responses
//! only), it first asks for that with the last of them. And it takes the traces that agents send. Its usage is 3 tokens and
//! `metadata.tokens` more, or 4; a model whose name ends in `gzip` answers in that content coding.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::routes::{Answer, Body, full, streamed, with_type};

/// Gap between two events of a stream, so that buffering anywhere would show.
const GAP: Duration = Duration::from_millis(20);

pub(super) async fn answer(request: Request<Body>) -> Answer {
    let path = request.uri().path().to_owned();
    if !request.headers().get(header::AUTHORIZATION).is_some_and(|a| a.as_bytes().starts_with(b"Bearer ")) {
        return problem(StatusCode::UNAUTHORIZED, "You didn't provide an API key.");
    }
    let Ok(body) = request.into_body().collect().await else {
        return problem(StatusCode::BAD_REQUEST, "The body was cut off.");
    };
    let Ok(asked) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return problem(StatusCode::BAD_REQUEST, "The body is not JSON.");
    };
    let model = asked["model"].as_str().unwrap_or("gpt-4o-mini").to_owned();
    let words = said(&asked);
    let gzip = model.ends_with("gzip");
    match (path.as_str(), asked["stream"].as_bool().unwrap_or(false)) {
        ("/v1/chat/completions", false) => json_answer(&chat(&model, &words, output(&asked))),
        ("/v1/chat/completions", true) => sse(chat_events(&asked, &model, &words), gzip),
        ("/v1/responses", stream) => match (wanted_call(&asked), stream) {
            (Some(call), false) => json_answer(&response(&model, &[call], "completed", output(&asked))),
            (Some(call), true) => sse(call_events(&model, &call), gzip),
            (None, false) => {
                json_answer(&response(&model, &[item(&words, "completed")], "completed", output(&asked)))
            }
            (None, true) => sse(response_events(&model, &words, output(&asked)), gzip),
        },
        ("/v1/traces/ingest", _) => {
            with_type(StatusCode::NO_CONTENT, "application/json", full(String::new()))
        }
        _ => problem(StatusCode::NOT_FOUND, "Unknown request URL."),
    }
}

/// The last thing that the caller said, each word prefixed by its place.
fn said(asked: &Value) -> Vec<String> {
    let last = last_said(asked);
    let text = [&last["content"], &last["output"], &asked["input"]].into_iter().find_map(Value::as_str);
    format!("echo: {}", text.unwrap_or("nothing")).split_inclusive(' ').map(str::to_owned).collect()
}

/// The last of a list of messages or items; null where there is none.
fn last_said(asked: &Value) -> &Value {
    let list = asked["messages"].as_array().or(asked["input"].as_array());
    list.and_then(|list| list.last()).unwrap_or(&Value::Null)
}

/// The call of the tool that is offered, with the last word for its city; `None` once it has answered.
fn wanted_call(asked: &Value) -> Option<Value> {
    let name = asked["tools"][0]["name"].as_str()?;
    let last = last_said(asked);
    if last["type"] == "function_call_output" {
        return None;
    }
    let text = last["content"].as_str().or(asked["input"].as_str())?;
    let arguments = json!({"city": text.split(' ').next_back()}).to_string();
    Some(json!({"type": "function_call", "id": "fc_test", "call_id": "call_test", "name": name,
        "arguments": arguments, "status": "completed"}))
}

/// Tokens of the answer.
fn output(asked: &Value) -> u64 {
    asked["metadata"]["tokens"].as_str().and_then(|tokens| tokens.parse().ok()).unwrap_or(4)
}

fn chat(model: &str, words: &[String], output: u64) -> Value {
    json!({
        "id": "chatcmpl-test", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": words.concat(), "refusal": null}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": output, "total_tokens": 3 + output},
    })
}

fn chat_events(asked: &Value, model: &str, words: &[String]) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        let chunk = json!({
            "id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}],
        });
        format!("data: {chunk}\n\n")
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(words.iter().map(|word| chunk(json!({"content": word}), Value::Null)));
    events.push(chunk(json!({}), json!("stop")));
    if asked["stream_options"]["include_usage"] == true {
        let mut last = chat(model, words, output(asked));
        (last["object"], last["choices"]) = ("chat.completion.chunk".into(), json!([]));
        events.push(format!("data: {last}\n\n"));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn part(words: &[String]) -> Value {
    json!({"type": "output_text", "text": words.concat(), "annotations": [], "logprobs": []})
}

fn item(words: &[String], status: &str) -> Value {
    let content = if words.is_empty() { json!([]) } else { json!([part(words)]) };
    json!({"type": "message", "id": "msg_test", "status": status, "role": "assistant", "content": content})
}

fn response(model: &str, output: &[Value], status: &str, tokens: u64) -> Value {
    json!({
        "id": "resp_test", "object": "response", "created_at": 1_700_000_000, "status": status, "model": model,
        "output": output, "error": null, "incomplete_details": null, "instructions": null, "metadata": {},
        "parallel_tool_calls": true, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 3 + tokens},
    })
}

fn response_events(model: &str, words: &[String], tokens: u64) -> Vec<String> {
    let whole = item(words, "completed");
    let at = json!({"item_id": "msg_test", "output_index": 0, "content_index": 0});
    let place = |mut event: Value| {
        for (key, value) in at.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        event
    };
    let mut events = vec![
        json!({"type": "response.created", "response": response(model, &[], "in_progress", 0)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item(&[], "in_progress")}),
        place(json!({"type": "response.content_part.added", "part": part(&[])})),
    ];
    events.extend(
        words
            .iter()
            .map(|w| place(json!({"type": "response.output_text.delta", "delta": w, "logprobs": []}))),
    );
    events.push(place(json!({"type": "response.output_text.done", "text": words.concat(), "logprobs": []})));
    events.push(place(json!({"type": "response.content_part.done", "part": part(words)})));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": whole}));
    events.push(
        json!({"type": "response.completed", "response": response(model, &[whole], "completed", tokens)}),
    );
    numbered(events)
}

fn call_events(model: &str, call: &Value) -> Vec<String> {
    let mut begun = call.clone();
    (begun["arguments"], begun["status"]) = (json!(""), json!("in_progress"));
    let arguments = &call["arguments"];
    numbered(vec![
        json!({"type": "response.created", "response": response(model, &[], "in_progress", 0)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": begun}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_test", "output_index": 0,
            "delta": arguments}),
        json!({"type": "response.function_call_arguments.done", "item_id": "fc_test", "output_index": 0,
            "name": call["name"], "arguments": arguments}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": call}),
        json!({"type": "response.completed", "response": response(model, std::slice::from_ref(call), "completed", 4)}),
    ])
}

fn numbered(events: Vec<Value>) -> Vec<String> {
    let numbered = events.into_iter().enumerate().map(|(n, mut event)| {
        event["sequence_number"] = json!(n);
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
    });
    numbered.collect()
}

fn json_answer(value: &Value) -> Answer {
    with_type(StatusCode::OK, "application/json", full(value.to_string()))
}

fn sse(events: Vec<String>, gzip: bool) -> Answer {
    let events = if gzip { coded(&events) } else { events.into_iter().map(Bytes::from).collect() };
    let frames = stream::iter(events).then(|event| async {
        tokio::time::sleep(GAP).await;
        Frame::data(event)
    });
    let mut answer = with_type(StatusCode::OK, "text/event-stream; charset=utf-8", streamed(frames));
    if gzip {
        answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

/// Each event in a piece of its own, as servers flush them.
fn coded(events: &[String]) -> Vec<Bytes> {
    let mut coder = GzEncoder::new(Vec::new(), Compression::default());
    let mut pieces: Vec<Bytes> = events
        .iter()
        .map(|event| {
            coder.write_all(event.as_bytes()).and_then(|()| coder.flush()).expect("memory takes it");
            Bytes::from(std::mem::take(coder.get_mut()))
        })
        .collect();
    pieces.push(coder.finish().expect("memory takes it").into());
    pieces
}

fn problem(status: StatusCode, message: &str) -> Answer {
    let error =
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    with_type(status, "application/json", full(error.to_string()))
}
