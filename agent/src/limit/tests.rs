//! Limits on a clock of the tests' own.

use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;

use super::table::KEYS;
use super::*;
use crate::policy::limit::By;
use crate::policy::rule::{Effect, Rule, Source};
use crate::policy::{Asked, Mode, Policy, decide};
use crate::types::{Action, Caller, Destination, TagName};

pub(super) const SECOND: Nanos = 1_000_000_000;
const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

/// Limits on a clock.
pub(super) fn limits_at(time: &Arc<AtomicU64>) -> Arc<Limits> {
    let clock = Arc::clone(time);
    Limits::with_clock(Box::new(move || clock.load(Ordering::Relaxed)))
}

/// Limits, and their clock.
fn limits() -> (Arc<Limits>, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(1 << 62));
    (limits_at(&time), time)
}

pub(super) fn policy(mode: Mode, limits: &[Limit]) -> Policy {
    let rule = Rule {
        name: "r".to_owned(),
        verdict: Effect::Allow,
        limits: limits.to_vec(),
        body_max: 1 << 20,
        ..Rule::default()
    };
    Policy::compile(Source { mode, rules: vec![rule], ..Source::default() }).expect("rules")
}

pub(super) fn permit(policy: &Policy, tag: &str) -> Permit {
    let caller = Caller::unknown(TagName::parse(tag).expect("tag"), 1);
    let action = Action::Tunnel {
        destination: Destination::new([192, 0, 2, 1].into(), 443),
        host: None,
        why: "tested",
    };
    let asked = Asked { caller: &caller, identity: Some(None), action, now: OffsetDateTime::UNIX_EPOCH };
    decide(policy, &asked).settled().expect("allowed")
}

pub(super) fn requests(most: u64, by: By) -> Limit {
    Limit { requests: Some(most), per: MINUTE, by, ..Limit::default() }
}

fn tokens(most: u64) -> Limit {
    Limit { tokens: Some(most), per: MINUTE, ..Limit::default() }
}

#[test]
fn requests_by_tag() {
    let (limits, time) = limits();
    let policy = policy(Mode::Enforce, &[requests(2, By::Tag)]);
    let take = |tag| limits.take(&permit(&policy, tag), 0).map(|spent| spent.expect("counted"));
    assert!(take("a").is_ok() && take("a").is_ok());
    let over = take("a").err().expect("over");
    assert_eq!((over.what, over.rule.as_str(), over.seconds()), ("requests", "r", 61));
    let said =
        "the limit { requests = 2, per = \"1m\", by = \"tag\" } is reached: requests; try again in 61 s";
    assert_eq!(over.to_string(), said);
    assert!(take("b").is_ok(), "another tag has a count of its own");
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    assert!(take("a").is_ok());
}

#[test]
fn what_is_open_counts_until_it_is_dropped() {
    let (limits, _) = limits();
    let policy = policy(Mode::Enforce, &[Limit { concurrent: Some(2), ..Limit::default() }]);
    let take = || limits.take(&permit(&policy, "a"), 0);
    let (one, two) = (take().expect("first"), take().expect("second"));
    let over = take().err().expect("over");
    assert_eq!((over.what, over.seconds()), ("concurrent", 1));
    drop(one);
    let three = take().expect("a place is free");
    assert!(take().is_err());
    drop((two, three));
    assert!(take().is_ok());
}

#[test]
fn all_limits_of_a_rule_hold_and_a_refusal_takes_of_none() {
    let (limits, time) = limits();
    let all =
        [requests(2, By::Tag), requests(3, By::Rule), Limit { concurrent: Some(1), ..Limit::default() }];
    let policy = policy(Mode::Enforce, &all);
    let take = |tag| limits.take(&permit(&policy, tag), 0);
    let open = take("a").expect("first");
    for _ in 0..10 {
        assert_eq!(take("a").err().expect("over").what, "concurrent");
    }
    drop(open);
    assert!(take("a").is_ok());
    assert_eq!(take("a").err().expect("over").what, "requests");
    assert!(take("b").is_ok());
    assert!(take("b").is_err(), "three of the rule");
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    assert!(take("b").is_ok());
}

#[test]
fn without_limits_nothing_is_counted() {
    let (limits, _) = limits();
    let policy = policy(Mode::Enforce, &[]);
    assert!(limits.take(&permit(&policy, "a"), 7).expect("free").is_none());
    assert!(locked(&limits.table).all().is_empty());
}

#[test]
fn observed_limits_refuse_nothing_and_say_what_they_would() {
    let (limits, time) = limits();
    let policy = policy(Mode::Observe, &[requests(1, By::Tag)]);
    let take = || limits.take(&permit(&policy, "a"), 0).expect("sent").expect("counted");
    assert_eq!(take().note(None), None);
    let beyond = take();
    assert_eq!(Spent::verdict(Some(&beyond), &permit(&policy, "a")), Verdict::Deny);
    assert!(beyond.note(Some("x".to_owned())).expect("said").starts_with("x; observed only: the limit {"));
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    assert!(take().observed().is_none(), "what was beyond has not been counted");
}

#[test]
fn bytes_may_run_over_and_the_next_is_refused() {
    let (limits, time) = limits();
    let policy = policy(Mode::Enforce, &[Limit { bytes: Some(100), per: MINUTE, ..Limit::default() }]);
    let take = || limits.take(&permit(&policy, "a"), 0);
    let spent = take().expect("free").expect("counted");
    spent.bytes(99);
    assert!(take().is_ok());
    time.fetch_add(30 * SECOND, Ordering::Relaxed);
    spent.bytes(u64::MAX);
    assert_eq!(take().err().expect("over").what, "bytes");
    time.fetch_add(60 * SECOND, Ordering::Relaxed);
    assert!(take().is_err(), "counted when they passed");
    time.fetch_add(SECOND, Ordering::Relaxed);
    assert!(take().is_ok());
}

#[test]
fn tokens_are_estimated_and_corrected() {
    let (limits, time) = limits();
    let policy = policy(Mode::Enforce, &[tokens(1000)]);
    let take = |estimate| limits.take(&permit(&policy, "a"), estimate).map(|spent| spent.expect("counted"));
    let first = take(600).expect("fits");
    assert_eq!(take(600).err().expect("over").what, "tokens");
    time.fetch_add(SECOND * 30, Ordering::Relaxed);
    first.tokens(10);
    let second = take(900).expect("the rest was given back");
    second.tokens(990);
    assert!(take(0).is_err(), "all is spent");
    second.tokens(5);
    first.tokens(u64::MAX);
    assert!(take(1).is_err());
    first.tokens(0);
    assert!(take(900).is_ok(), "numbers at their bounds do no harm");
}

#[test]
fn an_estimate_above_the_whole_waits_for_an_empty_window_and_takes_all_of_it() {
    let (limits, time) = limits();
    let policy = policy(Mode::Enforce, &[tokens(1000)]);
    let take = |estimate| limits.take(&permit(&policy, "a"), estimate).map(|spent| spent.expect("counted"));
    let small = take(1).expect("fits");
    assert!(take(u64::MAX).is_err());
    small.tokens(0);
    let large = take(u64::MAX).expect("the window is empty");
    assert!(take(1).is_err());
    large.tokens(5000);
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    assert!(take(u64::MAX).is_ok());
}

#[test]
fn the_number_of_counts_is_bounded() {
    let (limits, time) = limits();
    let policy = policy(Mode::Enforce, &[requests(1, By::Tag)]);
    let bounds = permit(&policy, "a").bounds().expect("limits").clone();
    let take = |key: String| {
        let mut table = locked(&limits.table);
        let now = (limits.clock)();
        let bound = Bound { limit: bounds.each[0].limit.clone(), key };
        asked(&mut table, "r", &[bound], now).map(|asked| drop(asked[0].take(now, 0, false)))
    };
    for key in 0..KEYS {
        take(key.to_string()).expect("room");
    }
    let over = take("one more".to_owned()).expect_err("full");
    assert!(over.crowded && over.seconds() == 1, "{over:?}");
    assert!(take("7".to_owned()).is_ok(), "who is there stays");
    assert_eq!(locked(&limits.table).crowded, 1);
    time.fetch_add(61 * SECOND, Ordering::Relaxed);
    take("one more".to_owned()).expect("those on which nothing counts made room");
    assert_eq!(locked(&limits.table).all()[0].1.len(), 1);
}

#[test]
fn parallel_takers_never_exceed() {
    let (limits, _) = limits();
    let both = [requests(1000, By::Tag), Limit { concurrent: Some(7), ..Limit::default() }];
    let policy = policy(Mode::Enforce, &both);
    let (taken, open, most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let Ok(spent) = limits.take(&permit(&policy, "a"), 0) else { continue };
                    taken.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    open.fetch_sub(1, Ordering::SeqCst);
                    drop(spent);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 1000);
    assert!((2..=7).contains(&most.into_inner()));
}
