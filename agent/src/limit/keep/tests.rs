//! Gates one after another, and beside one another, over one directory.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::limit::Spent;
use crate::limit::tests::{SECOND, limits_at, permit, policy, requests};
use crate::policy::limit::{By, Limit};
use crate::policy::{Mode, Policy};

/// A gate's limits over a directory, and what it tells.
struct Gate {
    limits: Arc<Limits>,
    told: mpsc::Receiver<String>,
}

impl Gate {
    fn new(dir: &Path, time: &Arc<AtomicU64>) -> Self {
        let limits = limits_at(time);
        let (tell, told) = mpsc::channel();
        start(&limits, dir, Box::new(move |text| drop(tell.send(text))));
        Self { limits, told }
    }

    fn take(&self, policy: &Policy) -> Option<Spent> {
        self.limits.take(&permit(policy, "a"), 0).ok().map(|spent| spent.expect("counted"))
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn time() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(1 << 62))
}

#[test]
fn counts_outlive_a_gate_that_ends_and_one_that_is_killed() {
    let (dir, time) = (tempfile::tempdir().expect("directory"), time());
    let policy = policy(Mode::Enforce, &[requests(2, By::Tag)]);
    let first = Gate::new(dir.path(), &time);
    drop(first.take(&policy).expect("one"));
    eventually(
        "written at once",
        || matches!(Saved::read(dir.path()), Ok(Some(saved)) if !saved.groups.is_empty()),
    );
    // The first is left as it is, as if it had been killed.
    let second = Gate::new(dir.path(), &time);
    drop(second.take(&policy).expect("two"));
    assert!(second.take(&policy).is_none());
    second.limits.close();
    time.fetch_add(30 * SECOND, Ordering::Relaxed);
    let third = Gate::new(dir.path(), &time);
    assert!(third.take(&policy).is_none());
    time.fetch_add(31 * SECOND, Ordering::Relaxed);
    assert!(third.take(&policy).is_some());
    assert_eq!(third.told.try_recv().ok(), None);
    first.limits.close();
    third.limits.close();
}

#[test]
fn a_damaged_file_is_told_and_counts_begin_anew() {
    let (dir, time) = (tempfile::tempdir().expect("directory"), time());
    let policy = policy(Mode::Enforce, &[requests(1, By::Rule)]);
    fs::write(dir.path().join("limits"), b"sluice limits 1\nrubbish").expect("written");
    let gate = Gate::new(dir.path(), &time);
    assert!(gate.told.recv().expect("told").contains("is damaged"));
    assert!(gate.take(&policy).is_some());
    gate.limits.close();
    let next = Gate::new(dir.path(), &time);
    assert!(next.take(&policy).is_none());
    next.limits.close();
}

#[test]
fn a_directory_that_takes_nothing_is_told_once_and_refuses_nobody() {
    let (dir, time) = (tempfile::tempdir().expect("directory"), time());
    let policy = policy(Mode::Enforce, &[requests(2, By::Rule)]);
    let gate = Gate::new(dir.path(), &time);
    // Root writes anywhere: the directory is gone.
    let path = dir.path().to_owned();
    drop(dir);
    assert!(!path.exists());
    assert!(gate.take(&policy).is_some());
    assert!(gate.told.recv_timeout(Duration::from_secs(20)).expect("told").contains("not kept on disk"));
    assert!(gate.take(&policy).is_some() && gate.take(&policy).is_none());
    gate.limits.close();
    assert_eq!(gate.told.try_recv().ok(), None, "once");
}

#[test]
fn what_a_gate_spends_that_drains_beside_the_next_is_not_lost() {
    let (dir, time) = (tempfile::tempdir().expect("directory"), time());
    let bytes = Limit { bytes: Some(100), per: Some(Duration::from_secs(60)), ..Limit::default() };
    let all = [bytes, Limit { concurrent: Some(2), ..Limit::default() }];
    let policy = policy(Mode::Enforce, &all);
    let old = Gate::new(dir.path(), &time);
    let open = old.take(&policy).expect("free");
    open.bytes(40);
    old.limits.stand_aside(dir.path());
    let new = Gate::new(dir.path(), &time);
    let one = new.take(&policy).expect("room for one more");
    assert!(new.take(&policy).is_none(), "one is open in the old gate");
    drop(one);
    open.bytes(59);
    let spent = |gate: &Gate| {
        let all = locked(&gate.limits.table).all();
        let windows = all.into_iter().filter(|(id, _)| id.per.is_some());
        windows
            .flat_map(|(_, counts)| counts)
            .map(|(_, count)| count.kept().window.spent(Amount::Bytes))
            .sum::<u64>()
    };
    eventually("told each second", || spent(&new) == 99);
    open.bytes(1);
    drop(open);
    old.limits.close();
    eventually("told at its end", || spent(&new) == 100);
    assert!(new.take(&policy).is_none());
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    let (one, two) = (new.take(&policy), new.take(&policy));
    assert!(one.is_some() && two.is_some(), "nothing is open elsewhere any more");
    new.limits.close();
    let late = saved::late(dir.path()).expect("listed");
    assert_eq!(late, Vec::<PathBuf>::new(), "what was taken in is removed");
}
