//! A disk that is full, has no inodes left, fails, or becomes read-only while much is recorded: what begins is refused as
//! long as it cannot be recorded, it is taken again when it can, the store is good, and what is not there is named.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluice::audit::{Report, What as Found};
use sluice::record::Store;
use sluice_tests::disk::{Disk, Mood, apart, ext4};
use sluice_tests::process::PATIENCE;
use sluice_tests::recorder::{Kept, Key, Recorder, begin, head, pattern, store_in, verified};
use tokio::runtime::{Builder, Runtime};

use crate::acknowledged::{What, Word};
use crate::kill::{python_agrees, restart};
use crate::left_behind;

/// What one exchange came to.
#[derive(Debug)]
struct Told {
    of: Key,
    /// Its head is on disk, by the store's word.
    durable: bool,
}

impl Told {
    /// Its head is there, if it was on disk.
    fn holds(&self, kept: &Kept) -> bool {
        !self.durable || Word { of: self.of.clone(), what: What::Durable, at: 0 }.holds(kept)
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("runtime")
}

/// One exchange with a body, in a session of its own; the words of a refusal.
fn exchange(store: &Store) -> Result<Told, String> {
    let session = begin(store).map_err(|why| why.0)?;
    let exchange = session.exchange(head()).map_err(|why| why.0)?;
    let of = (session.id().to_string(), exchange.number().0);
    let durable = runtime().block_on(exchange.durable()).is_ok();
    let taken = exchange.response(200, &http::HeaderMap::new());
    let body = taken.and_then(|()| exchange.down(&pattern(of.1, 3000)));
    exchange.finish(None);
    session.close(None);
    // Its end is always recorded; that its body could not be is its refusal.
    body.map(|()| Told { of, durable }).map_err(|why| why.0)
}

/// Records until it is refused; gives what was taken, and why no more is.
fn until_refused(store: &Store, told: &mut Vec<Told>) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match exchange(store) {
            Ok(taken) => told.push(taken),
            Err(why) => return why,
        }
        assert!(Instant::now() < until, "nothing is refused: {} exchanges were taken", told.len());
    }
}

/// Waits until exchanges are taken, and on disk, again.
fn until_taken(store: &Store, told: &mut Vec<Told>) {
    let until = Instant::now() + PATIENCE;
    loop {
        match exchange(store) {
            Ok(taken) if taken.durable => return told.push(taken),
            Ok(_) => {}
            Err(why) => assert!(Instant::now() < until, "nothing is taken again: {why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Refuses for a while: not one in ten begins.
fn refuses(store: &Store) {
    let taken = (0..10).filter(|_| exchange(store).is_ok_and(|told| told.durable)).count();
    assert_eq!(taken, 0, "something is taken that cannot be recorded");
    assert!(store.health().borrow().refusing.is_some(), "the store does not say that it refuses");
}

/// Starts once more on the disk as it is, from nothing that was in memory: the store is good.
fn judged(disk: &Disk) -> (Kept, Report) {
    disk.remount("").expect("mounted again");
    restart(disk.path());
    let fail = |why: anyhow::Error| -> ! { panic!("{why:#}\nkept in {}", left_behind(disk.path())) };
    let report = verified(disk.path(), None).unwrap_or_else(|why| fail(why));
    python_agrees(disk.path(), report.key.as_deref().expect("a key"));
    (Kept::read(disk.path()).unwrap_or_else(|why| fail(why)), report)
}

/// All of these are in the store. Of one in whose middle the disk was full the body may be cut, and its end says so.
#[track_caller]
fn all_there(told: &[Told], kept: &Kept) {
    assert!(told.iter().all(|told| told.durable), "a disk that is full says that it fails");
    let mut cut = 0;
    for Told { of, .. } in told {
        let there = kept.exchanges.get(of).unwrap_or_else(|| panic!("{of:?} is lost"));
        assert_eq!((there.status, there.bytes_down, &there.error), (Some(200), 3000, &None), "{of:?}");
        cut += usize::from(kept.bodies.get(of) != Some(&3000));
    }
    assert!(cut <= 2, "{cut} of {} bodies are cut", told.len());
    assert!(kept.damage.is_empty(), "{:?}", kept.damage);
}

fn disk(mebibytes: usize, options: &[&str]) -> Disk {
    Disk::mounted(ext4(mebibytes, options).expect("an ext4"), "").expect("a disk")
}

#[test]
fn on_a_full_disk_what_begins_is_refused_and_nothing_is_lost() {
    let done = apart(|| {
        let disk = disk(24, &["-J", "size=4"]);
        let (recorder, mut told) = (Recorder::open(disk.path()).expect("opens"), Vec::new());
        until_taken(&recorder.store, &mut told);
        let filler = disk.path().join("filler");
        let filled = io::copy(&mut io::repeat(7), &mut File::create(&filler).expect("filler"));
        assert_eq!(filled.expect_err("the disk is full").kind(), io::ErrorKind::StorageFull);
        let why = until_refused(&recorder.store, &mut told);
        assert!(why.contains("No space left"), "{why}");
        refuses(&recorder.store);
        fs::remove_file(&filler).expect("removed");
        until_taken(&recorder.store, &mut told);
        recorder.close();
        let (kept, _) = judged(&disk);
        all_there(&told, &kept);
    });
    done.expect("a mount namespace");
}

#[test]
fn without_an_inode_left_what_begins_is_refused_and_nothing_is_lost() {
    let done = apart(|| {
        let disk = disk(48, &["-J", "size=4", "-N", "128"]);
        let (recorder, mut told) = (Recorder::open(disk.path()).expect("opens"), Vec::new());
        until_taken(&recorder.store, &mut told);
        let fillers = disk.path().join("fillers");
        fs::create_dir(&fillers).expect("directory");
        let full = (0..).find_map(|n| File::create(fillers.join(n.to_string())).err()).expect("an error");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let why = until_refused(&recorder.store, &mut told);
        assert!(why.contains("No space left"), "{why}");
        refuses(&recorder.store);
        fs::remove_dir_all(&fillers).expect("removed");
        until_taken(&recorder.store, &mut told);
        recorder.close();
        let (kept, _) = judged(&disk);
        all_there(&told, &kept);
    });
    done.expect("a mount namespace");
}

/// The segment that is written.
fn current(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(store_in(dir)).expect("store");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "sluice")).max().expect("a segment")
}

#[test]
fn a_place_that_takes_no_writes_costs_what_was_written_to_it_and_that_is_named() {
    for bodies in [false, true] {
        let done = apart(|| {
            let disk = disk(32, &["-J", "size=4"]);
            let (recorder, mut told) = (Recorder::open(disk.path()).expect("opens"), Vec::new());
            until_taken(&recorder.store, &mut told);
            let segment = current(disk.path());
            let place = if bodies { segment.with_extension("bodies") } else { segment.clone() };
            disk.set(Mood::FailsWritesTo(Disk::blocks_of(&place).expect("its blocks")));
            let mut lost = 0;
            let until = Instant::now() + PATIENCE;
            while lost == 0 && Instant::now() < until {
                if let Ok(one) = exchange(&recorder.store) {
                    lost += usize::from(!one.durable);
                    told.push(one);
                }
            }
            assert!(lost > 0, "what could not be written is said to be on disk");
            until_taken(&recorder.store, &mut told);
            assert_ne!(current(disk.path()), segment, "the segment goes on");
            recorder.close();
            let (kept, report) = judged(&disk);
            assert_eq!(told.iter().find(|told| !told.holds(&kept)).map(|told| &told.of), None, "is lost");
            let named =
                report.findings.iter().any(|found| found.what == Found::Gap && found.text.contains("sync"));
            assert!(named, "{report:#?}");
        });
        done.expect("a mount namespace");
    }
}

#[test]
fn a_disk_that_fails_and_becomes_read_only_has_everything_refused_until_it_is_well() {
    let done = apart(|| {
        let disk = disk(32, &["-J", "size=4", "-e", "remount-ro"]);
        let (recorder, mut told) = (Recorder::open(disk.path()).expect("opens"), Vec::new());
        until_taken(&recorder.store, &mut told);
        disk.set(Mood::FailsWrites);
        let mut whys = Vec::new();
        let until = Instant::now() + PATIENCE;
        while File::create(disk.path().join("probe")).is_ok() {
            assert!(Instant::now() < until, "the file system is not read-only");
            match exchange(&recorder.store) {
                Ok(one) => told.push(one),
                Err(why) => whys.push(why),
            }
        }
        refuses(&recorder.store);
        // What is there can be read and judged meanwhile.
        Kept::read(disk.path()).expect("readable");
        disk.set(Mood::Well);
        refuses(&recorder.store);
        recorder.close();
        let (kept, report) = judged(&disk);
        assert_eq!(told.iter().find(|told| !told.holds(&kept)).map(|told| &told.of), None, "is lost");
        assert!(report.findings.iter().any(|found| found.what == Found::Gap), "{report:#?}");
    });
    done.expect("a mount namespace");
}
