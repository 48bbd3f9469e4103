//! A question out of the store: what a recorded exchange asked, as far as it was kept.

use std::path::Path;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::wrong;
use crate::cli::Failure;
use crate::codec::coding;
use crate::policy::question::Question;
use crate::policy::rule::BODY_LIMIT;
use crate::record::headers::Stored;
use crate::record::read::whole::{self, Exchange, Headers, Which};
use crate::types::HostName;
use crate::types::action::{Kept, KeptBody};

/// Reads what `SESSION/N` asked.
///
/// # Errors
/// [`Failure`]: not there, or not whole enough to be judged.
pub(super) fn question(store: &Path, id: &str) -> Result<Question, Failure> {
    let shape = || wrong(format!("--exchange {id:?}"), "write SESSION/N, as sluice sessions shows them");
    let (session, number) = id.split_once('/').ok_or_else(shape)?;
    let number: u32 = number.parse().map_err(|_| shape())?;
    let budget = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
    let missing =
        |why: String| Failure { why, remedy: "sluice sessions lists those that are".to_owned(), code: 1 };
    let session =
        whole::read(store, session, Which::One(number), budget).map_err(|e| missing(e.to_string()))?;
    let begin =
        session.begin.ok_or_else(|| missing("the session's begin is no more in the store".to_owned()))?;
    let exchange = session.exchanges.into_values().next();
    let exchange = exchange.ok_or_else(|| missing(format!("the session has no exchange {number}")))?;
    let head = exchange.head.as_ref();
    let head = head.ok_or_else(|| missing("the exchange's head is no more in the store".to_owned()))?;
    let target = head.path.as_deref().unwrap_or_default();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let headers = headers(&head.headers);
    let protocol = protocol(&head.protocol, head.method.is_some(), &headers);
    let http = Kept {
        destination: begin.destination,
        host: HostName::parse(&head.host).ok(),
        protocol: protocol.into(),
        method: head.method.as_deref().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query,
        body: if protocol == "websocket" { KeptBody::Handshake } else { body(&headers, &exchange) },
        headers,
    };
    let now = OffsetDateTime::parse(&head.time, &Rfc3339).unwrap_or_else(|_| OffsetDateTime::now_utc());
    let caller = begin.caller;
    Ok(Question { caller, identity: None, http, now })
}

/// The protocol as policy knows it; records bear the connection's.
fn protocol(recorded: &str, request: bool, headers: &HeaderMap) -> &'static str {
    let begins = |name: &str, with: &str| {
        headers.get(name).is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(with.as_bytes()))
    };
    match recorded {
        _ if !request => "tunnel",
        _ if recorded == "websocket" || begins("upgrade", "websocket") => "websocket",
        _ if begins("content-type", "application/grpc") => "grpc",
        "h2" => "h2",
        _ => "http/1.1",
    }
}

fn headers(stored: &Headers) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in stored {
        let Stored::Text(text) = value else { continue };
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(text)) {
            headers.append(name, value);
        }
    }
    headers
}

fn body(headers: &HeaderMap, exchange: &Exchange) -> KeptBody {
    let total = exchange.end.as_ref().map_or(exchange.up.len() as u64, |end| end.up.total);
    if total == exchange.up.len() as u64 {
        let max = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
        match coding::request_body(headers, &exchange.up, max) {
            Ok(decoded) => KeptBody::Whole(decoded.unwrap_or_else(|| exchange.up.clone())),
            Err(why) => KeptBody::Unknowable(why),
        }
    } else {
        KeptBody::Unknowable("the store has not all of it".to_owned())
    }
}
