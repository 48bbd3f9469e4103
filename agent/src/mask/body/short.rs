//! Short texts that are there whole: values of headers, queries, paths.

use std::sync::Arc;

use super::odd::next_odd;
use super::{Body, Counts, Env};
use crate::mask::scan::BEHIND;
use crate::mask::text::Lexer;
use crate::mask::{Plan, Scope};

/// How a short text is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As it stands: the value of a header or trailer.
    Header,
    /// A query without its question mark: names and values, percent-encoded.
    Query,
    /// A path, percent-encoded.
    Path,
}

/// Hides what is found in a short text that is there whole. `name`: of a header, its name, which may say that the whole value goes,
/// and is context for what is found in it. `None`: nothing was found.
pub fn text(
    plan: &Arc<Plan>,
    scope: &Arc<Scope>,
    spelling: Spelling,
    name: Option<&str>,
    value: &[u8],
    counts: &mut Counts,
) -> Option<Vec<u8>> {
    let named = name.filter(|_| spelling == Spelling::Header);
    if let Some(field) = named.and_then(|name| plan.header_field(name)) {
        let mut env = Env { plan: Some(plan), scope, restores: false, counts, kept: None };
        let new = env.replaced(&field.name, value, field.with);
        return (!value.is_empty() && *new != value).then(|| new.to_vec());
    }
    if finds_nothing(plan, spelling, named, value) {
        return None;
    }
    let lexer = Lexer::short(spelling, Some(plan));
    let mut body = Body::reading(Some(plan.clone()), scope.clone(), false, lexer);
    body.opaque = true;
    if let Some(name) = named {
        body.weave.begin(format!("{name}: ").as_bytes());
    }
    let out = through(&mut body, value)?;
    counts.merge(body.counts());
    Some(out)
}

/// Whether nothing can be found in a text, where that is told without reading it as its lexer does: most fields and paths are plain.
fn finds_nothing(plan: &Plan, spelling: Spelling, name: Option<&str>, value: &[u8]) -> bool {
    let is_plain = match spelling {
        Spelling::Header => next_odd(value).is_none(),
        Spelling::Path => !value.contains(&b'%'),
        Spelling::Query => !plan.has_query_fields() && !value.contains(&b'%'),
    };
    if !is_plain {
        return false;
    }
    let mut text = Vec::with_capacity(name.map_or(0, |name| name.len() + 2) + value.len());
    if let Some(name) = name {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.drain(..text.len().saturating_sub(BEHIND));
    }
    let before = text.len();
    text.extend_from_slice(value);
    if spelling == Spelling::Query {
        // As a form is read.
        text.iter_mut().for_each(|byte| match byte {
            b'+' => *byte = b' ',
            b'&' => *byte = b'"',
            _ => {}
        });
    }
    plan.set.finds_nothing(&text, before)
}

fn through(body: &mut Body, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + 64);
    body.push(value, &mut out)
        .and_then(|()| body.end(&mut out))
        .expect("bytes that need not be text, by a lexer that takes all");
    (out != value).then_some(out)
}
