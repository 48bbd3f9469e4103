//! Tests of the store as its users see it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::age::Identity;
use super::frame::Kind;
use super::payload::{End, Kept, Recovered};
use super::read::unseal::{Access, Hidden, Unsealer};
use super::read::{Damage, Reader, list, whole};
use super::{Direction, Error, ExchangeHead, Session, Settings, Sink, Store, TlsFacts, segment};
use crate::types::{Caller, Destination, Enforcement, Summary, TagName, Verdict, Weakness};

/// A summary with something in every field.
pub fn summary() -> Summary {
    Summary {
        session: "01JZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
        exchange: 1,
        time: "2026-01-02T03:04:05.000006Z".to_owned(),
        duration_us: Some(1_240_000),
        tag: "ci".to_owned(),
        unit: Some("job.service".to_owned()),
        cgroup: "/system.slice/job.service".to_owned(),
        pid: 4242,
        start_time: Some(99),
        exe: Some("/usr/bin/curl".to_owned()),
        uid: 1000,
        user: Some("ann".to_owned()),
        container: Some("web".to_owned()),
        container_runtime: Some("nspawn".to_owned()),
        image: Some("debian:12".to_owned()),
        netns: Some(4_026_532_000),
        identity: None,
        groups: vec!["ml".to_owned(), "dev".to_owned()],
        enforcement: Some(Enforcement::Weakened),
        weakened: vec![Weakness::SharedUid, Weakness::NoLsm],
        protocol: "http/1.1".to_owned(),
        host: "api.openai.com".to_owned(),
        host_source: Some(crate::types::HostSource::Request),
        address: "192.0.2.7:443".to_owned(),
        method: Some("POST".to_owned()),
        path: Some("/v1/responses".to_owned()),
        status: Some(200),
        rule: Some("openai-chat".to_owned()),
        verdict: Verdict::Allow,
        credential: None,
        caller_keys: Vec::new(),
        masked: BTreeMap::from([("email".to_owned(), 3)]),
        bytes_up: 10,
        bytes_down: 20,
        error: None,
    }
}

/// Collects what reaches the sink.
fn sink() -> (Sink, Arc<Mutex<Vec<Summary>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    (Arc::new(move |s: &super::Ended<'_>| into.lock().expect("sink").push(s.summary())), seen)
}

/// Who reads the bodies of these tests' stores.
static READER: LazyLock<String> = LazyLock::new(|| Identity::generate().to_text().to_string());

fn reader() -> Identity {
    Identity::parse(&READER).expect("an identity")
}

/// With somebody who may read.
pub fn settings(dir: &Path) -> Settings {
    Settings { recipients: vec![reader().recipient()], ..Settings::new(dir) }
}

fn small(dir: &Path) -> Settings {
    Settings { segment_bytes: 128 * 1024, ..settings(dir) }
}

/// A session as one sees it who may read.
fn shown(dir: &Path, id: &str, which: whole::Which) -> whole::Session {
    whole::read(dir, id, which, 1 << 20, &Access::with(reader())).expect("whole")
}

fn store(dir: &Path) -> (Store, Arc<Mutex<Vec<Summary>>>) {
    let (sink, seen) = sink();
    (Store::open(small(dir), sink).expect("store opens"), seen)
}

fn caller() -> Arc<Caller> {
    Arc::new(Caller {
        tag: TagName::parse("ci").expect("tag"),
        pid: 4242,
        start_time: Some(99),
        uid: 1000,
        gid: 1000,
        user: Some("ann".to_owned()),
        comm: "curl".to_owned(),
        exe: None,
        cgroup: "/system.slice/job.service".to_owned(),
        unit: Some("job.service".to_owned()),
        container: None,
        container_runtime: None,
        image: None,
        netns: None,
        weakened: Some(vec![Weakness::SharedUid, Weakness::NoLsm]),
    })
}

fn begin(store: &Store) -> Session {
    let destination = Destination::new("192.0.2.7".parse().expect("ip"), 443);
    store
        .begin(caller(), destination, "127.0.0.1:40000".parse().expect("client"), None)
        .expect("session begins")
}

fn head(path: &str) -> ExchangeHead<'static> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer hunter2".parse().expect("value"));
    headers.insert("accept", "*/*".parse().expect("value"));
    ExchangeHead {
        protocol: "http/1.1",
        host: "api.example".to_owned(),
        host_source: crate::types::HostSource::Request,
        method: Some("POST".into()),
        path: Some(path.to_owned().into()),
        headers: Cow::Owned(headers),
        rule: Some("observe".to_owned()),
        verdict: Verdict::Allow,
        identity: None,
        credential: None,
        caller_keys: Vec::new(),
    }
}

fn everything(dir: &Path) -> Vec<Summary> {
    let mut all = Vec::new();
    let damage = list::all(dir, &list::Filter::default(), |s| {
        all.push(s);
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("readable"), []);
    all
}

fn kinds(dir: &Path) -> Vec<Kind> {
    let reader = Reader::open(dir).expect("readable");
    let mut kinds = Vec::new();
    let damage = reader.frames(0..reader.segments(), |frame| {
        kinds.push(frame.kind.expect("known"));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    kinds
}

#[test]
fn an_exchange_comes_back_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, seen) = store(dir.path());
    let session = begin(&store);
    session.tls(&TlsFacts { verified_name: "api.example".to_owned(), ..TlsFacts::default() }).expect("tls");
    let exchange = session.exchange(head("/v1?api_key=hunter2&x=1")).expect("exchange");
    exchange.up(b"ques").expect("up");
    exchange.up(b"tion").expect("up");
    let mut headers = HeaderMap::new();
    headers.insert("set-cookie", "sid=hunter2".parse().expect("value"));
    exchange.response(200, &headers).expect("response");
    exchange.down(&vec![b'a'; 50_000]).expect("down");
    exchange.down(b"end").expect("down");
    exchange.trailers(Direction::Down, &headers).expect("trailers");
    exchange.finish(None);
    exchange.finish(Some("second".to_owned()));
    let id = session.id().to_string();
    session.close(None);
    store.close();

    let summaries = everything(dir.path());
    assert_eq!(summaries, *seen.lock().expect("sink"));
    let [s] = &summaries[..] else { panic!("{summaries:?}") };
    assert_eq!((s.status, s.bytes_up, s.bytes_down, s.error.as_deref()), (Some(200), 8, 50_003, None));
    assert_eq!((s.tag.as_str(), s.unit.as_deref(), s.pid), ("ci", Some("job.service"), 4242));
    assert_eq!(s.time.len(), 27);

    let whole = shown(dir.path(), &id[..20].to_lowercase(), whole::Which::First(9));
    let exchange = &whole.exchanges[&1];
    assert_eq!(exchange.up, b"question");
    assert_eq!(exchange.down.len(), 50_003);
    assert_eq!(exchange.end.as_ref().expect("end").down, Kept { kept: 50_003, total: 50_003 });
    assert_eq!(exchange.responses.len() + exchange.trailers.len(), 2);
    assert_eq!(exchange.head.as_ref().expect("head").headers.len(), 2);
    assert_eq!(whole.tls.expect("tls").facts.verified_name, "api.example");
    assert_eq!(whole.end.expect("end").exchanges, 1);

    for found in segment::list(dir.path()).expect("list").0 {
        let bytes = std::fs::read(found.path).expect("segment");
        assert!(!bytes.windows(7).any(|w| w == b"hunter2"), "a secret is in the store");
    }
    assert_eq!(kinds(dir.path()).last(), Some(&Kind::Stop));
}

#[test]
fn bodies_are_cut_and_the_cut_is_stated() {
    let dir = tempfile::tempdir().expect("dir");
    let (sink, _) = sink();
    let store = Store::open(Settings { body_limit: 10, ..small(dir.path()) }, sink).expect("opens");
    let session = begin(&store);
    let exchange = session.exchange(head("/")).expect("exchange");
    exchange.up(&[b'u'; 10]).expect("up");
    exchange.down(&[b'd'; 7]).expect("down");
    exchange.down(&[b'e'; 7]).expect("down");
    exchange.down(&[b'f'; 7]).expect("down");
    exchange.finish(None);
    let whole = shown(dir.path(), &session.id().to_string(), whole::Which::One(1));
    let exchange = &whole.exchanges[&1];
    let end = exchange.end.as_ref().expect("end");
    assert_eq!((end.up, end.down), (Kept { kept: 10, total: 10 }, Kept { kept: 10, total: 21 }));
    assert_eq!(exchange.down, b"dddddddeee");
    assert_eq!(whole.interrupted, None, "it runs");
}

#[test]
fn bytes_that_passed_unseen_leave_no_wrong_body() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, seen) = store(dir.path());
    let session = begin(&store);
    let exchange = session.exchange(head("/")).expect("exchange");
    exchange.down(b"seen").expect("down");
    exchange.became("websocket");
    exchange.passed(3, 5);
    exchange.down(b"late").expect("down");
    exchange.finish(None);
    let seen = seen.lock().expect("sink");
    assert_eq!((seen[0].bytes_up, seen[0].bytes_down, seen[0].protocol.as_str()), (3, 13, "websocket"));
    let whole = shown(dir.path(), &session.id().to_string(), whole::Which::One(1));
    assert_eq!(whole.exchanges[&1].down, b"seen");
}

#[test]
fn guards_record_what_was_dropped_exactly_once() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, seen) = store(dir.path());
    let panicked = std::thread::scope(|scope| {
        let run = || {
            let session = begin(&store);
            let exchange = session.exchange(head("/")).expect("exchange");
            let _other = exchange.clone();
            panic!("an engine's fault");
        };
        scope.spawn(run).join().is_err()
    });
    assert!(panicked);
    store.close();
    let seen = seen.lock().expect("sink");
    assert_eq!(seen.len(), 1);
    assert!(seen[0].error.as_ref().expect("error").starts_with("dropped"));
    let kinds = kinds(dir.path());
    for kind in [Kind::Session, Kind::SessionEnd, Kind::Exchange, Kind::ExchangeEnd] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), 1, "{kind:?}");
    }
}

#[test]
fn a_refusal_is_an_exchange_that_is_over() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, seen) = store(dir.path());
    let session = begin(&store);
    session.refused_with(head("/x?token=hunter2"), Some(502), "no such host".to_owned());
    session.exchange(head("/")).expect("second").finish(None);
    session.close(Some("bad".to_owned()));
    let all = everything(dir.path());
    assert_eq!(all, *seen.lock().expect("sink"));
    assert_eq!((all[0].status, all[0].exchange, all[1].exchange), (Some(502), 1, 2));
    assert!(!all[0].path.as_ref().expect("path").contains("hunter2"));
}

#[test]
fn after_the_end_nothing_is_taken() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, seen) = store(dir.path());
    let session = begin(&store);
    let exchange = session.exchange(head("/")).expect("exchange");
    exchange.finish(None);
    assert!(exchange.up(b"x").is_err() && exchange.response(200, &HeaderMap::new()).is_err());
    store.close();
    assert!(session.exchange(head("/")).is_err());
    session.refused(head("/"), "store closed".to_owned());
    assert!(seen.lock().expect("sink")[1].error.as_ref().expect("error").contains("the store is closed"));
}

#[test]
fn what_is_held_is_written_without_another_call() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = store(dir.path());
    let session = begin(&store);
    let exchange = session.exchange(head("/events")).expect("exchange");
    exchange.response(200, &HeaderMap::new()).expect("response");
    exchange.down(b"data: 1\n\n").expect("down");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let listed = everything(dir.path());
        if listed[0].bytes_down == 9 {
            assert_eq!((listed[0].status, listed[0].duration_us), (Some(200), None));
            assert_eq!(listed[0].error, None, "it runs");
            break;
        }
        assert!(Instant::now() < deadline, "the event never reached the store");
        std::thread::yield_now();
    }
    drop(exchange);
}

mod evidence;
mod index;
mod reading;
mod sealing;
mod unseen;
