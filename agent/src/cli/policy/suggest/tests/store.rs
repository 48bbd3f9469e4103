//! Stores that are written for a test, and what is made of them.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;

use crate::cli::filter::FilterArgs;
use crate::cli::identity::Reading;
use crate::cli::policy::Unread;
use crate::cli::policy::replay::ReplayArgs;
use crate::cli::policy::suggest::SuggestArgs;
use crate::record::age::Identity;
use crate::record::{ExchangeHead, Settings, Store, TlsFacts};
use crate::types::{Caller, Destination, HostName, HostSource, LookedUp, TagName, Verdict};

/// One exchange of a store.
#[derive(Clone, Debug)]
pub struct Did {
    pub tag: &'static str,
    pub unit: Option<&'static str>,
    pub host: String,
    pub to: &'static str,
    pub tls: bool,
    pub protocol: &'static str,
    pub method: Option<String>,
    pub path: Option<String>,
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
    pub source: HostSource,
    pub rule: Option<&'static str>,
    pub verdict: Verdict,
    pub status: Option<u16>,
    pub error: Option<&'static str>,
    /// The name that the host's name servers gave the address for.
    pub looked_up: Option<&'static str>,
}

pub fn did(method: &str, host: &str, path: &str) -> Did {
    Did {
        tag: "ci",
        unit: Some("job.service"),
        host: host.to_owned(),
        to: "192.0.2.7:443",
        tls: true,
        protocol: "h2",
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        body: Vec::new(),
        headers: vec![("authorization", "Bearer hunter2".to_owned())],
        source: HostSource::Request,
        rule: Some("observe"),
        verdict: Verdict::Allow,
        status: Some(200),
        error: None,
        looked_up: None,
    }
}

/// A request to a model.
pub fn chat(model: &str) -> Did {
    let body = format!(r#"{{"model": {}, "messages": []}}"#, serde_json::Value::from(model)).into_bytes();
    let headers = vec![("content-type", "application/json".to_owned())];
    Did { body, headers, ..did("POST", "api.openai.com", "/v1/chat/completions") }
}

fn caller(did: &Did) -> Arc<Caller> {
    let mut caller = Caller::unknown(TagName::parse(did.tag).expect("tag"), 42);
    caller.unit = did.unit.map(str::to_owned);
    Arc::new(caller)
}

pub fn write(dir: &Path, all: &[Did]) {
    let reader = Identity::generate();
    fs::create_dir_all(dir).expect("a directory");
    fs::write(dir.join("identity"), &*reader.to_text()).expect("written");
    let settings = Settings { recipients: vec![reader.recipient()], ..Settings::new(dir) };
    let store = Store::open(settings, Arc::new(|_| {})).expect("a store");
    for did in all {
        let to: std::net::SocketAddr = did.to.parse().expect("address");
        let to = Destination::new(to.ip(), to.port());
        let name = did
            .looked_up
            .map(|name| LookedUp { name: HostName::parse(name).expect("name"), by: HostSource::Dns });
        let client = "127.0.0.1:4000".parse().expect("client");
        let session = store.begin(caller(did), to, client, name.as_ref()).expect("begun");
        if did.tls {
            let facts = TlsFacts { verified_name: did.host.clone(), ..TlsFacts::default() };
            session.tls(&facts).expect("recorded");
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &did.headers {
            headers.append(*name, value.parse().expect("value"));
        }
        let head = ExchangeHead {
            protocol: did.protocol,
            host: did.host.clone(),
            host_source: did.source,
            method: did.method.as_deref().map(Cow::Borrowed),
            path: did.path.as_deref().map(Cow::Borrowed),
            headers: Cow::Owned(headers),
            rule: did.rule.map(str::to_owned),
            verdict: did.verdict,
            identity: None,
            credential: None,
            caller_keys: Vec::new(),
        };
        let exchange = session.exchange(head).expect("begun");
        exchange.up(&did.body).expect("recorded");
        if let Some(status) = did.status {
            exchange.response(status, &HeaderMap::new()).expect("recorded");
        }
        exchange.finish(did.error.map(str::to_owned));
        session.close(None);
    }
    store.close();
}

/// One who may read the bodies of a store of [`write`]'s.
pub fn reading(store: &Path) -> Reading {
    Reading::new(Some(store.join("identity")))
}

pub fn suggested_of(store: &Path, with_denied: bool) -> Result<String, String> {
    match (SuggestArgs { of: FilterArgs::all_of(store), reading: reading(store), with_denied }).suggest() {
        Ok((text, damage)) if damage.is_empty() => Ok(text),
        Err(Unread::Failure(failure)) => Err(failure.why),
        other => panic!("{other:?}"),
    }
}

pub fn suggested(all: &[Did]) -> String {
    let dir = tempfile::tempdir().expect("directory");
    write(dir.path(), all);
    suggested_of(dir.path(), false).expect("rules")
}

/// What a replay of `all` by `rules` says: the counts.
pub fn replayed(rules: &str, all: &[Did]) -> serde_json::Value {
    let dir = tempfile::tempdir().expect("directory");
    let store = dir.path().join("store");
    write(&store, all);
    let text = format!("mode = \"enforce\"\n{rules}");
    fs::write(dir.path().join("sluice.toml"), text).expect("written");
    let mut out = Vec::new();
    let args = ReplayArgs {
        directory: dir.path().to_owned(),
        of: FilterArgs::all_of(&store),
        reading: reading(&store),
        all: false,
        json: true,
    };
    let (_, damage) = args.replay(&mut out).expect("replayed");
    assert_eq!(damage, []);
    let text = String::from_utf8(out).expect("text");
    serde_json::from_str(text.lines().last().expect("counts")).expect("JSON")
}

/// How many of `all` `rules` would refuse.
pub fn refused(rules: &str, all: &[Did]) -> u64 {
    let counts = replayed(rules, all);
    assert_eq!(counts["unknown"], 0, "{counts}\n{rules}");
    counts["refused"].as_u64().expect("a number")
}
