//! Every frame is a leaf, and logs hang together.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::evidence::tree::{Frontier, Head, record};
use crate::record::payload::{LogBegin, SegmentHead};
use crate::record::trees::{self, Due};

/// The tree over the frames of each log, in the order of the store, and what it begins with.
fn logs(dir: &Path) -> Vec<(String, LogBegin, Frontier)> {
    let reader = Reader::open(dir).expect("reader");
    let mut logs: Vec<(String, LogBegin, Frontier)> = Vec::new();
    let damage = reader.frames(0..reader.segments(), |frame| {
        let kind = frame.kind.expect("a kind of this version");
        if kind == Kind::Segment {
            let head: SegmentHead = serde_json::from_slice(frame.payload).expect("head");
            let log = head.log.expect("a log");
            if let Some(begins) = log.begins {
                assert_eq!(log.first, frame.sequence);
                logs.push((log.id.clone(), begins, Frontier::default()));
            }
            assert_eq!(logs.last().expect("a log").0, log.id);
        }
        let tree = &mut logs.last_mut().expect("a log").2;
        tree.push(record(kind as u8, frame.payload));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("read"), []);
    logs
}

fn exchanges(store: &Store, count: usize) {
    let session = begin(store);
    for _ in 0..count {
        let exchange = session.exchange(head("/x")).expect("exchange");
        exchange.down(b"an answer").expect("body");
        exchange.finish(None);
    }
    session.close(None);
}

/// A store whose trees come out here.
fn watched(dir: &Path) -> (Store, mpsc::Receiver<Due>) {
    let (due, trees) = mpsc::channel();
    let (store, _) = store(dir);
    store.keep_evidence(Arc::new(move |tree| drop(due.send(tree))));
    (store, trees)
}

#[test]
fn the_last_tree_that_is_due_is_over_every_frame_and_each_grew_from_the_one_before() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, trees) = watched(dir.path());
    let mut signed = Head::empty();
    let mut take = |due: Due| {
        assert_eq!(due.growth.old, signed);
        assert!(signed.size == 0 || due.growth.verify().is_ok());
        signed = due.growth.new;
        store.signed(&due.log, due.growth.new, "a note\n\n— a b\n", &[]);
        (due.log, due.last)
    };
    // Each has another tile's worth of frames, over several segments.
    for round in 0..3 {
        exchanges(&store, 150);
        let due = trees.recv_timeout(Duration::from_secs(20)).expect("a tree is due");
        assert!(!take(due).1, "round {round}");
    }
    store.close();
    let (log, last) = trees.iter().map(&mut take).find(|(_, last)| *last).expect("the last");
    assert!(last);
    let seen = logs(dir.path());
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].0, seen[0].2.head()), (&log, signed));
    // All of its hashes are in files, and so are its checkpoints.
    let directory = trees::directory(dir.path(), &log);
    let subtree = |level, index| {
        crate::evidence::tile::subtree(signed.size, level, index, |at| trees::read_tile(&directory, at))
    };
    assert_eq!(crate::evidence::tree::root(signed.size, subtree), Some(signed.root));
    let notes = std::fs::read(directory.join(trees::CHECKPOINTS)).expect("checkpoints");
    assert!(crate::evidence::note::split(&notes).count() >= 4);
}

#[test]
fn a_log_says_what_the_one_before_came_to_however_that_ended() {
    let dir = tempfile::tempdir().expect("directory");
    let (first, _) = store(dir.path());
    exchanges(&first, 400);
    first.close();
    let ended = logs(dir.path());
    // As if it had been killed: the tiles that were not full are not there.
    let tiles = trees::directory(dir.path(), &ended[0].0).join("tile");
    std::fs::remove_dir_all(&tiles).expect("tiles");
    let (second, _) = store(dir.path());
    exchanges(&second, 10);
    second.close();
    let (third, _) = store(dir.path());
    third.close();
    let all = logs(dir.path());
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].1.previous, []);
    for (before, after) in all.iter().zip(&all[1..]) {
        let [said] = &after.1.previous[..] else { panic!("{:?}", after.1.previous) };
        let head = before.2.head();
        let root = head.root.to_string();
        assert_eq!((&said.log, said.size, &said.root, said.ended), (&before.0, head.size, &root, true));
    }
}

#[test]
fn what_no_sync_covers_begins_another_log() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, trees) = watched(dir.path());
    exchanges(&store, 3);
    let due = trees.recv_timeout(Duration::from_secs(20)).expect("a tree is due");
    store.log().restart();
    exchanges(&store, 3);
    store.close();
    let all = logs(dir.path());
    assert_eq!(all.len(), 2);
    assert_eq!(due.log, all[0].0);
    let [said] = &all[1].1.previous[..] else { panic!("{:?}", all[1].1.previous) };
    assert_eq!(said.log, all[0].0);
    assert!(said.size >= due.growth.new.size && said.size <= all[0].2.size());
    // What is still asked for is of the log that is written now.
    let last = trees.iter().find(|due| due.last).expect("the last");
    assert_eq!((last.log, last.growth.new), (all[1].0.clone(), all[1].2.head()));
}

#[test]
fn an_answer_that_was_lost_is_made_up_for() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, trees) = watched(dir.path());
    exchanges(&store, 3);
    let lost = trees.recv_timeout(Duration::from_secs(20)).expect("a tree is due");
    exchanges(&store, 3);
    let next = trees.recv_timeout(Duration::from_secs(20)).expect("another");
    assert_eq!(next.growth.old, Head::empty());
    let again = store.behind(&lost.log, lost.growth.new, true).expect("the same again");
    assert_eq!((again.growth.old, again.last), (lost.growth.new, true));
    again.growth.verify().expect("grew");
    // One that never was is not believed.
    assert_eq!(store.behind(&lost.log, Head { size: 2, root: Head::empty().root }, false), None);
    assert!(store.health().borrow().last.as_deref().is_some_and(|why| why.contains("2 leaves")));
    store.close();
}

#[test]
fn what_is_said_to_go_goes_when_the_word_is_signed() {
    let dir = tempfile::tempdir().expect("directory");
    let (sink, _) = sink();
    let store = Store::open(Settings { max_bytes: 1 << 20, ..small(dir.path()) }, sink).expect("store opens");
    let (due, trees) = mpsc::channel();
    store.keep_evidence(Arc::new(move |tree| drop(due.send(tree))));
    let said = || {
        let reader = Reader::open(dir.path()).expect("reader");
        let mut said = 0;
        let read = reader.frames(0..reader.segments(), |frame| {
            said += u32::from(frame.kind == Some(Kind::Deleted));
            ControlFlow::Continue(())
        });
        read.map_or(0, |_| said)
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while said() == 0 {
        assert!(Instant::now() < deadline, "the bound was never reached");
        exchanges(&store, 200);
    }
    let oldest = dir.path().join("000000000001.sluice");
    assert!(oldest.exists(), "nothing was signed");
    // Whatever is asked for is signed now, until it is gone; 10 seconds later it would go without.
    let signing = Instant::now();
    while oldest.exists() {
        assert!(signing.elapsed() < Duration::from_secs(8), "it stays");
        if let Ok(Due { log, growth, .. }) = trees.recv_timeout(Duration::from_millis(20)) {
            store.signed(&log, growth.new, "a note\n\n— a b\n", &[]);
        }
        exchanges(&store, 1);
    }
    store.close();
}
