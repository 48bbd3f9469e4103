//! Requests to language models, seen alike whoever answers them: OpenAI, Azure OpenAI, Anthropic, Gemini, Bedrock.
//!
//! Which of them is told by the path, since compatible servers stand under any name. A shape that is not known here is
//! none: rules can still ask for `request.json`.

mod estimate;
mod route;
mod shape;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use super::body::View;

pub use estimate::{Estimate, OCTETS, estimate};
pub(super) use route::{Route, route};
pub(super) use shape::{texts, texts_of};

/// One request to a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Llm {
    /// `openai`, `azure`, `anthropic`, `gemini`, `bedrock`.
    pub provider: &'static str,
    /// The model, or Azure's deployment.
    pub model: Option<String>,
    /// Every text that the model is given, one a line: system, messages, input, instructions, tools and their results.
    pub prompt: String,
    /// Names and kinds of the tools that are offered.
    pub tools: Vec<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Tokens that the answer may have.
    pub max_tokens: Option<u64>,
    /// Answers that are made to it, each as long as that; `None` where it does not say.
    pub answers: Option<u64>,
}

impl Llm {
    /// Reads a request by its head and its body; `None` where it goes to no model.
    ///
    /// # Errors
    /// It does, and its body cannot be read.
    pub fn of(http: &crate::types::action::Http<'_>, body: &[u8]) -> Result<Option<Self>, String> {
        let Some(route) = route(http) else { return Ok(None) };
        let json = OnceCell::new();
        let read = || if body.is_empty() { Ok(None) } else { super::body::json(body).map(Some) };
        Self::by(&route, http, body, || json.get_or_init(read))
    }

    /// The same for one whose route is known, and whose JSON, where it is none of a form, somebody has read or will.
    pub(super) fn by<'j>(
        route: &Route,
        http: &crate::types::action::Http<'_>,
        body: &[u8],
        json: impl FnOnce() -> &'j View,
    ) -> Result<Option<Self>, String> {
        if let Some(parts) = super::body::parts(http.headers, body).ok().flatten() {
            return route.form(http, &parts).map(Some);
        }
        let json = json().as_ref().map_err(Clone::clone)?;
        route.json(http, json.as_ref())
    }
}
