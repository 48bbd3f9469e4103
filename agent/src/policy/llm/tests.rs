//! Requests as the providers' clients send them.

use http::HeaderMap;

use super::*;
use crate::types::action::{Body, Http};
use crate::types::{Destination, HostName};

fn view(host: &str, path: &str, kind: Option<&'static str>, body: &str) -> Result<Option<Llm>, String> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let (host, mut headers) = (HostName::parse(host).expect("host"), HeaderMap::new());
    if let Some(kind) = kind {
        headers.insert("content-type", http::HeaderValue::from_static(kind));
    }
    let http = Http {
        destination: Destination::new("192.0.2.7".parse().expect("address"), 443),
        host: Some(&host),
        protocol: "h2",
        method: "POST",
        path,
        query,
        headers: &headers,
        body: Body::Whole(body.as_bytes()),
    };
    Llm::of(&http, body.as_bytes())
}

/// Provider, model, texts of the prompt, tools, stream, bound.
type Want = (&'static str, &'static str, &'static [&'static str], &'static [&'static str], bool, Option<u64>);

const OPENAI: &[(&str, &str, &str, Want)] = &[
    (
        "api.openai.com",
        "/v1/chat/completions",
        r#"{"model":"gpt-4o","messages":[{"role":"developer","content":"Be terse."},
            {"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"q\":\"secret\"}"}}]},
            {"role":"tool","tool_call_id":"c1","content":"tool says"}],
            "tools":[{"type":"function","function":{"name":"look","description":"Looks up","parameters":{"type":"object","properties":{"q":{"type":"string"}}}}}],
            "stream":true,"max_completion_tokens":256}"#,
        (
            "openai",
            "gpt-4o",
            &["Be terse.", "What is this?", "secret", "tool says", "Looks up"],
            &["look"],
            true,
            Some(256),
        ),
    ),
    (
        "api.openai.com",
        "/v1/responses",
        r#"{"model":"gpt-4.1","instructions":"Talk like a pirate.","input":[{"role":"user","content":[{"type":"input_text","text":"Ahoy"}]},
            {"type":"function_call_output","call_id":"c","output":"42 degrees"}],
            "tools":[{"type":"code_interpreter","container":{"type":"auto"}},{"type":"function","name":"get_weather","parameters":{}},
            {"type":"mcp","server_label":"deepwiki","server_url":"https://mcp.test"}],"max_output_tokens":1000}"#,
        (
            "openai",
            "gpt-4.1",
            &["pirate", "Ahoy", "42 degrees"],
            &["code_interpreter", "get_weather", "mcp", "deepwiki"],
            false,
            Some(1000),
        ),
    ),
    (
        "api.openai.com",
        "/v1/responses",
        r#"{"model":"gpt-4.1","input":"Tell me"}"#,
        ("openai", "gpt-4.1", &["Tell me"], &[], false, None),
    ),
    (
        "api.openai.com",
        "/v1/embeddings",
        r#"{"input":["The food","was good"],"model":"text-embedding-3-small","encoding_format":"float"}"#,
        ("openai", "text-embedding-3-small", &["The food", "was good"], &[], false, None),
    ),
    (
        "api.openai.com",
        "/v1/images/generations",
        r#"{"model":"gpt-image-1","prompt":"A cute otter","n":1,"size":"1024x1024"}"#,
        ("openai", "gpt-image-1", &["otter"], &[], false, None),
    ),
    (
        "api.openai.com",
        "/v1/realtime?model=gpt-realtime",
        r#"{"type":"session.update","session":{"type":"realtime","instructions":"Be kind","tools":[{"type":"function","name":"f"}],"max_output_tokens":"inf"}}"#,
        ("openai", "gpt-realtime", &["Be kind"], &["f"], false, Some(u64::MAX)),
    ),
    (
        "api.openai.com",
        "/v1/realtime?model=gpt-realtime",
        r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"hi there"}]}}"#,
        ("openai", "gpt-realtime", &["hi there"], &[], false, None),
    ),
    ("api.openai.com", "/v1/files", "", ("openai", "", &[], &[], false, None)),
    (
        "gateway.test",
        "/openai/v1/chat%2Fcompletions/",
        r#"{"model":"llama-3","messages":[{"role":"user","content":"x"}]}"#,
        ("openai", "llama-3", &["x"], &[], false, None),
    ),
];

const OTHERS: &[(&str, &str, &str, Want)] = &[
    (
        "acme.openai.azure.com",
        "/openai/deployments/my-gpt4/chat/completions?api-version=2024-10-21",
        r#"{"messages":[{"role":"user","content":"azure asks"}],"max_tokens":50,"model":"ignored"}"#,
        ("azure", "my-gpt4", &["azure asks"], &[], false, Some(50)),
    ),
    (
        "acme.openai.azure.com",
        "/openai/v1/responses",
        r#"{"model":"gpt-4.1-nano","input":"v1"}"#,
        ("azure", "gpt-4.1-nano", &["v1"], &[], false, None),
    ),
    (
        "api.anthropic.com",
        "/v1/messages",
        r#"{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true,"system":[{"type":"text","text":"Be good","cache_control":{"type":"ephemeral"}}],
            "messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"w","input":{"city":"Paris"}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"15 C"}]}]}],
            "tools":[{"name":"w","description":"Weather","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}]}"#,
        (
            "anthropic",
            "claude-sonnet-4-5",
            &["Be good", "Hello", "Paris", "15 C", "Weather"],
            &["w", "web_search_20250305", "web_search"],
            true,
            Some(1024),
        ),
    ),
    (
        "api.anthropic.com",
        "/v1/messages/batches",
        r#"{"requests":[{"custom_id":"a","params":{"model":"claude-haiku-4-5","max_tokens":10,"messages":[{"role":"user","content":"one"}]}},
            {"custom_id":"b","params":{"model":"claude-haiku-4-5","max_tokens":20,"messages":[{"role":"user","content":"two"}]}}]}"#,
        ("anthropic", "claude-haiku-4-5", &["one", "two"], &[], false, Some(20)),
    ),
    (
        "generativelanguage.googleapis.com",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        r#"{"systemInstruction":{"parts":[{"text":"You are a cat"}]},"contents":[{"role":"user","parts":[{"text":"Meow?"},{"functionResponse":{"name":"f","response":{"r":"purr"}}}]}],
            "tools":[{"functionDeclarations":[{"name":"f","description":"d"}]},{"googleSearch":{}}],"generationConfig":{"maxOutputTokens":800}}"#,
        (
            "gemini",
            "gemini-2.5-flash",
            &["You are a cat", "Meow?", "purr"],
            &["f", "googleSearch"],
            true,
            Some(800),
        ),
    ),
    (
        "europe-west1-aiplatform.googleapis.com",
        "/v1/projects/p/locations/europe-west1/publishers/google/models/gemini-2.5-pro:generateContent",
        r#"{"contents":{"role":"user","parts":{"text":"vertex"}},"system_instruction":{"parts":{"text":"snake"}}}"#,
        ("gemini", "gemini-2.5-pro", &["vertex", "snake"], &[], false, None),
    ),
    (
        "us-east5-aiplatform.googleapis.com",
        "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict",
        r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":9,"messages":[{"role":"user","content":"raw"}],"stream":true}"#,
        ("anthropic", "claude-sonnet-4@20250514", &["raw"], &[], true, Some(9)),
    ),
    (
        "bedrock-runtime.us-east-1.amazonaws.com",
        "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse",
        r#"{"system":[{"text":"sys"}],"messages":[{"role":"user","content":[{"text":"bedrock"}]}],"inferenceConfig":{"maxTokens":512},
            "toolConfig":{"tools":[{"toolSpec":{"name":"top_song","inputSchema":{"json":{}}}}]}}"#,
        (
            "bedrock",
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            &["sys", "bedrock"],
            &["top_song"],
            false,
            Some(512),
        ),
    ),
    (
        "bedrock-runtime.us-east-1.amazonaws.com",
        "/model/arn:aws:bedrock:us-east-1:1:inference-profile%2Fx/invoke-with-response-stream",
        r#"{"inputText":"titan","textGenerationConfig":{"maxTokenCount":77}}"#,
        ("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/x", &["titan"], &[], true, Some(77)),
    ),
];

#[test]
fn requests_of_each_provider() {
    for (host, path, body, (provider, model, prompt, tools, stream, tokens)) in OPENAI.iter().chain(OTHERS) {
        let view = view(host, path, Some("application/json"), body);
        let view =
            view.unwrap_or_else(|why| panic!("{path}: {why}")).unwrap_or_else(|| panic!("{path}: none"));
        assert_eq!(view.provider, *provider, "{path}");
        assert_eq!(view.model.as_deref().unwrap_or_default(), *model, "{path}");
        prompt
            .iter()
            .for_each(|text| assert!(view.prompt.contains(text), "{path}: {text} not in {:?}", view.prompt));
        assert_eq!(view.tools, *tools, "{path}");
        assert_eq!((view.stream, view.max_tokens), (*stream, *tokens), "{path}");
    }
}

#[test]
fn forms_and_what_is_none() {
    let body = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-image-1\r\n--x\r\n\
        Content-Disposition: form-data; name=\"prompt\"\r\n\r\nput a hat on it\r\n--x--\r\n";
    let form = view("api.openai.com", "/v1/images/edits", Some("multipart/form-data; boundary=x"), body);
    let form = form.expect("read").expect("to a model");
    assert_eq!((form.model.as_deref(), form.prompt.trim()), (Some("gpt-image-1"), "put a hat on it"));
    for path in [
        "/",
        "/v1/users",
        "/v2/chat",
        "/model/x/other",
        "/v1/models/x",
        "/v1/models/x:other",
        "/api/messages",
    ] {
        assert_eq!(view("x.test", path, None, "{}"), Ok(None), "{path}");
    }
    assert_eq!(view("x.test", "/v1/responses", None, "[1]"), Ok(None));
    for body in [
        r#"{"model": ["a"]}"#,
        r#"{"model": "a", "max_tokens": "9"}"#,
        r#"{"model": "a", "max_tokens": -9}"#,
        r#"{"model": "a", "stream": "true"}"#,
        r#"{"model": "a", "model": "b"}"#,
        r#"{"model": "a", "response": {"model": "b"}}"#,
        "nothing",
    ] {
        assert!(view("x.test", "/v1/responses", None, body).is_err(), "{body}");
    }
}

#[test]
fn a_path_in_other_letters_is_the_same() {
    let body = r#"{"model":"small","messages":[]}"#;
    for (path, provider, model) in [
        ("/OpenAI/Deployments/GPT-5-Prod/Chat/Completions", "azure", "GPT-5-Prod"),
        ("/V1/Chat/Completions", "openai", "small"),
        ("/Model/Anthropic.Claude/Invoke", "bedrock", "Anthropic.Claude"),
        ("/v1beta/models/Gemini-X:generateContent", "gemini", "Gemini-X"),
    ] {
        let llm = view("a.example", path, None, body).expect("read").expect(path);
        assert_eq!((llm.provider, llm.model.as_deref()), (provider, Some(model)), "{path}");
    }
}
