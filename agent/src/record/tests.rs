//! Tests of the store as its users see it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::frame::Kind;
use super::payload::{End, Kept, Recovered};
use super::read::{Damage, Reader, list, whole};
use super::{Direction, Error, ExchangeHead, Session, Settings, Sink, Store, TlsFacts, segment};
use crate::types::{Caller, Destination, Summary, TagName, Verdict};

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
        identity: None,
        groups: vec!["ml".to_owned(), "dev".to_owned()],
        protocol: "http/1.1".to_owned(),
        host: "api.openai.com".to_owned(),
        address: "192.0.2.7:443".to_owned(),
        method: Some("POST".to_owned()),
        path: Some("/v1/responses".to_owned()),
        status: Some(200),
        rule: Some("openai-chat".to_owned()),
        verdict: Verdict::Allow,
        credential: None,
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
    (Arc::new(move |s: &Summary| into.lock().expect("sink").push(s.clone())), seen)
}

fn small(dir: &Path) -> Settings {
    Settings { segment_bytes: 128 * 1024, ..Settings::new(dir) }
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
    })
}

fn begin(store: &Store) -> Session {
    let destination = Destination::new("192.0.2.7".parse().expect("ip"), 443);
    store.begin(caller(), destination, "127.0.0.1:40000".parse().expect("client")).expect("session begins")
}

fn head(path: &str) -> ExchangeHead {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer hunter2".parse().expect("value"));
    headers.insert("accept", "*/*".parse().expect("value"));
    ExchangeHead {
        protocol: "http/1.1",
        host: "api.example".to_owned(),
        method: Some("POST".to_owned()),
        path: Some(path.to_owned()),
        headers,
        rule: Some("observe".to_owned()),
        verdict: Verdict::Allow,
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

    let whole =
        whole::read(dir.path(), &id[..20].to_lowercase(), whole::Which::First(9), 1 << 20).expect("whole");
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
    let whole =
        whole::read(dir.path(), &session.id().to_string(), whole::Which::One(1), 1 << 20).expect("whole");
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
    let whole =
        whole::read(dir.path(), &session.id().to_string(), whole::Which::One(1), 1 << 20).expect("whole");
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

#[test]
fn a_crash_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let copy = tempfile::tempdir().expect("copy");
    let (store, _) = store(dir.path());
    let session = begin(&store);
    let exchange = session.exchange(head("/a")).expect("exchange");
    // What a crash leaves is what the files hold while the writer is alive.
    let (found, _) = segment::list(dir.path()).expect("list");
    let torn = copy.path().join(segment::name(found[0].number));
    std::fs::copy(&found[0].path, &torn).expect("copy");
    let end = {
        let mut scan = segment::Scan::open(&torn).expect("scan");
        while let segment::Step::Frame { .. } = scan.step().expect("step") {}
        scan.offset()
    };
    let file = std::fs::OpenOptions::new().write(true).open(&torn).expect("open");
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 100], end).expect("tear");

    let reader = Reader::open(copy.path()).expect("readable");
    let damage = reader.frames(0..1, |_| ControlFlow::Continue(())).expect("frames");
    assert_eq!(damage, [Damage::Tail { segment: 1, offset: end, bytes: 100 }]);
    let (again, _) = self::store(copy.path());
    begin(&again).exchange(head("/b")).expect("exchange").finish(None);
    let all = everything(copy.path());
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].error.as_deref(), Some(list::INTERRUPTED));
    assert_eq!(all[0].tag, "ci");
    let mut recovered = None;
    let reader = Reader::open(copy.path()).expect("readable");
    let damage = reader.frames(0..reader.segments(), |frame| {
        if frame.kind == Some(Kind::Recovered) {
            recovered = serde_json::from_slice::<Recovered>(frame.payload).ok();
        }
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    let recovered = recovered.expect("the recovery is recorded");
    assert_eq!((recovered.bytes, recovered.at), (100, End { segment: 1, offset: end }));
    drop(exchange);
}

#[test]
fn one_writer_only() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = store(dir.path());
    let second = Store::open(small(dir.path()), sink().0);
    assert!(matches!(second, Err(Error::InUse { .. })));
    store.close();
    assert!(Store::open(small(dir.path()), sink().0).is_ok());
}

#[test]
fn an_unusable_directory_is_said() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("file");
    let error = Store::open(small(&file), sink().0).err().expect("a file is no store");
    assert!(matches!(error, Error::Dir { .. }), "{error}");
    let error = Reader::open(&dir.path().join("none")).expect_err("no store");
    assert!(error.remedy().contains("--store"));
}

#[test]
fn old_segments_go_and_it_is_recorded() {
    let dir = tempfile::tempdir().expect("dir");
    let (sink, _) = sink();
    let store = Store::open(Settings { max_bytes: 512 * 1024, ..small(dir.path()) }, sink).expect("opens");
    let session = begin(&store);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !kinds(dir.path()).contains(&Kind::Deleted) {
        assert!(Instant::now() < deadline, "nothing was deleted");
        for _ in 0..20 {
            let exchange = session.exchange(head("/")).expect("exchange");
            exchange.down(&[b'x'; 2000]).expect("down");
            exchange.finish(None);
        }
    }
    // The session's begin is gone; what runs is still listed, and says that its caller is not known.
    let running = session.exchange(head("/late")).expect("exchange");
    let (newest, _) = list::newest(dir.path(), &list::Filter::default(), 3).expect("newest");
    let last = newest.last().expect("one");
    assert_eq!((newest.len(), last.path.as_deref(), last.tag.as_str()), (3, Some("/late"), "(unknown)"));
    assert!(newest[0].time <= newest[1].time && newest[1].time <= newest[2].time);
    drop(running);
}

#[test]
fn a_reader_beside_the_writer_sees_only_whole_records() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = store(dir.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let session = begin(&store);
            for n in 0..2000 {
                let exchange = session.exchange(head(&format!("/{n}"))).expect("exchange");
                exchange.down(&[b'x'; 700]).expect("down");
                exchange.finish(None);
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut last = 0;
        loop {
            let over = done.load(std::sync::atomic::Ordering::Acquire);
            let now = everything(dir.path()).len();
            assert!(now >= last, "records went away: {last} to {now}");
            last = now;
            if over {
                break;
            }
        }
        assert_eq!(last, 2000);
    });
}

#[test]
fn filters() {
    let base = summary();
    let filter = |f: list::Filter| f.wants(&base);
    let host = |h| list::Filter { host: Some(h), ..list::Filter::default() };
    assert!(filter(host(list::Host::Exact("API.openai.com".to_owned()))));
    assert!(filter(host(list::Host::Below("openai.com".to_owned()))));
    assert!(!filter(host(list::Host::Below("api.openai.com".to_owned()))));
    assert!(!filter(host(list::Host::Below("penai.com".to_owned()))));
    let status = |s| list::Filter { status: Some(s), ..list::Filter::default() };
    assert!(filter(status(list::Status::Class(2))) && !filter(status(list::Status::Exact(201))));
    let since = |t: &str| list::Filter { since: Some(t.to_owned()), ..list::Filter::default() };
    assert!(filter(since("2026-01-02T03:04:05.000006Z")) && !filter(since("2026-01-02T03:04:05.000007Z")));
    assert!(!filter(list::Filter { unit: Some("x".to_owned()), ..list::Filter::default() }));
}

#[tokio::test]
async fn durable_waits_for_the_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = store(dir.path());
    let session = begin(&store);
    for _ in 0..20 {
        let exchange = session.exchange(head("/")).expect("exchange");
        exchange.durable().await.expect("durable");
        exchange.finish(None);
    }
    store.close();
    let session = session.exchange(head("/"));
    assert!(session.is_err());
}

/// Prints what an exchange with a 1 KiB answer costs: `cargo test --release -p sluice cost_of -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_an_exchange() {
    let dir = tempfile::tempdir_in(".").expect("dir");
    let store = Store::open(Settings::new(dir.path()), Arc::new(|_| ())).expect("opens");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "api.example"),
        ("user-agent", "curl/7.88.1"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
        ("content-length", "1024"),
    ] {
        headers.insert(name, value.parse().expect("value"));
    }
    let body = vec![b'x'; 1024];
    let head = ExchangeHead { headers: headers.clone(), ..head("/v1/x") };
    let session = begin(&store);
    for round in 0..5 {
        let (begun, cpu) = (Instant::now(), thread_cpu());
        let count = 50_000;
        for _ in 0..count {
            let exchange = session.exchange(head.clone()).expect("exchange");
            exchange.response(200, &headers).expect("response");
            exchange.down(&body).expect("down");
            exchange.finish(None);
        }
        let per = |took: Duration| took.as_secs_f64() * 1e6 / f64::from(count);
        let (wall, cpu) = (per(begun.elapsed()), per(thread_cpu() - cpu));
        println!("round {round}: {wall:.2} µs/exchange, {cpu:.2} µs of it on the CPU");
    }
}

fn thread_cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("the clock is there").into()
}
