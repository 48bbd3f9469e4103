//! The ways out of a tag, walked: each as uid 65534 and as root, first untagged, to see that it leads out at all, then
//! inside a tag. What arrives is judged at the far end of a veth, where every frame is looked at.
//!
//! `SLUICE_ESCAPES=tcp4,udp` walks those whose names begin so. The table is printed in any case.

mod attempt;
mod judge;
mod stage;

use std::time::Instant;

use sluice_tests::escape::{WAYS, Way};

use crate::judge::Row;
use crate::stage::Stage;

const USERS: [u32; 2] = [65534, 0];

fn chosen(name: &str) -> bool {
    std::env::var("SLUICE_ESCAPES").map_or(true, |only| only.split(',').any(|word| name.starts_with(word)))
}

/// Walks ways in one world, and judges them.
fn walk(attempts: &[(&'static Way, u32)]) -> Walked {
    let start = Instant::now();
    let mut stage = Stage::new();
    println!(
        "a world with {} after {:.1?}",
        if stage.has_lsm { "BPF LSM" } else { "no LSM" },
        start.elapsed()
    );
    let mut walked = Walked::default();
    if stage.world.is_direct() {
        return walked; // No agent, no tag.
    }
    for (way, uid) in attempts {
        walked.rows.push(attempt::both(&mut stage, way, *uid));
        println!("{:.1?}: walked {} as {uid}", start.elapsed(), way.name);
    }
    stage.settle();
    judge::judge(&stage, &mut walked.rows);
    walked.log = stage.world.daemon().log();
    walked
}

/// What came of it, and what the agent wrote meanwhile.
#[derive(Default)]
struct Walked {
    rows: Vec<Row>,
    log: String,
}

#[test]
fn nothing_leaves_a_tag_by_any_way_that_is_said_to_be_closed() {
    let all = || WAYS.iter().filter(|way| chosen(way.name)).flat_map(|way| USERS.map(|uid| (way, uid)));
    let first = all().filter(|(way, _)| !way.last);
    // What changes the space has a world of its own.
    let (alone, last): (Vec<_>, Vec<_>) =
        all().filter(|(way, _)| way.last).partition(|(way, uid)| way.changes_space(*uid));
    let mut rows = Vec::new();
    let mut wrong: Vec<String> = Vec::new();
    for attempts in std::iter::once(first.chain(last).collect()).chain(alone.into_iter().map(|one| vec![one]))
    {
        let mut walked = walk(&attempts);
        let complaints: Vec<String> = walked.rows.iter().filter_map(Row::complaint).collect();
        if !complaints.is_empty() {
            eprintln!("--- daemon's log ---\n{}\n--- {}", walked.log, complaints.join("\n--- "));
        }
        wrong.extend(complaints);
        rows.append(&mut walked.rows);
    }
    if rows.is_empty() {
        return; // No agent.
    }
    judge::print(&rows);
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
