//! Talking to a provider: an errand made of its parts, and an answer read strictly. What an answer says goes into no error:
//! providers echo what they were sent.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Errand, Failed, Reply, Run};
use crate::codec::json;
use crate::credential::inject;
use crate::types::credential::{Secret, Shape};

/// Longest time that a provider's word on a lifetime counts for: what says more is fetched anew after this.
const LIFE_MAX: u64 = 30 * 24 * 3600;

/// Error codes of RFC 6749 §5.2, RFC 8693 §2.2.2 and RFC 8707 §2 that may be repeated: words, not the provider's text.
const CODES: [&str; 10] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
];

impl Errand {
    pub(super) fn get(url: impl Into<String>) -> Self {
        let headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static("sluice"))]);
        Self { method: Method::GET, url: url.into(), headers, body: Zeroizing::default(), certificate: None }
    }

    /// A POST of a form.
    pub(super) fn form(url: impl Into<String>, pairs: &[(&str, &str)]) -> Self {
        // Room for all of it at once: a text that grows leaves copies behind.
        let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(room));
        form.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
        let body = Zeroizing::new(form.finish().into_bytes());
        Self::post(url, body, "application/x-www-form-urlencoded")
    }

    /// A POST of JSON; the value is wiped.
    pub(super) fn json(url: impl Into<String>, value: Value) -> Self {
        let mut value = value;
        let mut body = Zeroizing::new(Vec::with_capacity(64 * 1024));
        serde_json::to_writer(&mut *body, &value).expect("a value of texts is JSON");
        wipe(&mut value);
        Self::post(url, body, "application/json")
    }

    pub(super) fn post(url: impl Into<String>, body: Zeroizing<Vec<u8>>, kind: &'static str) -> Self {
        let mut errand = Self::get(url);
        errand.method = Method::POST;
        errand.body = body;
        errand.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        errand
    }

    /// With a field whose value may be a secret.
    pub(super) fn with(mut self, name: HeaderName, value: &[&str]) -> Result<Self, Failed> {
        let value = inject::value(value).map_err(|error| Failed(error.to_string()))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    pub(super) fn bearer(self, token: &str) -> Result<Self, Failed> {
        self.with(AUTHORIZATION, &["Bearer ", token])
    }

    /// A client of OAuth 2 by its secret (RFC 6749 §2.3.1: both are encoded as in a form first).
    pub(super) fn client(self, id: &str, secret: &str) -> Result<Self, Failed> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (id, secret) = (encoded(id), Zeroizing::new(encoded(secret)));
        let pair = Zeroizing::new(format!("{id}:{}", *secret));
        self.with(AUTHORIZATION, &["Basic ", &Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()))])
    }

    /// Sends it and reads the answer; whatever is no success is a failure.
    pub(super) async fn send(self, run: &Run) -> Result<Answer, Failed> {
        let (host, reply) = self.reply(run).await?;
        Answer::read(host, &reply.body)
    }

    /// Sends it: the other side's name, and its answer, which is a success.
    pub(super) async fn reply(self, run: &Run) -> Result<(String, Reply), Failed> {
        let host =
            self.url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
        let reply = run(self).await.map_err(|why| Failed(format!("{host}: {why}")))?;
        if (200..300).contains(&reply.status) {
            return Ok((host, reply));
        }
        let said = Answer::read(host.clone(), &reply.body).ok();
        let code = said.and_then(|mut said| said.maybe_text("error").ok()?);
        let code = CODES.iter().find(|known| code.as_ref().is_some_and(|code| code.as_str() == **known));
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        Err(Failed(format!("{host} answered {}{code}", reply.status)))
    }
}

/// One object of an answer; wiped.
pub(super) struct Answer {
    host: String,
    members: Map<String, Value>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.members.values_mut().for_each(wipe);
    }
}

/// Wipes every text of a value.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Answer {
    pub(super) fn read(host: String, body: &[u8]) -> Result<Self, Failed> {
        match json::object(body) {
            Ok(members) => Ok(Self { host, members }),
            Err(why) => Err(Failed(format!("{host}'s answer is malformed: {why}"))),
        }
    }

    /// What is wrong with the answer, in words of ours.
    pub(super) fn wrong(&self, what: &str) -> Failed {
        Failed(format!("{}'s answer is malformed: {what}", self.host))
    }

    /// Takes a member out that is a text with something in it.
    pub(super) fn text(&mut self, name: &str) -> Result<Zeroizing<String>, Failed> {
        let text = self.maybe_text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.wrong(&format!("it has no {name}")))
    }

    /// The same; `None`: it is not there, or null.
    pub(super) fn maybe_text(&mut self, name: &str) -> Result<Option<Zeroizing<String>>, Failed> {
        match self.members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(Zeroizing::new(text))),
            Some(mut other) => {
                wipe(&mut other);
                Err(self.wrong(&format!("its {name} is no text")))
            }
        }
    }

    /// Takes a member out that is an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Self, Failed> {
        match self.members.remove(name) {
            Some(Value::Object(members)) => Ok(Self { host: self.host.clone(), members }),
            Some(mut other) => {
                wipe(&mut other);
                Err(self.wrong(&format!("its {name} is no object")))
            }
            None => Err(self.wrong(&format!("it has no {name}"))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    pub(super) fn is_object(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(Value::is_object)
    }

    pub(super) fn is(&self, name: &str, wanted: bool) -> bool {
        self.members.get(name).and_then(Value::as_bool) == Some(wanted)
    }

    /// A whole number that is not negative, or the digits of one: some providers write them as text.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Failed> {
        let number = match self.members.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(&format!("its {name} is no whole number")))
    }

    /// The end of what lasts so many seconds from now on; `None`: it does not say.
    pub(super) fn lasts(&self, name: &str) -> Result<Option<SystemTime>, Failed> {
        match self.number(name)? {
            Some(0) => Err(self.wrong(&format!("its {name} is 0: it has ended"))),
            seconds => {
                Ok(seconds.map(|seconds| SystemTime::now() + Duration::from_secs(seconds.min(LIFE_MAX))))
            }
        }
    }

    /// A moment in RFC 3339.
    pub(super) fn moment(&mut self, name: &str) -> Result<Option<SystemTime>, Failed> {
        let Some(text) = self.maybe_text(name)? else { return Ok(None) };
        moment(&text).map(Some).ok_or_else(|| self.wrong(&format!("its {name} is no moment, or has passed")))
    }
}

/// A moment in RFC 3339 that has not passed; far ones are drawn near.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    let moment: SystemTime = OffsetDateTime::parse(text, &Rfc3339).ok()?.into();
    end(moment)
}

/// An end that has not passed; a far one is drawn near.
pub(super) fn end(moment: SystemTime) -> Option<SystemTime> {
    let now = SystemTime::now();
    (moment > now).then(|| moment.min(now + Duration::from_secs(LIFE_MAX)))
}

/// A secret of a provider's, in the shape that its credential must have.
pub(super) fn secret(text: &str, shape: Shape) -> Result<Secret, Failed> {
    Secret::clean(text.as_bytes().to_vec(), shape)
        .map_err(|why| Failed(format!("what the provider gave: {why}")))
}

/// One segment of a path (RFC 3986 §3.3), or a value of a query: whatever is not unreserved is encoded.
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // A server would take these for steps.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Answer, Failed> {
        Answer::read("p.example".to_owned(), text.as_bytes())
    }

    #[test]
    fn answers_are_read_strictly_and_never_repeated() {
        for text in ["", "<html>sk-1", r#"{"a":"sk-1","a":"sk-1"}"#, r#"{"a":"sk-1""#, r#"["sk-1"]"#] {
            let why = answer(text).err().expect(text).0;
            assert!(why.starts_with("p.example's answer is malformed") && !why.contains("sk-1"), "{why}");
        }
        let mut read = answer(r#"{"t":"x","n":7,"s":"8","m":-1,"f":1.5,"o":{"t":"y"},"e":"","z":null}"#)
            .expect("an object");
        assert_eq!(read.number("n"), Ok(Some(7)));
        assert_eq!(read.number("s"), Ok(Some(8)));
        assert_eq!(read.number("z"), Ok(None));
        for no in ["m", "f", "t", "o"] {
            assert!(read.number(no).is_err(), "{no}");
        }
        assert_eq!(read.text("t").expect("text").as_str(), "x");
        assert_eq!(read.object("o").expect("an object").text("t").expect("text").as_str(), "y");
        for no in ["e", "z", "n", "none"] {
            assert!(read.text(no).is_err(), "{no}");
        }
    }

    #[test]
    fn lifetimes_that_are_none() {
        let of = |text: &str| {
            answer(&format!(r#"{{"expires_in":{text}}}"#)).expect("an object").lasts("expires_in")
        };
        assert_eq!(of("null"), Ok(None));
        for bad in ["0", "-5", "\"soon\"", "1e99", "3600.5", "true", "\"\""] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let far = of("18446744073709551615").expect("a number").expect("an end");
        assert!(far <= SystemTime::now() + Duration::from_secs(LIFE_MAX));
        let moment = |text: &str| answer(&format!(r#"{{"at":"{text}"}}"#)).expect("an object").moment("at");
        assert!(
            moment("2999-01-01T00:00:00Z")
                .expect("a moment")
                .is_some_and(|at| at <= far + Duration::from_secs(9))
        );
        for bad in ["2020-01-01T00:00:00Z", "tomorrow", "2999-13-01T00:00:00Z", ""] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_cannot_be_left() {
        for (text, wanted) in [
            ("a b", "a%20b"),
            ("../x", "..%2Fx"),
            ("..", "%2E%2E"),
            ("a?b#c", "a%3Fb%23c"),
            ("a-._~", "a-._~"),
        ] {
            assert_eq!(segment(text), wanted);
        }
    }
}
