//! Somebody changes a store: `sluice audit verify` names each change. The store is small, and every change of a kind is
//! tried. In the process of the test, so that there are ten thousands of them; the command line and the reader in Python are
//! asked of a choice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice::audit::prove::{Id, Unproved, prove};
use sluice::audit::{Grade, Options, Report, What, proof, verify};

use sluice_tests::maker::{Maker, frame, frames, small};

mod both;
mod forged;
mod large;
mod range;

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("directory") {
            let path = entry.expect("entry").path();
            if path.is_dir() { dirs.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    all
}

fn judge(dir: &Path, key: &str) -> Report {
    let options = Options { key: Some(key.parse().expect("key")), ..Options::default() };
    verify(dir, &options).expect("it can be read")
}

fn first_bad(report: &Report) -> Option<&sluice::audit::Finding> {
    report.findings.iter().find(|finding| finding.grade == Grade::Bad)
}

/// Changes one file, judges, and puts it back.
fn with(path: &Path, bytes: &[u8], dir: &Path, key: &str) -> Report {
    let good = fs::read(path).expect("file");
    fs::write(path, bytes).expect("file");
    let report = judge(dir, key);
    fs::write(path, good).expect("file");
    report
}

#[test]
fn what_nobody_touched_is_proven() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    let report = judge(dir.path(), &maker.vkey());
    assert_eq!((report.records, report.proven, report.unsigned, report.late), (26, 26, 0, 0));
    assert_eq!((report.keys, report.logs, report.checkpoints, report.bodies), (2, 2, 5, 1));
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn every_flipped_byte_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    let (mut tried, mut said) = (0, BTreeMap::new());
    for path in files(dir.path()) {
        let good = fs::read(&path).expect("file");
        let is_segment = path.extension().is_some_and(|e| e == "sluice");
        for at in 0..good.len() {
            // Another bit in each byte; the highest makes what is text none.
            let flip = 1_u8 << (at % 8);
            let mut bad = good.clone();
            bad[at] ^= flip;
            let report = with(&path, &bad, dir.path(), &maker.vkey());
            tried += 1;
            let name = path.strip_prefix(dir.path()).expect("below").display().to_string();
            if report.good() {
                assert!(!report.findings.is_empty(), "{name}, byte {at}, {flip:x}: nobody says anything");
                *said.entry(name).or_insert(0) += 1;
                continue;
            }
            if is_segment {
                let found = first_bad(&report).expect("bad");
                let number: u64 = path.file_stem().and_then(|s| s.to_str()?.parse().ok()).expect("number");
                let hit = frames(&good).iter().rev().map(|f| f.0).find(|start| *start <= at).unwrap_or(0);
                let near = found.offset.is_some_and(|offset| offset <= at as u64 && offset >= hit as u64);
                assert!(found.segment == Some(number) && near, "{name}, byte {at}, {flip:x}: {found:?}");
            }
        }
    }
    // The last byte of a file of notes: it could be one that was being written.
    println!("{tried} flips; those that could be a crash's: {said:?}");
    assert!(said.values().sum::<u32>() <= 12, "{said:?}");
}

/// Rewrites a segment out of frames, as one who can make checksums.
fn rebuilt(frames: &[(u8, u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"SLUICE1\n".to_vec();
    frames
        .iter()
        .for_each(|(kind, sequence, payload)| bytes.extend_from_slice(&frame(*kind, *sequence, payload)));
    bytes
}

fn taken(bytes: &[u8]) -> Vec<(u8, u64, Vec<u8>)> {
    let parts = |f: Vec<u8>| (f[4], u64::from_le_bytes(f[8..16].try_into().expect("8")), f[20..].to_vec());
    frames(bytes).into_iter().map(|(_, f)| parts(f)).collect()
}

/// `all` numbered anew from the first on.
fn numbered(mut all: Vec<(u8, u64, Vec<u8>)>) -> Vec<(u8, u64, Vec<u8>)> {
    let first = all.first().map_or(0, |f| f.1);
    all.iter_mut().enumerate().for_each(|(i, f)| f.1 = first + i as u64);
    all
}

#[test]
fn records_dropped_swapped_doubled_and_changed_are_named() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    for number in 1..=3 {
        let path = maker.segment_path(number);
        let good = taken(&fs::read(&path).expect("segment"));
        let bad = |what: &str, frames: Vec<(u8, u64, Vec<u8>)>| {
            let report = with(&path, &rebuilt(&frames), dir.path(), &maker.vkey());
            assert!(!report.good(), "segment {number}: {what}");
            report
        };
        for at in 0..good.len() {
            let sequence = good[at].1;
            let mut dropped = good.clone();
            dropped.remove(at);
            bad(&format!("{at} dropped"), dropped.clone());
            if at > 0 {
                bad(&format!("{at} dropped, renumbered"), numbered(dropped));
            }
            let mut doubled = good.clone();
            doubled.insert(at, good[at].clone());
            bad(&format!("{at} doubled"), doubled.clone());
            match at + 1 < good.len() || number < 3 {
                true => drop(bad(&format!("{at} doubled, renumbered"), numbered(doubled))),
                // Behind the last checkpoint anybody can write: it is said to be proven by nothing.
                false => {
                    let bytes = rebuilt(&numbered(doubled));
                    assert_eq!(with(&path, &bytes, dir.path(), &maker.vkey()).unsigned, 1);
                }
            }
            if at + 1 < good.len() {
                let mut swapped = good.clone();
                swapped.swap(at, at + 1);
                bad(&format!("{at} swapped"), swapped.clone());
                bad(&format!("{at} swapped, renumbered"), numbered(swapped));
            }
            // Another content under a good checksum, of every byte.
            for byte in 0..good[at].2.len() {
                let mut changed = good.clone();
                changed[at].2[byte] ^= 1;
                let report = bad(&format!("{at} changed at {byte}"), changed);
                // The head names its log; with it goes more than one record.
                if at > 0 {
                    let changed: Vec<_> =
                        report.findings.iter().filter(|f| f.what == What::Changed).collect();
                    assert!(
                        changed.iter().any(|f| f.sequence == Some(sequence)),
                        "{at} {byte}: {:?}",
                        report.findings
                    );
                    assert!(report.proven >= 25, "the others are proven: {report:?}");
                }
            }
            let mut kind = good.clone();
            kind[at].0 = 99;
            bad(&format!("{at} of another kind"), kind);
        }
    }
}

#[test]
fn every_truncation_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    for path in files(dir.path()) {
        let good = fs::read(&path).expect("file");
        for cut in 0..good.len() {
            let report = with(&path, &good[..cut], dir.path(), &maker.vkey());
            let name = path.strip_prefix(dir.path()).expect("below").display().to_string();
            let weighs = !report.good();
            assert!(weighs || !report.findings.is_empty(), "{name} cut at {cut}: nobody says anything");
            assert!(weighs || !name.ends_with(".sluice"), "{name} cut at {cut}: {:?}", report.findings);
        }
        fs::remove_file(&path).expect("file");
        let report = judge(dir.path(), &maker.vkey());
        let derived = path.components().any(|c| c.as_os_str() == "tile") || path.ends_with("checkpoint");
        assert!(derived || !report.findings.is_empty(), "{} removed: nobody says anything", path.display());
        fs::write(&path, good).expect("file");
    }
}

#[test]
fn a_tree_signed_anew_under_another_key_is_named() {
    let (dir, forged) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let honest = small(dir.path());
    let forger = {
        let mut maker = Maker::with_seed(forged.path(), 9);
        maker.begin();
        maker.exchange(1);
        maker.stop();
        maker
    };
    // Whole, with the auditor's key; and against itself it is sound, which is said.
    let report = judge(forged.path(), &honest.vkey());
    assert_eq!(first_bad(&report).map(|f| f.what), Some(What::Key), "{:?}", report.findings);
    let report = verify(forged.path(), &Options::default()).expect("read");
    assert!(report.good() && report.findings.iter().any(|f| f.what == What::Key));
    assert!(judge(forged.path(), &forger.vkey()).good());
    // Only the keys, only the checkpoints.
    let keys = fs::read(forged.path().join("keys")).expect("keys");
    let report = with(&dir.path().join("keys"), &keys, dir.path(), &honest.vkey());
    assert_eq!(first_bad(&report).map(|f| f.what), Some(What::Key), "{:?}", report.findings);
}

#[test]
fn an_old_copy_is_only_told_by_what_was_kept_elsewhere() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    maker.exchange(1);
    maker.checkpoint();
    maker.flush();
    let old: Vec<_> =
        files(dir.path()).into_iter().map(|p| (p.clone(), fs::read(p).expect("file"))).collect();
    maker.exchange(2);
    let kept = maker.checkpoint();
    maker.stop();
    let options = |known: &str| Options {
        key: Some(maker.vkey().parse().expect("key")),
        known: known.to_owned(),
        ..Options::default()
    };
    let journal = format!("Nov 23 host sluice[1]: something\n{kept}\nmore\n");
    let lines = format!("{}\n{}\n", json!({"MESSAGE": "x"}), json!({"SLUICE_CHECKPOINT": kept}));
    assert!(verify(dir.path(), &options(&journal)).expect("read").good());
    fs::remove_dir_all(dir.path()).expect("directory");
    for (path, bytes) in old {
        fs::create_dir_all(path.parent().expect("directory")).expect("directory");
        fs::write(path, bytes).expect("file");
    }
    let report = verify(dir.path(), &options("")).expect("read");
    assert!(report.good(), "by itself it is sound: {:?}", report.findings);
    assert!(report.last.is_some_and(|last| last.size == 6), "and says how far it goes");
    for known in [journal, lines] {
        let report = verify(dir.path(), &options(&known)).expect("read");
        assert_eq!(first_bad(&report).map(|f| f.what), Some(What::Missing), "{:?}", report.findings);
    }
}

#[test]
fn deleted_segments_are_proven_by_a_record_and_by_tiles() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    for number in 0..120 {
        maker.exchange(number);
        if number % 40 == 39 {
            maker.checkpoint();
            maker.rotate();
        }
    }
    maker.flush();
    fs::remove_file(maker.segment_path(1)).expect("segment");
    let report = judge(dir.path(), &maker.vkey());
    assert_eq!(first_bad(&report).map(|f| f.what), Some(What::Missing), "{:?}", report.findings);
    maker.event(6, json!({"segment": 1, "bytes": 1, "max_bytes": 1}));
    maker.stop();
    let report = judge(dir.path(), &maker.vkey());
    assert!(report.good(), "{:?}", report.findings);
    assert_eq!(report.findings[0].what, What::Deleted);
    assert_eq!(report.proven, report.records);
    // Another one beside it, and one whose head stays.
    let two = fs::read(maker.segment_path(2)).expect("segment");
    fs::remove_file(maker.segment_path(2)).expect("segment");
    assert!(!judge(dir.path(), &maker.vkey()).good());
    let head = frames(&two)[1].0;
    fs::write(maker.segment_path(2), &two[..head]).expect("segment");
    assert!(!judge(dir.path(), &maker.vkey()).good());
    fs::write(maker.segment_path(2), two).expect("segment");
    // Without the tiles nothing can be proven of what follows.
    let tiles: Vec<_> =
        files(dir.path()).into_iter().filter(|p| p.components().any(|c| c.as_os_str() == "tile")).collect();
    tiles.iter().for_each(|tile| fs::remove_file(tile).expect("tile"));
    let report = judge(dir.path(), &maker.vkey());
    assert!(!report.good() && report.findings.iter().any(|f| f.what == What::Tile), "{:?}", report.findings);
}

#[test]
fn tails_are_counted() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    maker.exchange(1);
    maker.checkpoint();
    maker.exchange(2);
    maker.flush();
    let report = judge(dir.path(), &maker.vkey());
    // More than one in twenty, and nobody writes: it is not called good.
    assert!(report.bad == 0 && !report.good());
    assert_eq!((report.proven, report.unsigned, report.late, report.unproven), (6, 5, 0, 5));
    // Torn, as by a crash.
    let path = maker.segment_path(1);
    let whole = fs::read(&path).expect("segment");
    let report = with(&path, &[&whole[..], b"half a record"].concat(), dir.path(), &maker.vkey());
    assert_eq!(report.bad, 0);
    assert!(report.findings.iter().any(|f| f.what == What::Gap), "{:?}", report.findings);
    // The next log says what the first came to, and signs it.
    maker.begin();
    maker.stop();
    let report = judge(dir.path(), &maker.vkey());
    assert!(report.good(), "{:?}", report.findings);
    assert_eq!((report.proven, report.unsigned, report.late), (8, 0, 5));
    let value: Value = serde_json::to_value(&report).expect("JSON");
    assert_eq!(value["late"], 5);
}

#[test]
fn a_proof_holds_without_the_store_and_no_flipped_byte_of_it_does() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    // More than a tile, so that there are two levels.
    (0..60).for_each(|number| maker.exchange(number));
    maker.checkpoint();
    maker.renew();
    maker.rotate();
    maker.exchange(100);
    maker.flush();
    maker.checkpoint();
    let key = maker.vkey().parse().expect("key");
    let session = ulid::Ulid::from_parts(1_700_000_000_000, 101).to_string();
    for (id, count) in
        [("1", 1), ("250", 1), ("257", 1), ("300", 1), (session.as_str(), 5), (&format!("{session}/1"), 5)]
    {
        let proof = prove(dir.path(), &id.parse().expect("id")).unwrap_or_else(|why| panic!("{id}: {why}"));
        let file = serde_json::to_vec_pretty(&proof).expect("JSON");
        let verdict = proof::verify(&file, Some(&key), None).expect("it holds");
        assert_eq!((verdict.records.len(), verdict.number), (count, 1));
        assert!(
            proof::verify(
                &file,
                Some(&Maker::with_seed(&dir.path().join("x"), 3).vkey().parse().expect("key")),
                None
            )
            .is_err()
        );
        if id == "250" {
            for at in 0..file.len() {
                let mut bad = file.clone();
                bad[at] ^= 1;
                let held = proof::verify(&bad, Some(&key), None).map(|verdict| verdict.records[0].clone());
                // Only what is said not to be proven may differ: the number in the store, and spaces between.
                let same = held.as_ref().map_or(true, |r| {
                    r.bytes() == verdict.records[0].bytes()
                        && r.kind == verdict.records[0].kind
                        && r.index == verdict.records[0].index
                });
                assert!(same, "byte {at}");
            }
        }
    }
    assert!(matches!(prove(dir.path(), &"99999".parse().expect("id")), Err(Unproved::None)));
    assert!("01".parse::<Id>().is_err() && "x/1".parse::<Id>().is_err());
    maker.exchange(101);
    maker.flush();
    let last = (maker.sequence - 1).to_string();
    assert!(matches!(prove(dir.path(), &last.parse().expect("id")), Err(Unproved::Unsigned)));
    // A record that was changed is not proven to be what it is.
    let path = maker.segment_path(2);
    let mut changed = taken(&fs::read(&path).expect("segment"));
    let number = changed[2].1;
    changed[2].2[5] ^= 1;
    fs::write(&path, rebuilt(&changed)).expect("segment");
    assert!(matches!(prove(dir.path(), &Id::Record(number)), Err(Unproved::Damaged(_))));
}
