//! Who can write to a store, but has no key, takes something away and adds the words that would explain it; and who has the
//! key of now puts records into the past.

use std::fs;
use std::path::Path;

use serde_json::json;
use sluice::audit::prove::prove;
use sluice::audit::{What, proof};
use sluice_tests::maker::{Maker, small};

use super::{first_bad, judge};

/// Four segments of one log, all signed.
fn four(maker: &mut Maker) {
    maker.begin();
    for number in 0..4 {
        maker.exchange(number);
        maker.checkpoint();
        maker.rotate();
    }
    maker.checkpoint();
}

/// They, and the word that the second was deleted.
fn four_with_a_word(dir: &Path, signed: bool) -> Maker {
    let mut maker = Maker::new(dir);
    four(&mut maker);
    maker.event(6, json!({"segment": 2, "bytes": 1, "max_bytes": 1}));
    if signed {
        maker.stop()
    } else {
        maker.flush()
    }
    maker
}

#[test]
fn a_hole_in_the_middle_is_never_excused() {
    for signed in [false, true] {
        let dir = tempfile::tempdir().expect("directory");
        let maker = four_with_a_word(dir.path(), signed);
        fs::remove_file(maker.segment_path(2)).expect("segment");
        let report = judge(dir.path(), &maker.vkey());
        assert_eq!(
            first_bad(&report).map(|f| f.what),
            Some(What::Missing),
            "{signed}: {:?}",
            report.findings
        );
    }
}

#[test]
fn the_oldest_segments_are_excused_by_a_signed_record_only() {
    for signed in [false, true] {
        let dir = tempfile::tempdir().expect("directory");
        let maker = four_with_a_word(dir.path(), signed);
        // The word on the first went with a segment of its own.
        (1..=2).for_each(|number| fs::remove_file(maker.segment_path(number)).expect("segment"));
        let tile = dir.path().join("logs");
        assert!(tile.is_dir());
        let report = judge(dir.path(), &maker.vkey());
        let missing = report.findings.iter().any(|f| f.what == What::Missing);
        assert_eq!(missing, !signed, "{:?}", report.findings);
        assert_eq!(report.since.is_some(), signed);
    }
}

#[test]
fn a_last_log_never_goes_with_what_retention_took() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    maker.exchange(1);
    maker.checkpoint();
    maker.rotate();
    maker.event(6, json!({"segment": 1, "bytes": 1, "max_bytes": 1}));
    maker.stop();
    maker.begin();
    let last = maker.sequence;
    maker.exchange(2);
    let kept = maker.checkpoint();
    maker.stop();
    fs::remove_file(maker.segment_path(3)).expect("segment");
    let log = kept.lines().next().and_then(|line| line.rsplit('/').next()).expect("log");
    fs::remove_dir_all(dir.path().join("logs").join(log)).expect("log");
    let key = Some(maker.vkey().parse().expect("key"));
    let options = sluice::audit::Options { key, known: kept, ..Default::default() };
    let report = sluice::audit::verify(dir.path(), &options).expect("read");
    let gone = |f: &&sluice::audit::Finding| f.what == What::Missing && f.text.contains("no record is there");
    assert!(report.findings.iter().find(gone).is_some() && !report.good(), "{last}: {:?}", report.findings);
}

#[test]
fn what_no_signature_covers_is_not_called_good() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    fs::remove_dir_all(dir.path().join("logs")).expect("logs");
    let report = judge(dir.path(), &maker.vkey());
    assert!(!report.good());
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    (0..60).for_each(|number| maker.exchange(number));
    maker.checkpoint();
    maker.beat();
    maker.flush();
    let report = judge(dir.path(), &maker.vkey());
    assert!(report.good() && report.unsigned == 1 && report.unproven == 0, "{:?}", report.findings);
    // One record, but of a time long after the last signature.
    (0..70).for_each(|_| drop(maker.time()));
    maker.beat();
    maker.flush();
    let report = judge(dir.path(), &maker.vkey());
    assert!(!report.good() && report.unproven == 2, "{:?}", report.findings);
}

#[test]
fn a_key_signs_nothing_for_the_time_before_it() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    maker.exchange(1);
    maker.stop();
    (0..200).for_each(|_| drop(maker.time()));
    maker.renew_before_a_log();
    maker.begin();
    maker.record(16, &json!({"session": "x", "time": "2026-11-23T00:00:20.000000Z"}));
    maker.stop();
    let report = judge(dir.path(), &maker.vkey());
    assert_eq!(first_bad(&report).map(|f| f.what), Some(What::Clock), "{:?}", report.findings);
    // And a checkpoint of it that says that it was made then.
    maker.back_to(20);
    maker.checkpoint();
    maker.flush();
    assert!(!judge(dir.path(), &maker.vkey()).good());
    let last = (maker.sequence - 1).to_string();
    let proof = prove(dir.path(), &last.parse().expect("id")).expect("a proof");
    let proof = serde_json::to_vec(&proof).expect("JSON");
    assert!(matches!(proof::verify(&proof, None, None), Err(proof::Refused::Time(_))), "it is worth nothing");
    assert!(matches!(proof::verify(b"{}", None, None), Err(proof::Refused::Form(_))));
}

#[test]
fn a_clock_that_was_set_weighs_unless_the_auditor_knows() {
    let dir = tempfile::tempdir().expect("directory");
    let mut maker = Maker::new(dir.path());
    maker.begin();
    maker.exchange(1);
    maker.stop();
    maker.back_to(300);
    maker.renew_before_a_log();
    // Three minutes back, a moment later.
    maker.back_to(120);
    maker.begin();
    maker.exchange(2);
    maker.checkpoint();
    maker.stop();
    let last = (maker.sequence - 1).to_string();
    let proof = prove(dir.path(), &last.parse().expect("id")).expect("a proof");
    let proof = serde_json::to_vec(&proof).expect("JSON");
    for (clock, good) in [(None, false), (Some(170), false), (Some(190), true)] {
        let clock = clock.map(std::time::Duration::from_secs);
        let key = Some(maker.vkey().parse().expect("key"));
        let options = sluice::audit::Options { key, clock, ..Default::default() };
        let report = sluice::audit::verify(dir.path(), &options).expect("read");
        assert_eq!(report.good(), good, "{clock:?}: {:?}", report.findings);
        assert_eq!(proof::verify(&proof, None, clock).is_ok(), good, "{clock:?}");
    }
}

#[test]
fn pipes_and_links_are_no_files() {
    let dir = tempfile::tempdir().expect("directory");
    let maker = small(dir.path());
    let path = maker.segment_path(4);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("pipe");
    assert_eq!(first_bad(&judge(dir.path(), &maker.vkey())).map(|f| f.what), Some(What::Segment));
    fs::remove_file(&path).expect("pipe");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("link");
    assert_eq!(first_bad(&judge(dir.path(), &maker.vkey())).map(|f| f.what), Some(What::Segment));
}
