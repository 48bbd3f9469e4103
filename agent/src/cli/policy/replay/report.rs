//! What a replay found: counts, and the changes in groups of those that are alike. Bounded; what does not fit is counted.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::policy::{suggest, template};
use crate::cli::table::{self, Cell, Look, Tone};
use crate::policy::Policy;
use crate::policy::past::{Outcome, Past, What};
use crate::policy::question::Decision;
use crate::policy::rule::Effect;
use crate::record::read::each::Recorded;
use crate::types::{Summary, Verdict};

/// Groups of changes.
const GROUPS: usize = 1000;
/// Reasons for which something cannot be judged.
const REASONS: usize = 200;
/// Longest cell for a person.
const CELL: usize = 60;

/// How a verdict changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// It was allowed, and would be refused.
    Refused,
    /// The same, but nobody had answered it.
    Unanswered,
    /// It was refused in the record alone, and would be in fact.
    Applied,
    /// It was refused, and would be allowed.
    Allowed,
    /// The same verdict by another rule.
    Rule,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Applied => "applied",
            Self::Allowed => "allowed",
            Self::Rule => "rule",
        }
    }
}

/// What changes alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    change: Change,
    was: String,
    now: String,
    tag: String,
    what: String,
}

#[derive(Debug)]
struct Group {
    count: u64,
    why: Option<(String, &'static str)>,
    example: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    all: bool,
    judged: u64,
    same: u64,
    changes: BTreeMap<Change, u64>,
    groups: BTreeMap<Alike, Group>,
    /// Changes in no group.
    more: u64,
    /// By why.
    unjudged: BTreeMap<String, u64>,
}

impl Change {
    const EACH: [Self; 5] = [Self::Refused, Self::Unanswered, Self::Applied, Self::Allowed, Self::Rule];
}

impl Report {
    /// `all`: changes of the rule alone are told, too.
    pub fn new(all: bool) -> Self {
        Self { all, ..Self::default() }
    }

    /// Whether something that was allowed would be refused.
    pub fn refuses(&self) -> bool {
        self.count(Change::Refused) > 0
    }

    fn count(&self, change: Change) -> u64 {
        self.changes.get(&change).copied().unwrap_or_default()
    }

    /// Judges one; gives what changes of it, or that it cannot be judged.
    pub fn add(
        &mut self,
        policy: &Policy,
        recorded: &Recorded,
        past: Result<Past, &'static str>,
    ) -> Option<Value> {
        let summary = &recorded.summary;
        let (past, decision) = match past.map(|past| (past.decide(policy), past)) {
            Err(why) => return Some(self.unjudged(summary, why)),
            Ok((Outcome::Unknown(why), _)) => return Some(self.unjudged(summary, &why)),
            Ok((Outcome::Decided(decision), past)) => (past, decision),
        };
        if let Some(why) = counted(summary, &decision) {
            return Some(self.unjudged(summary, why));
        }
        self.judged += 1;
        let Some(change) = change(summary, &past.what, &decision) else {
            self.same += 1;
            return None;
        };
        *self.changes.entry(change).or_default() += 1;
        if change == Change::Rule && !self.all {
            return None;
        }
        let why = self.group(policy, summary, &past, change, &decision);
        Some(json!({
            "change": change.word(),
            "session": summary.session, "exchange": summary.exchange, "time": summary.time,
            "tag": summary.tag, "unit": summary.unit, "protocol": summary.protocol,
            "host": summary.host, "address": summary.address, "method": summary.method, "path": summary.path,
            "rule_before": summary.rule, "verdict_before": summary.verdict,
            "rule_after": decision.rule, "verdict_after": decision.effect, "sent_after": decision.sent,
            "nearest": why.as_ref().map(|(rule, _)| rule), "failed": why.as_ref().map(|(_, key)| key),
        }))
    }

    fn unjudged(&mut self, summary: &Summary, why: &str) -> Value {
        let room = self.unjudged.len() < REASONS || self.unjudged.contains_key(why);
        *self.unjudged.entry(if room { why } else { "for other reasons" }.to_owned()).or_default() += 1;
        json!({
            "change": "unknown",
            "session": summary.session, "exchange": summary.exchange, "time": summary.time,
            "rule_before": summary.rule, "verdict_before": summary.verdict, "why": why,
        })
    }

    /// Puts a change to those that are alike; gives the rule that came nearest to allowing it, and what it fails on.
    fn group(
        &mut self,
        policy: &Policy,
        summary: &Summary,
        past: &Past,
        change: Change,
        decision: &Decision,
    ) -> Option<(String, &'static str)> {
        let alike = Alike {
            change,
            was: format!("{} {}", summary.verdict.as_str(), summary.rule.as_deref().unwrap_or("-")),
            now: format!("{} {}", decision.effect, decision.rule),
            tag: summary.tag.clone(),
            what: what(summary),
        };
        let room = self.groups.len() < GROUPS;
        if let Some(group) = self.groups.get_mut(&alike) {
            group.count += 1;
            return group.why.clone();
        }
        let refused = decision.effect == Effect::Deny;
        let why = if refused { past.nearest(policy) } else { None };
        if !room {
            self.more += 1;
            return why;
        }
        let example = format!("{}/{}", summary.session, summary.exchange);
        self.groups.insert(alike, Group { count: 1, why: why.clone(), example });
        why
    }

    /// The counts.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn as_json(&self, out: &mut impl Write) -> io::Result<()> {
        let mut counts = json!({
            "judged": self.judged, "same": self.same, "unknown": self.unknown(), "unknown_by": self.unjudged,
        });
        for change in Change::EACH {
            counts[change.word()] = self.count(change).into();
        }
        writeln!(out, "{counts}")
    }

    fn unknown(&self) -> u64 {
        self.unjudged.values().sum()
    }

    /// Counts, then the groups.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn as_text(&self, out: &mut impl Write, look: Look) -> io::Result<()> {
        writeln!(out, "{} exchange(s) judged: {} as before", self.judged, self.same)?;
        for (change, says) in [
            (Change::Refused, "were allowed and would be refused"),
            (Change::Unanswered, "were allowed, had no answer, and would be refused"),
            (Change::Applied, "were refused in the record only, and would be refused in fact"),
            (Change::Allowed, "were refused and would be allowed"),
            (Change::Rule, "would have the same verdict by another rule (--all tells them)"),
        ] {
            if self.count(change) > 0 {
                writeln!(out, "{} {says}", self.count(change))?;
            }
        }
        if self.unknown() > 0 {
            writeln!(out, "{} cannot be judged:", self.unknown())?;
        }
        for (why, count) in &self.unjudged {
            writeln!(
                out,
                "  {count}: {}",
                crate::record::visible::visible(why, crate::record::visible::Keep::Nothing)
            )?;
        }
        if self.groups.is_empty() {
            return Ok(());
        }
        let rows: Vec<[Cell; 7]> = self.groups.iter().map(row).collect();
        let heads = ["COUNT", "TAG", "WHAT", "WAS", "WOULD BE", "NEAREST", "EXAMPLE"];
        table::write(out, look, Some(heads), &rows, CELL)?;
        if self.more > 0 {
            writeln!(out, "and {} of other kinds: --json tells each", self.more)?;
        }
        Ok(())
    }
}

fn row((alike, group): (&Alike, &Group)) -> [Cell; 7] {
    let tone = if alike.change == Change::Refused { Tone::Bad } else { Tone::Plain };
    let why = group.why.as_ref().map(|(rule, key)| format!("{rule}: not its {key}")).unwrap_or_default();
    [
        Cell::new(group.count.to_string()),
        Cell::new(&alike.tag),
        Cell::new(&alike.what),
        Cell::new(&alike.was),
        Cell::new(&alike.now).tone(tone),
        Cell::new(why),
        Cell::new(&group.example),
    ]
}

/// What something is, its ids left out.
fn what(summary: &Summary) -> String {
    let path = summary.path.as_deref().unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let path = template::segments(path).map_or_else(|| path.to_owned(), |path| template::pattern(&path));
    let method = summary.method.as_deref().unwrap_or(&summary.protocol);
    format!("{method} {}{path}", summary.host)
}

/// What the rules do not decide alone: it was refused by what is counted.
fn counted(summary: &Summary, decision: &Decision) -> Option<&'static str> {
    if summary.verdict == Verdict::Allow || decision.effect == Effect::Deny {
        return None;
    }
    match summary.rule.as_deref() {
        Some("dns.rate" | "dns.new_names") => {
            Some("it was refused by a rate of lookups, and rates are not replayed")
        }
        Some("dns.deny") if summary.error.as_ref().is_some_and(|why| why.contains("alias")) => {
            Some("it was an alias of a name, and answers of name servers are not replayed")
        }
        _ if summary.status == Some(429) => Some("it was refused by a limit, and limits are not replayed"),
        _ => None,
    }
}

fn change(summary: &Summary, what: &What, decision: &Decision) -> Option<Change> {
    let was_sent = summary.verdict == Verdict::Allow || summary.error.is_none();
    match (summary.verdict, decision.effect) {
        (Verdict::Allow, Effect::Deny) if suggest::failed(summary, what) => Some(Change::Unanswered),
        (Verdict::Allow, Effect::Deny) => Some(Change::Refused),
        (Verdict::Deny, Effect::Allow) => Some(Change::Allowed),
        (Verdict::Deny, Effect::Deny) if was_sent && !decision.sent => Some(Change::Applied),
        _ if summary.rule.as_deref() != Some(&decision.rule) => Some(Change::Rule),
        _ => None,
    }
}
