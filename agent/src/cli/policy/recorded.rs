//! What a recorded exchange asked, as far as it was kept: what `policy explain`, `replay` and `suggest` judge.

use std::borrow::Cow;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::wrong;
use crate::cli::Failure;
use crate::codec::coding;
use crate::policy::is_grpc;
use crate::policy::past::{Past, Real, What, Withheld};
use crate::policy::rule::BODY_LIMIT;
use crate::record::headers::{Stored, secret_name};
use crate::record::payload::{Kept as Sizes, SessionBegin};
use crate::record::read::each::{Head, Recorded};
use crate::record::read::unseal::Access;
use crate::record::read::whole::{self, Headers, Which};
use crate::types::action::{Kept, KeptBody};
use crate::types::{Caller, HostName, HostSource, Identity, Summary, Verdict};

/// Why there is nothing that rules could be asked about.
pub(super) const LOST: &str = "its begin, or its session's, is no more in the store";
/// Likewise.
pub(super) const UNASKED: &str = "it failed before any rule was asked";

/// What a path that was cut in the record has at least.
const CUT_PATH: usize = 64 * 1024 - 4;

/// Reads what `SESSION/N` asked.
///
/// # Errors
/// [`Failure`]: not there, or not whole enough to be judged.
pub(super) fn read(store: &Path, id: &str, access: &Access) -> Result<Past, Failure> {
    let shape = || wrong(format!("--exchange {id:?}"), "write SESSION/N, as sluice sessions shows them");
    let (session, number) = id.split_once('/').ok_or_else(shape)?;
    let number: u32 = number.parse().map_err(|_| shape())?;
    let budget = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
    let missing =
        |why: String| Failure { why, remedy: "sluice sessions lists those that are".to_owned(), code: 1 };
    let session = whole::read(store, session, Which::One(number), budget, access)
        .map_err(|e| missing(e.to_string()))?;
    let begin = session.begin.ok_or_else(|| missing(LOST.to_owned()))?;
    let exchange = session.exchanges.into_values().next();
    let exchange = exchange.ok_or_else(|| missing(format!("the session has no exchange {number}")))?;
    let head = exchange.head.ok_or_else(|| missing(LOST.to_owned()))?;
    let (up, summary) = exchange.end.map(|end| (end.up, end.summary)).unzip();
    let names = session.tls.iter().map(|tls| tls.facts.verified_name.clone()).collect::<Vec<_>>();
    let asked = Asked {
        names: &names,
        begin: &begin,
        head: &head,
        summary: summary.as_ref(),
        up,
        body: Cow::Owned(exchange.up),
    };
    asked.past().map_err(|why| missing(why.to_owned()))
}

/// The same of one of [`each`](crate::record::read::each::each).
///
/// # Errors
/// Why it cannot be judged at all.
pub(super) fn past(recorded: &Recorded) -> Result<Past, &'static str> {
    let (begin, head) = recorded.session.as_deref().zip(recorded.head.as_ref()).ok_or(LOST)?;
    let body = Cow::Borrowed(&recorded.body[..]);
    Asked { begin, head, names: &recorded.names, summary: Some(&recorded.summary), up: recorded.up, body }
        .past()
}

/// A head alone: its body is not known.
///
/// # Errors
/// Why it cannot be judged at all.
pub(super) fn of_head(
    begin: &SessionBegin<Caller>,
    head: &Head,
    names: &[String],
) -> Result<Past, &'static str> {
    Asked { begin, head, names, summary: None, up: None, body: Cow::Borrowed(&[]) }.past()
}

/// Where what was asked lies.
struct Asked<'a> {
    begin: &'a SessionBegin<Caller>,
    head: &'a Head,
    /// What TLS was verified for before it.
    names: &'a [String],
    summary: Option<&'a Summary>,
    up: Option<Sizes>,
    body: Cow<'a, [u8]>,
}

impl Asked<'_> {
    fn past(self) -> Result<Past, &'static str> {
        let (begin, head) = (self.begin, self.head);
        let mut withheld = Withheld { exe_sha256: true, messages: true, ..Withheld::NOTHING };
        // Those that rules of that time asked for are there.
        let known = head.claims.as_deref().cloned().unwrap_or_default();
        let identity = head.identity.as_ref().map(|subject| Identity {
            issuer: head.issuer.as_ref().map(ToString::to_string).unwrap_or_default(),
            subject: subject.to_string(),
            groups: head.groups.to_vec(),
            claims: serde_json::Value::Object(known.said.clone()),
            // It was somebody's then: the gate looked.
            expires: i64::MAX,
        });
        withheld.issuer = head.issuer.is_none();
        withheld.claims = Some(known);
        let now = OffsetDateTime::parse(&head.time, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let what = self.what(&mut withheld)?;
        Ok(Past { caller: begin.caller.clone(), identity, what, now, withheld })
    }

    fn what(self, withheld: &mut Withheld) -> Result<What, &'static str> {
        let (destination, head) = (self.begin.destination, self.head);
        let host = HostName::parse(&head.host).ok();
        // A name that the job may have made up is none.
        let proved = matches!(head.host_source, Some(HostSource::Tls | HostSource::Dns));
        let proved = host.clone().filter(|_| proved);
        let judged = head.rule.is_some();
        match (&*head.protocol, &head.method) {
            ("dns", Some(kind)) => {
                return Ok(What::Lookup { name: head.host.to_string(), kind: kind.to_string() });
            }
            ("tunnel", _) if judged => return Ok(What::Tunnel(destination, proved)),
            ("tls", _) if judged => return Ok(What::Name(destination, proved)),
            ("tcp", _) if judged => return Ok(What::Connect(destination)),
            (_, None) => return Err(UNASKED),
            _ if !judged && head.verdict == Verdict::Deny => return Err(UNASKED),
            _ => {}
        }
        let headers = headers(&head.headers, withheld);
        withheld.headers_cut = head.headers_cut > 0;
        let (path, query) = target(head, withheld);
        let protocol = self.protocol(&headers);
        let http = Kept {
            destination,
            host,
            protocol: protocol.into(),
            method: head.method.as_deref().unwrap_or_default().to_owned(),
            path,
            query,
            body: KeptBody::Unread,
            headers,
        };
        let real = self.real();
        let (body, length) = self.body(&http);
        Ok(What::Request { http: Box::new(Kept { body, ..http }), length, real })
    }

    /// The protocol as policy knows it; records bear the connection's, until the exchange became another.
    fn protocol(&self, headers: &HeaderMap) -> &'static str {
        let begins = |name: &str, with: &str| {
            headers.get(name).is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(with.as_bytes()))
        };
        let became = self.summary.map_or("", |summary| summary.protocol.as_str());
        // A CONNECT with a path is an extended one (RFC 8441 §4), whose protocol the record does not have.
        let extended = self.head.method.as_deref() == Some("CONNECT")
            && self.head.path.as_deref().is_some_and(|path| path.starts_with('/'));
        match &*self.head.protocol {
            _ if became == "websocket" || extended || begins("upgrade", "websocket") => "websocket",
            _ if is_grpc(headers) => "grpc",
            "h2" => "h2",
            _ => "http/1.1",
        }
    }

    /// The body as policy saw it, and its length.
    fn body(self, http: &Kept) -> (KeptBody, Option<u64>) {
        // What follows a switch of protocols is no body.
        match &*http.protocol {
            "websocket" => return (KeptBody::Handshake, Some(0)),
            _ if http.method == "CONNECT" => return (KeptBody::Whole(Vec::new()), Some(0)),
            _ if self.summary.is_some_and(|summary| summary.status == Some(101)) => {
                return (KeptBody::Whole(Vec::new()), Some(0));
            }
            _ => {}
        }
        let length = self.length(http);
        let whole = length == Some(self.body.len() as u64);
        let coded = http.headers.contains_key(CONTENT_ENCODING);
        let max = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
        match coding::request_body(&http.headers, &self.body, max) {
            Ok(None) if whole => (KeptBody::Whole(self.body.into_owned()), length),
            Ok(Some(decoded)) if whole => (KeptBody::Whole(decoded), None),
            Err(why) if whole => (KeptBody::Unknowable(why), None),
            // How long it is decoded nobody knows.
            _ => (KeptBody::Unread, length.filter(|_| !coded)),
        }
    }

    /// Whom it went to, by the word of somebody else than the job: TLS, or the host's name servers. A CONNECT goes to whom
    /// the connection was opened to.
    fn real(&self) -> Real {
        let proved = |name: &str| Real::Name(HostName::parse(name).ok());
        let connects = self.head.method.as_deref() == Some("CONNECT")
            && !self.head.path.as_deref().is_some_and(|path| path.starts_with('/'));
        match (self.names, &self.begin.looked_up) {
            (names, _) if !connects && names.iter().any(|name| *name == self.head.host) => {
                proved(&self.head.host)
            }
            ([first, ..], _) => proved(first),
            ([], None) => Real::Unknown,
            ([], Some(found)) => {
                let found = found.iter().find(|found| found.by == HostSource::Dns);
                Real::Name(found.map(|found| found.name.clone()))
            }
        }
    }

    /// Bytes of the body; `None` where that is not known. What was refused or broke off was not sent whole, and what was not
    /// sent is not in the record.
    fn length(&self, http: &Kept) -> Option<u64> {
        if let Some(told) = http.headers.get(CONTENT_LENGTH) {
            return told.to_str().ok()?.parse().ok();
        }
        let clean = self.summary.is_some_and(|summary| summary.error.is_none());
        let none = &*self.head.protocol != "h2" && !http.headers.contains_key(TRANSFER_ENCODING);
        match self.up {
            Some(up) if clean => Some(up.total),
            // HTTP/1 says so when there is a body (RFC 9112 §6.3).
            _ => none.then_some(0),
        }
    }
}

/// Path and query as policy saw them.
fn target(head: &Head, withheld: &mut Withheld) -> (String, Option<String>) {
    let target = head.path.as_deref().unwrap_or_default();
    // A plain CONNECT has no path: what stands there is whom it asks for.
    if head.method.as_deref() == Some("CONNECT") && !target.starts_with('/') {
        return (String::new(), None);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    withheld.path = path.contains(REDACTED) || target.len() >= CUT_PATH;
    // Some separate at `;`, too.
    let query_too = query.unwrap_or_default().replace(';', "&");
    let pairs = [query.unwrap_or_default(), &query_too];
    for (name, value) in pairs.into_iter().flat_map(|query| form_urlencoded::parse(query.as_bytes())) {
        if value.contains(REDACTED) || (secret_name(&name) && !value.is_empty()) {
            withheld.query.push(name.into_owned());
        }
    }
    (path.to_owned(), query.map(str::to_owned))
}

/// What stands in a path or a URL in place of a secret.
const REDACTED: &str = "redacted-";
/// And in a header field.
const REDACTED_FIELD: &str = "[redacted ";

fn headers(stored: &Headers, withheld: &mut Withheld) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in stored {
        let bytes = match value {
            Stored::Text(text) => {
                let names = name == "sec-websocket-protocol";
                if (secret_name(name) && !names) || text.contains(REDACTED_FIELD) || text.contains(REDACTED) {
                    withheld.headers.push(name.clone());
                }
                text.as_bytes().to_vec()
            }
            Stored::Raw { base64 } => STANDARD.decode(base64).unwrap_or_default(),
        };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&bytes)) {
            headers.append(name, value);
        }
    }
    headers
}
