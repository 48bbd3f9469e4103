//! Numbers of JSON in which something was found. A number goes as a whole. What replaces it is a number where it can be: tokens, and
//! what tokens stand for; it is a string else.
//!
//! Where a detector's token is no number, as that of a telephone number, the number gets another token, of 15 digits.

use zeroize::Zeroizing;

use super::Env;
use super::logical::{Edit, Logical, What};
use super::spell::{Spell, spell};
use crate::mask::replace::Replacement;
use crate::mask::tokens::NUMBER;

/// Writes a number once it is settled; returns how many of its bytes were.
pub fn write(text: &mut Logical, raw: &[u8], env: &mut Env<'_>, out: &mut Vec<u8>) -> usize {
    let (from, end) = (text.passed, text.passed + raw.len() as u64);
    if text.settled < end {
        return 0;
    }
    let mut edits = Vec::new();
    while text.edits.front().is_some_and(|edit| edit.end <= end) {
        edits.extend(text.edits.pop_front().filter(|edit| edit.end > from));
    }
    let reaches_on = text.edits.front().is_some_and(|edit| edit.from < end);
    text.passed = end;
    if edits.is_empty() && !reaches_on {
        out.extend_from_slice(raw);
        return raw.len();
    }
    // As it is written, and as the record has it: tokens stay there.
    let (mut new, mut kept) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
    let mut at = from;
    let slice = |from_: u64, end_: u64| &raw[(from_ - from) as usize..(end_.min(end) - from) as usize];
    let last = text.edits.front_mut().filter(|_| reaches_on);
    let restores = edits.iter().chain(last.as_deref()).any(Edit::is_restore);
    for edit in &edits {
        let what = if edit.written { Zeroizing::default() } else { replaced(edit, raw, (from, end), env) };
        for text in [&mut new, &mut kept] {
            text.extend_from_slice(slice(at, edit.from.max(at)));
        }
        new.extend_from_slice(&what);
        kept.extend_from_slice(if edit.is_restore() { slice(edit.from.max(at), edit.end) } else { &what });
        at = edit.end;
    }
    for text in [&mut new, &mut kept] {
        text.extend_from_slice(slice(at, last.as_ref().map_or(end, |edit| edit.from.max(at))));
    }
    if let Some(edit) = last {
        let written = std::mem::replace(&mut edit.written, true);
        let what = if written { Zeroizing::default() } else { edit.text(env) };
        new.extend_from_slice(&what);
        kept.extend_from_slice(if edit.is_restore() { slice(edit.from.max(at), end) } else { &what });
    }
    let begin = out.len();
    scalar(&new, out);
    if restores {
        let mut came = Vec::new();
        scalar(&kept, &mut came);
        env.stood(begin, out.len(), &came);
    }
    raw.len()
}

/// What stands in place of an edit: of a whole number that gets a token, a number.
fn replaced(edit: &Edit, raw: &[u8], (from, end): (u64, u64), env: &mut Env<'_>) -> Zeroizing<Vec<u8>> {
    let whole = edit.from <= from && edit.end >= end;
    match &edit.what {
        What::Hide { detector, value, runs: false }
            if whole && env.plan.is_some_and(|plan| plan.with(detector) == Replacement::Token) =>
        {
            as_number(detector, value, raw, env)
        }
        _ => edit.text(env),
    }
}

/// A token for a value that stands as a number.
pub fn as_number(detector: &str, value: &[u8], raw: &[u8], env: &mut Env<'_>) -> Zeroizing<Vec<u8>> {
    let shaped = {
        let mut tokens = env.scope.tokens();
        tokens.token(detector, value).ok().filter(|token| is_scalar(token.as_bytes())).map(str::to_owned)
    };
    match shaped {
        Some(token) => {
            env.counts.add(detector);
            Zeroizing::new(token.into_bytes())
        }
        None => {
            let new = match env.scope.tokens().token(NUMBER, raw) {
                Ok(token) => Zeroizing::new(token.as_bytes().to_vec()),
                Err(_) => return env.replaced(detector, value, Replacement::Redact),
            };
            env.counts.add(detector);
            new
        }
    }
}

/// Writes a value where a number stood: as it is where that is valid, as a string else.
pub fn scalar(value: &[u8], out: &mut Vec<u8>) {
    if is_scalar(value) {
        out.extend_from_slice(value);
    } else {
        out.push(b'"');
        spell(value, Spell::Json, false, out);
        out.push(b'"');
    }
}

/// Whether a text is a number, `true` or `false` of JSON.
fn is_scalar(text: &[u8]) -> bool {
    matches!(text, b"true" | b"false") || crate::mask::text::json_number(text)
}
