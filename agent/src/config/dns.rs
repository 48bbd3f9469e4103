//! `[dns]`: which name servers are asked, and which lookups are refused.

use std::net::{IpAddr, SocketAddr};

use super::section::{Place, Problems, Section, Sited, nearest};
use crate::policy::lookup::{Denial, LONGEST_LABEL, Lookups, NamePattern};

/// What `upstream` says for the host's own resolv.conf.
pub(super) const SYSTEM: &str = "system";
/// Name servers that may be listed.
const SERVERS: usize = 8;
/// Patterns that may be listed: each lookup is compared with all.
const PATTERNS: usize = 4096;
/// The largest rate that is one.
const RATE: u32 = 100_000;
/// The largest bound of different names: so many are remembered for each domain.
const NEW_NAMES: u32 = 10_000;

/// Types by name; others are written as `TYPE` and a number (RFC 3597).
const TYPES: [&str; 32] = [
    "A",
    "AAAA",
    "ANY",
    "CAA",
    "CDNSKEY",
    "CDS",
    "CERT",
    "CNAME",
    "CSYNC",
    "DNAME",
    "DNSKEY",
    "DS",
    "HINFO",
    "HTTPS",
    "KEY",
    "MX",
    "NAPTR",
    "NS",
    "NSEC",
    "NSEC3",
    "NSEC3PARAM",
    "NULL",
    "OPENPGPKEY",
    "PTR",
    "RRSIG",
    "SMIMEA",
    "SOA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
];

/// `[dns]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers that are asked in place of all others; empty: the host's own, as its resolv.conf has them.
    pub upstream: Vec<SocketAddr>,
    /// Bounds of lookups.
    pub lookups: Lookups,
}

/// What one file's `[dns]` sets: each key with the place of its mention, for the caller to see whether it is the first.
pub(super) struct Keys {
    pub upstream: Option<(Place, Vec<SocketAddr>)>,
    pub deny: Option<(Place, Vec<NamePattern>)>,
    pub answer: Option<(Place, Denial)>,
    pub max_label: Option<(Place, u8)>,
    pub rate: Option<(Place, u32)>,
    pub new_names: Option<(Place, u32)>,
    pub types: Option<(Place, Vec<String>)>,
}

/// Reads one `[dns]`.
pub(super) fn read(mut section: Section<'_>, problems: &mut Problems<'_>) -> Keys {
    let place = section.place().clone();
    let listed = |texts: Vec<Sited<String>>| (place.clone(), texts);
    let upstream = section.text_or_texts("upstream", problems).map(|texts| servers(texts, problems));
    let deny = section.texts("deny", problems).map(listed).map(|(place, t)| (place, patterns(t, problems)));
    let answer = section.text("answer", problems).and_then(|text| answer(&text, problems));
    let bound = |text: Option<Sited<String>>, key, range, problems: &mut Problems<'_>| {
        text.and_then(|text| number(&text, key, range, problems))
    };
    let max_label = section.quantity("max_label", problems);
    let max_label = bound(max_label, "max_label", (1, u32::from(LONGEST_LABEL)), problems)
        .and_then(|(place, n)| Some((place, u8::try_from(n).ok()?)));
    let rate = section.quantity("rate", problems);
    let rate = bound(rate, "rate", (0, RATE), problems);
    let new_names = section.quantity("new_names", problems);
    let new_names = bound(new_names, "new_names", (0, NEW_NAMES), problems);
    let types = section.texts("types", problems).map(|t| (place.clone(), types(t, problems)));
    section.finish(problems);
    Keys { upstream, deny, answer, max_label, rate, new_names, types }
}

fn servers(
    (place, texts): (Place, Vec<Sited<String>>),
    problems: &mut Problems<'_>,
) -> (Place, Vec<SocketAddr>) {
    if let [one] = &texts[..]
        && one.value == SYSTEM
    {
        return (place, Vec::new());
    }
    if texts.is_empty() || texts.len() > SERVERS {
        let remedy = format!("write \"{SYSTEM}\", or up to {SERVERS} addresses");
        problems.add(&place, format!("dns.upstream lists {} name servers", texts.len()), remedy);
        return (place, Vec::new());
    }
    let mut found = Vec::new();
    for text in texts {
        let ip = text.value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        match ip.or_else(|_| text.value.parse::<SocketAddr>()) {
            Ok(server) if server.port() != 0 && !server.ip().is_unspecified() => found.push(server),
            _ => problems.add(
                &text.place,
                format!("dns.upstream has {:?}", text.value),
                format!("write \"{SYSTEM}\", or addresses such as \"192.0.2.1\" or \"[2001:db8::1]:5353\""),
            ),
        }
    }
    (place, found)
}

fn patterns(texts: Vec<Sited<String>>, problems: &mut Problems<'_>) -> Vec<NamePattern> {
    if let Some(beyond) = texts.get(PATTERNS) {
        problems.add(&beyond.place, format!("dns.deny has more than {PATTERNS} names"), "use *.example.com");
        return Vec::new();
    }
    let mut found = Vec::new();
    for text in texts {
        match NamePattern::parse(&text.value) {
            Ok(pattern) => found.push(pattern),
            Err(error) => problems.add(
                &text.place,
                format!("dns.deny: {error}"),
                "write a name, or *. before it for all below it",
            ),
        }
    }
    found
}

fn answer(text: &Sited<String>, problems: &mut Problems<'_>) -> Option<(Place, Denial)> {
    let denial = match text.value.to_ascii_lowercase().as_str() {
        "nxdomain" => Denial::NxDomain,
        "refused" => Denial::Refused,
        other => {
            let near = nearest(other, &["nxdomain", "refused"]);
            let remedy = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => "write \"nxdomain\" or \"refused\"".to_owned(),
            };
            problems.add(&text.place, format!("dns.answer is {:?}", text.value), remedy);
            return None;
        }
    };
    Some((text.place.clone(), denial))
}

fn number(
    text: &Sited<String>,
    key: &str,
    (least, most): (u32, u32),
    problems: &mut Problems<'_>,
) -> Option<(Place, u32)> {
    match text.value.parse::<u32>() {
        Ok(n) if (least..=most).contains(&n) => Some((text.place.clone(), n)),
        _ => {
            let remedy = format!("write a number from {least} to {most}");
            problems.add(&text.place, format!("dns.{key} is {:?}", text.value), remedy);
            None
        }
    }
}

fn types(texts: Vec<Sited<String>>, problems: &mut Problems<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for text in texts {
        let kind = text.value.to_ascii_uppercase();
        let numbered = kind.strip_prefix("TYPE").is_some_and(|n| n.parse::<u16>().is_ok());
        if numbered || TYPES.contains(&kind.as_str()) {
            found.push(kind);
            continue;
        }
        let remedy = match nearest(&kind, &TYPES) {
            Some(near) => format!("did you mean {near}?"),
            None => "write types such as \"A\", \"AAAA\", \"TXT\", or \"TYPE65\"".to_owned(),
        };
        problems.add(&text.place, format!("dns.types has {:?}", text.value), remedy);
    }
    found
}
