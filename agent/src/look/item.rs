//! One recorded exchange with its session, wherever it was read from.

use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body::header;
use crate::record::payload::{Response, SessionBegin, Tls};
use crate::record::read::each::Recorded;
use crate::record::read::list;
use crate::record::read::whole::{End, Exchange, Headers, Session};
use crate::types::{Caller, Summary};

/// See the module.
#[derive(Debug)]
pub struct Item {
    /// Who, and where to; `None` where the store has lost it.
    pub session: Option<Arc<SessionBegin<Caller>>>,
    /// The session's TLS legs.
    pub tls: Option<Arc<Tls<'static>>>,
    /// The exchange.
    pub exchange: Exchange,
    /// In one line.
    pub summary: Summary,
}

impl From<Recorded> for Item {
    fn from(recorded: Recorded) -> Self {
        let Recorded { session, head, up, body, hidden, answer, summary, .. } = recorded;
        let end = up.zip(answer.kept).map(|(up, down)| End { up, down, summary: summary.clone() });
        let exchange = Exchange {
            head,
            responses: answer.responses,
            trailers: answer.trailers,
            up: body,
            down: answer.down,
            up_hidden: hidden,
            down_hidden: answer.down_hidden,
            pieces: answer.pieces,
            end,
        };
        Self { session, tls: answer.tls, exchange, summary }
    }
}

impl Item {
    /// Those of a session, in order.
    pub fn of_session(session: Session) -> Vec<Self> {
        let error = session.interrupted;
        let begin = session.begin.map(Arc::new);
        let tls = session.tls.map(Arc::new);
        let item = |(number, exchange): (u32, Exchange)| {
            let summary = match (&exchange.end, &exchange.head) {
                (Some(end), _) => end.summary.clone(),
                (None, head) => {
                    let mut summary = match head {
                        Some(head) => list::of_begin(head, begin.as_deref()),
                        None => list::summary_without_session("-", number),
                    };
                    summary.status = exchange.responses.last().map(|response| response.status);
                    summary.error = error.map(str::to_owned);
                    summary
                }
            };
            Self { session: begin.clone(), tls: tls.clone(), exchange, summary }
        };
        session.exchanges.into_iter().map(item).collect()
    }

    /// Headers of the request, as they were sent on.
    pub fn asked(&self) -> &[(String, crate::record::headers::Stored<'static>)] {
        self.exchange.head.as_ref().map_or(&[], |head| &head.headers)
    }

    /// The answer that counts: the last.
    pub fn answer(&self) -> Option<&Response<'static, Headers>> {
        self.exchange.responses.last()
    }

    /// Whether it is a request of HTTP.
    pub fn is_http(&self) -> bool {
        let protocol = self.summary.protocol.as_str();
        (protocol.starts_with("http/") || matches!(protocol, "h2" | "websocket"))
            && self.summary.method.is_some()
    }

    /// Whether it became a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.summary.protocol == "websocket"
    }

    /// Whether it went through TLS: then its URL is https or wss.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Its URL, with the port where that is not the scheme's own.
    pub fn url(&self) -> String {
        let tls = self.is_tls();
        let scheme = match (self.is_websocket(), tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let s = &self.summary;
        let own = if tls { 443 } else { 80 };
        let port = self.port().filter(|port| *port != own).map(|port| format!(":{port}")).unwrap_or_default();
        let host = if s.host.contains(':') && !s.host.starts_with('[') {
            format!("[{}]", s.host)
        } else {
            s.host.clone()
        };
        let path = s.path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/");
        format!("{scheme}://{host}{port}{path}")
    }

    /// The port that was dialled.
    pub fn port(&self) -> Option<u16> {
        self.summary.address.parse::<std::net::SocketAddr>().ok().map(|address| address.port())
    }

    /// When it began: nanoseconds since 1970.
    pub fn began(&self) -> i128 {
        nanos(&self.summary.time).unwrap_or(0)
    }

    /// When its answer's head came, where that is known.
    pub fn answered(&self) -> Option<i128> {
        nanos(&self.answer()?.time)
    }

    /// When it ended, where that is known.
    pub fn ended(&self) -> Option<i128> {
        Some(self.began() + i128::from(self.summary.duration_us?) * 1000)
    }

    /// A header of the request.
    pub fn asks(&self, name: &str) -> Option<&str> {
        header(self.asked(), name)
    }

    /// A header of the answer.
    pub fn answers(&self, name: &str) -> Option<&str> {
        header(&self.answer()?.headers, name)
    }
}

/// A record's time as nanoseconds since 1970.
pub fn nanos(time: &str) -> Option<i128> {
    OffsetDateTime::parse(time, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp_nanos)
}
