//! `limit` of a `[[rule]]`: one table, or a list of them.

use std::time::Duration;

use super::quantity;
use super::section::{Place, Problems, Section, Sited, nearest};
use crate::policy::limit::{By, Limit};

/// Limits of one rule.
const LIMITS: usize = 8;
/// The shortest and the longest window: shorter ones are below what a clock of slots can tell, longer ones outlive hosts.
const PER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31 * 24 * 3600);
const KINDS: [&str; 6] = ["rule", "identity", "tag", "unit", "user", "claim:NAME"];

/// Reads those of a rule; whatever is wrong is reported. `refuses`: there is nothing that they could bound.
pub(super) fn resolve(section: &mut Section<'_>, refuses: bool, problems: &mut Problems<'_>) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    let tables = section.table_or_tables("limit", problems);
    let first = tables.first().map(|table| table.place().clone());
    for (at, table) in tables.into_iter().enumerate() {
        let place = table.place().clone();
        if at == LIMITS {
            problems.add(&place, format!("more than {LIMITS} limits of one rule"), "keep those that bind");
            break;
        }
        let Some(limit) = one(table, problems) else { continue };
        match limits.iter().find(|earlier| collide(earlier, &limit)) {
            Some(_) => problems.add(
                &place,
                format!("two limits by {} that count the same", limit.by),
                "write all amounts of one `by` and `per` into one table, and `concurrent` once",
            ),
            None => limits.push(limit),
        }
    }
    if let Some(place) = first.filter(|_| refuses) {
        problems.add(
            &place,
            "the rule has a limit and refuses all that it matches",
            "leave the limit out, or write verdict = \"allow\"",
        );
    }
    limits
}

/// Two tables would keep one count, each of its own.
fn collide(one: &Limit, other: &Limit) -> bool {
    let windows = one.per.is_some() && one.per == other.per;
    one.by == other.by && (windows || (one.concurrent.is_some() && other.concurrent.is_some()))
}

fn one(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Limit> {
    let before = problems.0.len();
    let place = section.place().clone();
    let mut limit = Limit {
        requests: amount(&mut section, "requests", problems),
        bytes: size(&mut section, problems),
        tokens: amount(&mut section, "tokens", problems),
        concurrent: amount(&mut section, "concurrent", problems),
        ..Limit::default()
    };
    let per = section.quantity("per", problems);
    if let Some(text) = section.text("by", problems) {
        limit.by = by(&text, problems).unwrap_or_default();
    }
    section.finish(problems);
    let windows = limit.requests.is_some() || limit.bytes.is_some() || limit.tokens.is_some();
    match per {
        Some(text) => limit.per = window(&text, problems),
        None if windows => problems.add(&place, "the limit has no window", "add per = \"1m\""),
        None => {}
    }
    if problems.0.len() > before {
        return None;
    }
    check(&limit, windows, &place, problems).then_some(limit)
}

fn check(limit: &Limit, windows: bool, place: &Place, problems: &mut Problems<'_>) -> bool {
    let said = problems.0.len();
    if !windows && limit.concurrent.is_none() {
        let remedy = "add requests, bytes, tokens or concurrent";
        problems.add(place, "the limit has no amount", remedy);
    } else if !windows && limit.per.is_some() {
        let what = "the limit has a window, and `concurrent` alone has none";
        problems.add(place, what, "leave per out, or add requests, bytes or tokens");
    }
    problems.0.len() == said
}

fn amount(section: &mut Section<'_>, key: &'static str, problems: &mut Problems<'_>) -> Option<u64> {
    let text = section.quantity(key, problems)?;
    let amount = text.value.parse().ok().filter(|n| (1..=i64::MAX.cast_unsigned()).contains(n));
    if amount.is_none() {
        let what = format!("limit.{key} is {:?}", text.value);
        problems.add(&text.place, what, "write a whole number from 1 on; to refuse all, verdict = \"deny\"");
    }
    amount
}

fn size(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<u64> {
    let text = section.quantity("bytes", problems)?;
    let bytes = quantity::bytes(&text.value).filter(|n| *n > 0);
    if bytes.is_none() {
        let what = format!("limit.bytes is {:?}", text.value);
        problems.add(&text.place, what, "write a size such as \"10MiB\"");
    }
    bytes
}

fn window(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<Duration> {
    let per = quantity::duration(&text.value).filter(|per| PER.contains(per));
    if per.is_none() {
        let what = format!("limit.per is {:?}", text.value);
        problems.add(&text.place, what, "write a duration from 1s to 744h, such as \"1m\"");
    }
    per
}

fn by(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<By> {
    let by = match text.value.as_str() {
        "rule" => By::Rule,
        "identity" => By::Identity,
        "tag" => By::Tag,
        "unit" => By::Unit,
        "user" => By::User,
        other => match other.strip_prefix("claim:").filter(|name| !name.is_empty()) {
            Some(name) => By::Claim(name.to_owned()),
            None => {
                let remedy = match nearest(other, &KINDS) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("write one of {}", KINDS.map(|kind| format!("{kind:?}")).join(", ")),
                };
                problems.add(&text.place, format!("limit.by is {other:?}"), remedy);
                return None;
            }
        },
    };
    Some(by)
}
