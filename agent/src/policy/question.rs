//! A request that need not exist: what tests of a policy and `sluice policy explain` ask about. All is known of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;
use http::header::{CONTENT_TYPE, HeaderValue};
use time::OffsetDateTime;

use super::limit::Bound;
use super::rule::Effect;
use super::{Asked, Key, Match, Permit, Policy, Verdict, decide};
use crate::types::action::{Body, Kept, KeptBody, Speaker};
use crate::types::{self, Action, Caller, Destination, HostName, Identity, TagName};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Who asks.
    pub caller: Caller,
    /// Who stands behind it.
    pub identity: Option<Identity>,
    /// What is wanted; with the protocol `tunnel` it is no request.
    pub http: Kept,
    /// When.
    pub now: OffsetDateTime,
}

/// What a policy says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the rule says.
    pub effect: Effect,
    /// The rule, or [`super::NONE`], or [`super::OBSERVE`].
    pub rule: String,
    /// Whether it would be sent: allowed, or refused in observe mode only.
    pub sent: bool,
    /// The limits that it would be on, each with whose count. How much of them is spent only the daemon knows.
    pub limits: Vec<Bound>,
    /// The masks that would hold for it: on the wire, unless in observe mode, and in the record.
    pub masks: Vec<String>,
}

impl Decision {
    /// What a permit stands for.
    pub(super) fn permitted(permit: &Permit) -> Self {
        Self {
            effect: if permit.verdict() == types::Verdict::Allow { Effect::Allow } else { Effect::Deny },
            rule: permit.rule().to_owned(),
            sent: true,
            limits: permit.bounds().map(|bounds| bounds.each.clone()).unwrap_or_default(),
            masks: permit.masks().map(|masks| masks.names.clone()).unwrap_or_default(),
        }
    }

    /// It is not sent.
    pub(super) fn refused(rule: String) -> Self {
        Self { effect: Effect::Deny, rule, sent: false, limits: Vec::new(), masks: Vec::new() }
    }
}

/// A URL that asks for nothing we know, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no URL such as https://api.example.com/v1/things?x=1")]
pub struct NotAUrl(pub String);

impl Question {
    /// A GET of `url` by somebody of whom nothing is known but the tag, now. Where the name's address is not given, it is
    /// 0.0.0.0, which no rule but 0.0.0.0/0 asks for.
    ///
    /// # Errors
    /// [`NotAUrl`].
    pub fn of(tag: TagName, url: &str) -> Result<Self, NotAUrl> {
        let no = || NotAUrl(url.chars().take(300).collect());
        let uri: Uri = url.split('#').next().unwrap_or_default().parse().map_err(|_| no())?;
        let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(no)?;
        let (port, protocol) = match uri.scheme_str() {
            Some("https") => (443, "http/1.1"),
            Some("http") => (80, "http/1.1"),
            Some("wss") => (443, "websocket"),
            Some("ws") => (80, "websocket"),
            Some("tcp") => (uri.port_u16().ok_or_else(no)?, "tunnel"),
            _ => return Err(no()),
        };
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let host = match address {
            Some(_) => None,
            None => Some(HostName::parse(name).map_err(|_| no())?),
        };
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let destination = Destination::new(address, uri.port_u16().unwrap_or(port));
        let http = Kept {
            destination,
            host,
            protocol: protocol.into(),
            method: "GET".to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(ToOwned::to_owned),
            headers: http::HeaderMap::new(),
            body: KeptBody::Whole(Vec::new()),
        };
        let caller = Caller { uid: u32::MAX, gid: u32::MAX, ..Caller::unknown(tag, 0) };
        Ok(Self { caller, identity: None, http, now: OffsetDateTime::now_utc() })
    }

    /// The address that the name stands for.
    pub fn at(&mut self, address: IpAddr) {
        let port = self.http.destination.port();
        self.http.destination = Destination::new(address, port);
    }

    /// The address and the port.
    pub fn at_socket(&mut self, address: SocketAddr) {
        self.http.destination = Destination::new(address.ip(), address.port());
    }

    /// A user by name or number.
    pub fn by_user(&mut self, user: &str) {
        match user.parse() {
            Ok(uid) => self.caller.uid = uid,
            Err(_) => self.caller.user = Some(user.to_owned()),
        }
    }

    /// An executable.
    pub fn by_exe(&mut self, path: String, sha256: Option<String>) {
        self.caller.exe = Some(types::Exe { path, device: 0, inode: 0, sha256 });
    }

    /// A body of JSON, and its type unless another was given.
    pub fn with_json(&mut self, text: String) {
        self.http.body = KeptBody::Whole(text.into_bytes());
        self.http.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }

    /// A message on the WebSocket that it opens, in place of the handshake.
    pub fn with_message(&mut self, from: Speaker, text: String) {
        self.http.protocol = "websocket".into();
        self.http.body = KeptBody::Message { from, binary: false, data: Ok(text.into_bytes()) };
    }

    /// What is judged.
    pub fn asked(&self) -> Asked<'_> {
        let action = if self.http.protocol == "tunnel" {
            let host = self.http.host.as_ref();
            Action::Tunnel { destination: self.http.destination, host, why: "asked for" }
        } else {
            let mut http = self.http.http();
            if http.protocol == "websocket" && matches!(http.body, Body::Whole([])) {
                http.body = Body::Handshake;
            }
            Action::Http(http)
        };
        Asked { caller: &self.caller, identity: Some(self.identity.as_ref()), action, now: self.now }
    }

    /// What `policy` says.
    pub fn decide(&self, policy: &Policy) -> Decision {
        match decide(policy, &self.asked()) {
            Verdict::Allow(permit) => Decision::permitted(&permit),
            refused => {
                let rule =
                    refused.settled().err().map_or_else(|| super::NONE.to_owned(), |denied| denied.rule);
                Decision::refused(rule)
            }
        }
    }

    /// Why a rule does not match: the first key that fails. `None`: it matches, or is not there.
    pub fn fails_on(&self, policy: &Policy, rule: &str) -> Option<Key> {
        let asked = self.asked();
        match policy.explain(&asked).find(|(name, _)| *name == rule)?.1 {
            Match::Yes => None,
            Match::No(key) | Match::NotYet(key) | Match::Cannot(key, _) => Some(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(url: &str) -> Result<Question, NotAUrl> {
        Question::of(TagName::parse("ci").expect("tag"), url)
    }

    #[test]
    fn urls() {
        let one = question("https://API.example.com/v1/a%2Fb?x=1&x=2#frag").expect("URL");
        assert_eq!(one.http.host.as_ref().map(HostName::as_str), Some("api.example.com"));
        assert_eq!((one.http.path.as_str(), one.http.query.as_deref()), ("/v1/a%2Fb", Some("x=1&x=2")));
        assert_eq!(one.http.destination.port(), 443);
        let two = question("http://[2001:db8::1]:8080").expect("URL");
        assert_eq!((two.http.host.clone(), two.http.path.as_str()), (None, "/"));
        assert_eq!(two.http.destination.to_string(), "[2001:db8::1]:8080");
        for bad in [
            "",
            "api.example.com",
            "/x",
            "ftp://a.example/",
            "https://u:p@a.example/",
            "tcp://a.example",
            "https:///x",
        ] {
            assert!(question(bad).is_err(), "{bad}");
        }
    }
}
