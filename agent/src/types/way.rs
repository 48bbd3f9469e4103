//! What the start-up self-test found out: per way out of a tag, whether it is closed here, and by what.

use serde::{Deserialize, Serialize};

/// How one way out stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// `udp sendto`, `packet socket` … Stable.
    pub name: String,
    /// What came of trying it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Way {
    /// How the names of the ways by PPP sockets (`AF_PPPOX`) begin.
    pub const PPPOX: &'static str = "pppox socket";
}

/// What came of trying a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Outcome {
    /// Refused, or led to a listener of ours.
    Closed {
        /// The layer that did it: `connect4`, `sock_create`, `skb egress` …
        by: String,
    },
    /// What was sent arrived, or was on its way.
    Open {
        /// The host is weaker than `layers` says: a layer should have closed it, or none here does though it takes neither
        /// a right nor a helper.
        unexpected: bool,
        /// Why it is open, in words.
        why: String,
    },
    /// It could not be tried, which says nothing about it.
    Untried {
        /// Why.
        why: String,
    },
}

/// The self-test's result, as `sluice status --json` has it under `self_test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Each way, in the order of the list.
    pub ways: Vec<Way>,
    /// How long it took.
    pub took_ms: u64,
    /// Why it could not be run, or not to its end.
    pub trouble: Option<String>,
}

impl SelfTest {
    /// The ways that should be closed and are not.
    pub fn unexpected(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(|way| matches!(way.outcome, Outcome::Open { unexpected: true, .. }))
    }

    /// `31 ways closed, 2 open, 4 not tried`.
    pub fn line(&self) -> String {
        let count = |of: fn(&Outcome) -> bool| self.ways.iter().filter(|way| of(&way.outcome)).count();
        let mut line = format!(
            "{} ways closed, {} open, {} not tried",
            count(|o| matches!(o, Outcome::Closed { .. })),
            count(|o| matches!(o, Outcome::Open { .. })),
            count(|o| matches!(o, Outcome::Untried { .. })),
        );
        if let Some(trouble) = &self.trouble {
            line.push_str(": ");
            line.push_str(trouble);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json_and_in_a_line() {
        let way = |name: &str, outcome| Way { name: name.to_owned(), outcome };
        let test = SelfTest {
            ways: vec![
                way("udp sendto", Outcome::Closed { by: "sendmsg4".to_owned() }),
                way("vsock", Outcome::Open { unexpected: false, why: "no LSM".to_owned() }),
                way("sctp", Outcome::Open { unexpected: true, why: "it arrived".to_owned() }),
                way("raw", Outcome::Untried { why: "no CAP_NET_RAW".to_owned() }),
            ],
            took_ms: 7,
            trouble: None,
        };
        let json = serde_json::to_string(&test.ways[1]).expect("json");
        assert_eq!(json, r#"{"name":"vsock","state":"open","unexpected":false,"why":"no LSM"}"#);
        assert_eq!(serde_json::from_str::<Way>(&json).expect("way"), test.ways[1]);
        assert_eq!(test.line(), "1 ways closed, 2 open, 1 not tried");
        assert_eq!(test.unexpected().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["sctp"]);
    }
}
