//! Conditions in CEL (`when`): the language of <https://cel.dev> over the names in [`names`].
//!
//! The crate `cel` parses; what it reads is lowered once into nodes whose names are resolved and whose kinds are checked,
//! and judged here, because the crate's interpreter counts no steps and knows no third answer. Not in it: bytes, structs,
//! `type()`, `uint()`, optional values; more than in it: whole numbers and fractions are reckoned with together. Patterns
//! of `matches` stand in the condition, never in the request.
//!
//! A condition holds, does not, or depends on what is not known yet; an `&&` or `||` that one side decides is decided.
//! Where it cannot be judged, the rule errs towards refusing:
//!
//! - **In a rule that allows**, a member that is missing, or anything that fails (a text ordered against a number, a body
//!   that is no strict JSON or longer than the rule's bound), means that the rule does not match.
//! - **In a rule that refuses**, what is missing (or null) fails every test: `==`, `<`, `in`, `contains`, `exists` are
//!   false, `!=` and `all` are true. So `request.json.model == "x"` refuses no request without a model, and
//!   `!(request.json.max_tokens <= 1000)` does refuse one that names no bound. Anything else that fails refuses the
//!   request: nobody escapes a refusal by sending what cannot be judged.
//!
//! `has(a.b)` is false wherever anything on the way is missing.
//!
//! Bounds: 4 KiB of text; 48 expressions and 2 loops inside one another; 100,000 steps a condition and 1,000,000 a
//! decision, beyond which it cannot be judged; 256 KiB a compiled pattern.

mod call;
mod eval;
mod functions;
mod lower;
mod names;
mod node;
mod quick;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
pub(super) mod tests_load;
#[cfg(test)]
mod tests_same;
mod value;

use cel::parser::ParseError;

use super::facts::Facts;
use super::known::Known;
use eval::Run;
use lower::Lower;
use node::Node;

/// Longest text, in bytes.
const TEXT: usize = 4096;
/// Brackets inside one another, and recoveries of the parser.
const BRACKETS: usize = 48;
/// The parser's frames are large without optimisation.
const STACK: usize = 16 << 20;

/// A condition, compiled.
#[derive(Debug)]
pub struct When {
    node: Node,
    asks_body: bool,
    asks_message: bool,
    asks_speaker: bool,
    claims: Vec<String>,
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Mistake {
    /// Where in the text, in bytes from its begin.
    pub at: usize,
    /// What is wrong, and with what in its place.
    pub what: String,
}

impl When {
    /// Reads a condition.
    ///
    /// # Errors
    /// Every [`Mistake`] in it, in order.
    pub fn compile(text: &str) -> Result<Self, Vec<Mistake>> {
        let one = |at, what: &str| Err(vec![Mistake { at, what: what.to_owned() }]);
        if text.trim().is_empty() {
            return one(0, "a condition is empty; leave the key out");
        }
        if text.len() > TEXT {
            return one(TEXT, "a condition is longer than 4096 bytes");
        }
        if let Some(at) = too_deep(text) {
            return one(at, "brackets are more than 48 inside one another");
        }
        let compiled = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || compile(text));
            thread.map(|thread| thread.join())
        });
        match compiled {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => one(0, "the parser fails on it"),
            Err(error) => one(0, &format!("no thread to parse it on: {error}")),
        }
    }

    /// Whether it asks for the body.
    pub fn asks_body(&self) -> bool {
        self.asks_body
    }

    /// Whether it asks for messages on a WebSocket.
    pub fn asks_message(&self) -> bool {
        self.asks_message
    }

    /// Whether it asks which side sent one: only then it is about the server's, too.
    pub fn asks_speaker(&self) -> bool {
        self.asks_speaker
    }

    /// Claims of an identity that it asks for by name.
    pub fn claims(&self) -> &[String] {
        &self.claims
    }

    /// Judges it for a rule that allows (or, with `refuses`, one that refuses) and looks at no more than `body_max` bytes
    /// of the body.
    pub(super) fn holds(&self, facts: &Facts<'_>, body_max: u64, refuses: bool) -> Known {
        if self.node.fails(facts, refuses) {
            return Known::No;
        }
        Known::from(Run::new(facts, body_max, refuses).condition(&self.node))
    }
}

/// Where the brackets, texts aside, are too deep.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().enumerate().find_map(|(at, byte)| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth > BRACKETS).then_some(at)
    })
}

fn compile(text: &str) -> Result<When, Vec<Mistake>> {
    // Without macros: `exists` and its like stay the calls that they are written as.
    let parser = cel::Env::default().with_optional_support(false).parser().error_recovery_limit(4);
    let (expression, info) = parser.parse_with_source_info(text).map_err(|errors| {
        let mut mistakes: Vec<_> = errors.errors.iter().map(|error| unread(text, error)).collect();
        mistakes.sort_by_key(|mistake| mistake.at);
        mistakes.truncate(4);
        mistakes
    })?;
    let mut lower = Lower::new(text, &info);
    let node = lower.test(&expression);
    let (asks_body, asks_message, asks_speaker) = (lower.asks_body, lower.asks_message, lower.asks_speaker);
    let (mut mistakes, claims) = (lower.mistakes, lower.claims);
    mistakes.sort_by_key(|mistake| mistake.at);
    if mistakes.is_empty() {
        Ok(When { node, asks_body, asks_message, asks_speaker, claims })
    } else {
        Err(mistakes)
    }
}

/// Line and column, both from 1, as the place in the text.
fn unread(text: &str, error: &ParseError) -> Mistake {
    let (line, column) =
        (usize::try_from(error.pos.0).unwrap_or(1), usize::try_from(error.pos.1).unwrap_or(1));
    let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(begin..).unwrap_or_default();
    let at = rest.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(byte, _)| begin + byte);
    let what = error.msg.lines().next().unwrap_or_default();
    Mistake { at, what: format!("cannot be read: {what}") }
}
