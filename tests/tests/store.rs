//! The store under bad luck: killed at any point, on a full disk, on a disk that fails. Each test that needs a process to
//! kill runs this same binary again as [`child`].

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice::record::age::Identity;
use sluice::record::frame::{BodyRef, Kind};
use sluice::record::read::unseal::{Access, Unsealer};
use sluice::record::read::{Damage, Reader, list};
use sluice::record::{Error, ExchangeHead, Session, Settings, Store};
use sluice::types::{Caller, Destination, Summary, TagName, Verdict};
use sluice_tests::small_disk::SmallDisk;

const DIR: &str = "SLUICE_STORE_CHILD";
const MODE: &str = "SLUICE_STORE_CHILD_MODE";

/// Who reads the bodies: the same in the child.
fn identity() -> Identity {
    Identity::parse("AGE-SECRET-KEY-1L3R0WQ3JE5FRG3LGC703RSVS5L7VGRNNPKFW0EUDC7FQA9342WEQPZV3XK")
        .expect("an identity")
}

fn settings(dir: &Path) -> Settings {
    Settings { segment_bytes: 128 * 1024, recipients: vec![identity().recipient()], ..Settings::new(dir) }
}

fn open(dir: &Path) -> Result<Store, Error> {
    Store::open(settings(dir), Arc::new(|_| ()))
}

fn begin(store: &Store) -> Result<Session, sluice::record::Unrecordable> {
    let caller = Caller {
        start_time: Some(1),
        comm: "child".to_owned(),
        ..Caller::unknown(TagName::parse("ci").expect("tag"), std::process::id())
    };
    let destination = Destination::new("192.0.2.7".parse().expect("ip"), 443);
    store.begin(Arc::new(caller), destination, "127.0.0.1:40000".parse().expect("client"), None)
}

fn head() -> ExchangeHead<'static> {
    ExchangeHead {
        protocol: "http/1.1",
        host_source: sluice::types::HostSource::Request,
        host: "api.example".to_owned(),
        method: Some("GET".into()),
        path: Some("/".into()),
        headers: std::borrow::Cow::default(),
        rule: None,
        verdict: Verdict::Allow,
        identity: None,
        caller_keys: Vec::new(),
        credential: None,
    }
}

/// A body that can be checked anywhere.
fn pattern(exchange: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(31).wrapping_add(exchange) as u8).collect()
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.subsec_nanos().into()
}

/// Says something that was acknowledged; a pipe keeps it whatever happens to us.
fn say(line: String) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).expect("the parent reads");
}

#[test]
#[ignore = "the process that the other tests kill"]
fn child() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("run by the other tests"));
    let store = open(&dir).expect("opens");
    match std::env::var(MODE).expect("run by the other tests").as_str() {
        "write" => write_for_ever(&store),
        "durable" => tell_durable(&store),
        mode => panic!("{mode}"),
    }
}

fn write_for_ever(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let mut state = seed() + thread;
                loop {
                    let session = begin(store).expect("session");
                    let id = session.id();
                    for number in 1..=random(&mut state) % 20 + 1 {
                        let exchange = session.exchange(head()).expect("exchange");
                        say(format!("E {id} {number}"));
                        let length = random(&mut state) as usize
                            % if random(&mut state).is_multiple_of(4) { 40_000 } else { 400 };
                        let body = pattern(exchange.number().0, length);
                        exchange.response(200, &http::HeaderMap::new()).expect("response");
                        body.chunks(5000).for_each(|piece| exchange.down(piece).expect("down"));
                        exchange.finish(None);
                        say(format!("F {id} {number} {length}"));
                    }
                    session.close(None);
                }
            });
        }
    });
}

fn tell_durable(store: &Store) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    let begun = Instant::now();
    runtime.block_on(async {
        let mut n = 0;
        while begun.elapsed() < Duration::from_millis(2500) {
            n += 1;
            let answer = match begin(store).and_then(|session| session.exchange(head())) {
                Ok(exchange) => {
                    let durable = exchange.durable().await.is_ok();
                    exchange.finish(None);
                    if durable { "durable" } else { "lost" }
                }
                Err(_) => "refused",
            };
            say(format!("D {n} {answer}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    store.close();
}

fn run(dir: &Path, mode: &str, before: &[&str]) -> Child {
    let me = std::env::current_exe().expect("my own path");
    let mut command = match before {
        [] => Command::new(me),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(me);
            command
        }
    };
    command
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(MODE, mode)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{before:?} cannot be run ({error}): apt-get install strace"))
}

fn summaries(dir: &Path) -> (HashMap<(String, u32), Summary>, Vec<Damage>) {
    let mut found = HashMap::new();
    let damage = list::all(dir, &list::Filter::default(), |s| {
        let twice = found.insert((s.session.clone(), s.exchange), s);
        assert_eq!(twice, None, "an exchange is listed twice");
        ControlFlow::Continue(())
    });
    (found, damage.expect("readable"))
}

/// Bytes of each exchange's body that are in the store, each compared with what was sent.
fn bodies(dir: &Path) -> HashMap<(String, u32), u64> {
    let reader = Reader::open(dir).expect("readable");
    let mut lengths = HashMap::new();
    let access = Access::with(identity());
    let mut unsealer = Unsealer::new(dir, &access);
    let damage = reader.frames(0..reader.segments(), |frame| {
        if let Some(piece) = unsealer.piece(&frame) {
            let (at, data) = (piece.at, piece.bytes.expect("a piece is not readable"));
            let end = at.offset as usize + data.len();
            assert_eq!(
                data[..],
                pattern(at.exchange, end)[at.offset as usize..],
                "a body is not what was sent"
            );
            let length = lengths.entry((sluice_id(at.session), at.exchange)).or_insert(0);
            assert_eq!(*length, at.offset, "a piece of a body is missing");
            *length = end as u64;
        }
        ControlFlow::Continue(())
    });
    damage.expect("frames");
    lengths
}

/// A ULID's text (Crockford's Base32), so that the test does not trust the store's own.
fn sluice_id(id: u128) -> String {
    (0..26)
        .rev()
        .map(|at| char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(id >> (5 * at)) as usize & 31]))
        .collect()
}

#[test]
fn killed_at_any_point_nothing_acknowledged_is_lost() {
    const ROUNDS: usize = 120;
    let mut state = seed();
    println!("seed {state}");
    let (mut heads, mut ends, mut torn) = (0, 0, 0);
    let mut dir = tempfile::tempdir().expect("dir");
    for round in 0..ROUNDS {
        if round % 6 == 0 {
            dir = tempfile::tempdir().expect("dir");
        }
        let mut child = run(dir.path(), "write", &[]);
        let mut acknowledged = BufReader::new(child.stderr.take().expect("piped"));
        let mut first = String::new();
        acknowledged.read_line(&mut first).expect("a first word");
        std::thread::sleep(Duration::from_micros(random(&mut state) % 30_000)); // when it dies is the test's dice
        child.kill().expect("killed");
        let mut said = String::new();
        acknowledged.read_to_string(&mut said).expect("the rest");
        child.wait().expect("waited");

        let (found, damage) = summaries(dir.path());
        assert!(damage.iter().all(|d| matches!(d, Damage::Tail { .. })), "round {round}: {damage:?}");
        torn += damage.len();
        let lengths = bodies(dir.path());
        for line in first.lines().chain(said.lines()) {
            let words: Vec<&str> = line.split(' ').collect();
            let key = |id: &str, n: &str| (id.to_owned(), n.parse().expect("number"));
            match words[..] {
                ["E", id, n] => {
                    heads += 1;
                    assert!(found.contains_key(&key(id, n)), "round {round}: the head {line} is lost");
                }
                ["F", id, n, length] => {
                    ends += 1;
                    let end = &found[&key(id, n)];
                    let length: u64 = length.parse().expect("length");
                    assert_eq!(
                        (end.status, end.bytes_down, &end.error),
                        (Some(200), length, &None),
                        "round {round}: {line}"
                    );
                    assert_eq!(
                        lengths.get(&key(id, n)).copied().unwrap_or(0),
                        length,
                        "round {round}: {line}"
                    );
                }
                _ => panic!("the child said {line:?} {said}"),
            }
        }
    }
    println!(
        "{ROUNDS} kills: {heads} heads and {ends} ends acknowledged, all there; {torn} writes were torn"
    );
    assert!(ends > ROUNDS, "the child did hardly anything");
}

#[test]
fn a_full_disk_refuses_what_begins_and_takes_what_ends() {
    let disk = SmallDisk::new("3m").expect("a tmpfs can be mounted (needs root)");
    let dir = disk.path().join("store");
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 1 << 20]).expect("filler");
    let store = open(&dir).expect("opens");
    let session = begin(&store).expect("session");
    let open_ones: Vec<_> = (0..10).map(|_| session.exchange(head()).expect("exchange")).collect();
    open_ones.iter().for_each(|e| e.down(&[b'x'; 100]).expect("down"));
    let body = vec![b'x'; 3000];
    let mut taken = 0;
    let refusal = loop {
        match session.exchange(head()) {
            Ok(exchange) => {
                // The disk may fill in the middle of an exchange: then its body is refused, its end is not.
                let _ = exchange.down(&body);
                exchange.finish(None);
                taken += 1;
            }
            Err(refusal) => break refusal,
        }
        assert!(taken < 10_000, "a disk of 3 MiB took {taken} exchanges of 3 KiB");
    };
    assert!(refusal.0.contains("No space left"), "{refusal}");
    assert!(begin(&store).is_err(), "a session begins on a full disk");
    assert!(store.health().borrow().refusing.is_some());
    open_ones.iter().for_each(|e| e.finish(None));
    let (found, damage) = summaries(&dir);
    assert_eq!(damage, []);
    assert_eq!(found.len(), taken + open_ones.len());
    assert!(found.values().all(|s| s.error.is_none()), "an end is missing");

    std::fs::remove_file(&filler).expect("filler removed");
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.health().borrow().refusing.is_some() {
        assert!(Instant::now() < deadline, "the store did not come back");
        std::thread::yield_now();
    }
    session.exchange(head()).expect("space again").finish(None);
    store.close();
    std::fs::write(&filler, vec![1; 4 << 20]).expect_err("the disk is full");
    assert!(matches!(open(&dir), Err(Error::NoSegment { .. })));
    assert_eq!(summaries(&dir).0.len(), taken + open_ones.len() + 1);
}

/// Runs the durable child under strace with a fault; gives what it said by word, and the store.
fn faulty(inject: &str) -> (HashMap<String, usize>, Vec<String>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("dir");
    let inject = format!("inject={inject}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,pwrite64", "-e", &inject];
    let mut child = run(dir.path(), "durable", &strace);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("said");
    assert!(child.wait().expect("waited").success(), "{said}");
    let words: Vec<String> =
        said.lines().filter_map(|l| l.strip_prefix("D ")?.split(' ').nth(1)).map(str::to_owned).collect();
    let mut counts = HashMap::new();
    words.iter().for_each(|word| *counts.entry(word.clone()).or_insert(0) += 1);
    (counts, words, dir)
}

fn count(dir: &Path, kind: Kind) -> usize {
    let reader = Reader::open(dir).expect("readable");
    let mut count = 0;
    let damage = reader.frames(0..reader.segments(), |frame| {
        count += usize::from(frame.kind == Some(kind));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    count
}

#[test]
fn a_failed_sync_is_told_to_those_who_wait_and_the_next_segment_serves() {
    let (counts, words, dir) = faulty("fdatasync:error=EIO:when=5");
    assert_eq!(counts.get("lost"), Some(&1), "{words:?}");
    assert_eq!(counts.get("refused"), None, "{words:?}");
    assert_eq!(words.last().map(String::as_str), Some("durable"));
    assert_eq!(count(dir.path(), Kind::GivenUp), 1);
    // What was written is still to be read (nothing crashed), and is listed once.
    assert_eq!(summaries(dir.path()).0.len(), words.len());
}

#[test]
fn a_disk_that_never_syncs_refuses_and_does_not_fill_itself() {
    let (counts, words, dir) = faulty("fdatasync:error=EIO:when=1+");
    assert_eq!(counts.get("durable"), None, "{words:?}");
    assert!(counts.get("refused").is_some_and(|n| *n > 10), "{words:?}");
    // Each segment with its bodies and their key.
    let files = std::fs::read_dir(dir.path()).expect("dir").count();
    assert!(files < 3 * 12, "{files} files in 2.5 s");
}

#[test]
fn a_failed_write_moves_to_the_next_segment() {
    let (counts, words, dir) = faulty("pwrite64:error=EIO:when=30");
    assert_eq!(counts.len(), 1, "{words:?}");
    assert_eq!(counts.get("durable"), Some(&words.len()));
    assert_eq!(count(dir.path(), Kind::GivenUp), 1);
    assert_eq!(summaries(dir.path()).0.len(), words.len());
}

#[test]
fn the_reader_in_the_documentation_reads_the_store() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path()).expect("opens");
    let session = begin(&store).expect("session");
    for n in 0..100 {
        let exchange = session.exchange(head()).expect("exchange");
        exchange.down(&pattern(n, 3000)).expect("down");
        exchange.finish(None);
    }
    session.close(None);
    store.close();
    let page = include_str!("../../docs/store.md");
    let script =
        page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a reader");
    let read = Command::new("python3").args(["-c", script]).arg(dir.path()).output().expect("python3 runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).expect("text");
    let reader = Reader::open(dir.path()).expect("readable");
    let mut want = String::new();
    let damage = reader.frames(0..reader.segments(), |frame| {
        let kind = frame.kind.expect("known");
        let payload = match kind {
            Kind::BodyRef => format!("{} bytes", BodyRef::read(frame.payload).expect("a reference").plain),
            _ => String::from_utf8(frame.payload.to_vec()).expect("JSON"),
        };
        want.push_str(&format!("{} {} {payload}\n", frame.sequence, kind as u8));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    assert!(reader.segments() > 2, "more than one segment is read");
    assert_eq!(text, want);
}
