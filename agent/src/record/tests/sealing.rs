//! Bodies at rest: who reads them, who does not, and what is said when they are not what was written.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::*;
use crate::record::frame::{BodyRef, Coding};

const WORDS: &[u8] = b"the words that nobody else is to read";

/// Bytes without a pattern.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A store at rest with one exchange: its session, and what it answered.
fn recorded(dir: &Path, answer: &[u8]) -> String {
    let (store, _) = store(dir);
    let session = begin(&store);
    let exchange = session.exchange(head("/")).expect("exchange");
    exchange.up(WORDS).expect("up");
    exchange.down(answer).expect("down");
    exchange.finish(None);
    let id = session.id().to_string();
    session.close(None);
    store.close();
    id
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").path());
    let named = |path: &PathBuf| path.is_file() && path.to_str().is_some_and(|path| path.ends_with(end));
    let mut found: Vec<_> = all.filter(named).collect();
    found.sort();
    found
}

fn refs(dir: &Path) -> Vec<BodyRef> {
    let reader = Reader::open(dir).expect("readable");
    let mut refs = Vec::new();
    let damage = reader.frames(0..reader.segments(), |frame| {
        if frame.kind == Some(Kind::BodyRef) {
            refs.push(BodyRef::read(frame.payload).expect("a reference"));
        }
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    refs
}

#[test]
fn no_byte_of_a_body_is_in_the_stores_files() {
    let dir = tempfile::tempdir().expect("dir");
    let answer = WORDS.repeat(1000);
    let id = recorded(dir.path(), &answer);
    for file in files(dir.path(), "").into_iter().filter(|file| file.is_file()) {
        let bytes = std::fs::read(&file).expect("file");
        assert!(!bytes.windows(12).any(|w| w == &WORDS[..12]), "{}", file.display());
    }
    let exchange = &shown(dir.path(), &id, whole::Which::One(1)).exchanges[&1];
    assert_eq!((&exchange.up[..], &exchange.down), (WORDS, &answer));
    let refs = refs(dir.path());
    assert!(refs.iter().any(|to| to.coding == Coding::Zstd && to.stored < to.plain / 4), "{refs:?}");
    assert!(refs.iter().all(|to| to.time.is_some()), "{refs:?}");
    assert!(refs.iter().any(|to| to.coding == Coding::Plain && u64::from(to.plain) == WORDS.len() as u64));
    // It is cut to what was written, and holds nothing that is not referred to.
    let stored: u64 = refs.iter().map(|to| u64::from(to.stored)).sum();
    assert_eq!(std::fs::metadata(&files(dir.path(), ".bodies")[0]).expect("file").len(), stored);
}

#[test]
fn who_has_no_identity_sees_heads_and_how_long_bodies_are() {
    let dir = tempfile::tempdir().expect("dir");
    let id = recorded(dir.path(), &noise(20_000));
    for access in [Access::none(), Access::with(Identity::generate())] {
        let session = whole::read(dir.path(), &id, whole::Which::One(1), 1 << 20, &access).expect("whole");
        let exchange = &session.exchanges[&1];
        assert_eq!(session.damage, []);
        assert!(exchange.head.is_some() && exchange.up.is_empty() && exchange.down.is_empty());
        assert_eq!(exchange.up_hidden, Some((Hidden::Sealed, WORDS.len() as u64)));
        assert_eq!(exchange.down_hidden, Some((Hidden::Sealed, 20_000)));
    }
    std::fs::remove_file(&files(dir.path(), ".key")[0]).expect("destroyed");
    let session = shown(dir.path(), &id, whole::Which::One(1));
    assert_eq!(session.damage, [], "that is no damage");
    assert_eq!(session.exchanges[&1].up_hidden, Some((Hidden::Erased, WORDS.len() as u64)));
    assert_eq!(everything(dir.path()).len(), 1);
}

#[test]
fn every_changed_byte_of_a_piece_is_told_with_its_place() {
    let dir = tempfile::tempdir().expect("dir");
    let id = recorded(dir.path(), b"fine");
    let bodies = OpenOptions::new().write(true).open(&files(dir.path(), ".bodies")[0]).expect("opened");
    let good = std::fs::read(&files(dir.path(), ".bodies")[0]).expect("read");
    let first = refs(dir.path())[0];
    for (at, byte) in good.iter().enumerate().take(first.stored as usize) {
        bodies.write_all_at(&[byte ^ 1], at as u64).expect("changed");
        let session = shown(dir.path(), &id, whole::Which::One(1));
        let exchange = &session.exchanges[&1];
        assert_eq!(exchange.up_hidden, Some((Hidden::Damaged, WORDS.len() as u64)));
        assert_eq!(exchange.down, b"fine", "the rest goes on");
        let [Damage::Body { segment: 1, file: 1, place: 0, .. }] = &session.damage[..] else {
            panic!("{:?}", session.damage)
        };
        bodies.write_all_at(&[*byte], at as u64).expect("changed back");
    }
    // A file that is cut is told the same way; another key is not the one that the record names.
    bodies.set_len(u64::from(first.stored) - 1).expect("cut");
    assert!(matches!(
        shown(dir.path(), &id, whole::Which::One(1)).damage[..],
        [Damage::Body { .. }, Damage::Body { .. }]
    ));
    bodies.write_all_at(&good, 0).expect("mended");
    let other = crate::record::age::seal(&[reader().recipient()], &[7; 32]).expect("sealed");
    std::fs::write(&files(dir.path(), ".key")[0], other).expect("another key");
    let session = shown(dir.path(), &id, whole::Which::One(1));
    assert!(session.damage[0].to_string().contains("not the one its segment names"), "{:?}", session.damage);
}

#[test]
fn large_bodies_make_the_next_segment_begin_and_go_with_their_own() {
    let dir = tempfile::tempdir().expect("dir");
    let (sink, _) = sink();
    let store = Store::open(Settings { max_bytes: 1 << 20, ..small(dir.path()) }, sink).expect("opens");
    let session = begin(&store);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !kinds(dir.path()).contains(&Kind::Deleted) {
        assert!(Instant::now() < deadline, "nothing was deleted");
        let exchange = session.exchange(head("/")).expect("exchange");
        for piece in noise(60_000).chunks(20_000) {
            exchange.down(piece).expect("down");
        }
        exchange.finish(None);
    }
    session.close(None);
    store.close();
    let stems = |end| files(dir.path(), end).iter().map(|path| path.with_extension("")).collect::<Vec<_>>();
    assert_eq!(stems(".bodies"), stems(".sluice"));
    assert_eq!(stems(".key"), stems(".sluice"));
    let left = stems(".sluice");
    assert!(left.len() > 1 && !left[0].ends_with("000000000001"), "{left:?}");
    let all: u64 =
        files(dir.path(), "").iter().map(|path| std::fs::metadata(path).expect("file").len()).sum();
    assert!(all < 5 << 18, "{all} bytes");
}

#[test]
fn any_age_tool_opens_the_key() {
    let dir = tempfile::tempdir().expect("dir");
    recorded(dir.path(), b"fine");
    let identity = dir.path().join("identity");
    std::fs::write(&identity, &*READER).expect("written");
    let opened = std::process::Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(&identity)
        .arg(&files(dir.path(), ".key")[0])
        .output();
    let opened = opened.unwrap_or_else(|error| panic!("age cannot be run ({error}): apt-get install age"));
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    let reader = Reader::open(dir.path()).expect("readable");
    let mut bound = None;
    let damage = reader.frames(0..1, |frame| {
        if frame.kind == Some(Kind::BodyKey) {
            bound = serde_json::from_slice::<crate::record::payload::BodyKey>(frame.payload).ok();
        }
        ControlFlow::Continue(())
    });
    assert_eq!(damage.expect("frames"), []);
    let bound = bound.expect("the key is bound");
    assert_eq!(bound.commitment, crate::record::bodies::commitment(&opened.stdout));
    assert_eq!((bound.number, bound.recipients), (1, vec![super::reader().recipient()]));
}

#[test]
fn older_stores_bodies_are_read() {
    let dir = tempfile::tempdir().expect("dir");
    let id = recorded(dir.path(), b"fine");
    let reader = Reader::open(dir.path()).expect("readable");
    let access = Access::none();
    let mut unsealer = Unsealer::new(dir.path(), &access);
    let payload = [&[0; 20][..], &[1, 0, 0, 0], &7_u64.to_le_bytes(), b"raw"].concat();
    let frame = crate::record::read::Frame {
        segment: 1,
        offset: 8,
        sequence: 1,
        kind: Some(Kind::Body),
        payload: &payload,
    };
    let piece = unsealer.piece(&frame).expect("a piece");
    assert_eq!((piece.at.down, piece.at.offset, piece.bytes.as_deref()), (true, 7, Ok(&b"raw"[..])));
    assert!(!id.is_empty() && reader.segments() == 1);
}
