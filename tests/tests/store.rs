//! The store under bad luck: on a full disk, on a disk that fails. Each test that needs a process whose calls fail runs this
//! same binary again as [`child`]. Kills, power cuts and real file systems: `crash/`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice::record::frame::{BodyRef, Kind};
use sluice::record::read::{Damage, Reader, list};
use sluice::record::{Error, Settings, Store};
use sluice::types::Summary;
use sluice_tests::recorder::{begin, head, identity, pattern};
use sluice_tests::small_disk::SmallDisk;

const DIR: &str = "SLUICE_STORE_CHILD";
const MODE: &str = "SLUICE_STORE_CHILD_MODE";

fn settings(dir: &Path) -> Settings {
    Settings { segment_bytes: 128 * 1024, recipients: vec![identity().recipient()], ..Settings::new(dir) }
}

fn open(dir: &Path) -> Result<Store, Error> {
    Store::open(settings(dir), Arc::new(|_| ()))
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
        "durable" => tell_durable(&store),
        mode => panic!("{mode}"),
    }
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
    // The one that fails may be one that nobody waits for.
    let mut failing = (5..12).map(|when| faulty(&format!("fdatasync:error=EIO:when={when}")));
    let (counts, words, dir) =
        failing.find(|(counts, ..)| counts.contains_key("lost")).expect("somebody waits for one of seven");
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
