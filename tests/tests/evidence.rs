//! Trees, notes, checkpoints, certificates and tiles as we make them, against other people's code: Go's `sumdb/tlog` and
//! `sumdb/note`, from which C2SP's formats were drawn.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice::evidence::chain::{Certificate, Chain, key_name};
use sluice::evidence::checkpoint::{Checkpoint, Origin, ulid};
use sluice::evidence::note::{Note, Signer, VerifierKey};
use sluice::evidence::tile::{At, Collector, Tile, subtree};
use sluice::evidence::tree::{self, Hash, Head};
use sluice_tests::client;

const STORE: &str = "01JDBYZZZZZZZZZZZZZZZZZZZZ";
const LOG: &str = "01JDBZZZZZZZZZZZZZZZZZZZZZ";
const TIME: &str = "2026-11-23T01:02:03.000004Z";

fn data(index: u64) -> Vec<u8> {
    let kind = [16, 32, 33, 36][index as usize % 4];
    [&[kind], index.to_string().repeat(index as usize % 40).as_bytes()].concat()
}

fn encoded(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

/// A tree of so many records, its tiles below `dir`.
fn tree_of(leaves: u64, dir: &Path) -> Head {
    let put = |tile: Tile| {
        let path = dir.join(tile.at.to_string());
        fs::create_dir_all(path.parent().expect("a tile is in a directory")).expect("directory");
        fs::write(path, tile.bytes()).expect("tile");
    };
    let mut collector = Collector::default();
    for index in 0..leaves {
        let data = data(index);
        collector.push(tree::record(data[0], &data[1..]), put);
    }
    collector.partial().for_each(put);
    collector.head()
}

fn proofs(tree: &Head, dir: &Path) -> (Vec<Value>, Vec<Value>) {
    let read = |at: At| Tile::read(at, &fs::read(dir.join(at.to_string())).ok()?);
    let source = |level, index| subtree(tree.size, level, index, read);
    let root = |size| tree::root(size, source).expect("root").to_string();
    let inclusion = (0..tree.size).map(|index| {
        let size = tree.size.min(index + 1 + index % 7);
        let proof = tree::inclusion(index, size, source).expect("proof");
        json!({"Index": index, "Size": size, "Leaf": source(0, index).expect("leaf").to_string(), "Root": root(size), "Proof": encoded(&proof)})
    });
    let consistency = (1..tree.size).map(|old| {
        let new = tree.size.min(old + 1 + old % 300);
        let proof = tree::consistency(old, new, source).expect("proof");
        json!({"Old": old, "New": new, "OldRoot": root(old), "NewRoot": root(new), "Proof": encoded(&proof)})
    });
    (inclusion.collect(), consistency.collect())
}

fn go(tiles: &Path, input: &Value) -> Result<Value, String> {
    let program = client::go_evidence().expect("Go's packages");
    let mut child = Command::new(program)
        .arg(tiles)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("go");
    child.stdin.take().expect("stdin").write_all(input.to_string().as_bytes()).expect("stdin");
    let out = child.wait_with_output().expect("go");
    if out.status.success() {
        Ok(serde_json::from_slice(&out.stdout).expect("JSON"))
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

#[test]
fn go_agrees_with_our_trees_notes_and_tiles() {
    let dir = tempfile::tempdir().expect("directory");
    let (store, log) = (ulid(STORE).expect("ULID"), ulid(LOG).expect("ULID"));
    let signers = [0, 1].map(|n| Signer::new(&key_name(store, n), &[n as u8 + 1; 32]).expect("name"));
    for leaves in [1, 2, 255, 256, 257, 1000] {
        let tiles = dir.path().join(leaves.to_string());
        let head = tree_of(leaves, &tiles);
        let checkpoint =
            Checkpoint { origin: Origin { store, log }, tree: head, time: TIME.to_owned(), more: Vec::new() };
        let note = Note::sign(checkpoint.to_string(), &signers[0]).expect("note").to_string();
        let other = Note::sign(checkpoint.to_string(), &signers[1]).expect("note").to_string();
        let both = note.clone() + other.lines().last().expect("signature") + "\n";
        let (inclusion, consistency) = proofs(&head, &tiles);
        let keys: Vec<_> = signers.iter().map(|signer| signer.verifier().to_string()).collect();
        let all: Vec<_> = (0..leaves).map(|index| STANDARD.encode(data(index))).collect();
        let counts = (inclusion.len(), consistency.len());
        let input = json!({"Keys": keys, "Note": both, "Leaves": all, "Inclusion": inclusion, "Consistency": consistency});
        let said = go(&tiles, &input).unwrap_or_else(|why| panic!("{leaves}: {why}"));
        assert_eq!(
            (said["inclusion"].as_u64(), said["consistency"].as_u64()),
            (Some(counts.0 as u64), Some(counts.1 as u64))
        );
        assert!(said["tiles"].as_u64() > Some(0));
        // And the other way round: Go's key and signature beside ours.
        let key: VerifierKey = said["key"].as_str().expect("key").parse().expect("a verifier key of Go's");
        let theirs = Note::parse(said["note"].as_str().expect("note")).expect("a note of Go's");
        assert_eq!(theirs.signed_by(&key), Ok(()));
        assert!(signers.iter().all(|signer| theirs.signed_by(signer.verifier()).is_ok()));
        assert_eq!(theirs.signatures().len(), 3);
        assert_eq!(theirs.text().parse(), Ok(checkpoint));

        // Go is not one that says yes to everything.
        for (what, wrong) in [
            ("Note", json!(both.replacen("time ", "time  ", 1))),
            ("Note", json!(note)),
            ("Leaves", json!(all[1..])),
        ] {
            let mut input = input.clone();
            input[what] = wrong;
            assert!(go(&tiles, &input).is_err(), "{leaves}: {what}");
        }
    }
}

#[test]
fn go_reads_our_certificates() {
    let dir = tempfile::tempdir().expect("directory");
    let store = ulid(STORE).expect("ULID");
    let signers = [0, 1].map(|n| Signer::new(&key_name(store, n), &[n as u8 + 1; 32]).expect("name"));
    let [first, second] = [0, 1].map(|n: usize| {
        let certificate = Certificate {
            store,
            number: n as u64,
            key: signers[n].verifier().clone(),
            time: TIME.to_owned(),
            pins: Vec::new(),
        };
        Note::sign(certificate.to_string(), &signers[0]).expect("note")
    });
    let mut chain = Chain::begin(&first, Some(signers[0].verifier())).expect("first");
    chain.add(&second).expect("second");
    for note in [first, second] {
        // Go gets as far as the third line, which is no root: the signature before it was good.
        let input = json!({"Keys": [signers[0].verifier().to_string()], "Note": note.to_string()});
        assert!(go(dir.path(), &input).expect_err("no checkpoint").contains("root"), "{note}");
        let input = json!({"Keys": [signers[1].verifier().to_string()], "Note": note.to_string()});
        assert!(go(dir.path(), &input).expect_err("not its signature").contains("note"), "{note}");
    }
}
