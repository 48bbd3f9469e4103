//! The ways out of a tag, walked: each as uid 65534 and as root, first untagged, to see that it leads out at all, then
//! inside a tag. What arrives is judged at the far end of a veth, where every frame is looked at.
//!
//! `SLUICE_ESCAPES=tcp4,udp` walks those whose names begin so. The table is printed in any case.

mod attempt;
mod judge;
mod stage;

use sluice_tests::escape::WAYS;

use crate::judge::Row;
use crate::stage::Stage;

const USERS: [u32; 2] = [65534, 0];

fn chosen(name: &str) -> bool {
    std::env::var("SLUICE_ESCAPES").map_or(true, |only| only.split(',').any(|word| name.starts_with(word)))
}

#[test]
fn nothing_leaves_a_tag_by_any_way_that_is_said_to_be_closed() {
    let mut rows: Vec<Row> = Vec::new();
    let log;
    {
        let mut stage = Stage::new();
        if stage.world.is_direct() {
            return; // No agent, no tag.
        }
        println!("BPF LSM: {}", if stage.has_lsm { "at work" } else { "not here" });
        for way in WAYS.iter().filter(|way| !way.last && chosen(way.name)) {
            rows.extend(USERS.map(|uid| attempt::both(&mut stage, way, uid)));
        }
        stage.settle();
        judge::judge(&stage, &mut rows);
        log = stage.world.daemon().log();
    }
    for way in WAYS.iter().filter(|way| way.last && chosen(way.name)) {
        for uid in USERS {
            let mut stage = Stage::new();
            let mut row = [attempt::both(&mut stage, way, uid)];
            stage.settle();
            judge::judge(&stage, &mut row);
            rows.extend(row);
        }
    }
    judge::print(&rows);
    let wrong: Vec<String> = rows.iter().filter_map(Row::complaint).collect();
    if !wrong.is_empty() {
        eprintln!("--- daemon's log ---\n{log}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are not as the table says:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    if std::env::var_os("SLUICE_ESCAPES").is_none() {
        let proven = judge::proven(&rows);
        assert!(proven >= 60, "only {proven} ways were seen to lead out without a tag");
    }
}

#[test]
fn the_program_knows_every_way_of_the_table() {
    let list =
        std::process::Command::new(env!("CARGO_BIN_EXE_sluice-escape")).arg("list").output().expect("list");
    let mut known: Vec<String> =
        String::from_utf8(list.stdout).expect("text").lines().map(str::to_owned).collect();
    let mut table: Vec<&str> = WAYS.iter().map(|way| way.name).collect();
    known.sort_unstable();
    table.sort_unstable();
    assert_eq!(known, table);
}
