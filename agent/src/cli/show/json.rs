//! `show --json`.

use serde_json::{Value, json};

use crate::look::body::Body;
use crate::record::Direction;
use crate::record::read::whole::{Exchange, Session};

/// All that `show --json` prints.
pub fn as_json(session: &Session, headers_only: bool) -> Value {
    let exchanges: Vec<Value> =
        session.exchanges.iter().map(|(n, e)| exchange_json(*n, e, headers_only)).collect();
    json!({
        "session": session.begin,
        "tls": session.tls,
        "end": session.end,
        "interrupted": session.interrupted,
        "exchanges": exchanges,
        "more": session.more,
    })
}

/// One exchange of it.
pub fn exchange_json(number: u32, exchange: &Exchange, headers_only: bool) -> Value {
    let trailers =
        |direction| -> Vec<_> { exchange.trailers.iter().filter(|t| t.direction == direction).collect() };
    json!({
        "exchange": number,
        "summary": exchange.end.as_ref().map(|end| &end.summary),
        "request": {
            "head": exchange.head,
            "body": Body::of(exchange, Direction::Up).json(headers_only),
            "trailers": trailers(Direction::Up),
        },
        "response": {
            "heads": exchange.responses,
            "body": Body::of(exchange, Direction::Down).json(headers_only),
            "trailers": trailers(Direction::Down),
        },
    })
}
