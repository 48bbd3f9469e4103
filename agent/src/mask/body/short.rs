//! Short texts that are there whole: values of headers, queries, paths.

use std::sync::Arc;

use super::{Body, Counts, Env};
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
        let mut env = Env { plan: Some(plan), scope, restores: false, counts };
        let new = env.replaced(&field.name, value, field.with);
        return (!value.is_empty() && *new != value).then(|| new.to_vec());
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

fn through(body: &mut Body, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + 64);
    body.push(value, &mut out)
        .and_then(|()| body.end(&mut out))
        .expect("bytes that need not be text, by a lexer that takes all");
    (out != value).then_some(out)
}
