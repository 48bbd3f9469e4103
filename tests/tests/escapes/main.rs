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

type Attempt = (&'static Way, u32);

/// The chosen attempts: those that leave the space as it is, and those that change it.
fn attempts() -> (Vec<Attempt>, Vec<Attempt>) {
    let all = WAYS.iter().filter(|way| chosen(way.name)).flat_map(|way| USERS.map(|uid| (way, uid)));
    let (mut quiet, changing): (Vec<Attempt>, _) = all.partition(|(way, uid)| !way.changes_space(*uid));
    // Should one of them change it nevertheless, the others have been walked.
    quiet.sort_by_key(|(way, _)| way.last);
    (quiet, changing)
}

/// Walks ways in one world, and judges them. Prints what is not as the table says, with the agent's log.
fn walk(attempts: &[Attempt]) -> Vec<Row> {
    let start = Instant::now();
    let mut rows = Vec::new();
    if attempts.is_empty() {
        return rows;
    }
    let mut stage = Stage::new();
    println!(
        "a world with {} after {:.1?}",
        if stage.has_lsm { "BPF LSM" } else { "no LSM" },
        start.elapsed()
    );
    if stage.world.is_direct() {
        return rows; // No agent, no tag.
    }
    for (way, uid) in attempts {
        rows.push(attempt::both(&mut stage, way, *uid));
        println!("{:.1?}: walked {} as {uid}", start.elapsed(), way.name);
    }
    stage.settle();
    judge::judge(&stage, &mut rows);
    if rows.iter().any(|row| row.complaint().is_some()) {
        eprintln!("--- daemon's log ---\n{}", stage.world.daemon().log());
    }
    rows
}

fn conclude(rows: &[Row]) {
    judge::print(rows);
    let wrong: Vec<String> = rows.iter().filter_map(Row::complaint).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} are not as the table says:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}

#[test]
fn nothing_leaves_a_tag_by_any_way_that_is_said_to_be_closed() {
    let rows = walk(&attempts().0);
    conclude(&rows);
    if std::env::var_os("SLUICE_ESCAPES").is_none() && !rows.is_empty() {
        let proven = judge::proven(&rows);
        assert!(proven >= 60, "only {proven} ways were seen to lead out without a tag");
    }
}

/// Each has a world of its own.
#[test]
fn ways_that_change_the_space_lead_where_it_is_said() {
    let rows: Vec<Row> = attempts().1.into_iter().flat_map(|one| walk(&[one])).collect();
    conclude(&rows);
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
