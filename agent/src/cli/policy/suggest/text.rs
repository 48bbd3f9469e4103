//! Suggested rules as TOML. What traffic has in it stands in quotes, with everything escaped that could end them or drive a
//! terminal; in comments it is made visible, and stays on its line.

use std::fmt::Write as _;

use super::rules::Suggestion;
use super::seen::Everything;
use super::tree::SIBLINGS;
use crate::config::MAX_FILE;
use crate::policy::lookup::NamePattern;
use crate::policy::pattern::Glob;
use crate::policy::rule::BODY_MAX;
use crate::record::visible::{Keep, visible};

/// Room for what stands before and behind the rules.
const FRAME: usize = 16 * 1024;

/// A text in quotes, as TOML and CEL both read it: printable ASCII as it is, all else as `\uXXXX`.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push_str(&format!("\\U{:08X}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Code in a literal string where TOML has one for it, which is easier to read.
fn code(text: &str) -> String {
    let literal = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'\'');
    if literal { format!("'{text}'") } else { quoted(text) }
}

/// The file; what no longer fits into one is counted in `all`.
pub fn file(all: &mut Everything, suggestions: &[Suggestion], filters: &str) -> String {
    let largest = usize::try_from(MAX_FILE).unwrap_or(usize::MAX) - FRAME;
    let (mut rules, mut left) = (String::new(), 0);
    for suggestion in suggestions {
        let text = rule(suggestion);
        if rules.len() + text.len() > largest {
            left += suggestion.seen.count;
        } else {
            rules.push_str(&text);
        }
    }
    if left > 0 {
        *all.left.entry("do not fit into one file of 1 MiB").or_default() += left;
    }
    format!("{}{rules}", head(all, filters))
}

fn comment(out: &mut String, text: &str) {
    out.push_str("# ");
    out.push_str(&visible(text, Keep::Nothing));
    out.push('\n');
}

fn head(all: &Everything, filters: &str) -> String {
    let mut out = String::new();
    let mut say = |text: &str| comment(&mut out, text);
    say(&format!(
        "Suggested by sluice policy suggest{filters}: {} exchange(s), {} to {}.",
        all.taken, all.first, all.last
    ));
    say("It allows what was done, which may not be what should be. Read it, put it into policy.d, and ask");
    say("sluice policy check and sluice policy replay. Under mode = \"enforce\" everything else is refused.");
    say("");
    say(
        "Wider than what was seen, on purpose: in paths * stands for ids (numbers, hashes, UUIDs, tokens, dates), and",
    );
    say(&format!(
        "for any segment where more than {SIBLINGS} different ones stood in one place; HTTP/1.1 and HTTP/2 stand for each"
    ));
    say(
        "other; queries, header fields and bodies are free, but for the models of requests to them. Hosts never are.",
    );
    if all.lookups > 0 {
        say(&format!("{} name lookup(s) need no rule: [dns] says what may be looked up.", all.lookups));
    }
    for (why, count) in &all.left {
        say(&format!("LEFT OUT: {count} that {why}."));
    }
    out
}

fn rule(suggestion: &Suggestion) -> String {
    let Suggestion { rule, seen, .. } = suggestion;
    let mut out = String::from("\n");
    let programs = suggestion.exes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let by = if programs.is_empty() { String::new() } else { format!(" by {programs}") };
    comment(&mut out, &format!("{} time(s), {} to {}{by}", seen.count, seen.first, seen.last));
    let literal = |example: &&String| !rule.request.paths.iter().any(|path| path.as_str() == **example);
    for example in seen.examples.iter().filter(literal) {
        comment(&mut out, &format!("such as {example}"));
    }
    if suggestion.unlimited {
        comment(&mut out, "NOT LIMITED TO MODELS: the record does not have the bodies.");
    } else if seen.unknown > 0 {
        comment(
            &mut out,
            &format!(
                "of {} the record does not have the body: they may have been for other models",
                seen.unknown
            ),
        );
    }
    if suggestion.address.is_some() && !rule.to.protocols.iter().any(|one| one == "tunnel") {
        comment(&mut out, "nobody but the job gave it a name: whatever name is asked for at this address");
    }
    out.push_str("[[rule]]\n");
    for (key, value) in keys(suggestion) {
        writeln!(out, "{key} = {value}").expect("a String takes all");
    }
    out
}

/// Bytes of a list that stands on one line.
const LINE: usize = 100;

fn list<'t>(texts: impl Iterator<Item = &'t str>) -> Option<String> {
    let all: Vec<String> = texts.map(quoted).collect();
    match &all[..] {
        [] => None,
        [one] => Some(one.clone()),
        _ if all.iter().map(String::len).sum::<usize>() > LINE => {
            Some(format!("[\n  {},\n]", all.join(",\n  ")))
        }
        _ => Some(format!("[{}]", all.join(", "))),
    }
}

fn keys(suggestion: &Suggestion) -> Vec<(&'static str, String)> {
    let rule = &suggestion.rule;
    let body_max = (rule.body_max != BODY_MAX).then(|| quoted(&format!("{}MiB", rule.body_max >> 20)));
    let all = [
        ("name", Some(quoted(&rule.name))),
        ("tags", list(rule.caller.tags.iter().map(Glob::as_str))),
        ("units", list(rule.caller.units.iter().map(Glob::as_str))),
        ("hosts", list(rule.to.hosts.iter().map(NamePattern::as_str))),
        ("addresses", suggestion.address.map(|ip| quoted(&ip.to_string()))),
        ("ports", Some(suggestion.port.to_string())),
        ("protocols", list(rule.to.protocols.iter().map(String::as_str))),
        ("methods", list(rule.request.methods.iter().map(String::as_str))),
        ("paths", list(rule.request.paths.iter().map(Glob::as_str))),
        ("when", rule.when.as_deref().map(code)),
        ("body_max", body_max),
        ("verdict", Some(quoted(&rule.verdict.to_string()))),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
