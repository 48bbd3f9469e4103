//! kill -9 of whoever records, at random points of its start, its work and its end: everything that was acknowledged is
//! there, and after each restart the store is good, by our own judgement and by the reader in Python.
//!
//! `SLUICE_STORE_KILLS` is the number of rounds (150 without it), `SLUICE_SEED` repeats a run. What the whole daemon makes
//! of it is in `kill.rs` beside this directory.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sluice::audit::What as Found;
use sluice_tests::binary::workspace;
use sluice_tests::recorder::{Kept, Recorder, begin, head, store_in, verified};

use crate::acknowledged::{Recording, Word};
use crate::{Dice, left_behind};

/// Kills in one directory: it grows.
const SAME: u64 = 8;

/// The reader in Python says that the store is good.
pub fn python_agrees(dir: &Path, key: &str) {
    let reader = workspace().join("tests/reader/verify.py");
    let out = Command::new("/usr/bin/python3").arg(reader).arg(store_in(dir)).arg(key).output();
    let out = out.expect("python3");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
}

/// Records something in order: what a restart is for.
pub fn restart(dir: &Path) {
    let recorder = Recorder::open(dir).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let session = begin(&recorder.store).expect("session");
    session.exchange(head()).expect("exchange").finish(None);
    session.close(None);
    recorder.close();
}

/// Calls that change what is on disk, and how many of each a short life makes at least.
const CALLS: [(&str, u64); 9] = [
    ("pwrite64", 40),
    ("rename", 16),
    ("fallocate", 8),
    ("ftruncate", 6),
    ("unlink", 6),
    ("openat", 120),
    ("fsync", 30),
    ("fdatasync", 12),
    ("mkdir", 6),
];

/// Records until it is killed: while it starts, works, or ends, at any moment or at a system call. Gives what it said.
fn killed(path: &Path, dice: &mut Dice) -> (Vec<Word>, Vec<String>) {
    let seed = dice.below(1 << 40);
    if dice.one_in(6) {
        let (call, most) = CALLS[dice.below(CALLS.len() as u64) as usize];
        return Recording::dies_at(path, call, 1 + dice.below(most), seed, &["for=60"]).end();
    }
    let (options, starting): (&[&str], bool) = match dice.below(4) {
        0 => (&[], true),
        1 => (&["for=10"], false),
        _ => (&[], false),
    };
    let recording = Recording::start(path, seed, options);
    if !starting {
        recording.speaks();
    }
    recording.goes_on(Duration::from_micros(dice.below(40_000)));
    recording.kill()
}

#[test]
fn killed_at_any_point_nothing_acknowledged_is_lost_and_the_store_is_good() {
    let rounds: u64 = std::env::var("SLUICE_STORE_KILLS").map_or(150, |n| n.parse().expect("a number"));
    let mut dice = Dice::seeded();
    let start = Instant::now();
    let mut dir = tempfile::tempdir().expect("dir");
    let (mut words, mut key): (Vec<Word>, Option<String>) = (Vec::new(), None);
    let (mut all, mut torn, mut early, mut readers) = (0, 0, 0, 0);
    for round in 0..rounds {
        if round.is_multiple_of(SAME) {
            dir = tempfile::tempdir().expect("dir");
            (words, key) = (Vec::new(), None);
        }
        let path = dir.path();
        let (said, other) = killed(path, &mut dice);
        assert!(other.is_empty(), "round {round}: {other:#?}");
        all += said.len();
        early += usize::from(said.is_empty());
        words.extend(said);
        // Killed again before it has come back.
        if dice.one_in(6) {
            let again = Recording::start(path, 1, &[]);
            again.goes_on(Duration::from_micros(dice.below(20_000)));
            words.extend(again.kill().0);
        }
        restart(path);
        let report = verified(path, key.as_deref())
            .unwrap_or_else(|why| panic!("round {round}: {why:#}\nkept in {}", left_behind(path)));
        key = key.or(report.key);
        torn += report.findings.iter().filter(|f| f.what == Found::Gap && f.offset.is_some()).count();
        let kept = Kept::read(path)
            .unwrap_or_else(|why| panic!("round {round}: {why:#}\nkept in {}", left_behind(path)));
        assert!(kept.damage.is_empty(), "round {round}: {:?}\nkept in {}", kept.damage, left_behind(path));
        if let Some(lost) = words.iter().find(|word| !word.holds(&kept)) {
            let there = kept.exchanges.get(&lost.of);
            panic!("round {round}: {lost:?} is lost: {there:?}\nkept in {}", left_behind(path));
        }
        if dice.one_in(10) {
            python_agrees(path, key.as_deref().expect("a key"));
            readers += 1;
        }
    }
    println!(
        "{rounds} kills in {:?}, {early} of them before the first word: {all} words, all true; {torn} cuts named; the reader in Python asked {readers} times",
        start.elapsed()
    );
    assert!(all as u64 > rounds, "the recorder did hardly anything");
}
