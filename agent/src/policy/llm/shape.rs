//! What a JSON body says, whichever provider it is for: their members have names of their own and do not collide.

use serde_json::{Map, Value};

use super::{Llm, Route};

/// Members that hold what the model is given, in the order in which the prompt has them.
const GIVEN: [&str; 34] = [
    "system",
    "systemInstruction",
    "system_instruction",
    "instructions",
    "messages",
    "contents",
    "content",
    "input",
    "inputs",
    "prompt",
    "text",
    "query",
    "suffix",
    "instances",
    "requests",
    "inputText",
    "texts",
    "documents",
    "preamble",
    "message",
    "chat_history",
    "additional_messages",
    "additional_instructions",
    "items",
    "item",
    "prediction",
    "tools",
    "functions",
    "toolConfig",
    "tool_config",
    "response_format",
    "negative_prompt",
    "additionalModelRequestFields",
    "thread",
];
/// Bodies inside bodies: realtime's messages, batches' requests.
const INNER: [&str; 4] = ["session", "response", "params", "request"];
/// Where a bound of tokens stands, and the members that hold such ones.
const TOKENS: [&str; 10] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_response_output_tokens",
    "maxOutputTokens",
    "max_tokens_to_sample",
    "maxTokens",
    "max_gen_len",
    "maxTokenCount",
    "max_new_tokens",
];
/// How many answers are made (OpenAI, Gemini, Cohere).
const ANSWERS: [&str; 5] = ["n", "best_of", "candidateCount", "candidate_count", "num_generations"];
const SETTINGS: [&str; 5] =
    ["generationConfig", "generation_config", "inferenceConfig", "textGenerationConfig", "parameters"];
/// Words of the protocol, not of the prompt, as long as they look like one.
const WORDS: [&str; 9] =
    ["type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "toolUseId", "mimeType", "media_type"];

/// Members that a tool or a template is given: all in it is shown to the model, whatever it is called.
const FREE: [&str; 5] = ["args", "arguments", "response", "variables", "json"];

pub fn json(route: &Route, body: &Map<String, Value>) -> Result<Llm, String> {
    let mut view = route.empty();
    fill(&mut view, route, body)?;
    Ok(view)
}

fn fill(view: &mut Llm, route: &Route, body: &Map<String, Value>) -> Result<(), String> {
    in_their_letter_case(body)?;
    match body.get("model").or_else(|| body.get("modelId")) {
        None | Some(Value::Null) => {}
        Some(Value::String(model)) if route.model.is_none() => match &view.model {
            Some(other) if other != model => return Err("it names two models".to_owned()),
            _ => view.model = Some(model.clone()),
        },
        Some(Value::String(_)) => {}
        Some(_) => return Err("its model is no text".to_owned()),
    }
    match body.get("stream") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(stream)) => view.stream |= stream,
        Some(_) => return Err("its member stream is neither true nor false".to_owned()),
    }
    bound(view, body)?;
    for settings in SETTINGS.iter().filter_map(|name| body.get(*name)?.as_object()) {
        bound(view, settings)?;
    }
    for name in GIVEN {
        if let Some(given) = body.get(name) {
            gather(given, &WORDS, &mut view.prompt);
        }
    }
    for tools in ["tools", "functions"].iter().filter_map(|name| body.get(*name)?.as_array()) {
        tools.iter().for_each(|tool| tool_names(tool, &mut view.tools));
    }
    for config in
        ["toolConfig", "tool_config"].iter().filter_map(|name| body.get(*name)?.get("tools")?.as_array())
    {
        config.iter().for_each(|tool| tool_names(tool, &mut view.tools));
    }
    for inner in INNER.iter().filter_map(|name| body.get(*name)?.as_object()) {
        // JSON is at most 64 deep.
        fill(view, route, inner)?;
    }
    let batch = body.get("requests").and_then(Value::as_array);
    for one in batch.into_iter().flatten().filter_map(Value::as_object) {
        if let Some(params) = one.get("params").and_then(Value::as_object) {
            fill(view, route, params)?;
        }
    }
    Ok(())
}

/// Some servers ignore letter case in the names of members: one that is ours to look at is not passed over so.
fn in_their_letter_case(body: &Map<String, Value>) -> Result<(), String> {
    const OTHERS: [&str; 4] = ["model", "modelId", "stream", "tools"];
    let known = || [&GIVEN[..], &INNER, &TOKENS, &ANSWERS, &SETTINGS, &OTHERS].into_iter().flatten();
    let other = |key: &&String| {
        let is = |name: &&str| key.eq_ignore_ascii_case(name);
        key.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii())
            && known().any(is)
            && known().all(|name| name != key)
    };
    match body.keys().find(other) {
        Some(key) => Err(format!("its member {key:?} is written in another letter case")),
        None => Ok(()),
    }
}

/// The largest bound of tokens counts, and the largest number of answers.
fn bound(view: &mut Llm, body: &Map<String, Value>) -> Result<(), String> {
    for name in TOKENS {
        let tokens = match body.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if text == "inf" => u64::MAX,
            Some(Value::Number(number)) => {
                number.as_u64().ok_or_else(|| format!("its {name} is no whole number"))?
            }
            Some(_) => return Err(format!("its {name} is no number")),
        };
        view.max_tokens = view.max_tokens.max(Some(tokens));
    }
    for name in ANSWERS {
        let answers = match body.get(name) {
            None | Some(Value::Null) => continue,
            Some(value) => value.as_u64().ok_or_else(|| format!("its {name} is no whole number"))?,
        };
        view.answers = view.answers.max(Some(answers));
    }
    Ok(())
}

/// A tool's name, and its kind where that says what it is.
fn tool_names(tool: &Value, names: &mut Vec<String>) {
    let Value::Object(tool) = tool else { return };
    let mut add = |name: &str| names.push(name.to_owned());
    if let Some(kind) = tool.get("type").and_then(Value::as_str)
        && !matches!(kind, "function" | "custom" | "object")
    {
        add(kind);
    }
    for name in ["name", "server_label"] {
        tool.get(name).and_then(Value::as_str).into_iter().for_each(&mut add);
    }
    for inner in ["function", "toolSpec", "tool_spec", "custom"] {
        tool.get(inner).and_then(|inner| inner["name"].as_str()).into_iter().for_each(&mut add);
    }
    let typed = tool.contains_key("type") || tool.contains_key("name");
    for (kind, declared) in tool {
        match declared {
            Value::Array(list)
                if matches!(kind.as_str(), "functionDeclarations" | "function_declarations") =>
            {
                list.iter().filter_map(|one| one["name"].as_str()).for_each(&mut add);
            }
            // `{"googleSearch": {}}`, `{"systemTool": {}}`: the kind is the member's name.
            Value::Object(_) if !typed && !matches!(kind.as_str(), "toolSpec" | "tool_spec" | "function") => {
                add(kind)
            }
            _ => {}
        }
    }
}

/// Every text of a value and every name of a member, one a line.
pub fn texts(value: &Value) -> String {
    let mut text = String::new();
    gather(value, &[], &mut text);
    text
}

/// The texts of a body that is declared to be something else than JSON and is no strict JSON: JSON by lines, or what is
/// there. `None` where a server that does not look at the declaration could read it as JSON, or as UTF-16.
pub fn texts_of(body: &[u8]) -> Option<String> {
    let body = body.trim_ascii();
    let bare = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let lines = || bare.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    match bare {
        [b'{' | b'[' | b'"', ..] => {
            let read = lines().map(|line| crate::policy::body::json(line).map(|value| texts(&value)));
            read.collect::<Result<String, _>>().ok().filter(|_| bare.len() == body.len())
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 0, 0, ..] | [0, b'!'..=b'~', ..] | [b'!'..=b'~', 0, ..] => {
            None
        }
        _ => Some(String::from_utf8_lossy(body).into_owned()),
    }
}

fn is_word(value: &Value) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/+".contains(&b);
    value.as_str().is_some_and(|text| text.len() <= 64 && text.bytes().all(part))
}

fn gather(value: &Value, words: &[&str], text: &mut String) {
    match value {
        Value::String(one) => {
            text.push_str(one);
            text.push('\n');
        }
        Value::Array(list) => list.iter().for_each(|one| gather(one, words, text)),
        Value::Object(map) => {
            for (name, one) in map {
                if words.is_empty() {
                    text.push_str(name);
                    text.push('\n');
                }
                let free = FREE.contains(&name.as_str()) || (name == "input" && one.is_object());
                if !(words.contains(&name.as_str()) && is_word(one)) {
                    gather(one, if free { &[] } else { words }, text);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
