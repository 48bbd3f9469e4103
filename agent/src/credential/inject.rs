//! Puts a credential into a request's head, and into the record of it its name alone.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Uri};
use zeroize::Zeroizing;

use super::bind::Bound;
use super::keep::Value;
use super::strip::put;
use crate::policy::credential::Credential;
use crate::record::Borne;
use crate::types::credential::{Inject, Secret};

/// Why a value cannot be put into a request. Never says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uninjectable {
    /// A credential that serves others only.
    #[error("it serves other credentials only")]
    NoWay,
    /// What RFC 6265 §4.1.1 does not let into a cookie.
    #[error("its value has a character that no cookie can hold")]
    Cookie,
    /// What does not go into a header field.
    #[error("its value cannot stand in a header field")]
    Field,
    /// `user:password` without a colon.
    #[error("its value is not user:password")]
    Pair,
    /// Not a matter of the head alone.
    #[error("it is not put into a head")]
    NotTheHead,
}

/// Puts the value into the head. Costs the right to.
///
/// # Errors
/// [`Uninjectable`]; the head is as it was.
pub fn apply<B>(bound: Bound, value: &Value, request: &mut Request<B>) -> Result<(), Uninjectable> {
    let secret = value.secret();
    match bound.credential().inject.as_ref().ok_or(Uninjectable::NoWay)? {
        Inject::Bearer => set(request.headers_mut(), AUTHORIZATION, &["Bearer ", secret.expose()]),
        Inject::Header { name, prefix } => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Uninjectable::Field)?;
            set(request.headers_mut(), name, &[prefix, secret.expose()])
        }
        Inject::Basic { user } => {
            let pair = basic(user.as_deref(), secret)?;
            set(request.headers_mut(), AUTHORIZATION, &["Basic ", &pair])
        }
        Inject::Query { name } => {
            add_parameter(request.uri_mut(), name, secret.expose());
            Ok(())
        }
        Inject::Cookie { name } => add_cookie(request.headers_mut(), name, secret),
        Inject::Sigv4 { .. } | Inject::Tls => Err(Uninjectable::NotTheHead),
    }
}

/// The text of Basic's one token (RFC 7617 §2).
///
/// # Errors
/// [`Uninjectable::Pair`].
pub fn basic(user: Option<&str>, secret: &Secret) -> Result<Zeroizing<String>, Uninjectable> {
    let pair = match user {
        Some(user) => Zeroizing::new(format!("{user}:{}", secret.expose())),
        None if secret.expose().contains(':') => Zeroizing::new(secret.expose().to_owned()),
        None => return Err(Uninjectable::Pair),
    };
    Ok(Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes())))
}

/// A field of these parts, in place of what was there.
fn set(headers: &mut HeaderMap, name: HeaderName, parts: &[&str]) -> Result<(), Uninjectable> {
    headers.insert(name, value(parts)?);
    Ok(())
}

/// A field's value of these parts: wiped when nobody holds it any more, and in no table of HPACK.
pub(super) fn value(parts: &[&str]) -> Result<HeaderValue, Uninjectable> {
    let mut text = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
    // Looked at when it was read; a provider's word is not taken for it.
    if text.iter().any(u8::is_ascii_control) {
        return Err(Uninjectable::Field);
    }
    let mut value =
        HeaderValue::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| Uninjectable::Field)?;
    value.set_sensitive(true);
    Ok(value)
}

fn add_parameter(uri: &mut Uri, name: &str, text: &str) {
    let encoded =
        Zeroizing::new(form_urlencoded::Serializer::new(String::new()).append_pair(name, text).finish());
    let whole = match uri.query() {
        Some(query) if !query.is_empty() => Zeroizing::new(format!("{}?{query}&{}", uri.path(), *encoded)),
        _ => Zeroizing::new(format!("{}?{}", uri.path(), *encoded)),
    };
    put(uri, &whole);
}

fn add_cookie(headers: &mut HeaderMap, name: &str, secret: &Secret) -> Result<(), Uninjectable> {
    let octet = |b: u8| matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
    if !secret.expose().bytes().all(octet) {
        return Err(Uninjectable::Cookie);
    }
    // One field: many servers read the first alone.
    let there = headers.get(COOKIE).map(|first| Zeroizing::new(first.as_bytes().to_vec()));
    let there = there.as_ref().map(|first| std::str::from_utf8(first)).transpose();
    let value = match there.map_err(|_| Uninjectable::Field)? {
        Some(first) => value(&[first, "; ", name, "=", secret.expose()])?,
        None => value(&[name, "=", secret.expose()])?,
    };
    match headers.get_mut(COOKIE) {
        Some(first) => *first = value,
        None => drop(headers.insert(COOKIE, value)),
    }
    Ok(())
}

/// What the record says of a request that bears it.
pub fn borne(credential: &Credential) -> Option<Borne> {
    let inject = credential.inject.as_ref()?;
    let field = match inject {
        Inject::Bearer | Inject::Basic { .. } | Inject::Sigv4 { .. } => Some(AUTHORIZATION),
        Inject::Header { name, .. } => HeaderName::from_bytes(name.as_bytes()).ok(),
        Inject::Cookie { .. } => Some(COOKIE),
        Inject::Query { .. } | Inject::Tls => None,
    };
    let parameter = match inject {
        Inject::Query { name } => Some(name.clone()),
        _ => None,
    };
    Some(Borne { name: credential.name.clone(), field, parameter })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credential::bind::bind;
    use crate::policy::credential::{Binding, Sending};
    use crate::policy::lookup::NamePattern;
    use crate::types::credential::Source;
    use crate::types::{CredentialName, HostName, TagName};

    fn injected(
        inject: Inject,
        secret: &str,
        uri: &str,
        cookie: Option<&str>,
    ) -> Result<Request<()>, Uninjectable> {
        let host = HostName::parse("a.example").expect("name");
        let credential = Arc::new(Credential {
            name: CredentialName::parse("c").expect("name"),
            binding: Binding {
                hosts: vec![NamePattern::parse("a.example").expect("name")],
                ..Binding::default()
            },
            source: Source::Env("C".into()),
            inject: Some(inject),
            ttl: std::time::Duration::from_secs(1),
        });
        let tag = TagName::parse("ci").expect("tag");
        let sending = Sending {
            name: Some(&host),
            tls: true,
            asked: Some(&host),
            port: 443,
            method: "GET",
            headers: &HeaderMap::new(),
            query: None,
            path: "/",
            tag: &tag,
            identity: None,
        };
        let bound = bind(&credential, &sending).expect("bound");
        let secret = Secret::line(secret.to_owned()).expect("a secret");
        let value = Value::bare(secret);
        let mut request = Request::builder().uri(uri);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let mut request = request.body(()).expect("request");
        apply(bound, &value, &mut request).map(|()| request)
    }

    #[test]
    fn each_way_into_a_head() {
        let field = |inject, secret: &str, name: &str| {
            let parts = injected(inject, secret, "/x", None).expect("injected");
            let value = parts.headers().get(name).expect("the field").clone();
            assert!(value.is_sensitive() && parts.headers().len() == 1);
            value.to_str().expect("text").to_owned()
        };
        assert_eq!(field(Inject::Bearer, "sk-1", "authorization"), "Bearer sk-1");
        let header = Inject::Header { name: "x-api-key".into(), prefix: String::new() };
        assert_eq!(field(header, "sk-1", "x-api-key"), "sk-1");
        let header = Inject::Header { name: "authorization".into(), prefix: "token ".into() };
        assert_eq!(field(header, "sk-1", "authorization"), "token sk-1");
        let basic = Inject::Basic { user: Some("me".into()) };
        assert_eq!(field(basic, "pw", "authorization"), "Basic bWU6cHc=");
        assert_eq!(field(Inject::Basic { user: None }, "me:pw", "authorization"), "Basic bWU6cHc=");
        let cookie = || Inject::Cookie { name: "s".into() };
        assert_eq!(field(cookie(), "abc", "cookie"), "s=abc");
        let parts = injected(cookie(), "abc", "/", Some("a=1")).expect("injected");
        assert_eq!(parts.headers()[COOKIE], "a=1; s=abc");
    }

    #[test]
    fn a_query_is_encoded() {
        let query = || Inject::Query { name: "key".into() };
        for (uri, wanted) in [
            ("/x", "/x?key=a%26b%3D%23%20c"),
            ("/x?", "/x?key=a%26b%3D%23%20c"),
            ("/x?a=1", "/x?a=1&key=a%26b%3D%23%20c"),
            ("https://a.example/x?a=1", "https://a.example/x?a=1&key=a%26b%3D%23%20c"),
        ] {
            let parts = injected(query(), "a&b=# c", uri, None).expect("injected");
            assert_eq!(parts.uri().to_string().replace('+', "%20"), wanted);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cookie = Inject::Cookie { name: "s".into() };
        assert_eq!(injected(cookie, "a;b", "/", None).err(), Some(Uninjectable::Cookie));
        assert_eq!(injected(Inject::Basic { user: None }, "pw", "/", None).err(), Some(Uninjectable::Pair));
        assert_eq!(injected(Inject::Tls, "pem", "/", None).err(), Some(Uninjectable::NotTheHead));
    }
}
