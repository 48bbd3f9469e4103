//! Whom a credential is bound to: judged at the moment of sending, for every exchange anew, whatever a rule says. A rule
//! chooses a credential; it can never widen where that goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lookup::NamePattern;
use super::pattern::{Glob, Ports};
use super::readings::methods;
use super::rule::{CallerKeys, Rule};
use super::{Denied, Permit, Policy, Verdict};
use crate::types::credential::{CredentialName, Inject, Shape, Source};
use crate::types::{HostName, Identity, TagName, Verdict as Said};

/// One `[[credential]]`: plain data, no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Unique name.
    pub name: CredentialName,
    /// Where it may be sent.
    pub binding: Binding,
    /// Where the secret is found.
    pub source: Source,
    /// How it is put into a request; `None`: it serves other credentials only.
    pub inject: Option<Inject>,
    /// How long a value is used after it was last found good, where it does not say itself when it ends: so long a source
    /// may fail. For a command also how often it runs.
    pub ttl: Duration,
}

impl Credential {
    /// What its secret must look like. What serves other credentials only may be PEM or JSON.
    pub fn shape(&self) -> Shape {
        self.inject.as_ref().map_or(Shape::Text, Inject::shape)
    }
}

impl Policy {
    /// The credentials, by name.
    pub fn credentials(&self) -> &HashMap<CredentialName, Arc<Credential>> {
        &self.credentials
    }

    /// What a rule allows. One that names a credential which is not there allows nothing.
    pub(super) fn allow(&self, rule: &Rule, enforced: bool) -> Verdict {
        let credential = rule.credential.as_ref().map(|name| self.credentials.get(name).cloned().ok_or(name));
        match credential.transpose() {
            Ok(credential) => {
                let permit = self.minted(&rule.name, Said::Allow, rule.durable);
                let caller_key = if enforced { rule.caller_key } else { CallerKeys::Warn };
                Verdict::Allow(Permit { credential, caller_key, masks: self.masks(rule, enforced), ..permit })
            }
            Err(name) => {
                let reason = format!("there is no credential {name}");
                Verdict::Deny(Denied { rule: rule.name.clone(), reason })
            }
        }
    }
}

/// Where a credential may be sent. An empty list asks nothing, but for hosts: without one it is sent nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Names, `*.suffix`.
    pub hosts: Vec<NamePattern>,
    /// Ports. Empty: 443, and 80 where it is `insecure`.
    pub ports: Ports,
    /// Paths.
    pub paths: Vec<Glob>,
    /// Methods, in capitals.
    pub methods: Vec<String>,
    /// Tags.
    pub tags: Vec<Glob>,
    /// Subjects of a verified identity.
    pub identities: Vec<Glob>,
    /// Whether it may be sent without TLS, to a name that the host's own name servers gave the address for.
    pub insecure: bool,
}

/// Where an exchange is about to be sent, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The name of the other side, as somebody says it whom the job cannot be: its verified certificate, or for plain HTTP
    /// the host's own name servers.
    pub name: Option<&'a HostName>,
    /// Whether TLS verified the other side; then `name` is what it was verified for.
    pub tls: bool,
    /// The name that the request itself bears.
    pub asked: Option<&'a HostName>,
    /// Port.
    pub port: u16,
    /// Method, as sent.
    pub method: &'a str,
    /// Header fields: servers take another method out of some.
    pub headers: &'a http::HeaderMap,
    /// Path without the query, as sent.
    pub path: &'a str,
    /// Query, as sent.
    pub query: Option<&'a str>,
    /// The caller's tag.
    pub tag: &'a TagName,
    /// Who stands behind the caller.
    pub identity: Option<&'a Identity>,
}

/// Why a credential is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    /// Nobody trustworthy says who the other side is.
    #[error("it is bound to names, and nothing proves the name of the other side")]
    Nameless,
    /// Another host.
    #[error("it is not bound to {0}")]
    Host(HostName),
    /// The request is for another host than it is sent to.
    #[error("the request is for another host than {0}")]
    Asked(HostName),
    /// No TLS.
    #[error("it is sent over TLS only")]
    Plain,
    /// Another port.
    #[error("it is not bound to port {0}")]
    Port(u16),
    /// Another method.
    #[error("it is not bound to this method")]
    Method,
    /// Another path.
    #[error("it is not bound to this path")]
    Path,
    /// The path means different things to different readers.
    #[error(
        "it is bound to paths, and this one has dot segments, empty ones, or an encoded slash, backslash or dot"
    )]
    OddPath,
    /// Another tag.
    #[error("it is not bound to tag {0}")]
    Tag(TagName),
    /// The configuration has another of this name by now, or none.
    #[error("the configuration of it has changed: try again")]
    Changed,
    /// Nobody's, or another's.
    #[error("it is not bound to this identity")]
    Identity,
}

impl Binding {
    /// Whether the credential may be sent there.
    ///
    /// # Errors
    /// [`Unbound`]: the first thing that is not as it must be.
    pub fn admits(&self, sending: &Sending<'_>) -> Result<(), Unbound> {
        // Whatever name somebody says.
        if !sending.tls && !self.insecure && sending.name.is_none() {
            return Err(Unbound::Plain);
        }
        let name = sending.name.ok_or(Unbound::Nameless)?;
        if !self.hosts.iter().any(|host| host.matches(name.as_str())) {
            return Err(Unbound::Host(name.clone()));
        }
        if sending.asked != Some(name) {
            return Err(Unbound::Asked(name.clone()));
        }
        if !sending.tls && !self.insecure {
            return Err(Unbound::Plain);
        }
        if !self.admits_port(sending.port) {
            return Err(Unbound::Port(sending.port));
        }
        let globs = |list: &[Glob], text| list.is_empty() || list.iter().any(|one| one.matches(text));
        let listed = |method: &str| self.methods.iter().any(|one| one == method);
        // As sent, and as any server may take it.
        let read = || methods(sending.method, sending.query, sending.headers).into_iter().skip(1);
        let admitted = || listed(sending.method) && read().all(|method| listed(&method));
        if !self.methods.is_empty() && !admitted() {
            return Err(Unbound::Method);
        }
        if !self.paths.is_empty() && is_odd(sending.path) {
            return Err(Unbound::OddPath);
        }
        if !globs(&self.paths, sending.path) {
            return Err(Unbound::Path);
        }
        if !globs(&self.tags, sending.tag.as_str()) {
            return Err(Unbound::Tag(sending.tag.clone()));
        }
        let subject = sending.identity.map(|identity| identity.subject.as_str());
        if !self.identities.is_empty() && !subject.is_some_and(|subject| globs(&self.identities, subject)) {
            return Err(Unbound::Identity);
        }
        Ok(())
    }

    fn admits_port(&self, port: u16) -> bool {
        if self.ports.is_empty() {
            port == 443 || (self.insecure && port == 80)
        } else {
            self.ports.hold(port)
        }
    }

    /// The key of a rule that it shuts out altogether: nothing that the rule matches could bear the credential. `None` also
    /// where that is not certain.
    pub fn excludes(&self, rule: &Rule) -> Option<&'static str> {
        let (to, methods) = (&rule.to, &rule.request.methods);
        let host = |one: &NamePattern| self.hosts.iter().any(|other| overlap(one, other));
        if !to.hosts.is_empty() && !to.hosts.iter().any(host) {
            return Some("hosts");
        }
        if !to.ports.is_empty() && !(1..=u16::MAX).any(|port| to.ports.hold(port) && self.admits_port(port)) {
            return Some("ports");
        }
        let method = methods.is_empty() || self.methods.is_empty();
        (!method && !methods.iter().any(|method| self.methods.contains(method))).then_some("methods")
    }
}

/// Whether a name exists that both mean.
fn overlap(one: &NamePattern, other: &NamePattern) -> bool {
    // `x.` stands for any label below a star.
    let example = |pattern: &NamePattern| match pattern.as_str() {
        "*" => "x".to_owned(),
        text => text.replacen('*', "x", 1),
    };
    let star = |pattern: &NamePattern| pattern.as_str() == "*";
    star(one) || star(other) || one.matches(&example(other)) || other.matches(&example(one))
}

/// Whether servers read this path in different ways: a pattern that holds for its letters may not hold for what is served.
fn is_odd(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2f", "%5c", "%2e", "%00", "%25", "%3b"].iter().any(|code| lower.contains(code));
    // Parameters of a segment (`/..;/`) are cut off before dots count, by some.
    let dots = path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")));
    encoded || dots || path.contains("//") || path.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            hosts: ["api.example", "*.cloud.example"].map(|h| NamePattern::parse(h).expect(h)).to_vec(),
            ..Binding::default()
        }
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).expect(text)
    }

    #[test]
    fn a_credential_is_sent_only_where_it_is_bound_to() {
        let (tag, none) = (TagName::parse("ci").expect("tag"), http::HeaderMap::new());
        let (api, evil) = (name("api.example"), name("evil.example"));
        let good = Sending {
            name: Some(&api),
            tls: true,
            asked: Some(&api),
            port: 443,
            method: "POST",
            headers: &none,
            query: None,
            path: "/v1/x",
            tag: &tag,
            identity: None,
        };
        let bound = binding();
        assert_eq!(bound.admits(&good), Ok(()));
        for (sending, why) in [
            (Sending { name: None, ..good }, Unbound::Nameless),
            (Sending { name: Some(&evil), ..good }, Unbound::Host(evil.clone())),
            (Sending { name: Some(&evil), asked: Some(&evil), ..good }, Unbound::Host(evil.clone())),
            (Sending { asked: Some(&evil), ..good }, Unbound::Asked(api.clone())),
            (Sending { asked: None, ..good }, Unbound::Asked(api.clone())),
            (Sending { tls: false, ..good }, Unbound::Plain),
            (Sending { tls: false, name: None, ..good }, Unbound::Plain),
            (Sending { port: 8443, ..good }, Unbound::Port(8443)),
            (Sending { port: 80, ..good }, Unbound::Port(80)),
        ] {
            assert_eq!(bound.admits(&sending), Err(why), "{sending:?}");
        }
        assert_eq!(Binding::default().admits(&good), Err(Unbound::Host(api.clone())), "bound to nothing");
        let insecure = Binding { insecure: true, ..binding() };
        assert_eq!(insecure.admits(&Sending { tls: false, port: 80, ..good }), Ok(()));
        let below = name("a.cloud.example");
        assert_eq!(bound.admits(&Sending { name: Some(&below), asked: Some(&below), ..good }), Ok(()));
    }

    #[test]
    fn what_else_it_is_bound_to() {
        let (tag, none) = (TagName::parse("ci").expect("tag"), http::HeaderMap::new());
        let api = name("api.example");
        let alice = Identity {
            issuer: "https://i".into(),
            subject: "alice".into(),
            groups: Vec::new(),
            claims: "{}".into(),
            expires: 0,
        };
        let glob = |text: &str| Glob::parse(text).expect(text);
        let bound = Binding {
            methods: vec!["GET".into()],
            paths: vec![glob("/v1/**")],
            tags: vec![glob("c*")],
            identities: vec![glob("alice")],
            ..binding()
        };
        let good = Sending {
            name: Some(&api),
            tls: true,
            asked: Some(&api),
            port: 443,
            method: "GET",
            headers: &none,
            query: None,
            path: "/v1/x",
            tag: &tag,
            identity: Some(&alice),
        };
        assert_eq!(bound.admits(&good), Ok(()));
        assert_eq!(bound.admits(&Sending { method: "get", ..good }), Err(Unbound::Method));
        for (field, value) in
            [("X-HTTP-Method-Override", "DELETE"), ("x-http-method", "put"), ("X-Method-Override", "")]
        {
            let mut headers = http::HeaderMap::new();
            headers.append(field, "GET".parse().expect("value"));
            assert_eq!(bound.admits(&Sending { headers: &headers, ..good }), Ok(()), "{field} says the same");
            headers.append(field, value.parse().expect("value"));
            assert_eq!(bound.admits(&Sending { headers: &headers, ..good }), Err(Unbound::Method), "{field}");
        }
        let hidden = Sending { query: Some("a=1;%5FMethod=delete"), ..good };
        assert_eq!(bound.admits(&hidden), Err(Unbound::Method));
        assert_eq!(bound.admits(&Sending { path: "/v2/x", ..good }), Err(Unbound::Path));
        for odd in
            ["/v1/../v2", "/v1/%2e%2E/v2", "/v1//x", "/v1/..;a/v2", "/v1/a%2Fb", "/v1/..\\v2", "/v1/%252e"]
        {
            assert_eq!(bound.admits(&Sending { path: odd, ..good }), Err(Unbound::OddPath), "{odd}");
        }
        assert_eq!(bound.admits(&Sending { identity: None, ..good }), Err(Unbound::Identity));
        let other = TagName::parse("dev").expect("tag");
        assert_eq!(bound.admits(&Sending { tag: &other, ..good }), Err(Unbound::Tag(other.clone())));
        assert_eq!(binding().admits(&Sending { path: "/v1/../v2", ..good }), Ok(()), "bound to no path");
    }

    #[test]
    fn overlaps() {
        for (one, other, wanted) in [
            ("*", "a.example", true),
            ("*.example", "a.example", true),
            ("*.example", "*.a.example", true),
            ("*.a.example", "*.example", true),
            ("a.example", "b.example", false),
            ("*.a.example", "*.b.example", false),
            ("*.example", "example", false),
        ] {
            let pattern = |text: &str| NamePattern::parse(text).expect(text);
            assert_eq!(overlap(&pattern(one), &pattern(other)), wanted, "{one} {other}");
        }
    }
}
