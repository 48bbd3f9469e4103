//! Lexers: which bytes of a body are text, in which spelling, and which hold it together. They say so to a
//! [`Feed`](super::body), piece by piece, and leave what only more bytes can tell: an escape, a number, a name.

mod csv;
mod form;
mod json;
mod multipart;
mod path;
mod plain;
mod proto;
mod sign;
mod sse;
mod unit;
mod xml;

pub use json::Json;
pub use path::{Action, PathError, Paths, last_name};
pub use proto::{Hide, rewritten};
pub use sign::{Sign, behind_escape, is_first, sign, sign_says, tail};
pub use unit::{json_number, json_says};

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
    Xml(Box<xml::Xml>),
    Csv(Box<csv::Csv>),
    Multipart(Box<multipart::Multipart>),
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
            Kind::Xml => Self::Xml(Box::new(xml::Xml::new(plan, xml::Tongue::Xml))),
            Kind::Html => Self::Xml(Box::new(xml::Xml::new(plan, xml::Tongue::Html))),
            Kind::Csv => Self::Csv(Box::new(csv::Csv::new(plan))),
            Kind::Multipart { boundary } => {
                Self::Multipart(Box::new(multipart::Multipart::new(plan, boundary)))
            }
            Kind::Text => Self::Soft(Box::new(plain::Soft::new(plan))),
            Kind::Latin1(kind) => Self::new(kind, plan.as_ref()),
            // Messages are taken apart elsewhere.
            Kind::Opaque => Self::Plain(Spell::Stars),
            Kind::Grpc | Kind::Protobuf => Self::Plain(Spell::Bytes),
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

    /// Bytes of memory that it has taken, where that can be much.
    pub fn memory(&self) -> usize {
        match self {
            Self::Soft(soft) => soft.json.memory(),
            Self::Json(json) => json.memory(),
            Self::Lines(lines) => lines.json.memory(),
            Self::Sse(sse) => sse.json.memory(),
            Self::Multipart(multipart) => multipart.lexer.memory(),
            Self::Csv(csv) => csv.memory(),
            Self::Form(form) => form.memory(),
            Self::Plain(_) | Self::Xml(_) => 0,
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
            Self::Xml(xml) => xml.read(feed, upto, last),
            Self::Csv(csv) => csv.read(feed, upto, last),
            Self::Multipart(multipart) => multipart.read(feed, upto, last),
        }
    }
}
