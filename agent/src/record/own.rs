//! The summary of an exchange in two parts: what its session says of each of its exchanges, which is written out once, and
//! what is the exchange's own. Together they are a [`Summary`], in the store and for whoever is told of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::edges::summary;
use super::session::Facts;
use crate::types::{CallerKey, HostSource, Summary, Verdict};

/// An exchange's own fields of its [`Summary`], under the same names.
#[derive(Clone, Debug, Serialize)]
pub struct Own {
    pub exchange: u32,
    pub time: String,
    pub duration_us: Option<u64>,
    pub identity: Option<String>,
    pub groups: Vec<String>,
    pub protocol: Cow<'static, str>,
    pub host: String,
    pub host_source: Option<HostSource>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub status: Option<u16>,
    pub rule: Option<String>,
    pub verdict: Verdict,
    pub credential: Option<String>,
    pub caller_keys: Vec<CallerKey>,
    pub masked: BTreeMap<String, u64>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub error: Option<String>,
}

impl Own {
    /// Of an exchange that begins: nothing else is known of it.
    pub fn new(exchange: u32, time: String, protocol: &'static str) -> Self {
        Self {
            exchange,
            time,
            duration_us: None,
            identity: None,
            groups: Vec::new(),
            protocol: Cow::Borrowed(protocol),
            host: String::new(),
            host_source: None,
            method: None,
            path: None,
            status: None,
            rule: None,
            verdict: Verdict::Allow,
            credential: None,
            caller_keys: Vec::new(),
            masked: BTreeMap::new(),
            bytes_up: 0,
            bytes_down: 0,
            error: None,
        }
    }

    /// With what its session says.
    pub fn whole(self, session: &Facts) -> Summary {
        Summary {
            time: self.time,
            duration_us: self.duration_us,
            identity: self.identity,
            groups: self.groups,
            protocol: self.protocol.into_owned(),
            host: self.host,
            host_source: self.host_source,
            method: self.method,
            path: self.path,
            status: self.status,
            rule: self.rule,
            verdict: self.verdict,
            credential: self.credential,
            caller_keys: self.caller_keys,
            masked: self.masked,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            error: self.error,
            ..summary(&session.text, self.exchange, &session.caller, session.destination)
        }
    }
}

/// The fields of a [`Summary`] that are not an exchange's own, as JSON without the braces around it.
pub fn same(of_session: &Summary) -> Vec<u8> {
    let own = Own::new(0, String::new(), "");
    let fields = |value: serde_json::Result<Value>| match value {
        Ok(Value::Object(fields)) => fields,
        // Fields of texts and numbers always have a JSON form.
        _ => serde_json::Map::new(),
    };
    let mut same = fields(serde_json::to_value(of_session));
    fields(serde_json::to_value(own)).keys().for_each(|own| drop(same.remove(own)));
    let mut json = Value::Object(same).to_string().into_bytes();
    json.pop();
    json.split_off(1)
}

/// An exchange that is over, for whoever is told of it.
pub struct Ended<'a> {
    pub(super) session: &'a Facts,
    pub(super) own: &'a Own,
    pub(super) at: Instant,
}

impl Ended<'_> {
    /// When.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// All that there is to say.
    pub fn summary(&self) -> Summary {
        self.own.clone().whole(self.session)
    }
}
