//! What is buffered, and what a store that cannot write does with it.

use std::fs::File;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::super::frame::Kind;
use super::super::read::Reader;
use super::super::writer::RETRY;
use super::super::{Settings, Store};
use super::*;
use crate::turn;
use std::path::Path;

/// Numbers and kinds of the store's frames.
fn frames(dir: &Path) -> Vec<(u64, Kind)> {
    let reader = Reader::open(dir).expect("readable");
    let mut frames = Vec::new();
    let damage = reader.frames(0..reader.segments(), |frame| {
        frames.push((frame.sequence, frame.kind.expect("known")));
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    frames
}

fn trailers() -> Batch {
    let mut batch = Batch::default();
    batch.json(Kind::Trailers, &"a frame").expect("framed");
    batch
}

/// A store, which closes its log when it goes, and the log.
fn open(dir: &Path) -> (Store, Arc<Log>) {
    let settings = Settings { segment_bytes: 128 * 1024, ..crate::record::tests::settings(dir) };
    let store = Store::open(settings, Arc::new(|_| ())).expect("opens");
    let log = store.log();
    (store, log)
}

#[test]
fn buffered_frames_are_written_before_the_turn_ends_and_in_order() {
    let dir = tempfile::tempdir().expect("dir");
    let (_store, log) = open(dir.path());
    turn::end();
    let before = frames(dir.path()).len();
    let first = log.buffer(&mut trailers(), Need::More).expect("taken");
    let second = log.buffer(&mut trailers(), Need::More).expect("taken");
    let direct = log.append(&mut trailers(), Need::More).expect("written");
    assert_eq!((second, direct), (first + 1, first + 2));
    assert_eq!(frames(dir.path()).len(), before + 3, "a direct write takes along what is buffered");
    log.buffer(&mut trailers(), Need::More).expect("taken");
    turn::end();
    let all = frames(dir.path());
    assert_eq!(all.len(), before + 4);
    assert!(all.windows(2).all(|two| two[1].0 == two[0].0 + 1), "{all:?}");
    assert!(!log.buffers.load(Ordering::Acquire));
}

#[test]
fn on_a_thread_without_turns_a_frame_is_written_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let (_store, log) = open(dir.path());
    let before = frames(dir.path()).len();
    log.buffer(&mut trailers(), Need::More).expect("written");
    assert_eq!(frames(dir.path()).len(), before + 1);
}

#[tokio::test]
async fn frames_that_cannot_be_written_hold_everything_back_until_they_can() {
    let dir = tempfile::tempdir().expect("dir");
    let store = dir.path().join("store");
    let (_store, log) = open(&store);
    turn::end();
    // The segment takes nothing more, and there is no place for another.
    let away = dir.path().join("away");
    {
        let mut writer = locked(&log.writer);
        let segment = writer.current.as_mut().expect("a segment");
        let path = std::fs::read_dir(&store).expect("listed").map(|entry| entry.expect("entry").path());
        let path =
            path.into_iter().find(|path| path.extension().is_some_and(|e| e == "sluice")).expect("a segment");
        segment.file = Arc::new(File::open(path).expect("read-only"));
        writer.spare = None;
        std::fs::rename(&store, &away).expect("moved away");
    }
    let promised = log.buffer(&mut trailers(), Need::More).expect("there is room for it");
    assert!(log.pass().is_err(), "what it tells of must not leave");
    assert!(log.pass().is_err(), "and not a moment later either");
    assert!(log.health.borrow().refusing.is_some());
    std::fs::rename(&away, &store).expect("moved back");
    let deadline = Instant::now() + 10 * RETRY;
    while let Err(error) = log.pass() {
        assert!(Instant::now() < deadline, "{error}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(
        frames(&store).iter().filter(|(_, kind)| *kind == Kind::Trailers).count(),
        1,
        "nothing is lost"
    );
    assert!(
        log.durable(promised).await.is_err(),
        "its number is another's now: nobody is told that it is on disk"
    );
}
