//! Lexers: which bytes of a body are text, in which spelling, and which hold it together. They say so to a
//! [`Feed`](super::body), piece by piece, and leave what only more bytes can tell: an escape, a number, a name.

mod form;
mod json;

mod path;
mod plain;
mod sse;
mod unit;

pub use json::Json;
pub use path::{Action, PathError, Paths, last_name};
pub use unit::{json_escape, json_number};

use super::body::{Feed, Spell};
use super::{Kind, Plan, Refused};
use std::sync::Arc;

/// Whether a lexer goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It has taken what it can.
    On,
    /// An event has ended, or is long: its texts must be known now. It goes on if asked again.
    Event,
}

/// What reads a body.
pub enum Lexer {
    Plain(Spell),
    Soft(Box<plain::Soft>),
    Json(Box<Json>),
    Lines(Box<sse::Lines>),
    Sse(Box<sse::Sse>),
    Form(form::Form),
}

impl Lexer {
    /// The lexer of a kind; of what has none, plain text.
    pub fn new(kind: &Kind, plan: Option<&Arc<Plan>>) -> Self {
        let plan = plan.cloned();
        match kind {
            Kind::Json => Self::Json(Box::new(Json::new(plan, json::How::Whole))),
            Kind::Ndjson => Self::Lines(Box::new(sse::Lines::new(plan))),
            Kind::Sse => Self::Sse(Box::new(sse::Sse::new(plan))),
            Kind::Form => Self::Form(form::Form::new(plan, form::Where::Form)),
            Kind::Text => Self::Soft(Box::new(plain::Soft::new(plan))),
            Kind::Latin1(kind) => Self::new(kind, plan.as_ref()),
            _ => Self::Plain(Spell::Plain),
        }
    }

    /// A query, a path or a header's value.
    pub fn short(spelling: super::Spelling, plan: Option<&Arc<Plan>>) -> Self {
        match spelling {
            super::Spelling::Header => Self::Plain(Spell::Header),
            super::Spelling::Query => Self::Form(form::Form::new(plan.cloned(), form::Where::Query)),
            super::Spelling::Path => Self::Form(form::Form::new(None, form::Where::Path)),
        }
    }

    /// Reads what is there up to a place. `last`: nothing follows it.
    ///
    /// # Errors
    /// [`Refused`]: it is not what it should be.
    pub fn read(&mut self, feed: &mut Feed<'_, '_>, upto: usize, last: bool) -> Result<Flow, Refused> {
        match self {
            Self::Plain(spell) => {
                feed.plain(upto - feed.at(), *spell);
                Ok(Flow::On)
            }
            Self::Soft(soft) => soft.read(feed, upto, last),
            Self::Json(json) => {
                let flow = json.read(feed, upto, last)?;
                if last && flow == Flow::On { json.finish(feed, upto).map(|()| flow) } else { Ok(flow) }
            }
            Self::Lines(lines) => lines.read(feed, upto, last),
            Self::Sse(sse) => sse.read(feed, upto, last),
            Self::Form(form) => form.read(feed, upto, last),
        }
    }
}
