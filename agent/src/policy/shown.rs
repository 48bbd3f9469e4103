//! Which client certificate is shown to an upstream that asks for one. That is asked for in its handshake, before any request:
//! the rules can only say who may come to bear it. Whether an exchange may is judged for itself, when it is sent.

use std::sync::Arc;

use super::credential::{Binding, Credential, Sending};
use super::facts::Facts;
use super::{Asked, Match, Policy, past};
use crate::types::credential::Inject;
use crate::types::{Action, HostName};

impl Policy {
    /// The certificate of the first rule that may come to decide over what is asked of `host` and names one that may be shown
    /// there. None where a rule decides before.
    pub fn shown_to(&self, asked: &Asked<'_>, host: &HostName) -> Option<Arc<Credential>> {
        if !self.credentials.values().any(|one| one.inject == Some(Inject::Tls)) {
            return None;
        }
        let action = Action::Name { destination: asked.action.destination(), host: Some(host) };
        let asked = Asked { action, ..*asked };
        let facts = Facts::without(&asked, &past::NOTHING);
        for compiled in self.index.candidates(&facts).map(|at| &self.rules[at]) {
            let matched = compiled.judge(&facts);
            if let Match::No(_) = matched {
                continue;
            }
            let named = compiled.rule.credential.as_ref().and_then(|name| self.credentials.get(name));
            if let Some(credential) = named.filter(|one| one.may_be_shown(&asked, host)) {
                return Some(Arc::clone(credential));
            }
            if matched == Match::Yes {
                return None;
            }
        }
        None
    }
}

impl Credential {
    /// Whether it is a certificate that is bound to this host, port, tag and identity; one that may yet come is none.
    fn may_be_shown(&self, asked: &Asked<'_>, host: &HostName) -> bool {
        let requests = Binding { methods: Vec::new(), paths: Vec::new(), ..self.binding.clone() };
        let headers = http::HeaderMap::new();
        let sending = Sending {
            // Of whom it will be verified, before the certificate is shown (RFC 8446 §4.4.2, RFC 5246 §7.4.6).
            name: Some(host),
            tls: true,
            asked: Some(host),
            port: asked.action.destination().port(),
            method: "",
            headers: &headers,
            path: "",
            query: None,
            tag: &asked.caller.tag,
            identity: asked.identity.flatten(),
        };
        self.inject == Some(Inject::Tls) && requests.admits(&sending).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;

    use super::super::lookup::NamePattern;
    use super::super::pattern::Glob;
    use super::super::rule::{Effect, Rule, Source};
    use super::*;
    use crate::types::credential::{CredentialName, Source as From};
    use crate::types::{Caller, Destination, TagName};

    fn certificate(name: &str, hosts: &str, tags: &[&str], inject: Inject) -> Credential {
        Credential {
            name: CredentialName::parse(name).expect(name),
            binding: Binding {
                hosts: vec![NamePattern::parse(hosts).expect(hosts)],
                tags: tags.iter().map(|tag| Glob::parse(tag).expect(tag)).collect(),
                methods: vec!["GET".into()],
                paths: vec![Glob::parse("/v1/**").expect("glob")],
                ..Binding::default()
            },
            source: From::Env("X".into()),
            inject: Some(inject),
            ttl: Duration::from_secs(1),
        }
    }

    fn rule(name: &str, host: &str, credential: Option<&str>) -> Rule {
        let mut rule = Rule { name: name.into(), verdict: Effect::Allow, ..Rule::default() };
        rule.to.hosts = vec![NamePattern::parse(host).expect(host)];
        rule.credential = credential.map(|name| CredentialName::parse(name).expect(name));
        rule
    }

    fn shown(
        credentials: Vec<Credential>,
        rules: Vec<Rule>,
        tag: &str,
        host: &str,
        port: u16,
    ) -> Option<String> {
        let policy = Policy::compile(Source { credentials, rules, ..Source::default() }).expect("good rules");
        let caller = Caller::unknown(TagName::parse(tag).expect(tag), 1);
        let destination = Destination::new("192.0.2.7".parse().expect("address"), port);
        let action = Action::Connect { destination };
        let asked = Asked { caller: &caller, identity: None, action, now: OffsetDateTime::UNIX_EPOCH };
        let found = policy.shown_to(&asked, &HostName::parse(host).expect(host));
        found.map(|credential| credential.name.to_string())
    }

    #[test]
    fn whom_it_is_bound_to_and_whose_rule_names_it() {
        let one = || certificate("one", "a.example", &["ci"], Inject::Tls);
        let named = || rule("named", "*.example", Some("one"));
        let is = |host, tag, port| shown(vec![one()], vec![named()], tag, host, port);
        assert_eq!(is("a.example", "ci", 443).as_deref(), Some("one"));
        assert_eq!(is("b.example", "ci", 443), None);
        assert_eq!(is("a.example", "dev", 443), None);
        assert_eq!(is("a.example", "ci", 8443), None);
        let bearer = certificate("one", "a.example", &["ci"], Inject::Bearer);
        assert_eq!(shown(vec![bearer], vec![named()], "ci", "a.example", 443), None);
        assert_eq!(shown(vec![one()], vec![rule("other", "a.example", None)], "ci", "a.example", 443), None);
    }

    #[test]
    fn a_rule_that_decides_before_hides_it() {
        let one = || certificate("one", "a.example", &[], Inject::Tls);
        let all = rule("all", "a.example", None);
        let mut some = rule("some", "a.example", None);
        some.request.methods = vec!["GET".into()];
        let named = || rule("named", "a.example", Some("one"));
        assert_eq!(shown(vec![one()], vec![all, named()], "ci", "a.example", 443), None);
        assert_eq!(shown(vec![one()], vec![some, named()], "ci", "a.example", 443).as_deref(), Some("one"));
    }

    #[test]
    fn an_identity_that_is_not_known_yet_is_none() {
        let mut one = certificate("one", "a.example", &[], Inject::Tls);
        one.binding.identities = vec![Glob::parse("alice").expect("glob")];
        assert_eq!(
            shown(vec![one], vec![rule("named", "a.example", Some("one"))], "ci", "a.example", 443),
            None
        );
    }
}
