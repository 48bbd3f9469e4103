//! Conversations with language models: OpenAI's chat completions and responses, Anthropic's messages, and whoever speaks as
//! they do; whole or streamed. A conversation is read by its shape, whatever host it went to; what is no such
//! conversation, or was cut, is none.

mod assemble;
mod read;

use serde::Serialize;
use serde_json::Value;

use super::body::Body;
use super::sse;
use crate::record::Direction;
use crate::record::read::whole::Exchange;

/// Which tongue it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `POST …/chat/completions`.
    OpenaiChat,
    /// `POST …/responses`.
    OpenaiResponses,
    /// `POST …/messages`.
    AnthropicMessages,
}

impl Api {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "OpenAI chat completions",
            Self::OpenaiResponses => "OpenAI responses",
            Self::AnthropicMessages => "Anthropic messages",
        }
    }

    /// `gen_ai.provider.name` of OpenTelemetry's semantic conventions: whose tongue it is.
    pub fn provider(self) -> &'static str {
        match self {
            Self::OpenaiChat | Self::OpenaiResponses => "openai",
            Self::AnthropicMessages => "anthropic",
        }
    }

    fn of(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            Some(Self::OpenaiChat)
        } else if path.ends_with("/responses") {
            Some(Self::OpenaiResponses)
        } else if path.ends_with("/messages") {
            Some(Self::AnthropicMessages)
        } else {
            None
        }
    }
}

/// One turn of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// `system`, `developer`, `user`, `assistant`, `tool`, as it was said.
    pub role: String,
    /// What it consists of.
    pub parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Part {
    /// Words.
    Text {
        /// They.
        content: String,
    },
    /// What the model thought, where it is told.
    Reasoning {
        /// It.
        content: String,
    },
    /// The model calls a tool.
    ToolCall {
        /// The call's id.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments, mostly JSON.
        arguments: String,
    },
    /// What a tool gave.
    ToolCallResponse {
        /// The call's id.
        id: String,
        /// It.
        response: String,
    },
    /// An image, a file, what else there is: its type.
    Other {
        /// Its type.
        kind: String,
    },
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Tongue.
    pub api: Api,
    /// Model that was asked for.
    pub model: Option<String>,
    /// Names of the tools that were offered.
    pub tools: Vec<String>,
    /// Whether a stream was asked for.
    pub streamed: bool,
    /// What was said before.
    pub asked: Vec<Turn>,
    /// The answer; `None` where there is none, or it could not be read.
    pub answer: Option<Answered>,
}

/// What a model answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Turns: one for each choice.
    pub turns: Vec<Turn>,
    /// Its id.
    pub id: Option<String>,
    /// Model that answered.
    pub model: Option<String>,
    /// Why it ended.
    pub finish: Vec<String>,
    /// Tokens in.
    pub input_tokens: Option<u64>,
    /// Tokens out.
    pub output_tokens: Option<u64>,
}

impl Conversation {
    /// Of an exchange, where it is one.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let head = exchange.head.as_ref()?;
        let api = Api::of(head.path.as_deref()?).filter(|_| head.method.as_deref() == Some("POST"))?;
        let up = Body::of(exchange, Direction::Up);
        if up.is_cut() {
            return None;
        }
        let request: Value = serde_json::from_slice(&up.decoded().bytes).ok()?;
        let asked = read::request(api, &request)?;
        let down = Body::of(exchange, Direction::Down);
        let decoded = down.decoded();
        let message = if down.is_events() {
            // What came before a cut was said.
            assemble::message(api, &sse::all(&decoded.bytes))
        } else {
            serde_json::from_slice(&decoded.bytes).ok()
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            api,
            model: text(&request["model"]),
            tools: read::tools(&request),
            streamed: request["stream"] == true,
            asked,
            answer: message.and_then(|message| read::answer(api, &message)),
        })
    }
}

/// The message that a stream of events stood for, in the form of the answer that is not streamed.
pub fn assembled(path: &str, events: &[sse::Event]) -> Option<Value> {
    assemble::message(Api::of(path)?, events)
}

#[cfg(test)]
mod tests;
