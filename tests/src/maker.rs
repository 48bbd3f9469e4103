//! Stores made by hand, byte by byte as docs/store.md has it, with evidence: what the agent writes, without the agent.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice::evidence::chain::{Certificate, Pin, key_name};
use sluice::evidence::checkpoint::{Checkpoint, Origin};
use sluice::evidence::note::{Note, Signer};
use sluice::evidence::tile::{Collector, Tile};
use sluice::evidence::tree::{self, Hash, Head};
use ulid::Ulid;

/// A store that is written.
pub struct Maker {
    dir: PathBuf,
    /// Its id.
    pub store: Ulid,
    /// Number of the segment that is written, and its bytes.
    segment: u64,
    bytes: Vec<u8>,
    /// Of the next frame.
    pub sequence: u64,
    log: Ulid,
    first: u64,
    tree: Collector,
    key: u64,
    heads: Vec<(Ulid, Head)>,
    clock: u64,
    seed: u8,
}

impl Maker {
    /// An empty one, with the first key.
    pub fn new(dir: &Path) -> Self {
        Self::with_seed(dir, 1)
    }

    /// The same with other keys.
    pub fn with_seed(dir: &Path, seed: u8) -> Self {
        fs::create_dir_all(dir).expect("directory");
        let mut maker = Self {
            dir: dir.to_owned(),
            store: Ulid::from_parts(1_700_000_000_000, 1),
            segment: 0,
            bytes: Vec::new(),
            sequence: 1,
            log: Ulid::nil(),
            first: 1,
            tree: Collector::default(),
            key: 0,
            heads: Vec::new(),
            clock: 0,
            seed,
        };
        maker.certify(0, 0);
        maker
    }

    /// The first key, as an auditor has it.
    pub fn vkey(&self) -> String {
        self.signer(0).verifier().to_string()
    }

    fn signer(&self, number: u64) -> Signer {
        let seed = [self.seed, number as u8].repeat(16);
        Signer::new(&key_name(self.store, number), seed.as_slice().try_into().expect("32")).expect("name")
    }

    /// The time, a second later each time.
    pub fn time(&mut self) -> String {
        self.clock += 1;
        format!(
            "2026-11-23T{:02}:{:02}:{:02}.000000Z",
            self.clock / 3600,
            self.clock / 60 % 60,
            self.clock % 60
        )
    }

    fn certify(&mut self, number: u64, by: u64) -> String {
        let pins = self.heads.drain(..).map(|(log, tree)| Pin { log, tree }).collect();
        let key = self.signer(number).verifier().clone();
        let certificate = Certificate { store: self.store, number, key, time: self.time(), pins };
        let note = Note::sign(certificate.to_string(), &self.signer(by)).expect("text").to_string();
        append(&self.dir.join("keys"), format!("{note}\n").as_bytes());
        self.key = number;
        note
    }

    /// A log begins, with a segment. What the one before came to is said in it.
    pub fn begin(&mut self) {
        let previous = match self.log {
            log if log == Ulid::nil() => json!([]),
            log => {
                let Head { size, root } = self.tree.head();
                json!([{"log": log.to_string(), "size": size, "root": root.to_string(), "ended": true}])
            }
        };
        self.flush();
        self.log = Ulid::from_parts(1_700_000_000_000 + self.sequence, 7);
        self.first = self.sequence;
        self.tree = Collector::default();
        let begins = json!({"boot_id": "boot", "boottime_us": self.clock * 1_000_000, "previous": previous});
        self.head(Some(begins));
    }

    /// The next segment begins.
    pub fn rotate(&mut self) {
        self.flush();
        self.head(None);
    }

    fn head(&mut self, begins: Option<Value>) {
        let previous =
            (self.segment > 0).then(|| json!({"segment": self.segment, "offset": self.bytes.len()}));
        self.segment += 1;
        self.bytes = b"SLUICE1\n".to_vec();
        let mut log = json!({"id": self.log.to_string(), "first": self.first});
        if let Some(begins) = begins {
            log["begins"] = begins;
        }
        let head = json!({"store": self.store.to_string(), "segment": self.segment, "time": self.time(), "previous": previous, "log": log});
        self.record(1, &head);
    }

    /// A record.
    pub fn record(&mut self, kind: u8, payload: &Value) {
        self.raw(kind, payload.to_string().as_bytes());
    }

    /// A record of bytes.
    pub fn raw(&mut self, kind: u8, payload: &[u8]) {
        self.bytes.extend_from_slice(&frame(kind, self.sequence, payload));
        self.sequence += 1;
        let dir = self.logs().join("tile");
        self.tree.push(tree::record(kind, payload), |tile| write_tile(&dir, &tile));
    }

    /// A record with only a time, and fields.
    pub fn event(&mut self, kind: u8, mut fields: Value) {
        fields["time"] = json!(self.time());
        self.record(kind, &fields);
    }

    /// A sign of life.
    pub fn beat(&mut self) {
        let boottime = self.clock * 1_000_000 + 1_000_000;
        self.event(9, json!({"boot_id": "boot", "boottime_us": boottime, "open": 0}));
    }

    /// An exchange: a few records.
    pub fn exchange(&mut self, number: u32) {
        let session = Ulid::from_parts(1_700_000_000_000, u128::from(number) + 1).to_string();
        self.event(16, json!({"session": session, "client": "127.0.0.1:1"}));
        self.event(32, json!({"session": session, "exchange": 1, "host": "www.example.test", "path": format!("/{number}")}));
        self.event(33, json!({"session": session, "exchange": 1, "status": 200}));
        self.event(36, json!({"session": session, "exchange": 1, "summary": {}}));
        self.event(18, json!({"session": session, "duration_us": 5}));
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs").join(self.log.to_string())
    }

    /// The tree as it is is signed. Gives the note.
    pub fn checkpoint(&mut self) -> String {
        let head = self.tree.head();
        let time = self.time();
        let origin = Origin { store: self.store, log: self.log };
        let text = Checkpoint { origin, tree: head, time, more: Vec::new() }.to_string();
        let note = Note::sign(text, &self.signer(self.key)).expect("text").to_string();
        self.heads.retain(|(log, _)| *log != self.log);
        self.heads.push((self.log, head));
        fs::create_dir_all(self.logs()).expect("directory");
        append(&self.logs().join("checkpoints"), format!("{note}\n").as_bytes());
        fs::write(self.logs().join("checkpoint"), &note).expect("checkpoint");
        note
    }

    /// The next key.
    pub fn renew(&mut self) {
        let note = self.certify(self.key + 1, self.key);
        self.event(8, json!({"certificate": note}));
    }

    /// The next key, while no log is written.
    pub fn renew_before_a_log(&mut self) {
        self.certify(self.key + 1, self.key);
    }

    /// Sets the clock.
    pub fn back_to(&mut self, second: u64) {
        self.clock = second;
    }

    /// The log ends in order: stop, checkpoint, tiles.
    pub fn stop(&mut self) {
        self.event(3, json!({"boot_id": "boot", "version": "0", "pid": 1}));
        self.checkpoint();
        let dir = self.logs().join("tile");
        self.tree.partial().for_each(|tile| write_tile(&dir, &tile));
        self.flush();
    }

    /// What was made goes to disk.
    pub fn flush(&self) {
        if self.segment > 0 {
            fs::write(self.segment_path(self.segment), &self.bytes).expect("segment");
        }
    }

    /// A segment's file.
    pub fn segment_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.sluice"))
    }

    /// A piece of a body, beside the segment that is written: without the time that newer versions have at the end.
    pub fn body(&mut self, stored: &[u8]) {
        let path = self.dir.join(format!("{:012}.bodies", self.segment));
        let place = fs::metadata(&path).map_or(0, |file| file.len());
        append(&path, stored);
        let mut reference = vec![7; 16];
        reference.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        reference.extend_from_slice(&0_u64.to_le_bytes());
        reference.extend_from_slice(&(stored.len() as u32 - 16).to_le_bytes());
        reference.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        reference.extend_from_slice(&self.segment.to_le_bytes());
        reference.extend_from_slice(&place.to_le_bytes());
        reference.extend_from_slice(&Hash::of(stored).0);
        self.raw(37, &reference);
    }

    /// The key of the bodies beside the segment that is written.
    pub fn body_key(&mut self, file: &[u8]) {
        let number = self.segment;
        fs::write(self.dir.join(format!("{number:012}.key")), file).expect("key");
        let sha256: String = Hash::of(file).0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.event(10, json!({"number": number, "file_sha256": sha256, "commitment": "", "recipients": []}));
    }
}

/// A small store with everything: two logs, three segments, two keys, a body, tiles.
pub fn small(dir: &Path) -> Maker {
    let mut maker = Maker::new(dir);
    maker.begin();
    maker.event(2, json!({"boot_id": "boot", "version": "0", "pid": 1}));
    maker.body_key(b"age-encryption.org/v1\n");
    maker.exchange(1);
    maker.checkpoint();
    maker.body(b"sealed bytes of a body");
    maker.beat();
    maker.checkpoint();
    maker.rotate();
    maker.renew();
    maker.exchange(2);
    maker.stop();
    maker.begin();
    maker.event(2, json!({"boot_id": "boot", "version": "0", "pid": 2}));
    maker.checkpoint();
    maker.exchange(3);
    maker.stop();
    maker
}

/// A frame.
pub fn frame(kind: u8, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut header = (payload.len() as u32).to_le_bytes().to_vec();
    header.extend_from_slice(&[kind, 0, 0, 0]);
    header.extend_from_slice(&sequence.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(payload), &header);
    [&header[..], &crc.to_le_bytes(), payload].concat()
}

/// The frames of a segment: where each begins, and its bytes.
pub fn frames(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let (mut at, mut all) = (8, Vec::new());
    while at + 20 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4")) as usize;
        all.push((at, bytes[at..at + 20 + length].to_vec()));
        at += 20 + length;
    }
    all
}

fn append(path: &Path, bytes: &[u8]) {
    let mut all = fs::read(path).unwrap_or_default();
    all.extend_from_slice(bytes);
    fs::write(path, all).expect("file");
}

fn write_tile(dir: &Path, tile: &Tile) {
    let path = dir.join(tile.at.to_string());
    fs::create_dir_all(path.parent().expect("directory")).expect("directory");
    fs::write(path, tile.bytes()).expect("tile");
}
