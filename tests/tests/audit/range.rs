//! Parts of a store: what each of them proves, whatever is before and behind it.

use super::*;
use sluice::audit::Range;

/// Two logs over seven segments, of which the second has some hundred records a segment: more than a tile.
fn long(dir: &Path) -> Maker {
    let mut maker = Maker::new(dir);
    maker.begin();
    maker.exchange(1);
    maker.checkpoint();
    maker.rotate();
    maker.exchange(2);
    maker.stop();
    maker.begin();
    for part in 0..5 {
        if part > 0 {
            maker.rotate();
        }
        if part == 2 {
            maker.renew();
        }
        for number in 0..37 {
            maker.exchange(100 * part + number);
            if number % 5 == 4 || number == 36 {
                maker.checkpoint();
                maker.beat();
            }
        }
    }
    maker.stop();
    maker
}

fn part(dir: &Path, key: &str, segments: (u64, u64)) -> Report {
    let range = Some(Range { segments: Some(segments), ..Range::default() });
    let options = Options { key: Some(key.parse().expect("key")), range, ..Options::default() };
    verify(dir, &options).expect("it can be read")
}

fn all() -> impl Iterator<Item = (u64, u64)> {
    (1..=7).flat_map(|first| (first..=7).map(move |last| (first, last)))
}

#[test]
fn every_part_of_what_nobody_touched_is_proven() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    let whole = judge(dir.path(), &maker.vkey());
    assert!(whole.good() && whole.findings.is_empty() && whole.part.is_none(), "{:?}", whole.findings);
    let counts: Vec<u64> =
        (1..=7).map(|n| frames(&fs::read(maker.segment_path(n)).expect("segment")).len() as u64).collect();
    for (first, last) in all() {
        let report = part(dir.path(), &maker.vkey(), (first, last));
        // With the segment behind, whose head says where the part ends.
        let there: u64 = counts[first as usize - 1..7.min(last as usize + 1)].iter().sum();
        assert!(report.good() && report.findings.is_empty(), "{first}-{last}: {:?}", report.findings);
        assert_eq!((report.records, report.proven), (there, there), "{first}-{last}");
        assert_eq!(report.part.map(|part| (part.first, part.last)), Some((first, last)));
    }
    for none in [(8, 9), (0, 0)] {
        let report = part(dir.path(), &maker.vkey(), none);
        assert!(!report.good() && report.proven == 0, "{none:?}: {report:?}");
    }
}

#[test]
fn by_times_it_is_the_segments_that_they_are_in() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    let heads: Vec<String> = (1..=7)
        .map(|n| {
            let first = frames(&fs::read(maker.segment_path(n)).expect("segment")).swap_remove(0).1;
            let head: Value = serde_json::from_slice(&first[20..]).expect("head");
            head["time"].as_str().expect("time").to_owned()
        })
        .collect();
    let got = |since: Option<&str>, until: Option<&str>| {
        let of = |time: Option<&str>| time.map(str::to_owned);
        let range = Some(Range { since: of(since), until: of(until), segments: None });
        let key = Some(maker.vkey().parse().expect("key"));
        let report = verify(dir.path(), &Options { key, range, ..Options::default() }).expect("read");
        assert!(report.good() || report.part.is_none(), "{:?}", report.findings);
        report.part.map(|part| (part.first, part.last))
    };
    let (third, fifth) = (heads[2].as_str(), heads[4].as_str());
    assert_eq!(got(Some(third), None), Some((3, 7)));
    assert_eq!(got(None, Some(fifth)), Some((1, 5)));
    assert_eq!(
        got(Some(&third.replace(".000000Z", ".500000Z")), Some(&fifth.replace(".000000Z", ".500000Z"))),
        Some((3, 5))
    );
    assert_eq!(got(Some("2030-01-01T00:00:00.000000Z"), None), Some((7, 7)), "the last may reach so far");
    assert_eq!(got(None, Some("2020-01-01T00:00:00.000000Z")), None);
}

#[test]
fn a_changed_record_is_bad_in_every_part_that_has_it_or_is_right_before_it_and_in_no_other() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    for changed in 1..=7 {
        let path = maker.segment_path(changed);
        let good = fs::read(&path).expect("segment");
        let mut records = taken(&good);
        let at = records.len() / 2;
        records[at].2 = br#"{"time":"2026-11-23T00:00:01.000000Z"}"#.to_vec();
        // What follows must not be told apart by its place in the file.
        records[at].2.resize(taken(&good)[at].2.len(), b' ');
        fs::write(&path, rebuilt(&records)).expect("changed");
        for (first, last) in all() {
            let report = part(dir.path(), &maker.vkey(), (first, last));
            assert_eq!(
                !report.good(),
                (first..=last + 1).contains(&changed),
                "{changed} in {first}-{last}: {:?}",
                report.findings
            );
        }
        fs::write(&path, good).expect("as it was");
    }
}

#[test]
fn a_segment_that_is_gone_is_missed_by_the_parts_around_it() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    for gone in 2..=6 {
        let path = maker.segment_path(gone);
        let good = fs::read(&path).expect("segment");
        fs::remove_file(&path).expect("removed");
        for (first, last) in all().filter(|(first, last)| *first < gone && gone < *last) {
            let report = part(dir.path(), &maker.vkey(), (first, last));
            assert!(!report.good(), "{gone} in {first}-{last}");
        }
        // What is before and behind it is what was signed, though this part is not whole.
        for (first, last) in [(1, gone - 1), (gone + 1, 7)] {
            let report = part(dir.path(), &maker.vkey(), (first, last));
            let changed = report.findings.iter().any(|finding| finding.what == What::Changed);
            assert!(!changed && report.proven > 0, "{gone}: {first}-{last}: {:?}", report.findings);
        }
        fs::write(&path, good).expect("as it was");
    }
}

#[test]
fn tiles_that_lie_prove_nothing_and_without_them_nothing_is_said_to_be_proven() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    let tiles: Vec<_> = files(dir.path())
        .into_iter()
        .filter(|path| path.to_str().is_some_and(|path| path.contains("/tile/0/")))
        .collect();
    assert!(tiles.len() >= 4, "{tiles:?}");
    let mut noticed = 0;
    for path in &tiles {
        let good = fs::read(path).expect("tile");
        let mut bad = good.clone();
        bad[40] ^= 1;
        for bytes in [Some(bad), None] {
            match &bytes {
                Some(bytes) => fs::write(path, bytes).expect("changed"),
                None => fs::remove_file(path).expect("removed"),
            }
            for (first, last) in all().filter(|(first, _)| *first >= 4) {
                let report = part(dir.path(), &maker.vkey(), (first, last));
                // Either it leads up to a signed tree, and everything is proven, or nothing is.
                if report.proven != report.records {
                    noticed += 1;
                    assert!(
                        first_bad(&report).is_some() && report.proven == 0,
                        "{first}-{last}: {:?}",
                        report.findings
                    );
                }
            }
        }
        fs::write(path, good).expect("as it was");
    }
    assert!(noticed > 5, "{noticed}");
}

#[test]
fn what_is_cut_off_a_part_s_end_is_told_by_what_is_behind_it() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    for end in 1..=6 {
        let (path, behind) = (maker.segment_path(end), maker.segment_path(end + 1));
        let (good, next) = (fs::read(&path).expect("segment"), fs::read(&behind).expect("segment"));
        // The last records, those that are signed too, and the next head says so.
        let mut records = taken(&good);
        records.truncate(records.len() - 4);
        let cut = rebuilt(&records);
        let mut head: Value = serde_json::from_slice(&taken(&next)[0].2).expect("head");
        head["previous"]["offset"] = cut.len().into();
        let mut others = taken(&next);
        others[0].2 = serde_json::to_vec(&head).expect("JSON");
        fs::write(&path, cut).expect("cut");
        fs::write(&behind, rebuilt(&others)).expect("changed");
        for first in 1..=end {
            let report = part(dir.path(), &maker.vkey(), (first, end));
            assert!(!report.good(), "{first}-{end}: {:?}", report.findings);
        }
        fs::write(&path, good).expect("as it was");
        fs::write(&behind, next).expect("as it was");
    }
}

#[test]
fn a_segment_that_is_asked_for_and_not_there_is_missed() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = long(dir.path());
    fs::remove_file(maker.segment_path(2)).expect("removed");
    for asked in [(1, 2), (2, 3), (2, 2), (6, 9)] {
        let report = part(dir.path(), &maker.vkey(), asked);
        assert!(!report.good(), "{asked:?}: {:?}", report.findings);
    }
}
