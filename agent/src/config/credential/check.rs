//! What is wrong with credentials together, and with rules about them: names that are taken or unknown, credentials that
//! need each other, that no rule can use, that could never be sent where a rule has them go.

use std::collections::HashMap;

use super::{CREDENTIALS, Read};
use crate::config::rule;
use crate::config::section::{Problems, Sited, nearest};
use crate::policy::credential::{Binding, Credential};
use crate::policy::pattern::Glob;
use crate::policy::rule::{Effect, Rule};
use crate::types::HostName;
use crate::types::credential::{CredentialName, Scope};

/// Reports what does not fit together.
pub(in crate::config) fn check(read: &[Read], rules: &[rule::Read], problems: &mut Problems<'_>) {
    if let Some(beyond) = read.get(CREDENTIALS) {
        let what = format!("more than {CREDENTIALS} [[credential]]");
        return problems.add(&beyond.credential.place, what, "keep them in a secret store, by path");
    }
    let mut known: HashMap<&CredentialName, &Read> = HashMap::new();
    for one in read {
        let name = &one.credential.value.name;
        if let Some(earlier) = known.insert(name, one) {
            let what =
                format!("[[credential]] {name}: its name is taken already at {}", earlier.credential.place);
            problems.add(&one.credential.place, what, "give each credential its own name");
        }
    }
    for one in read {
        needs(one, &known, problems);
    }
    let chosen = rules.iter().filter_map(|read| Some((read, read.credential.as_ref()?)));
    for (rule, name) in chosen {
        chooses(&rule.rule.value, name, &known, problems);
    }
}

/// Tells of credentials that nothing uses: no mistake for certain, and a secret that need not be here.
pub(in crate::config) fn unused(read: &[Read], rules: &[rule::Read], warnings: &mut Problems<'_>) {
    for one in read {
        let name = &one.credential.value.name;
        let rule =
            rules.iter().filter_map(|read| read.credential.as_ref()).any(|chosen| chosen.value == *name);
        let other = read.iter().any(|other| other.needs.iter().any(|need| need.value == *name));
        if !rule && !other {
            let remedy = format!("name it in a rule, credential = \"{name}\", or take it away");
            warnings.add(&one.credential.place, format!("[[credential]] {name}: no rule uses it"), remedy);
        }
    }
}

fn unknown(
    name: &Sited<CredentialName>,
    of: &str,
    known: &HashMap<&CredentialName, &Read>,
    problems: &mut Problems<'_>,
) {
    let names: Vec<&str> = known.keys().map(|name| name.as_str()).collect();
    let remedy = match nearest(name.value.as_str(), &names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "name a [[credential]] of this configuration".to_owned(),
    };
    problems.add(&name.place, format!("{of}: there is no credential {:?}", name.value.as_str()), remedy);
}

fn needs(one: &Read, known: &HashMap<&CredentialName, &Read>, problems: &mut Problems<'_>) {
    let Credential { name, .. } = &one.credential.value;
    for need in &one.needs {
        let Some(other) = known.get(&need.value) else {
            unknown(need, &format!("[[credential]] {name}"), known, problems);
            continue;
        };
        if leads_to(other, name, known) {
            let what = format!("[[credential]] {name} needs {}, which needs {name}", need.value);
            problems.add(&need.place, what, "begin with a file, a command or another source of this host");
        }
        let for_everyone = one.credential.value.source.scope() == Scope::Everyone;
        if for_everyone && other.credential.value.source.scope() != Scope::Everyone {
            let what = format!(
                "[[credential]] {name} is made for all callers alike, and needs {}, which is made for one of them",
                need.value
            );
            problems.add(&need.place, what, "begin with a source that does not depend on who calls");
        }
        sends(one, other, need, problems);
        serves(one, other, need, problems);
    }
}

/// Whether `from` is `name`, or needs it, however far away.
fn leads_to(from: &Read, name: &CredentialName, known: &HashMap<&CredentialName, &Read>) -> bool {
    let (mut seen, mut next) = (Vec::new(), vec![&from.credential.value.name]);
    while let Some(at) = next.pop() {
        if at == name {
            return true;
        }
        if !seen.contains(&at) {
            seen.push(at);
            next.extend(known.get(at).into_iter().flat_map(|read| read.needs.iter().map(|need| &need.value)));
        }
    }
    false
}

/// What is bound to hosts or ports is not sent to another's token endpoint either.
fn sends(one: &Read, other: &Read, need: &Sited<CredentialName>, problems: &mut Problems<'_>) {
    let Binding { hosts, ports, .. } = &other.credential.value.binding;
    let mut say = |to: &str, remedy: String| {
        let (name, other) = (&one.credential.value.name, &need.value);
        let what = format!("[[credential]] {name} sends {other} to {to}, which it is not bound to");
        problems.add(&need.place, what, remedy);
    };
    for url in one.urls.iter().filter_map(|url| url.parse::<http::Uri>().ok()) {
        let host = url.host().unwrap_or_default();
        let named = HostName::parse(host);
        match &named {
            _ if hosts.is_empty() => {}
            Ok(name) if hosts.iter().any(|pattern| pattern.matches(name.as_str())) => {}
            Ok(name) => say(name.as_str(), format!("add {:?} to its hosts", name.as_str())),
            Err(_) => {
                say(host, "write the URL with a name, or leave its hosts out: they are names".to_owned())
            }
        }
        let port = url.port_u16().unwrap_or(443);
        if !ports.is_empty() && !ports.hold(port) {
            say(&format!("port {port} of {host}"), format!("add {port} to its ports"));
        }
    }
}

/// What is bound to tags or identities makes nothing for others: what is made of it must be bound to the same, or to fewer.
fn serves(one: &Read, other: &Read, need: &Sited<CredentialName>, problems: &mut Problems<'_>) {
    let (of, other) = (&one.credential.value, &other.credential.value.binding);
    for (key, own, wanted) in
        [("tags", &of.binding.tags, &other.tags), ("identities", &of.binding.identities, &other.identities)]
    {
        // A pattern's own text: it can mean more than one, so it must stand there as it is.
        let within = |one: &Glob| {
            wanted
                .iter()
                .any(|wanted| wanted == one || (!one.as_str().contains('*') && wanted.matches(one.as_str())))
        };
        if !wanted.is_empty() && (own.is_empty() || !own.iter().all(within)) {
            let what = format!(
                "[[credential]] {} is made of {}, which is bound to {key}, and serves others too",
                of.name, need.value
            );
            let list: Vec<String> = wanted.iter().map(|wanted| format!("{:?}", wanted.as_str())).collect();
            let remedy = format!("write {key} = [{}] there, or fewer of them", list.join(", "));
            problems.add(&one.credential.place, what, remedy);
        }
    }
}

fn chooses(
    rule: &Rule,
    name: &Sited<CredentialName>,
    known: &HashMap<&CredentialName, &Read>,
    problems: &mut Problems<'_>,
) {
    let Some(read) = known.get(&name.value) else {
        return unknown(name, &format!("[[rule]] {}", rule.name), known, problems);
    };
    let credential = &read.credential.value;
    let mut say = |what: &str, remedy: &str| {
        problems.add(&name.place, format!("[[rule]] {}: {what}", rule.name), remedy);
    };
    if credential.inject.is_none() {
        let what = format!("credential {} has no inject: it serves other credentials only", name.value);
        say(&what, "give it an inject, or name another");
    }
    if rule.verdict != Effect::Allow {
        say("it refuses, and names a credential", "leave the credential out, or write verdict = \"allow\"");
    }
    if let Some(key) = credential.binding.excludes(rule) {
        let what = format!("credential {} is bound to none of its {key}", name.value);
        let remedy = match key {
            "ports" if !credential.binding.insecure => {
                "name them in the credential too; plain HTTP takes insecure = true there"
            }
            _ => "name them in the credential too, or another credential here",
        };
        say(&what, remedy);
    }
    if !rule.to.protocols.is_empty() && rule.to.protocols.iter().all(|protocol| protocol == "tunnel") {
        say("nothing can be put into a tunnel", "leave the credential out");
    }
}
