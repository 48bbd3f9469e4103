//! Requests and answers as turns.

use serde_json::Value;

use super::{Answered, Api, Part, Turn};

/// What was said before the answer; `None` where the request is of another shape.
pub fn request(api: Api, request: &Value) -> Option<Vec<Turn>> {
    let mut turns = Vec::new();
    match api {
        Api::OpenaiChat => turns.extend(request["messages"].as_array()?.iter().map(turn)),
        Api::AnthropicMessages => {
            if !request["system"].is_null() {
                turns.push(Turn { role: "system".to_owned(), parts: parts(&request["system"]) });
            }
            turns.extend(request["messages"].as_array()?.iter().map(turn));
        }
        Api::OpenaiResponses => {
            if let Some(instructions) = request["instructions"].as_str() {
                turns.push(said("system", instructions));
            }
            match &request["input"] {
                Value::String(text) => turns.push(said("user", text)),
                Value::Array(items) => turns.extend(items.iter().map(turn)),
                _ => return None,
            }
        }
    }
    Some(turns)
}

/// Names of the tools that a request offers.
pub fn tools(request: &Value) -> Vec<String> {
    let tools = request["tools"].as_array().into_iter().flatten();
    let name = |tool: &Value| {
        let name = tool["name"].as_str().or(tool["function"]["name"].as_str()).or(tool["type"].as_str());
        name.map(str::to_owned)
    };
    tools.filter_map(name).collect()
}

/// An answer, whole; `None` where it is of another shape (an error).
pub fn answer(api: Api, message: &Value) -> Option<Answered> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let usage = &message["usage"];
    let count = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    let mut answered = Answered {
        id: text(&message["id"]),
        model: text(&message["model"]),
        input_tokens: count(["prompt_tokens", "input_tokens"]),
        output_tokens: count(["completion_tokens", "output_tokens"]),
        ..Answered::default()
    };
    match api {
        Api::OpenaiChat => {
            for choice in message["choices"].as_array()? {
                answered.turns.push(turn(&choice["message"]));
                answered.finish.extend(text(&choice["finish_reason"]));
            }
        }
        Api::OpenaiResponses => {
            answered.turns.extend(message["output"].as_array()?.iter().map(turn));
            let why = text(&message["incomplete_details"]["reason"]);
            answered.finish.extend(why.or_else(|| text(&message["status"])));
        }
        Api::AnthropicMessages => {
            message["content"].as_array()?;
            answered.turns.push(turn(message));
            answered.finish.extend(text(&message["stop_reason"]));
        }
    }
    Some(answered)
}

fn said(role: &str, text: &str) -> Turn {
    Turn { role: role.to_owned(), parts: vec![Part::Text { content: text.to_owned() }] }
}

/// A message, or an item of OpenAI's responses.
fn turn(message: &Value) -> Turn {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |role: &str, part: Part| Turn { role: role.to_owned(), parts: vec![part] };
    match message["type"].as_str().unwrap_or_default() {
        "function_call" | "custom_tool_call" => {
            let arguments = first(message, &["arguments", "input"]);
            let (id, name) = (string(&message["call_id"]), string(&message["name"]));
            return own("assistant", Part::ToolCall { id, name, arguments: plain(arguments) });
        }
        "function_call_output" | "custom_tool_call_output" => {
            let (id, response) = (string(&message["call_id"]), plain(&message["output"]));
            return own("tool", Part::ToolCallResponse { id, response });
        }
        "reasoning" => {
            let content = texts(&message["summary"]);
            return own("assistant", Part::Reasoning { content });
        }
        _ => {}
    }
    let mut all = Vec::new();
    let reasoning = first(message, &["reasoning_content", "reasoning"]);
    if let Some(content) = reasoning.as_str().filter(|text| !text.is_empty()) {
        all.push(Part::Reasoning { content: content.to_owned() });
    }
    if message["role"] == "tool" {
        all.push(Part::ToolCallResponse {
            id: string(&message["tool_call_id"]),
            response: plain(&message["content"]),
        });
    } else {
        all.extend(parts(&message["content"]));
    }
    if let Some(refusal) = message["refusal"].as_str().filter(|text| !text.is_empty()) {
        all.push(Part::Text { content: refusal.to_owned() });
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = if call["function"].is_object() { &call["function"] } else { &call["custom"] };
        let arguments = plain(first(function, &["arguments", "input"]));
        all.push(Part::ToolCall { id: string(&call["id"]), name: string(&function["name"]), arguments });
    }
    let role = message["role"].as_str().or(message["type"].as_str()).unwrap_or("assistant");
    if all.is_empty() && message["role"].is_null() {
        all.push(Part::Other { kind: role.to_owned() });
    }
    Turn { role: role.to_owned(), parts: all }
}

fn first<'a>(object: &'a Value, names: &[&str]) -> &'a Value {
    names.iter().map(|name| &object[*name]).find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

/// Content: text, or pieces of it.
fn parts(content: &Value) -> Vec<Part> {
    match content {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Part::Text { content: text.clone() }],
        Value::Array(all) => all.iter().map(part).collect(),
        _ => Vec::new(),
    }
}

fn part(part: &Value) -> Part {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match part["type"].as_str().unwrap_or("text") {
        "text" | "input_text" | "output_text" => Part::Text { content: string(&part["text"]) },
        "refusal" => Part::Text { content: string(&part["refusal"]) },
        "thinking" => Part::Reasoning { content: string(&part["thinking"]) },
        "tool_use" | "server_tool_use" => Part::ToolCall {
            id: string(&part["id"]),
            name: string(&part["name"]),
            arguments: plain(&part["input"]),
        },
        "tool_result" => {
            Part::ToolCallResponse { id: string(&part["tool_use_id"]), response: plain(&part["content"]) }
        }
        kind => Part::Other { kind: kind.to_owned() },
    }
}

/// Text as it is, pieces of text joined, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) if !all.is_empty() && all.iter().all(|part| part["text"].is_string()) => {
            texts(value)
        }
        other => other.to_string(),
    }
}

fn texts(value: &Value) -> String {
    let all: Vec<&str> =
        value.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
    all.join("\n")
}
