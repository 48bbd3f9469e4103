//! How what was seen is judged; that the whole of it works is tests/tests/doctor.rs.

use super::*;

fn way(lsm_only: bool, sends: bool) -> ways::Way {
    let attempt = if sends { Attempt::Send(|_, _| Ok(())) } else { Attempt::Ask(|_| Ok(())) };
    ways::Way { name: "x", attempt, lsm_only, grave: false }
}

fn seen(error: Option<i32>, counted: &[Counter]) -> Seen {
    Seen { error: error.map(|errno| (errno, "no".to_owned())), counted: counted.to_vec() }
}

#[test]
fn a_way_is_closed_only_where_it_works_untagged() {
    let control = Some("no module".to_owned());
    let judged =
        judge(&way(false, true), control, &seen(Some(libc::EPERM), &[Counter::Protocol]), false, false, true);
    assert!(matches!(judged, Outcome::Untried { .. }), "{judged:?}");
}

#[test]
fn what_arrives_is_open_and_expected_only_without_the_lsm() {
    for (lsm_only, lsm, unexpected) in
        [(true, false, false), (true, true, true), (false, false, true), (false, true, true)]
    {
        let judged = judge(&way(lsm_only, true), None, &seen(None, &[]), true, false, lsm);
        assert!(matches!(judged, Outcome::Open { unexpected: u, .. } if u == unexpected), "{judged:?}");
    }
    // What sends without a right is never in order.
    let grave = ways::Way { grave: true, ..way(true, false) };
    let judged = judge(&grave, None, &seen(None, &[]), false, false, false);
    assert!(matches!(judged, Outcome::Open { unexpected: true, .. }), "{judged:?}");
    // The kernel's yes is the way's, whether anything arrives or not.
    assert!(matches!(
        judge(&way(false, false), None, &seen(None, &[]), false, false, false),
        Outcome::Open { .. }
    ));
}

#[test]
fn who_closed_it() {
    for (seen, ours, lsm, by) in [
        (seen(Some(1), &[Counter::Protocol]), false, true, "create"),
        (seen(None, &[Counter::Egress]), false, false, "outward"),
        (seen(None, &[Counter::Taken]), true, false, "connect, which led it to the agent"),
        (seen(Some(libc::EPERM), &[]), false, true, "lsm"),
        (seen(Some(libc::EPERM), &[]), false, false, "the kernel itself: no"),
        (seen(None, &[]), false, false, "nothing that was counted: it did not arrive"),
    ] {
        assert_eq!(closed_by(&seen, ours, lsm), by);
    }
}

#[test]
fn ppp_sockets_are_asked_for_in_both_kinds() {
    assert_eq!(ALL.iter().filter(|way| way.grave && way.lsm_only).count(), 2);
    assert!(ALL.iter().filter(|way| way.grave).all(|way| way.name.starts_with(Way::PPPOX)));
}

#[test]
fn names_are_unique() {
    let names: std::collections::BTreeSet<_> = ALL.iter().map(|way| way.name).collect();
    assert_eq!(names.len(), ALL.len());
}
