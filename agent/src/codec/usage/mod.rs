//! What an answer of a language model tells of the tokens that it cost, whole or streamed: OpenAI, Azure, Anthropic, Gemini,
//! Bedrock, and whatever speaks as they do. It is read as it passes, in bounded memory and time, and is never in the way: what
//! cannot be read tells nothing.

mod frames;
mod scan;
#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::coding::{Decoder, Step};
use frames::{Events, Messages};
use scan::Scan;

/// More than any model takes and gives in one exchange: an upstream that claims more is taken at this.
pub const TOKENS_MAX: u64 = 1 << 24;

/// What was told. Of what is told several times, the most counts: streams tell what it is so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
}

/// Members that tell the same, whoever answers; those of one list do not stand together.
const INPUT: [&str; 5] =
    ["prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "inputTokenCount"];
const OUTPUT: [&str; 5] =
    ["completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "outputTokenCount"];
const TOTAL: [&str; 3] = ["total_tokens", "totalTokens", "totalTokenCount"];
/// What Anthropic, Bedrock and Gemini tell apart from those: read from and written to a cache, results of tools; thoughts.
const INPUT_TOO: [&str; 5] = [
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
    "toolUsePromptTokenCount",
];
const OUTPUT_TOO: [&str; 1] = ["thoughtsTokenCount"];

impl Usage {
    /// Takes in an object that tells it.
    fn told(&mut self, object: &[u8]) {
        let Ok(object) = serde_json::from_slice::<Map<String, Value>>(object) else { return };
        let first = |names: &[&str]| names.iter().find_map(|name| number(object.get(*name)?));
        let all = |names: &[&str], with: Option<u64>| {
            let more = names.iter().filter_map(|name| number(object.get(*name)?));
            more.fold(with, |sum, n| Some(sum.unwrap_or(0).saturating_add(n)))
        };
        self.input = self.input.max(all(&INPUT_TOO, first(&INPUT)));
        self.output = self.output.max(all(&OUTPUT_TOO, first(&OUTPUT)));
        self.total = self.total.max(first(&TOTAL));
    }

    fn tokens(self) -> Option<u64> {
        let parts = self
            .input
            .or(self.output)
            .map(|_| self.input.unwrap_or(0).saturating_add(self.output.unwrap_or(0)));
        parts.max(self.total).map(|tokens| tokens.min(TOKENS_MAX))
    }
}

/// A whole number that is not negative; some write it with a fraction of nought.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let n = value.as_f64().filter(|n| n.is_finite() && *n >= 0.0 && n.fract() == 0.0)?;
        // As long as doubles count whole.
        Some(n.min(9_007_199_254_740_992.0) as u64)
    })
}

/// Reads one answer.
#[derive(Debug)]
pub struct Answer {
    decoder: Option<Box<Decoder>>,
    form: Form,
    scan: Scan,
    /// What its head tells (Bedrock).
    head: Usage,
    decoded: Vec<u8>,
}

#[derive(Debug)]
enum Form {
    Json,
    Events(Events),
    Messages(Messages),
    /// What cannot be read, or not any more.
    Unread,
}

/// Octets that are decoded at once.
const PIECE: usize = 16 << 10;
/// Octets that the octets of one frame may be decoded to: what grows more is no text, and not worth the time.
const GROWN: usize = 4 << 20;

impl Answer {
    /// By its head.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes()).to_ascii_lowercase();
        let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let form = match kind {
            b"text/event-stream" => Form::Events(Events::default()),
            b"application/vnd.amazon.eventstream" => Form::Messages(Messages::default()),
            b"" | b"text/plain" => Form::Json,
            kind if kind.ends_with(b"json") => Form::Json,
            _ => Form::Unread,
        };
        let (decoder, form) = match Decoder::of(headers) {
            Ok(decoder) => (decoder.map(Box::new), form),
            Err(_) => (None, Form::Unread),
        };
        let count = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
        let head = Usage {
            input: count("x-amzn-bedrock-input-token-count"),
            output: count("x-amzn-bedrock-output-token-count"),
            total: None,
        };
        Self { decoder, form, scan: Scan::default(), head, decoded: Vec::new() }
    }

    /// Some more of its body.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if matches!(self.form, Form::Unread) {
            return;
        }
        let Some(mut decoder) = self.decoder.take() else { return self.read(bytes) };
        let mut decoded = std::mem::take(&mut self.decoded);
        for _ in 0..GROWN / PIECE {
            decoded.clear();
            let step = decoder.step(&mut bytes, &mut decoded, PIECE);
            self.read(&decoded);
            match step {
                Ok(Step::Full) => {}
                Ok(Step::Hungry) => {
                    (self.decoder, self.decoded) = (Some(decoder), decoded);
                    return;
                }
                Err(_) => break,
            }
        }
        self.form = Form::Unread;
    }

    fn read(&mut self, bytes: &[u8]) {
        match &mut self.form {
            Form::Json => self.scan.push(bytes),
            Form::Events(events) => events.push(bytes, &mut self.scan),
            Form::Messages(messages) => messages.push(bytes, &mut self.scan),
            Form::Unread => {}
        }
    }

    /// The tokens that it tells, so far.
    pub fn tokens(&self) -> Option<u64> {
        self.head.tokens().max(self.scan.usage().tokens())
    }

    /// Octets that the model has written, so far as they were seen.
    pub fn written(&self) -> u64 {
        self.scan.written()
    }
}
