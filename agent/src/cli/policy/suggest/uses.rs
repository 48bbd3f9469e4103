//! How often something was done, when, and what it asked of a model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tree::Seen;
use crate::policy::llm::Llm;
use crate::record::read::each::Recorded;
use crate::types::action::{Body, Http, KeptBody};

/// Bytes of the longest name of a model.
const MODEL: usize = 128;
/// Paths that are named in a comment.
const EXAMPLES: usize = 2;

/// By method.
#[derive(Debug, Default, PartialEq)]
pub struct ByMethod(pub BTreeMap<String, Use>);

/// How often, when, and what for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Use {
    /// How often.
    pub count: u64,
    /// When first and last, as records bear times.
    pub first: String,
    /// See `first`.
    pub last: String,
    /// Some of the paths, without ids.
    pub examples: BTreeSet<String>,
    /// Models that were asked for.
    pub models: BTreeSet<Arc<str>>,
    /// Requests to a model of which the record does not know which.
    pub unknown: u64,
    /// Requests by a model's path that name none.
    pub modelless: u64,
    /// Requests that are none to a model.
    pub other: u64,
    /// Bytes of the longest body of those to a model.
    pub longest: u64,
}

impl Use {
    pub fn once(time: &str) -> Self {
        Self { count: 1, first: time.to_owned(), last: time.to_owned(), ..Self::default() }
    }

    /// Sees what a request asks of a model.
    pub fn model(
        &mut self,
        http: &Http<'_>,
        body: &KeptBody,
        recorded: &Recorded,
    ) -> Result<(), &'static str> {
        // A model that a WebSocket is for stands in its query, which is free.
        if http.protocol == "websocket" {
            self.other += 1;
            return Ok(());
        }
        let read = match body {
            KeptBody::Whole(body) => Llm::of(http, body),
            _ => {
                // By the head alone: is there a model at all?
                let to_model =
                    Llm::of(&Http { body: Body::Unread, ..*http }, &[]).is_ok_and(|llm| llm.is_some());
                // Where no bodies are kept, no job decided that; one that is too long, or was refused, is the job's doing.
                let kept_none = recorded.up.is_some_and(|up| up.kept == 0 && up.total > 0);
                match to_model {
                    false => self.other += 1,
                    true if kept_none && recorded.summary.error.is_none() => self.unknown += 1,
                    true => return Err("are to a model, and the record has not all of their body"),
                }
                return Ok(());
            }
        };
        match read {
            Ok(None) => self.other += 1,
            Ok(Some(Llm { model: Some(model), .. })) if model.len() <= MODEL => {
                self.models.insert(model.into());
            }
            Ok(Some(Llm { model: Some(_), .. })) => return Err("ask for a model by too long a name"),
            // What fetches has nothing that could name one.
            Ok(Some(_)) if matches!(http.method, "GET" | "HEAD" | "DELETE" | "OPTIONS") => self.other += 1,
            // Files are large, and no model is asked.
            Ok(Some(_)) if http.path.ends_with("/files") => self.other += 1,
            Ok(Some(_)) => self.modelless += 1,
            Err(_) => return Err("are to a model, with a body that cannot be read"),
        }
        if self.other == 0 {
            self.longest = recorded.up.map_or(0, |up| up.total);
        }
        Ok(())
    }
}

impl Seen for ByMethod {
    fn merge(&mut self, other: Self) {
        for (method, one) in other.0 {
            self.0.entry(method).or_default().merge(one);
        }
    }
}

impl Seen for Use {
    fn merge(&mut self, other: Self) {
        span(&mut self.first, &mut self.last, &other.first, &other.last);
        self.count += other.count;
        self.unknown += other.unknown;
        self.modelless += other.modelless;
        self.other += other.other;
        self.longest = self.longest.max(other.longest);
        self.models.extend(other.models);
        self.examples.extend(other.examples);
        while self.examples.len() > EXAMPLES {
            self.examples.pop_last();
        }
    }
}

/// Widens a span of times; an empty one is none.
pub fn span(first: &mut String, last: &mut String, from: &str, to: &str) {
    if first.is_empty() || from < first.as_str() {
        from.clone_into(first);
    }
    if to > last.as_str() {
        to.clone_into(last);
    }
}
