//! `analyser` of a `[[mask]]`: where it listens, and what it is asked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;

use super::mask::word;
use super::quantity;
use super::section::{Problems, Section, Sited};
use crate::policy::analyser::{Analyser, OnFailure};

/// What all that is asked for one request may take, if nothing is said; and between what that may be.
const TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));
/// Where Presidio's answers.
const PATH: &str = "/analyze";

/// Reads it; whatever is wrong is reported.
pub(super) fn resolve(mut section: Section<'_>, problems: &mut Problems<'_>) -> Option<Analyser> {
    let place = section.place().clone();
    let url = section.text("url", problems);
    let entities = section.list(["entities", "entity"], problems).unwrap_or_default();
    let language = section.text("language", problems);
    let failures = [("refuse", OnFailure::Refuse), ("pass", OnFailure::Pass)];
    let on_failure = word(&mut section, "on_failure", &failures, problems).unwrap_or_default();
    let timeout = timeout(section.text("timeout", problems), problems);
    section.finish(problems);

    let Some(url) = url else {
        problems.add(&place, "mask.analyser has no url", "add url = \"http://127.0.0.1:5002\"");
        return None;
    };
    let Some((address, path)) = address(&url.value) else {
        let what = format!("mask.analyser.url is {:?}", url.value);
        problems.add(
            &url.place,
            what,
            "write http://127.0.0.1:PORT or http://[::1]:PORT: what it is sent leaves this host nowhere",
        );
        return None;
    };
    let plain = |text: &&Sited<String>, and: &str| {
        let is = |b: u8| b.is_ascii_alphanumeric() || and.as_bytes().contains(&b);
        (1..=64).contains(&text.value.len()) && text.value.bytes().all(is)
    };
    for (key, text) in
        entities.iter().map(|text| ("entities", text)).chain(language.iter().map(|text| ("language", text)))
    {
        if !plain(&text, "_-") {
            problems.add(
                &text.place,
                format!("mask.analyser.{key} has {:?}", text.value),
                "write a name, as PERSON or en",
            );
        }
    }
    Some(Analyser {
        address,
        path,
        entities: entities.into_iter().map(|text| text.value).collect(),
        language: language.map_or_else(|| "en".to_owned(), |text| text.value),
        timeout,
        on_failure,
    })
}

/// An address of loopback, and the path.
fn address(url: &str) -> Option<(SocketAddr, String)> {
    let url: Uri = url.parse().ok()?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("http"))?;
    let ip: IpAddr = authority.host().trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    let at = SocketAddr::new(ip, authority.port_u16()?);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let plain = ip.is_loopback() && at.port() > 0 && !authority.as_str().contains('@');
    plain.then(|| (at, if path == "/" { PATH.to_owned() } else { path.to_owned() }))
}

fn timeout(text: Option<Sited<String>>, problems: &mut Problems<'_>) -> Duration {
    let Some(text) = text else { return TIMEOUT };
    let found = quantity::duration(&text.value).filter(|time| (TIMEOUTS.0..=TIMEOUTS.1).contains(time));
    found.unwrap_or_else(|| {
        let what = format!("mask.analyser.timeout is {:?}", text.value);
        problems.add(&text.place, what, "write a duration from 10ms to 30s, such as \"500ms\"");
        TIMEOUT
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn analysers_listen_on_loopback() {
        let at = |url| address(url).map(|(at, path)| format!("{at}{path}"));
        assert_eq!(at("http://127.0.0.1:5002").as_deref(), Some("127.0.0.1:5002/analyze"));
        assert_eq!(at("http://[::1]:80/v2/analyze?x=1").as_deref(), Some("[::1]:80/v2/analyze?x=1"));
        for url in [
            "https://127.0.0.1:1",
            "http://127.0.0.1",
            "http://10.0.0.1:80",
            "http://localhost:80",
            "http://a@127.0.0.1:1",
            "x",
        ] {
            assert_eq!(at(url), None, "{url}");
        }
    }
}
