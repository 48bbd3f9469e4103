//! Power cuts: a recorder writes to an ext4 on a disk that keeps every write and flush in order. A cut leaves what was
//! flushed, and of what was written since a part, torn and reordered. On what it leaves the agent starts again: the store is
//! good, what was acknowledged with `durable` is there, and of the rest at most the last 50 ms are missing, and named.
//!
//! `SLUICE_POWER_CUTS` is the number of cuts of each kind (40 without it), `SLUICE_SEED` repeats what can be repeated: what
//! is written when is the machine's.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use sluice::audit::{Report, What as Found};
use sluice_tests::disk::{Cuts, Disk, Event, Left, apart, boot_anew, ext4};
use sluice_tests::recorder::{Kept, verified};

use crate::acknowledged::{Recording, What, Word};
use crate::kill::{python_agrees, restart};
use crate::{Dice, left_behind};

/// Cuts of one life of a disk, of which one is what the next begins with.
const CUTS: usize = 6;
/// Lives of one file system.
const LIVES: usize = 4;
/// What the promise is, the time that the disk takes aside.
const PROMISED: u64 = 50_000_000;
/// Syncs by which it is told how long one takes.
const SYNCS: usize = 21;

/// What the cuts came to.
#[derive(Default)]
struct Sum {
    cuts: usize,
    /// Cuts that lost something acknowledged, and how long before the cut the oldest of it was.
    losses: Vec<u64>,
    /// What a sync takes, in milliseconds.
    sync: u64,
    gaps: usize,
    /// Cuts behind which segments were left out, and cuts at a record.
    aside: usize,
    torn: usize,
    readers: usize,
}

/// Starts the agent again on what a cut left: gives what it found, and the report on it.
fn judged(left: &Left, key: Option<&str>) -> (Kept, Report) {
    restart(left.path());
    let fail = |why: anyhow::Error| -> ! { panic!("{why:#}\nkept in {}", left_behind(left.path())) };
    let report = verified(left.path(), key).unwrap_or_else(|why| fail(why));
    let kept = Kept::read(left.path()).unwrap_or_else(|why| fail(why));
    assert!(kept.damage.is_empty(), "{:?}\nkept in {}", kept.damage, left_behind(left.path()));
    (kept, report)
}

/// The longest time in which the disk flushed nothing before `time`.
fn slowest(events: &[Event], time: u64) -> u64 {
    let flushes = events.iter().filter(|event| matches!(event, Event::Flush { .. })).map(Event::at);
    let mut flushes: Vec<u64> = flushes.filter(|at| *at < time).collect();
    flushes.push(time);
    flushes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

/// How long such a disk takes for a sync on this machine as it is now: the middle of some, in milliseconds.
fn sync_takes() -> u64 {
    let disk = Disk::mounted(ext4(48, &["-J", "size=4"]).expect("an ext4"), "commit=1").expect("a disk");
    let mut file = File::create(disk.path().join("file")).expect("a file");
    let mut took: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[1; 4096]).and_then(|()| file.sync_data()).expect("synced");
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[SYNCS / 2].as_millis().try_into().expect("not ages")
}

/// Holds what is there against what was `owed` by earlier lives and `said` in this one before the cut: gives what of it is
/// there. What is lost must be no older than is allowed, and named.
fn compared(
    left: &Left,
    kept: &Kept,
    report: &Report,
    (owed, said): (&[Word], &[Word]),
    (time, allowed): (u64, u64),
    sum: &mut Sum,
) -> Vec<Word> {
    let before = owed.iter().chain(said.iter().filter(|word| word.at < time)).cloned();
    let (there, lost): (Vec<Word>, Vec<Word>) = before.partition(|word| word.holds(kept));
    // Behind which record, and where in the store.
    let says = |words: &str| {
        report.findings.iter().any(|found| found.what == Found::Gap && found.text.contains(words))
    };
    let named = says("the machine went down behind record");
    for word in &lost {
        let age = time.saturating_sub(word.at);
        let wrong = if word.what == What::Durable {
            "it was durable"
        } else if owed.contains(word) {
            "it was there after an earlier cut"
        } else if age > allowed {
            "it is too old for that"
        } else if !named {
            "nobody says so"
        } else {
            continue;
        };
        let place = left_behind(left.path());
        panic!("{word:?} is lost, {age} ns before the cut ({allowed} allowed): {wrong}\nkept in {place}");
    }
    sum.cuts += 1;
    sum.gaps += usize::from(named);
    sum.aside += usize::from(says("were left out"));
    sum.torn += usize::from(says("cut short by a crash, found at"));
    sum.losses.extend(lost.iter().map(|word| time - word.at).max());
    there
}

/// A life of a disk that begins with `image`, in which `owed` was acknowledged before; some cuts of it. Gives what one of
/// them left, and what is owed of that.
fn life(
    image: Vec<u8>,
    owed: &[Word],
    durable: bool,
    dice: &mut Dice,
    key: &mut Option<String>,
    sum: &mut Sum,
) -> (Vec<u8>, Vec<Word>) {
    let boots = tempfile::tempdir().expect("dir");
    boot_anew(boots.path(), dice.below(1 << 30)).expect("another boot");
    let disk = Disk::mounted(image.clone(), "commit=1").expect("a disk");
    let mut options = vec![];
    options.extend(durable.then_some("durable"));
    options.extend((!dice.one_in(3)).then_some("flush"));
    let recording = Recording::start(disk.path(), dice.below(1 << 40), &options);
    recording.speaks();
    recording.goes_on(Duration::from_millis(50 + dice.below(500)));
    let (said, other) = recording.kill();
    assert!(other.is_empty(), "{other:#?}");
    let events = disk.events();
    drop(disk);

    let mut places: Vec<usize> = (0..CUTS).map(|_| 1 + dice.below(events.len() as u64) as usize).collect();
    places.sort_unstable();
    let goes_on = dice.below(CUTS as u64) as usize;
    let mut next = None;
    let mut cuts = Cuts::new(image, &events);
    for (number, index) in places.into_iter().enumerate() {
        let (image, time) = cuts.at(index, |end| dice.below(end));
        boot_anew(boots.path(), 1 << 31 | number as u64).expect("another boot");
        let left = Left::mounted(&image).expect("what is left can be mounted");
        let (kept, report) = judged(&left, key.as_deref());
        // A round is up to three syncs: bodies, directory, segment.
        let allowed = PROMISED + 3 * slowest(&events, time);
        let there = compared(&left, &kept, &report, (owed, &said), (time, allowed), sum);
        if dice.one_in(20) {
            python_agrees(left.path(), report.key.as_deref().expect("a key"));
            sum.readers += 1;
        }
        if number == goes_on {
            *key = first_key(&image);
            next = Some((image, there));
        }
    }
    next.expect("one goes on")
}

/// The first key, if its certificate is on this disk: without one the start draws it.
fn first_key(image: &[u8]) -> Option<String> {
    let left = Left::mounted(image).expect("what is left can be mounted");
    let stores = std::fs::read_dir(left.path().join("audit")).ok()?;
    let keys = stores.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("keys")).ok());
    let mut firsts = keys.filter(|keys| keys.contains("\n\n— ") && keys.ends_with("\n\n"));
    Some(firsts.next()?.lines().nth(2)?.to_owned())
}

fn cut_again_and_again(durable: bool) {
    let cuts: usize = std::env::var("SLUICE_POWER_CUTS").map_or(40, |n| n.parse().expect("a number"));
    let mut dice = Dice::seeded();
    let start = Instant::now();
    let sum = apart(move || {
        let mut sum = Sum { sync: sync_takes(), ..Sum::default() };
        while sum.cuts < cuts {
            let mut image = ext4(48, &["-J", "size=4"]).expect("an ext4");
            let (mut owed, mut key) = (Vec::new(), None);
            for _ in 0..LIVES {
                if sum.cuts < cuts {
                    (image, owed) = life(image, &owed, durable, &mut dice, &mut key, &mut sum);
                }
            }
        }
        sum
    });
    let mut sum = sum.expect("a mount namespace");
    sum.losses.sort_unstable();
    let ms = |nanoseconds: Option<&u64>| nanoseconds.map_or(0, |n| n / 1_000_000);
    let (median, most) = (ms(sum.losses.get(sum.losses.len() / 2)), ms(sum.losses.last()));
    println!(
        "{} cuts in {:?}: {} lost something acknowledged, {median} ms of it in the middle, {most} at most (a sync takes {}); {} say a gap, {} have records cut, {} segments left out; the reader in Python asked {} times",
        sum.cuts,
        start.elapsed(),
        sum.losses.len(),
        sum.sync,
        sum.gaps,
        sum.torn,
        sum.aside,
        sum.readers,
    );
    // The round that was under way, and the one before whose answers were still on their way.
    let most = 75 + 6 * sum.sync;
    assert!(median <= most, "{median} ms are lost in the middle: more than {most}");
}

#[test]
fn power_cuts_lose_nothing_that_was_durable() {
    cut_again_and_again(true);
}

#[test]
fn power_cuts_lose_the_last_moment_at_most_and_it_is_named() {
    cut_again_and_again(false);
}
