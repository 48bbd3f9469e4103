//! What was asked once and was recorded, judged by rules of today: at the moments at which the gate judges, by the same
//! [`decide`](super::decide). What the record lacks is "not known", and where the verdict depends on that, there is none.

use time::OffsetDateTime;

use super::facts::Facts;
use super::judge::Compiled;
use super::lookup::{self, Lookup};
use super::question::{Decision, Question};
use super::readings::decide_without;
use super::rule::Effect;
use super::{Asked, Hears, Match, Passage, Policy, Verdict};
use crate::types::action::{Body, Http, Kept, KeptBody};
use crate::types::identity::SomeClaims;
use crate::types::{Action, Caller, Destination, HostName, Identity};

/// What of something past is not known, since it was not recorded or was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Header fields whose values were taken out, in lower case.
    pub headers: Vec<String>,
    /// Some header fields were left out altogether.
    pub headers_cut: bool,
    /// Query parameters whose values were taken out, percent-decoded.
    pub query: Vec<String>,
    /// Something was taken out of the path.
    pub path: bool,
    /// The identity's issuer.
    pub issuer: bool,
    /// All claims of the identity but these; `None`: none are.
    pub claims: Option<SomeClaims>,
    /// The executable's SHA-256, where there is none.
    pub exe_sha256: bool,
    /// The messages on the WebSocket that a handshake opens.
    pub messages: bool,
}

impl Withheld {
    /// All is known.
    pub const NOTHING: Self = Self {
        headers: Vec::new(),
        headers_cut: false,
        query: Vec::new(),
        path: false,
        issuer: false,
        claims: None,
        exe_sha256: false,
        messages: false,
    };
}

/// What is judged now lacks nothing.
pub(super) static NOTHING: Withheld = Withheld::NOTHING;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Who asked.
    pub caller: Caller,
    /// Who stood behind it.
    pub identity: Option<Identity>,
    /// What was wanted.
    pub what: What,
    /// When.
    pub now: OffsetDateTime,
    /// What is not known of it.
    pub withheld: Withheld,
}

/// What was wanted, as far as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A connection that was refused before anything was said.
    Connect(Destination),
    /// One that was refused by the name in its ClientHello.
    Name(Destination, Option<HostName>),
    /// A tunnel, with the name that somebody other than the job gave.
    Tunnel(Destination, Option<HostName>),
    /// A request. [`KeptBody::Unread`]: its body is not known, but for its length.
    Request {
        /// The request.
        http: Box<Kept>,
        /// Bytes of its body, content codings undone; `None` where that is not known.
        length: Option<u64>,
        /// Whom it really went to.
        real: Real,
    },
    /// A name lookup.
    Lookup {
        /// As [`Lookup::name`].
        name: String,
        /// As [`Lookup::kind`].
        kind: String,
    },
}

/// The name of the other side, as far as somebody said it whom the job cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Real {
    /// This, or none.
    Name(Option<HostName>),
    /// Not recorded.
    Unknown,
}

/// What a policy says to something past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This.
    Decided(Decision),
    /// It depends on what is not known, and on what.
    Unknown(String),
}

impl Policy {
    /// Whether any rule may ask for a body.
    pub fn asks_body(&self) -> bool {
        self.rules.iter().any(Compiled::asks_body)
    }

    pub(super) fn explain_without<'a>(
        &'a self,
        asked: &'a Asked<'a>,
        withheld: &'a Withheld,
    ) -> impl Iterator<Item = (&'a str, Match)> {
        let facts = Facts::without(asked, withheld);
        self.rules.iter().map(move |compiled| (compiled.rule.name.as_str(), compiled.judge(&facts)))
    }
}

impl Outcome {
    /// The rule that decides.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Decided(decision) => Some(&decision.rule),
            Self::Unknown(_) => None,
        }
    }
}

impl From<Question> for Past {
    fn from(question: Question) -> Self {
        let Question { caller, identity, mut http, now } = question;
        if http.protocol == "websocket" && http.body == KeptBody::Whole(Vec::new()) {
            http.body = KeptBody::Handshake;
        }
        let what = if http.protocol == "tunnel" {
            What::Tunnel(http.destination, http.host)
        } else {
            let length = match &http.body {
                KeptBody::Whole(body) => Some(body.len() as u64),
                _ => None,
            };
            let real = Real::Name(http.host.clone());
            What::Request { http: Box::new(http), length, real }
        };
        Self { caller, identity, what, now, withheld: Withheld::NOTHING }
    }
}

impl Past {
    /// What `policy` says, moment by moment.
    pub fn decide(&self, policy: &Policy) -> Outcome {
        match &self.what {
            What::Lookup { name, kind } => Outcome::Decided(self.look_up(policy, name, kind)),
            What::Connect(destination) => self.on_the_way(policy, self.connect(policy, *destination)),
            What::Name(destination, host) => {
                let connected = self.connect(policy, *destination);
                let action = Action::Name { destination: *destination, host: host.as_ref() };
                self.on_the_way(policy, connected.or_else(|| refusal(self.judge(policy, action))))
            }
            What::Tunnel(destination, host) => self.connect(policy, *destination).map_or_else(
                || {
                    let tunnel =
                        Action::Tunnel { destination: *destination, host: host.as_ref(), why: "it was" };
                    self.settle(policy, tunnel, self.judge(policy, tunnel))
                },
                Outcome::Decided,
            ),
            What::Request { http, length, .. } => self
                .connect(policy, http.destination)
                .map_or_else(|| self.request(policy, http, *length), Outcome::Decided),
        }
    }

    /// What is judged last: for [`Policy::explain`]. A lookup is judged by no rule.
    pub fn asked<'a>(&'a self, policy: &Policy) -> Option<Asked<'a>> {
        let action = match &self.what {
            What::Lookup { .. } => return None,
            What::Connect(destination) => Action::Connect { destination: *destination },
            What::Name(destination, host) => Action::Name { destination: *destination, host: host.as_ref() },
            What::Tunnel(destination, host) => {
                Action::Tunnel { destination: *destination, host: host.as_ref(), why: "it was" }
            }
            What::Request { http, length, .. } => {
                let head = unread(http.http());
                let body = match self.judge(policy, Action::Http(head)) {
                    Verdict::More { body: Some(max), .. } if long(*length, max) => Body::Unknowable(LONG),
                    _ => http.http().body,
                };
                Action::Http(Http { body, ..head })
            }
        };
        Some(self.of(action))
    }

    /// How each rule matches it, in order.
    pub fn explain<'a>(
        &'a self,
        policy: &'a Policy,
        asked: &'a Asked<'a>,
    ) -> impl Iterator<Item = (&'a str, Match)> {
        policy.explain_without(asked, &self.withheld)
    }

    /// The name and the verdict of each rule's that came nearest to letting it through, and the key that it failed on:
    /// the one of whose keys the most held.
    pub fn nearest(&self, policy: &Policy) -> Option<(String, super::Key)> {
        let asked = self.asked(policy)?;
        let effects = policy.source().rules.iter().map(|rule| rule.verdict);
        let failed =
            self.explain(policy, &asked).zip(effects).filter_map(|((name, how), effect)| match how {
                Match::No(key) | Match::Cannot(key, _) if effect == Effect::Allow => Some((name, key)),
                _ => None,
            });
        // The first of equals: it is what would have decided.
        let best = failed.reduce(|best, next| if rank(next.1) > rank(best.1) { next } else { best });
        best.map(|(name, key)| (name.to_owned(), key))
    }

    /// Whether the verdict depends on the body.
    pub fn asks_body(&self, policy: &Policy) -> bool {
        let What::Request { http, .. } = &self.what else { return false };
        let head = unread(http.http());
        matches!(self.judge(policy, Action::Http(head)), Verdict::More { body: Some(_), .. })
    }

    fn of<'a>(&'a self, action: Action<'a>) -> Asked<'a> {
        Asked { caller: &self.caller, identity: Some(self.identity.as_ref()), action, now: self.now }
    }

    fn judge(&self, policy: &Policy, action: Action<'_>) -> Verdict {
        let verdict = decide_without(policy, &self.of(action), &self.withheld);
        let (What::Request { real, .. }, Action::Http(http)) = (&self.what, action) else { return verdict };
        // As the gate does: a host that is the caller's word only is judged as the one that it really goes to, too.
        match real {
            Real::Unknown if matches!(verdict, Verdict::Deny(_)) => verdict,
            Real::Unknown => Verdict::More { passage: Passage(()), body: None },
            Real::Name(real) if real.as_ref() == http.host => verdict,
            Real::Name(real) => {
                let really = Action::Http(Http { host: real.as_ref(), ..http });
                verdict.and(decide_without(policy, &self.of(really), &self.withheld))
            }
        }
    }

    /// A refusal before anything is dialled.
    fn connect(&self, policy: &Policy, destination: Destination) -> Option<Decision> {
        refusal(self.judge(policy, Action::Connect { destination }))
    }

    /// Where the record ends before anything was asked: either it is refused again, or nobody knows.
    fn on_the_way(&self, _policy: &Policy, refused: Option<Decision>) -> Outcome {
        let further = "it was refused before it asked for anything, and now would be listened to";
        refused.map_or_else(|| Outcome::Unknown(further.to_owned()), Outcome::Decided)
    }

    fn request(&self, policy: &Policy, http: &Kept, length: Option<u64>) -> Outcome {
        let known = http.http();
        let head = unread(known);
        let action = Action::Name { destination: http.destination, host: http.host.as_ref() };
        if let Some(refused) = refusal(self.judge(policy, action)) {
            return Outcome::Decided(refused);
        }
        let verdict = self.judge(policy, Action::Http(head));
        let Verdict::More { body: Some(max), .. } = verdict else {
            return self.settle(policy, Action::Http(head), verdict);
        };
        let body = match known.body {
            Body::Whole(_) | Body::Unread if long(length, max) => Body::Unknowable(LONG),
            body => body,
        };
        let whole = Action::Http(Http { body, ..head });
        self.settle(policy, whole, self.judge(policy, whole))
    }

    fn settle(&self, policy: &Policy, action: Action<'_>, verdict: Verdict) -> Outcome {
        Outcome::Decided(match verdict {
            Verdict::Allow(permit) if permit.messages() > Hears::Nobody && self.withheld.messages => {
                let why = format!(
                    "rule {} judges each message on the WebSocket, and they are not replayed",
                    permit.rule()
                );
                return Outcome::Unknown(why);
            }
            Verdict::Allow(permit) => Decision::permitted(&permit),
            Verdict::Deny(denied) => Decision::refused(denied.rule),
            Verdict::More { .. } => return Outcome::Unknown(self.depends(policy, action)),
        })
    }

    /// What the verdict depends on.
    fn depends(&self, policy: &Policy, action: Action<'_>) -> String {
        let asked = self.of(action);
        let open = self.explain(policy, &asked).find_map(|(rule, how)| match how {
            Match::NotYet(key) => Some(format!("rule {rule} asks for what the record lacks: its {key}")),
            _ => None,
        });
        open.unwrap_or_else(|| "a rule asks for what the record lacks".to_owned())
    }

    fn look_up(&self, policy: &Policy, name: &str, kind: &str) -> Decision {
        let lookup = Lookup { name, longest_label: longest_label(name), kind };
        match lookup::decide(policy, &self.caller, lookup) {
            Ok(permit) => Decision::permitted(&permit),
            Err(denied) => Decision::refused(denied.rule().to_owned()),
        }
    }
}

/// A request as it is judged first: a handshake has no body that could be read.
fn unread(http: Http<'_>) -> Http<'_> {
    match http.body {
        Body::Handshake | Body::Message(_) => http,
        _ => Http { body: Body::Unread, ..http },
    }
}

const LONG: &str = "it is longer than what any rule reads";

/// Whether the gate would not have read a body to its end.
fn long(length: Option<u64>, max: u64) -> bool {
    length.is_some_and(|length| length > max)
}

fn refusal(verdict: Verdict) -> Option<Decision> {
    match verdict {
        Verdict::Deny(denied) => Some(Decision::refused(denied.rule)),
        Verdict::Allow(_) | Verdict::More { .. } => None,
    }
}

/// Keys in the order in which they are judged.
fn rank(key: super::Key) -> usize {
    const KEYS: [&str; 22] = [
        "ports",
        "addresses",
        "hosts",
        "protocols",
        "tags",
        "units",
        "users",
        "exes",
        "exe_sha256",
        "containers",
        "identities",
        "groups",
        "issuers",
        "claims",
        "request",
        "methods",
        "paths",
        "query",
        "headers",
        "windows",
        "when",
        "prompt_words",
    ];
    KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len())
}

/// Octets of the longest label of a name as zone files write it (RFC 1035 §5.1): `\.` and `\046` are one octet each.
fn longest_label(name: &str) -> usize {
    let (mut longest, mut length) = (0, 0);
    let mut octets = name.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'.' => length = 0,
            b'\\' => {
                if octets.next().is_some_and(|next| next.is_ascii_digit()) {
                    octets.next();
                    octets.next();
                }
                length += 1;
            }
            _ => length += 1,
        }
        longest = longest.max(length);
    }
    longest
}

#[cfg(test)]
mod tests;
