//! Whose path it is, and what the path says.

use std::borrow::Cow;

use super::Llm;
use super::shape;
use crate::codec::percent::decoded;
use crate::policy::body::Part;
use crate::types::action::Http;

use serde_json::Value;

/// What a path tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub provider: &'static str,
    /// In the path, or in the query.
    pub model: Option<String>,
    /// Where the path says so.
    pub stream: bool,
    /// What is named twice, and differently.
    pub doubt: Option<&'static str>,
}

/// The route of a request to a model; `None` where the path is none of theirs.
pub fn route(http: &Http<'_>) -> Option<Route> {
    // Few paths are; the letters that all of them have are looked for before anything is copied.
    const SIGNS: [&str; 8] = ["/v1", "/chat", "/model", "/openai", "/complet", "/messages", ":", "%"];
    let odd = http.path.bytes().any(|b| b.is_ascii_uppercase());
    if !odd && !SIGNS.iter().any(|sign| http.path.contains(sign)) {
        return None;
    }
    let sent = http.path.split('/').map(decoded).filter(|segment| !segment.is_empty());
    let sent: Vec<String> = sent.map(Cow::into_owned).collect();
    // Azure does not tell letter case apart in paths; nobody else has two paths that differ in it only.
    let segments: Vec<String> = sent.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let mut route = routed(http, &segments)?;
    if let Some(model) = &mut route.model {
        as_sent(model, &sent);
    }
    Some(route)
}

/// A model's name with the letters that it was sent with, where it stood in the path.
fn as_sent(model: &mut String, sent: &[String]) {
    let path = sent.join("/");
    // ASCII alone was folded: places stay the same.
    if let Some(at) = path.to_ascii_lowercase().find(model.as_str())
        && let Some(spelled) = path.get(at..at + model.len())
    {
        *model = spelled.to_owned();
    }
}

/// By segments in lower case.
fn routed(http: &Http<'_>, segments: &[String]) -> Option<Route> {
    let path: Vec<&str> = segments.iter().flat_map(|segment| slashes(segment)).collect();
    bedrock(segments).or_else(|| gemini(&path)).or_else(|| azure(&path)).or_else(|| anthropic(&path)).or_else(
        || {
            let mut route = openai(&path)?;
            let host = http.host.map(crate::types::HostName::as_str).unwrap_or_default();
            if host.ends_with(".openai.azure.com") || host.ends_with(".cognitiveservices.azure.com") {
                route.provider = "azure";
            }
            if path.last() == Some(&"realtime") {
                let mut query = form_urlencoded::parse(http.query.unwrap_or_default().as_bytes());
                let named = |name: &str| matches!(name, "model" | "deployment");
                route.model = query.find(|(name, _)| named(name)).map(|(_, model)| model.into_owned());
                let other =
                    query.any(|(name, model)| named(&name) && route.model.as_deref() != Some(&*model));
                route.doubt = other.then_some("its query names two models");
            }
            Some(route)
        },
    )
}

/// A segment that has a `%2F` in it is several to some servers.
fn slashes(segment: &str) -> impl Iterator<Item = &str> {
    segment.split('/').filter(|part| !part.is_empty())
}

fn to(provider: &'static str, model: Option<&str>, stream: bool) -> Option<Route> {
    Some(Route { provider, model: model.map(str::to_owned), stream, doubt: None })
}

/// `/model/{id}/converse`, `converse-stream`, `invoke`, `invoke-with-response-stream`.
fn bedrock(segments: &[String]) -> Option<Route> {
    // An id may be an ARN, with slashes.
    let (first, rest) = segments.split_first()?;
    let (last, id) = rest.split_last()?;
    let stream = match last.as_str() {
        "converse" | "invoke" => false,
        "converse-stream" | "invoke-with-response-stream" => true,
        _ => return None,
    };
    (first == "model" && !id.is_empty()).then(|| to("bedrock", Some(&id.join("/")), stream))?
}

/// `/v1beta/models/{model}:generateContent`, and the same behind `/v1/projects/…/publishers/{google,anthropic}`.
fn gemini(path: &[&str]) -> Option<Route> {
    let (last, before) = path.split_last()?;
    let (model, verb) = last.rsplit_once(':')?;
    let of = before.last()?;
    let stream = match verb {
        "generatecontent"
        | "counttokens"
        | "embedcontent"
        | "batchembedcontents"
        | "predict"
        | "rawpredict"
        | "generateanswer"
        | "generatemessage"
        | "generatetext"
        | "predictlongrunning"
        | "batchgeneratecontent" => false,
        "streamgeneratecontent" | "streamrawpredict" | "serverstreamingpredict" | "bidigeneratecontent" => {
            true
        }
        _ => return None,
    };
    let anthropic = before.contains(&"anthropic");
    let provider = if anthropic { "anthropic" } else { "gemini" };
    matches!(*of, "models" | "tunedmodels" | "endpoints").then(|| to(provider, Some(model), stream))?
}

/// `/openai/deployments/{deployment}/…`.
fn azure(path: &[&str]) -> Option<Route> {
    let at = path.windows(2).position(|two| two == ["openai", "deployments"])?;
    let deployment = path.get(at + 2)?;
    let mut under = vec!["v1"];
    under.extend(path.get(at + 3..)?);
    openai(&under)?;
    to("azure", Some(deployment), false)
}

fn anthropic(path: &[&str]) -> Option<Route> {
    let at = path.iter().position(|segment| *segment == "v1")?;
    match path[at + 1..] {
        ["messages"] | ["messages", "count_tokens" | "batches"] | ["complete"] => {
            to("anthropic", None, false)
        }
        _ => None,
    }
}

fn openai(path: &[&str]) -> Option<Route> {
    if path.ends_with(&["chat", "completions"]) {
        return to("openai", None, false);
    }
    let under = |root: &str| path.iter().position(|segment| *segment == root).map(|at| &path[at + 1..]);
    // Azure has these without a version.
    let rest = under("v1").or_else(|| under("openai"))?;
    let known = matches!(
        rest,
        ["responses" | "completions" | "embeddings" | "moderations" | "files" | "realtime"]
            | ["responses", "input_tokens" | "compact"]
            | ["images", "generations" | "edits" | "variations"]
            | ["audio", "speech" | "transcriptions" | "translations"]
            | ["realtime", "sessions" | "client_secrets" | "transcription_sessions"]
            | ["assistants" | "threads" | "conversations"]
            | ["threads", "runs"]
            | ["threads", _, "messages" | "runs"]
            | ["conversations", _, "items"]
    );
    known.then(|| to("openai", None, false))?
}

impl Route {
    /// The view of a JSON body, or of none.
    ///
    /// # Errors
    /// A member that every server reads as one kind is of another.
    pub fn json(&self, _http: &Http<'_>, body: Option<&Value>) -> Result<Option<Llm>, String> {
        if let Some(doubt) = self.doubt {
            return Err(doubt.to_owned());
        }
        match body {
            None => Ok(Some(self.empty())),
            Some(Value::Object(body)) => shape::json(self, body).map(Some),
            Some(_) => Ok(None),
        }
    }

    /// The view of a multipart form: images and sound to be worked on, files.
    ///
    /// # Errors
    /// The model is named twice.
    pub fn form(&self, _http: &Http<'_>, parts: &[Part<'_>]) -> Result<Llm, String> {
        let mut view = self.empty();
        for part in parts {
            let text = String::from_utf8_lossy(part.content);
            match part.name.as_str() {
                "model" if view.model.is_some() && self.model.is_none() => {
                    return Err("its form names two models".to_owned());
                }
                "model" if self.model.is_none() => view.model = Some(text.into_owned()),
                "stream" => view.stream |= text == "true",
                "model" | "purpose" | "n" | "size" | "response_format" => {}
                _ => {
                    view.prompt.push_str(&text);
                    view.prompt.push('\n');
                }
            }
        }
        Ok(view)
    }

    pub fn empty(&self) -> Llm {
        Llm { provider: self.provider, model: self.model.clone(), stream: self.stream, ..Llm::default() }
    }
}
