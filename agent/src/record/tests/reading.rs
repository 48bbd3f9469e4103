//! Tests of what a store tells later: after a crash, beside a writer, when old segments went.

use super::sealing::noise;
use super::*;

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

/// Whatever is damaged in a store that is at rest.
fn damage(dir: &Path) -> Vec<Damage> {
    let reader = Reader::open(dir).expect("readable");
    reader.frames(0..reader.segments(), |_| ControlFlow::Continue(())).expect("frames")
}

#[test]
fn a_writer_that_drains_goes_on_beside_the_next() {
    let dir = tempfile::tempdir().expect("dir");
    let (old, _) = store(dir.path());
    let session = begin(&old);
    let slow = session.exchange(head("/slow")).expect("exchange");
    old.stand_aside().expect("stands aside");
    let (new, _) = store(dir.path());
    assert!(matches!(Store::open(small(dir.path()), sink().0), Err(Error::InUse { .. })));
    begin(&new).exchange(head("/quick")).expect("exchange").finish(None);
    // More than a segment, so that both have several.
    let piece = noise(16 * 1024);
    (0..20).for_each(|_| slow.down(&piece).expect("down"));
    let other = begin(&new).exchange(head("/other")).expect("exchange");
    (0..20).for_each(|_| other.down(&piece).expect("down"));
    other.finish(None);
    let errors = |dir: &Path| -> Vec<_> { everything(dir).into_iter().map(|s| (s.path, s.error)).collect() };
    let path = |path: &str| Some(path.to_owned());
    assert_eq!(
        errors(dir.path()),
        [(path("/quick"), None), (path("/other"), None), (path("/slow"), None)],
        "what is under way is not taken for interrupted"
    );
    assert_eq!(damage(dir.path()), []);
    let live = shown(dir.path(), &session.id().to_string(), whole::Which::One(1));
    assert_eq!(live.interrupted, None);
    slow.finish(None);
    session.end(None);
    old.close();
    let ended = [(path("/slow"), None), (path("/quick"), None), (path("/other"), None)];
    assert_eq!((errors(dir.path()), damage(dir.path())), (ended.to_vec(), vec![]));
    // The next goes on where the newest ended, and everything stays readable.
    new.close();
    let (third, _) = store(dir.path());
    begin(&third).exchange(head("/third")).expect("exchange").finish(None);
    assert_eq!(errors(dir.path()).last(), Some(&(path("/third"), None)));
    assert_eq!(damage(dir.path()), []);
    third.close();
    let spares = segment::list(dir.path()).expect("list").1;
    assert_eq!(spares, [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_successor_that_dies_is_followed_beside_those_that_drain() {
    let dir = tempfile::tempdir().expect("dir");
    let (first, _) = store(dir.path());
    let one = begin(&first).exchange(head("/one")).expect("exchange");
    first.stand_aside().expect("stands aside");
    let (second, _) = store(dir.path());
    begin(&second).exchange(head("/two")).expect("exchange").finish(None);
    second.close();
    let (third, _) = store(dir.path());
    let three = begin(&third).exchange(head("/three")).expect("exchange");
    third.stand_aside().expect("stands aside");
    let (fourth, _) = store(dir.path());
    begin(&fourth).exchange(head("/four")).expect("exchange").finish(None);
    one.finish(None);
    three.finish(None);
    let all: Vec<_> = everything(dir.path()).into_iter().map(|s| (s.path.expect("path"), s.error)).collect();
    let all: Vec<_> = all.iter().map(|(path, error)| (path.as_str(), error.as_deref())).collect();
    assert_eq!(all, [("/one", None), ("/two", None), ("/three", None), ("/four", None)]);
    drop((first, third, fourth));
    assert_eq!(damage(dir.path()), []);
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
    while dir.path().join(segment::name(1)).exists() {
        assert!(Instant::now() < deadline, "nothing was deleted");
        for _ in 0..20 {
            let exchange = session.exchange(head("/")).expect("exchange");
            exchange.down(&[b'x'; 2000]).expect("down");
            exchange.finish(None);
        }
    }
    assert!(kinds(dir.path()).contains(&Kind::Deleted), "it was not said before");
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

#[test]
fn only_the_owner_reads_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = store(dir.path());
    begin(&store).exchange(head("/")).expect("exchange").finish(None);
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path()).expect("dir") {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o177, 0, "{}: {mode:o}", entry.path().display());
        files += 1;
    }
    assert!(files >= 2, "a segment and the lock");
}

/// Prints what an exchange with a 1 KiB answer costs: `cargo test --release -p sluice cost_of -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_an_exchange() {
    let dir = tempfile::tempdir_in(".").expect("dir");
    let store = Store::open(settings(dir.path()), Arc::new(|_| ())).expect("opens");
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
    let head = ExchangeHead { headers: Cow::Borrowed(&headers), ..head("/v1/x") };
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
