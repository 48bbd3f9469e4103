//! What is signed, what is not, and that keys go.

use super::*;
use crate::evidence::tree::{Frontier, Hash, consistency, leaf};

const STORE: &str = "01JZZZZZZZZZZZZZZZZZZZZZZZ";
const LOG: &str = "01JZZZZZZZZZZZZZZZZZZZZZZ0";

/// The growth of a tree whose leaf `n` is `n` and `salt`.
fn growth(old: u64, new: u64, salt: u8) -> Growth {
    let (mut tree, mut whole) = (Frontier::default(), BTreeMap::new());
    let mut heads = vec![Head::empty()];
    for n in 0..new {
        let hash = leaf(&[n as u8, salt]);
        tree.push_with(hash, |level, index, hash: Hash| {
            whole.insert((level, index), hash);
        });
        heads.push(tree.head());
    }
    let proof = consistency(old, new, |level, index| whole.get(&(level, index)).copied()).expect("proof");
    Growth { old: heads[old as usize], new: heads[new as usize], proof }
}

fn unsigned(growth: Growth, keys: u64) -> Unsigned {
    Unsigned { store: STORE.to_owned(), log: LOG.to_owned(), growth, keys, last: false }
}

fn note(signed: Signed) -> (Note, Vec<String>) {
    let Signed::Note { note, keys } = signed else { panic!("{signed:?}") };
    (Note::parse(&note).expect("a note"), keys)
}

fn chain(keys: &[String]) -> Chain {
    chain_of(keys).expect("chain")
}

fn seed(dir: &Path) -> String {
    fs::read_to_string(dir.join(STORE).join(KEY)).expect("key")
}

#[test]
fn a_tree_that_grew_is_signed_and_one_that_changed_is_not() {
    let dir = tempfile::tempdir().expect("directory");
    let mut signer = Signer::new(dir.path().to_owned());
    let (first, keys) = note(signer.sign(&unsigned(growth(0, 5, 0), 0)).expect("signed"));
    let chain = chain(&keys);
    assert_eq!(chain.open(&first).expect("a checkpoint").1.tree, growth(0, 5, 0).new);
    let (second, none) = note(signer.sign(&unsigned(growth(5, 9, 0), 1)).expect("signed"));
    assert!(none.is_empty() && chain.open(&second).is_ok());
    // Another past under the same sizes, with whatever proof.
    let mut other = growth(9, 12, 1);
    assert_eq!(
        signer.sign(&unsigned(other.clone(), 1)).expect("answered"),
        Signed::Behind(growth(0, 9, 0).new)
    );
    other.old = growth(0, 9, 0).new;
    assert!(matches!(signer.sign(&unsigned(other, 1)), Err(Refused::Changed(_))));
    // Back to a smaller one.
    let back = Growth { old: growth(0, 9, 0).new, new: growth(0, 5, 0).new, proof: Vec::new() };
    assert!(matches!(signer.sign(&unsigned(back, 1)), Err(Refused::Changed(_))));
    // A log of which an hour had nothing is closed, not begun anew.
    let opened = signer.opened.as_mut().expect("open");
    opened.renew().expect("renewed");
    opened.renew().expect("renewed");
    assert_eq!(signer.sign(&unsigned(growth(0, 1, 0), 1)).expect("answered"), Signed::Closed);
    let other_store = Unsigned { store: LOG.to_owned(), ..unsigned(growth(0, 1, 0), 1) };
    assert!(matches!(signer.sign(&other_store), Err(Refused::Store)));
    let no_log = Unsigned { log: "../../etc".to_owned(), ..unsigned(growth(0, 1, 0), 1) };
    assert!(matches!(signer.sign(&no_log), Err(Refused::Name)));
}

#[test]
fn each_start_has_a_key_of_its_own_and_the_one_before_is_gone() {
    let dir = tempfile::tempdir().expect("directory");
    let mut signer = Signer::new(dir.path().to_owned());
    note(signer.sign(&unsigned(growth(0, 5, 0), 0)).expect("signed"));
    let old = seed(dir.path());
    drop(signer);
    let mut signer = Signer::new(dir.path().to_owned());
    // The gate has the first certificate; the second pins what the first key signed last.
    let (checkpoint, keys) = note(signer.sign(&unsigned(growth(5, 6, 0), 1)).expect("signed"));
    assert_eq!(keys.len(), 1);
    let all = signer.opened.as_ref().expect("open").keys.clone();
    assert_eq!(keys[0], all[1]);
    let chain = chain(&all);
    assert_eq!(chain.last().pins.len(), 1);
    assert_eq!(chain.last().pins[0].tree, growth(0, 5, 0).new);
    assert_eq!(chain.open(&checkpoint).expect("a checkpoint").0, 1);
    for file in fs::read_dir(dir.path().join(STORE)).expect("directory") {
        let bytes = fs::read(file.expect("entry").path()).expect("file");
        assert!(!bytes.windows(old.len()).any(|window| window == old.as_bytes()));
    }
    // A log that was signed for with the first key goes on from there, not from nothing.
    drop(signer);
    let mut signer = Signer::new(dir.path().to_owned());
    let behind = signer.sign(&unsigned(growth(0, 9, 1), 2)).expect("answered");
    assert_eq!(behind, Signed::Behind(growth(0, 6, 0).new));
}

#[test]
fn a_crash_between_any_two_steps_of_a_renewal_leaves_a_key() {
    let dir = tempfile::tempdir().expect("directory");
    let at = dir.path().join(STORE);
    let sign = |old, new| {
        let mut signer = Signer::new(dir.path().to_owned());
        note(signer.sign(&unsigned(growth(old, new, 0), 0)).expect("signed")).1.len()
    };
    assert_eq!(sign(0, 1), 1);
    let (before, keys) = (seed(dir.path()), fs::read(at.join(KEYS)).expect("keys"));
    assert_eq!(sign(1, 2), 2);
    let (after, heads) = (seed(dir.path()), fs::read(at.join(HEADS)).expect("heads"));
    let restore = |key: &str, next: Option<&str>, certificates: &[u8]| {
        file::write(&at, KEY, key.as_bytes()).expect("key");
        fs::write(at.join(KEYS), certificates).expect("keys");
        fs::write(at.join(HEADS), &heads).expect("heads");
        match next {
            Some(next) => file::write(&at, NEXT, next.as_bytes()).expect("next"),
            None => drop(fs::remove_file(at.join(NEXT))),
        }
    };
    let renewed = fs::read(at.join(KEYS)).expect("keys");
    // Before the certificate, with half of it, before the replacement, and with the old key overwritten.
    restore(&before, Some(&after), &keys);
    assert_eq!(sign(2, 3), 2);
    restore(&before, Some(&after), &renewed[..renewed.len() - 40]);
    assert_eq!(sign(2, 3), 2);
    restore(&before, Some(&after), &renewed);
    assert_eq!(sign(2, 3), 3);
    let zeros = "\0".repeat(before.len());
    restore(&zeros, Some(&after), &renewed);
    assert_eq!(sign(2, 3), 3);
    // Neither: nothing is signed, and nothing new begins in silence.
    restore(&zeros, None, &renewed);
    let mut signer = Signer::new(dir.path().to_owned());
    assert!(matches!(signer.sign(&unsigned(growth(2, 3, 0), 0)), Err(Refused::Unusable { .. })));
}

#[test]
fn after_the_last_tree_of_a_gate_its_key_is_gone() {
    let dir = tempfile::tempdir().expect("directory");
    let mut signer = Signer::new(dir.path().to_owned());
    note(signer.sign(&unsigned(growth(0, 5, 0), 0)).expect("signed"));
    let old = seed(dir.path());
    let last = Unsigned { last: true, ..unsigned(growth(5, 9, 0), 1) };
    let (checkpoint, keys) = note(signer.sign(&last).expect("signed"));
    assert_ne!(seed(dir.path()), old);
    // The store is told of the key that follows: it pins the last tree.
    assert_eq!(keys.len(), 1);
    let chain = chain(&signer.opened.as_ref().expect("open").keys);
    assert_eq!(chain.last().pins[0].tree, growth(0, 9, 0).new);
    assert_eq!(chain.open(&checkpoint).expect("a checkpoint").0, 0);
}

#[test]
fn many_logs_in_one_certificate_still_fit_into_an_answer() {
    let dir = tempfile::tempdir().expect("directory");
    let mut signer = Signer::new(dir.path().to_owned());
    for n in 0..LOGS as u128 {
        // What the gate has of certificates is asked for from the second on: they need not be in the answers.
        let of = Unsigned {
            log: Ulid(n + 1).to_string(),
            ..unsigned(growth(0, 1, 0), if n == 0 { 0 } else { 9 })
        };
        note(signer.sign(&of).expect("signed"));
    }
    let more = Unsigned { log: Ulid(1 << 80).to_string(), ..unsigned(growth(0, 1, 0), 9) };
    assert!(matches!(signer.sign(&more), Err(Refused::Logs)));
    signer.opened.as_mut().expect("open").renew().expect("renewed");
    let next = Unsigned { log: Ulid(1).to_string(), ..unsigned(growth(1, 2, 0), 1) };
    let (_, keys) = note(signer.sign(&next).expect("signed"));
    assert!(keys.len() == 1 && keys[0].len() < ANSWER, "{}", keys[0].len());
}

#[test]
fn a_store_whose_keys_are_gone_gets_no_second_chain() {
    let dir = tempfile::tempdir().expect("directory");
    let mut signer = Signer::new(dir.path().to_owned());
    let refused = signer.sign(&unsigned(growth(0, 5, 0), 3));
    assert!(matches!(refused, Err(Refused::Lost(_))), "{refused:?}");
    assert!(signer.sign(&unsigned(growth(0, 5, 0), 0)).is_ok(), "a new one begins with its own");
}
