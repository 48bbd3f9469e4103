//! Judgement: an action and its caller in, a verdict out. Pure; the only maker of [`Permit`]s.
//!
//! Rules stand in order and the first that matches decides. An action is judged whenever more of it is known: a rule that
//! asks for what is not known yet neither matches nor is passed over, so the judgement then is "go on reading"
//! ([`Verdict::More`]), and nothing is sent. When all is known, an action that no rule matches is refused.

pub mod analyser;
mod body;
mod claims;
mod cover;
pub mod credential;
mod decide;
mod facts;
mod filter;
mod index;
mod judge;
mod known;
pub mod limit;
pub mod llm;
pub mod lookup;
pub mod mask;
mod messages;
pub mod past;
pub mod pattern;
pub mod question;
pub mod readings;
pub mod rule;
mod trial;
mod shown;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_body;
#[cfg(test)]
mod tests_evasion;
#[cfg(test)]
mod tests_readings;
#[cfg(test)]
mod tests_speed;
pub mod when;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{self, CredentialName};
use credential::Credential;
use filter::Filter;
use index::Index;
use judge::Compiled;
use limit::Bounds;
use mask::Masks;
use rule::{CallerKeys, Source};
use when::{Mistake, When};

pub use body::is_grpc;
pub use filter::prompt_mistakes;
pub use judge::{Asked, Key, Match};
pub use messages::Hears;
pub use readings::decide;
pub use trial::trial;

/// Whether verdicts are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Verdicts are recorded; nothing is refused: the package's default.
    #[default]
    Observe,
    /// Verdicts are applied.
    Enforce,
}

/// What is in force.
#[derive(Debug, Default)]
pub struct Policy {
    source: Source,
    rules: Vec<Compiled>,
    credentials: HashMap<CredentialName, Arc<Credential>>,
    index: Index,
    masks: mask::Ready,
    /// Whether a rule looks at more of a request than where it goes.
    looks: bool,
    /// Names of claims that rules ask for.
    claims: Vec<String>,
    /// Whether an exchange waits until its head is synced to disk before a byte goes upstream, whatever the rule.
    pub durable: bool,
    /// Bounds of name lookups.
    pub lookups: lookup::Lookups,
}

/// The right to send one exchange upstream. Cannot be copied or made elsewhere: it is spent by sending.
#[derive(Debug)]
pub struct Permit {
    rule: Arc<str>,
    verdict: types::Verdict,
    durable: bool,
    messages: Hears,
    credential: Option<Arc<Credential>>,
    caller_key: CallerKeys,
    bounds: Option<Box<Bounds>>,
    masks: Option<Arc<Masks>>,
}

impl Permit {
    /// The rule that decided.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it said: in observe mode a refusal too is sent.
    pub fn verdict(&self) -> types::Verdict {
        self.verdict
    }

    /// Whether the record of the exchange must be on disk before the exchange is sent.
    pub fn durable(&self) -> bool {
        self.durable
    }

    /// Whose messages on the WebSocket that it opens are to be judged: a rule that asks for them decided, or stands before.
    pub fn messages(&self) -> Hears {
        self.messages
    }

    /// The credential that the exchange is to bear, as it was bound when this was decided.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// What becomes of long-lived keys of the caller's own.
    pub fn caller_key(&self) -> CallerKeys {
        self.caller_key
    }

    /// What is hidden of it, on the wire and in the record.
    pub fn masks(&self) -> Option<&Arc<Masks>> {
        self.masks.as_ref()
    }

    fn hides(&self) -> bool {
        self.masks.as_ref().is_some_and(|masks| masks.on_wire())
    }

    /// What bounds it, where its rule has limits. Whoever sends it counts it first.
    pub fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_deref()
    }
}

/// The right to go on reading, and to open what reading needs: never to send what was read.
#[derive(Debug)]
pub struct Passage(());

impl Permit {
    /// Who may send may also open what that needs.
    pub fn passage(self) -> Passage {
        Passage(())
    }
}

/// The policy in force: it changes when the configuration is read again.
pub type InForce = tokio::sync::watch::Receiver<Arc<Policy>>;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The rule that refuses.
    pub rule: String,
    /// Why, for the client and the record.
    pub reason: String,
}

/// What policy says.
#[derive(Debug)]
pub enum Verdict {
    /// Send it.
    Allow(Permit),
    /// Refuse it.
    Deny(Denied),
    /// It depends on what is not known yet.
    More {
        /// The right to go on.
        passage: Passage,
        /// For a request whose head is known: bytes of its body that must be read at most.
        body: Option<u64>,
    },
}

impl Verdict {
    /// The verdict where nothing more will become known.
    ///
    /// # Errors
    /// [`Denied`], also when it still depends on something.
    pub fn settled(self) -> Result<Permit, Denied> {
        match self {
            Self::Allow(permit) => Ok(permit),
            Self::Deny(denied) => Err(denied),
            Self::More { .. } => Err(Denied {
                rule: NONE.to_owned(),
                reason: "a rule asks for what cannot be known of it".to_owned(),
            }),
        }
    }

    /// The same with the limits that hold for it.
    fn within(mut self, bounds: impl FnOnce() -> Option<Box<Bounds>>) -> Self {
        if let Self::Allow(permit) = &mut self
            && permit.verdict == types::Verdict::Allow
        {
            permit.bounds = bounds();
        }
        self
    }

    /// The same; whose messages on the WebSocket that it opens are judged.
    fn judging(mut self, messages: Hears) -> Self {
        if let Self::Allow(permit) = &mut self {
            permit.messages = messages;
        }
        self
    }

    /// The same, a refusal put into other words.
    #[must_use]
    pub fn explained(self, explain: impl FnOnce(Denied) -> Denied) -> Self {
        match self {
            Self::Deny(denied) => Self::Deny(explain(denied)),
            other => other,
        }
    }

    /// The right to go on reading, where nothing is sent yet.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn passage(self) -> Result<Passage, Denied> {
        match self {
            Self::Allow(permit) => Ok(permit.passage()),
            Self::More { passage, .. } => Ok(passage),
            Self::Deny(denied) => Err(denied),
        }
    }
}

/// The rule's name where none matched.
pub const NONE: &str = "(none)";
/// The rule's name where there are none and nothing is refused.
pub const OBSERVE: &str = "observe";

/// A condition that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}: {key}: {mistake}")]
pub struct BadCondition {
    /// The rule.
    pub rule: String,
    /// The key that it stands under: `when`, `prompt_words`, `prompt_patterns`.
    pub key: Key,
    /// What is wrong.
    pub mistake: Mistake,
}

impl Policy {
    /// Makes rules ready to judge by.
    ///
    /// # Errors
    /// Every [`BadCondition`].
    pub fn compile(source: Source) -> Result<Self, Vec<BadCondition>> {
        let mut wrong = Vec::new();
        let mut rules = Vec::with_capacity(source.rules.len());
        for rule in &source.rules {
            let mut of = |key, mistake| wrong.push(BadCondition { rule: rule.name.clone(), key, mistake });
            let when = rule.when.as_deref().map(When::compile).transpose().unwrap_or_else(|mistakes| {
                mistakes.into_iter().for_each(|mistake| of("when", mistake));
                None
            });
            let filter = Filter::compile(&rule.request.prompt_words, &rule.request.prompt_patterns, of);
            let mut rule = rule.clone();
            readings::decoded_too(&mut rule.request.paths);
            rules.push(Compiled { rule, when, filter });
        }
        let looks = rules.iter().any(|compiled| compiled.when.is_some() || compiled.rule.request.asks());
        let claims = claims::names(&rules);
        let index = Index::of(&rules);
        let masks = mask::Ready::of(&source).unwrap_or_else(|mistakes| {
            wrong.extend(mistakes);
            mask::Ready::default()
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let credential = |one: &Credential| (one.name.clone(), Arc::new(one.clone()));
        let credentials = source.credentials.iter().map(credential).collect();
        Ok(Self { source, rules, credentials, index, masks, looks, claims, ..Self::default() })
    }

    /// The rules as written.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Names of claims that rules ask for: what a record bears of an identity's.
    pub fn claims(&self) -> &[String] {
        &self.claims
    }

    /// How each rule matches, in order, for people: `decide` stops at the first that says yes.
    pub fn explain<'a>(&'a self, asked: &'a Asked<'a>) -> impl Iterator<Item = (&'a str, Match)> {
        self.explain_without(asked, &past::NOTHING)
    }

    /// The mode that holds for a tag.
    pub fn mode(&self, tag: &types::TagName) -> Mode {
        self.source.tag_modes.get(tag).copied().unwrap_or(self.source.mode)
    }

    fn permit(&self, rule: &str, verdict: types::Verdict, durable: bool) -> Verdict {
        Verdict::Allow(self.minted(rule, verdict, durable))
    }

    fn minted(&self, rule: &str, verdict: types::Verdict, durable: bool) -> Permit {
        let durable = durable || self.durable;
        Permit {
            rule: rule.into(),
            verdict,
            durable,
            messages: Hears::Nobody,
            credential: None,
            caller_key: CallerKeys::Warn,
            bounds: None,
            masks: self.record_masks().cloned(),
        }
    }
}
