//! The facts of one HTTP request in one piece of memory. Each exchange keeps them for as long as it lives, to be judged again
//! when the rules change; few ever are, so that keeping must cost little and looking may.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::action::{Http, Kept, KeptBody};
use super::{Destination, HostName};

/// See the module.
#[derive(Debug)]
pub struct Packed {
    destination: Destination,
    host: Option<HostName>,
    protocol: &'static str,
    /// Method, path, query ([`NONE`] as its length: there is none), then names and values of the fields in turn; each behind
    /// its length (u32 LE).
    texts: Vec<u8>,
    body: KeptBody,
}

/// In place of a length.
const NONE: u32 = u32::MAX;

impl Http<'_> {
    /// A copy of its own. `protocol`: [`Http::protocol`].
    pub fn pack(&self, protocol: &'static str) -> Packed {
        let fields = || self.headers.iter().map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let head = [Some(self.method), Some(self.path), self.query];
        let room = head.iter().map(|text| 4 + text.map_or(0, str::len)).sum::<usize>()
            + fields().map(|[name, value]| 8 + name.len() + value.len()).sum::<usize>();
        let mut texts = Vec::with_capacity(room);
        head.iter().for_each(|text| put(&mut texts, text.map(str::as_bytes)));
        fields().flatten().for_each(|text| put(&mut texts, Some(text)));
        let (destination, host) = (self.destination, self.host.cloned());
        Packed { destination, host, protocol, texts, body: self.body.keep() }
    }
}

fn put(texts: &mut Vec<u8>, text: Option<&[u8]>) {
    // A head is far shorter than 4 GiB: the line reads no longer one.
    let length = text.map_or(NONE, |text| u32::try_from(text.len()).unwrap_or(NONE - 1));
    texts.extend_from_slice(&length.to_le_bytes());
    texts.extend_from_slice(text.unwrap_or_default());
}

fn take<'a>(texts: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = texts.split_first_chunk()?;
    let length = match u32::from_le_bytes(*length) {
        NONE => None,
        length => Some(length as usize),
    };
    let (text, rest) = rest.split_at_checked(length.unwrap_or(0))?;
    *texts = rest;
    Some(length.map(|_| text))
}

impl Packed {
    /// As it was.
    pub fn kept(&self) -> Kept {
        let mut rest = self.texts.as_slice();
        let mut text = || take(&mut rest).flatten();
        let mut word = || text().map(|text| String::from_utf8_lossy(text).into_owned());
        let (method, path, query) = (word().unwrap_or_default(), word().unwrap_or_default(), word());
        let mut headers = HeaderMap::new();
        while let (Some(name), Some(value)) = (text(), text()) {
            let field = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = field {
                headers.append(name, value);
            }
        }
        Kept {
            destination: self.destination,
            host: self.host.clone(),
            protocol: self.protocol.into(),
            method,
            path,
            query,
            headers,
            body: self.body.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::action::Body;

    #[test]
    fn what_is_packed_comes_back() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("x-team", "ml"), ("a", ""), ("cookie", "b\u{fc}cher")] {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("value");
            headers.append(HeaderName::from_static(name), value);
        }
        let name = HostName::parse("www.example.test").expect("name");
        for (host, query, body) in [
            (Some(&name), Some("a=b"), Body::Whole(b"{}")),
            (None, Some(""), Body::Unread),
            (None, None, Body::Handshake),
        ] {
            let destination = Destination::new("203.0.113.1".parse().expect("address"), 443);
            let (method, path, protocol) = ("POST", "/v1", "h2");
            let http = Http { destination, host, protocol, method, path, query, headers: &headers, body };
            assert_eq!(http.pack("h2").kept(), http.keep("h2"));
        }
    }
}
