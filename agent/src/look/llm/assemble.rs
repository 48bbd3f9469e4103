//! Streams put together: the events of one answer become the message that they stood for, as it would have come unstreamed.

use serde_json::{Map, Value, json};

use super::Api;
use crate::look::sse::Event;

/// Choices, items and blocks of one answer: more is nobody's.
const PLACES: usize = 256;

/// `None` where the events are of another kind.
pub fn message(api: Api, events: &[Event]) -> Option<Value> {
    let events = events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
    match api {
        Api::OpenaiChat => chat(events),
        Api::OpenaiResponses => responses(events),
        Api::AnthropicMessages => anthropic(events),
    }
}

/// The place `at` of an array, made where it is missing.
fn place<'a>(array: &'a mut Value, at: &Value) -> Option<&'a mut Value> {
    let at = usize::try_from(at.as_u64().unwrap_or(0)).ok().filter(|at| *at < PLACES)?;
    if !array.is_array() {
        *array = json!([]);
    }
    let list = array.as_array_mut()?;
    while list.len() <= at {
        list.push(json!({}));
    }
    list.get_mut(at)
}

/// A field, whatever its holder was: servers say what they like.
fn field<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    &mut value[name]
}

/// Text behind text: where there is none yet, it begins.
fn append(target: &mut Value, more: &Value) {
    let Some(more) = more.as_str() else { return };
    match target {
        Value::String(text) => text.push_str(more),
        other => *other = json!(more),
    }
}

fn chat(events: impl Iterator<Item = Value>) -> Option<Value> {
    let mut whole = Value::Null;
    for mut event in events {
        if event["choices"].is_null() {
            continue;
        }
        let choices = event["choices"].take();
        let usage = event["usage"].take();
        if whole.is_null() {
            whole = event;
            *field(&mut whole, "object") = json!("chat.completion");
            *field(&mut whole, "choices") = json!([]);
        }
        if usage.is_object() {
            *field(&mut whole, "usage") = usage;
        }
        for choice in choices.as_array().into_iter().flatten() {
            let Some(target) = place(field(&mut whole, "choices"), &choice["index"]) else { continue };
            *field(target, "index") = choice["index"].clone();
            if !choice["finish_reason"].is_null() {
                *field(target, "finish_reason") = choice["finish_reason"].clone();
            }
            if let Some(delta) = choice["delta"].as_object() {
                merge(field(target, "message"), delta);
            }
        }
    }
    (!whole.is_null()).then_some(whole)
}

/// A chat's delta into its message: texts are continued, calls go to their places.
fn merge(message: &mut Value, delta: &Map<String, Value>) {
    for (key, value) in delta {
        match (key.as_str(), value) {
            ("tool_calls", Value::Array(calls)) => {
                for call in calls {
                    let Some(target) = place(field(message, "tool_calls"), &call["index"]) else { continue };
                    for key in ["id", "type"] {
                        if call[key].is_string() {
                            *field(target, key) = call[key].clone();
                        }
                    }
                    for key in ["name", "arguments"] {
                        append(field(field(target, "function"), key), &call["function"][key]);
                    }
                }
            }
            ("role", value) => *field(message, "role") = value.clone(),
            (key, Value::String(_)) => append(field(message, key), value),
            (_, Value::Null) => {}
            (key, value) => *field(message, key) = value.clone(),
        }
    }
}

fn responses(events: impl Iterator<Item = Value>) -> Option<Value> {
    let mut whole = Value::Null;
    for mut event in events {
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "response.created" | "response.in_progress" if whole.is_null() => {
                whole = event["response"].take()
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let last = event["response"].take();
                // The last word is the whole answer; some leave its output out.
                if last["output"].as_array().is_some_and(|output| !output.is_empty()) || whole.is_null() {
                    return Some(last);
                }
                let output = field(&mut whole, "output").take();
                whole = last;
                *field(&mut whole, "output") = output;
                return Some(whole);
            }
            "response.output_item.added" | "response.output_item.done" => {
                if let Some(target) = place(field(&mut whole, "output"), &event["output_index"]) {
                    *target = event["item"].take();
                }
            }
            "response.output_text.delta" | "response.refusal.delta" => {
                let key = if kind.ends_with("text.delta") { "text" } else { "refusal" };
                let part = place(field(&mut whole, "output"), &event["output_index"])
                    .and_then(|item| place(field(item, "content"), &event["content_index"]));
                if let Some(part) = part {
                    if !part["type"].is_string() {
                        *field(part, "type") = json!(if key == "text" { "output_text" } else { "refusal" });
                    }
                    append(field(part, key), &event["delta"]);
                }
            }
            "response.function_call_arguments.delta" => {
                if let Some(item) = place(field(&mut whole, "output"), &event["output_index"]) {
                    append(field(item, "arguments"), &event["delta"]);
                }
            }
            _ => {}
        }
    }
    (!whole.is_null()).then_some(whole)
}

fn anthropic(events: impl Iterator<Item = Value>) -> Option<Value> {
    let mut whole = Value::Null;
    for mut event in events {
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => whole = event["message"].take(),
            "content_block_start" => {
                if let Some(target) = place(field(&mut whole, "content"), &event["index"]) {
                    *target = event["content_block"].take();
                }
            }
            "content_block_delta" => {
                let Some(block) = place(field(&mut whole, "content"), &event["index"]) else { continue };
                let delta = &event["delta"];
                match delta["type"].as_str().unwrap_or_default() {
                    "text_delta" => append(field(block, "text"), &delta["text"]),
                    "thinking_delta" => append(field(block, "thinking"), &delta["thinking"]),
                    "signature_delta" => append(field(block, "signature"), &delta["signature"]),
                    // An input begins as an empty object and comes as text.
                    "input_json_delta" => append(field(block, "input"), &delta["partial_json"]),
                    _ => {}
                }
            }
            "content_block_stop" => {
                if let Some(block) = place(field(&mut whole, "content"), &event["index"])
                    && let Some(input) = block["input"].as_str()
                    && let Ok(input) = serde_json::from_str::<Value>(input)
                {
                    *field(block, "input") = input;
                }
            }
            "message_delta" => {
                for (key, value) in event["delta"].as_object().into_iter().flatten() {
                    *field(&mut whole, key) = value.clone();
                }
                for (key, value) in event["usage"].as_object().into_iter().flatten() {
                    *field(field(&mut whole, "usage"), key) = value.clone();
                }
            }
            _ => {}
        }
    }
    whole.is_object().then_some(whole)
}
