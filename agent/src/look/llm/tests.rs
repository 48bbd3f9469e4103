//! Conversations as the providers' documents show them, whole and streamed, and hostile ones.

use serde_json::{Value, json};

use super::*;
use crate::record::headers::Stored;
use crate::record::payload::Response;

fn item(path: &str, request: &Value, media: &str, answer: &[u8]) -> Exchange {
    let head = json!({"session": "01J", "exchange": 1, "time": "2026-01-02T03:04:05.000006Z", "protocol": "h2",
        "host": "api.example", "method": "POST", "path": path, "rule": null, "verdict": "allow",
        "headers": [["content-type", "application/json"]], "headers_cut": 0});
    let head: crate::record::read::each::Head = serde_json::from_value(head).expect("a head");
    let response = Response {
        session: "01J".into(),
        exchange: 1,
        time: "2026-01-02T03:04:05.000007Z".to_owned(),
        status: 200,
        headers: vec![("content-type".to_owned(), Stored::Text(media.to_owned().into()))],
        headers_cut: 0,
    };
    Exchange {
        head: Some(head),
        responses: vec![response],
        up: request.to_string().into_bytes(),
        down: answer.to_vec(),
        ..Exchange::default()
    }
}

fn stream(events: &[Value]) -> Vec<u8> {
    events.iter().flat_map(|event| format!("data: {event}\n\n").into_bytes()).collect()
}

/// One line a part.
fn lines(turns: &[Turn]) -> Vec<String> {
    let part = |turn: &Turn, part: &Part| match part {
        Part::Text { content } => format!("{}: {content}", turn.role),
        Part::Reasoning { content } => format!("{} thinks: {content}", turn.role),
        Part::ToolCall { id, name, arguments } => format!("{} calls {id} {name} {arguments}", turn.role),
        Part::ToolCallResponse { id, response } => format!("{} answers {id} {response}", turn.role),
        Part::Other { kind } => format!("{} {kind}", turn.role),
    };
    turns.iter().flat_map(|turn| turn.parts.iter().map(move |p| part(turn, p))).collect()
}

#[test]
fn a_chat_whole_and_streamed_is_the_same() {
    let request = json!({"model": "m", "stream": true, "tools": [{"type": "function", "function": {"name": "f"}}], "messages": [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c0", "content": "7"}]});
    let calls = json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]);
    let whole = json!({"id": "x", "model": "m-1", "usage": {"prompt_tokens": 3, "completion_tokens": 5}, "choices": [
        {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "so it is", "tool_calls": calls}}]});
    let chunk = |delta: Value, finish: Value| json!({"id": "x", "model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let streamed = stream(&[
        chunk(json!({"role": "assistant", "content": ""}), Value::Null),
        chunk(json!({"content": "so "}), Value::Null),
        chunk(json!({"content": "it is"}), Value::Null),
        chunk(
            json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            Value::Null,
        ),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]}), Value::Null),
        chunk(
            json!({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}]}),
            Value::Null,
        ),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}), json!("tool_calls")),
        json!({"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}),
        json!("[DONE]"),
    ]);
    let one = Conversation::of(&item(
        "/v1/chat/completions",
        &request,
        "application/json",
        whole.to_string().as_bytes(),
    ));
    let two = Conversation::of(&item(
        "/v1/chat/completions?x=1",
        &request,
        "text/event-stream; charset=utf-8",
        &streamed,
    ));
    let one = one.expect("a conversation");
    assert_eq!(Some(&one), two.as_ref());
    assert_eq!(
        lines(&one.asked),
        ["system: be good", "user: hi", "user image_url", "assistant calls c0 f {}", "tool answers c0 7"]
    );
    let answer = one.answer.expect("an answer");
    assert_eq!(
        lines(&answer.turns),
        ["assistant: so it is", "assistant calls c1 f {\"a\":1}", "assistant calls c2 g {}"]
    );
    assert_eq!(
        (answer.input_tokens, answer.output_tokens, one.tools),
        (Some(3), Some(5), vec!["f".to_owned()])
    );
}

#[test]
fn messages_of_anthropic() {
    let request = json!({"model": "c", "system": [{"type": "text", "text": "sys"}], "max_tokens": 9, "tools": [{"name": "t", "input_schema": {}}],
        "messages": [{"role": "user", "content": "go"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "u0", "name": "t", "input": {"q": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u0", "content": [{"type": "text", "text": "r"}]}]}]});
    let events = stream(&[
        json!({"type": "message_start", "message": {"id": "m", "role": "assistant", "model": "c-1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "done "}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "it"}}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "u1", "name": "t", "input": {}}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":"}}),
        json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "2}"}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ]);
    let read = Conversation::of(&item("/v1/messages", &request, "text/event-stream", &events))
        .expect("a conversation");
    assert_eq!(
        lines(&read.asked),
        ["system: sys", "user: go", "assistant calls u0 t {\"q\":1}", "user answers u0 r"]
    );
    let answer = read.answer.expect("an answer");
    assert_eq!(
        lines(&answer.turns),
        ["assistant thinks: hm", "assistant: done it", "assistant calls u1 t {\"q\":2}"]
    );
    assert_eq!((answer.finish, answer.output_tokens), (vec!["tool_use".to_owned()], Some(4)));
}

#[test]
fn responses_of_openai_also_where_the_end_is_missing() {
    let request = json!({"model": "m", "instructions": "be good", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "7"}]});
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "r", "model": "m-1", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "role": "assistant", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "so "}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "be it"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "d", "name": "f", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"a\":1}"}),
    ];
    let want = ["assistant: so be it", "assistant calls d f {\"a\":1}"];
    let cut = Conversation::of(&item("/v1/responses", &request, "text/event-stream", &stream(&events)))
        .expect("a conversation");
    assert_eq!(
        lines(&cut.asked),
        ["system: be good", "user: hi", "assistant calls c f {}", "tool answers c 7"]
    );
    assert_eq!(lines(&cut.answer.expect("an answer").turns), want);
    events.push(json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "usage": {"input_tokens": 1, "output_tokens": 2}, "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so be it"}]},
        {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{\"a\":1}"}]}}));
    let whole = Conversation::of(&item("/v1/responses", &request, "text/event-stream", &stream(&events)))
        .expect("a conversation");
    let answer = whole.answer.expect("an answer");
    assert_eq!(lines(&answer.turns), want);
    assert_eq!((answer.finish, answer.output_tokens), (vec!["completed".to_owned()], Some(2)));
}

/// Streams of nonsense: every event of every kind with every field of a wrong type. Nothing may panic.
#[test]
fn hostile_streams_are_survived() {
    let odd =
        [json!(null), json!(7), json!("x"), json!([]), json!([1, "a", null]), json!({"a": {}}), json!(1e300)];
    let kinds = [
        "response.created",
        "response.completed",
        "response.output_item.added",
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "chat",
    ];
    let fields = [
        "response",
        "item",
        "message",
        "content_block",
        "delta",
        "choices",
        "usage",
        "index",
        "output_index",
    ];
    for first in &odd {
        for second in &odd {
            let mut events = Vec::new();
            for kind in kinds {
                for field in fields {
                    let mut event = json!({"type": kind});
                    for (at, other) in fields.iter().enumerate() {
                        event[*other] = if at % 2 == 0 { first.clone() } else { second.clone() };
                    }
                    event[field] = json!({"type": "text_delta", "text": "t", "output": first, "content": second, "partial_json": "{"});
                    event["choices"] = json!([{"index": 0, "delta": {"tool_calls": [first, {"index": 1, "function": second}], "content": first}}, second]);
                    events.push(event);
                }
            }
            events.extend(odd.iter().cloned());
            for path in ["/chat/completions", "/responses", "/messages"] {
                let request = json!({"messages": [first, second, {"role": first, "content": second, "tool_calls": [first]}], "input": [first, second], "system": first, "tools": [first, second]});
                let item = item(path, &request, "text/event-stream", &stream(&events));
                assert!(Conversation::of(&item).is_some(), "{path}");
            }
        }
    }
}
