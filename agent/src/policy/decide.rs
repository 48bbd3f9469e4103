//! What the rules say of an action that is read in one way.

use super::facts::Facts;
use super::judge::Match;
use super::limit::Bounds;
use super::past::Withheld;
use super::rule::{Effect, Rule};
use super::{Asked, Denied, Hears, Mode, NONE, OBSERVE, Passage, Policy, Verdict};
use crate::types::action::{Body, Http, Message, Speaker};
use crate::types::{self, Action};

/// Decides as if there were one way to read it.
pub(super) fn decide_as_read(policy: &Policy, asked: &Asked<'_>, withheld: &Withheld) -> Verdict {
    let facts = Facts::without(asked, withheld);
    let mode = policy.mode(&asked.caller.tag);
    if policy.rules.is_empty() && mode == Mode::Observe {
        return policy.permit(OBSERVE, types::Verdict::Allow, false);
    }
    let Found { messages, body, more, open, last } = find(policy, &facts, mode);
    // Where no rule that is left would let it through, nothing more need be known, and not even the name goes further. But
    // whoever only connects is listened to, so that a refusal can be told in words and not by a reset.
    let connects = matches!(asked.action, Action::Connect { .. });
    if more && (open || connects || (last.is_none() && mode == Mode::Observe)) {
        let head = matches!(asked.action, Action::Http(_));
        return Verdict::More { passage: Passage(()), body: body.filter(|_| head) };
    }
    let verdict = match (last, mode) {
        (Some((rule, why)), _) => apply(policy, rule, mode, why)
            .within(|| Bounds::of(rule, rule.mode.unwrap_or(mode) == Mode::Enforce, &facts)),
        (None, Mode::Observe) => policy.permit(NONE, types::Verdict::Deny, false),
        (None, Mode::Enforce) => {
            Verdict::Deny(Denied { rule: NONE.to_owned(), reason: "no rule allows it".to_owned() })
        }
    };
    verdict.judging(messages)
}

/// What asking the rules in order came to.
#[derive(Default)]
struct Found<'p> {
    /// Who is heard on the WebSocket that it opens.
    messages: Hears,
    /// How much of its body rules ask for.
    body: Option<u64>,
    /// A rule asks for what is not known yet.
    more: bool,
    /// One that asks so, or decides, would let it through.
    open: bool,
    /// The rule that decides; and why, where it refuses because it cannot be judged.
    last: Option<(&'p Rule, Option<String>)>,
}

fn find<'p>(policy: &'p Policy, facts: &Facts<'_>, mode: Mode) -> Found<'p> {
    let action = &facts.asked.action;
    // Whether it is sent once this rule has matched.
    let sends = |rule: &Rule| rule.verdict == Effect::Allow || rule.mode.unwrap_or(mode) == Mode::Observe;
    let head = matches!(action, Action::Http(_));
    // What the server says was let through with the handshake by the rules that do not ask who said it.
    let opens = matches!(
        action,
        Action::Http(Http {
            body: Body::Handshake | Body::Message(Message { from: Speaker::Server, .. }),
            ..
        })
    );
    let mut found = Found::default();
    for compiled in policy.index.candidates(facts).map(|at| &policy.rules[at]) {
        let why = match compiled.judge(facts) {
            Match::No(_) => continue,
            // What a handshake opens is judged message by message: a refusal of some passes it over, a leave lets it through.
            Match::NotYet(_) if opens && compiled.asks_message() => {
                found.messages = found.messages.max(compiled.hears());
                match compiled.rule.verdict {
                    Effect::Deny => continue,
                    Effect::Allow => None,
                }
            }
            Match::NotYet(_) => {
                found.more = true;
                found.open |= sends(&compiled.rule);
                if compiled.asks_body() {
                    found.body = found.body.max(Some(compiled.rule.body_max));
                }
                if found.open && !head {
                    break;
                }
                continue;
            }
            Match::Yes => None,
            Match::Cannot(..) if compiled.rule.verdict == Effect::Allow => continue,
            Match::Cannot(key, why) => Some(format!("its {key} cannot be judged: {why}")),
        };
        found.open |= sends(&compiled.rule);
        found.last = Some((&compiled.rule, why));
        break;
    }
    found
}

/// What a rule says that matches, or (`why`) that refuses because it cannot be judged.
fn apply(policy: &Policy, rule: &Rule, mode: Mode, why: Option<String>) -> Verdict {
    match (rule.verdict, rule.mode.unwrap_or(mode)) {
        (Effect::Allow, mode) => policy.allow(rule, mode == Mode::Enforce),
        (Effect::Deny, Mode::Observe) => policy.permit(&rule.name, types::Verdict::Deny, rule.durable),
        (Effect::Deny, Mode::Enforce) => {
            let reason = why.unwrap_or_else(|| "the rule refuses it".to_owned());
            Verdict::Deny(Denied { rule: rule.name.clone(), reason })
        }
    }
}
