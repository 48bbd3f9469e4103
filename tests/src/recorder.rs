//! A writer to a store as the agent is one, without the rest of it: the store, and beside it the warden's signer with its
//! own files. Small enough to be killed or cut off thousands of times; what it was told and what it must still have can be
//! compared.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice::audit::{self, Finding, Grade, Options, Report};
use sluice::evidence::tree::Head;
use sluice::record::age::Identity;
use sluice::record::read::unseal::{Access, Unsealer};
use sluice::record::read::{Reader, list};
use sluice::record::trees::Due;
use sluice::record::{Error, ExchangeHead, Session, Settings, Store, Unrecordable};
use sluice::types::{Caller, Destination, HostSource, Summary, TagName, Verdict};
use sluice::warden::signer::Signer;
use sluice::wire::{Signed, Unsigned};

/// The gate waits so long for the last signature.
const LAST: Duration = Duration::from_secs(2);

/// Who reads the bodies.
pub fn identity() -> Identity {
    Identity::parse("AGE-SECRET-KEY-1L3R0WQ3JE5FRG3LGC703RSVS5L7VGRNNPKFW0EUDC7FQA9342WEQPZV3XK")
        .expect("an identity")
}

/// The store below `dir`.
pub fn store_in(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Small segments, so that there are many edges.
pub fn settings(dir: &Path) -> Settings {
    let recipients = vec![identity().recipient()];
    Settings { segment_bytes: 128 * 1024, recipients, ..Settings::new(store_in(dir)) }
}

/// Begins a session.
///
/// # Errors
/// The store refuses.
pub fn begin(store: &Store) -> Result<Session, Unrecordable> {
    let caller = Caller {
        start_time: Some(1),
        comm: "child".to_owned(),
        ..Caller::unknown(TagName::parse("ci").expect("tag"), std::process::id())
    };
    let destination = Destination::new("192.0.2.7".parse().expect("ip"), 443);
    store.begin(Arc::new(caller), destination, "127.0.0.1:40000".parse().expect("client"), None)
}

/// A request.
pub fn head() -> ExchangeHead<'static> {
    ExchangeHead {
        protocol: "http/1.1",
        host_source: HostSource::Request,
        host: "api.example".to_owned(),
        method: Some("GET".into()),
        path: Some("/".into()),
        headers: std::borrow::Cow::default(),
        rule: None,
        verdict: Verdict::Allow,
        identity: None,
        caller_keys: Vec::new(),
        credential: None,
    }
}

/// A body that can be checked anywhere.
pub fn pattern(exchange: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(31).wrapping_add(exchange) as u8).collect()
}

/// See the module.
pub struct Recorder {
    /// The store.
    pub store: Store,
    trees: SyncSender<Option<Due>>,
    signing: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Opens the store in `dir`, and the signer beside it, as the agent does at its start.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let store = Store::open(settings(dir), Arc::new(|_| ()))?;
        let (trees, due) = mpsc::sync_channel(4);
        let (sender, signer) = (trees.clone(), Signer::new(dir.join("audit")));
        // One that is dropped is asked for again.
        store.keep_evidence(Arc::new(move |tree| drop(sender.try_send(Some(tree)))));
        let own = store.clone();
        let signing = std::thread::spawn(move || sign(&own, signer, &due));
        Ok(Self { store, trees, signing: Some(signing) })
    }

    /// Ends the record in order, as the gate does: what is recorded is signed, if the signer can.
    pub fn close(mut self) {
        self.store.close();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        // What has no signature is said by the next log.
        let _ = runtime.block_on(async { tokio::time::timeout(LAST, self.store.sealed()).await });
        self.trees.send(None).expect("the signer waits");
        self.signing.take().expect("it runs").join().expect("the signer does not panic");
    }
}

/// What the gate and the warden do between them, `gate/evidence.rs` and `warden/notary.rs`.
fn sign(store: &Store, mut signer: Signer, trees: &Receiver<Option<Due>>) {
    let mut ask = |due: Due| -> (Head, Option<Signed>) {
        let Due { store: name, log, growth, last } = due;
        let new = growth.new;
        let unsigned = Unsigned { store: name, log, growth, keys: store.keys(), last };
        (new, signer.sign(&unsigned).ok())
    };
    while let Ok(Some(due)) = trees.recv() {
        let (log, last) = (due.log.clone(), due.last);
        let mut asked = ask(due);
        if let Some(Signed::Behind(head)) = asked.1 {
            asked = match store.behind(&log, head, last) {
                Some(due) => ask(due),
                None => continue,
            };
        }
        match asked {
            (new, Some(Signed::Note { note, keys })) => store.signed(&log, new, &note, &keys),
            (_, Some(Signed::Closed)) => store.log_closed(&log),
            _ => {}
        }
    }
}

/// An exchange of a session.
pub type Key = (String, u32);

/// What is in a store: its exchanges, and how much of each one's body there is.
#[derive(Debug, Default)]
pub struct Kept {
    /// Exchanges.
    pub exchanges: HashMap<Key, Summary>,
    /// Bytes of bodies, each compared with what was sent.
    pub bodies: HashMap<Key, u64>,
    /// What is not as it was written, by the reader's word; bodies with a hole or of other bytes.
    pub damage: Vec<String>,
}

impl Kept {
    /// Reads the store in `dir`.
    ///
    /// # Errors
    /// It cannot be read, or an exchange is in it twice.
    pub fn read(dir: &Path) -> Result<Self> {
        let dir = store_in(dir);
        let mut kept = Self::default();
        let (mut twice, mut exchanges) = (None, HashMap::new());
        let damage = list::all(&dir, &list::Filter::default(), |s| {
            let key = (s.session.clone(), s.exchange);
            if exchanges.insert(key.clone(), s).is_some() {
                twice = Some(key);
            }
            ControlFlow::Continue(())
        })?;
        kept.exchanges = exchanges;
        ensure!(twice.is_none(), "an exchange is listed twice: {twice:?}");
        let reader = Reader::open(&dir)?;
        let access = Access::with(identity());
        let mut unsealer = Unsealer::new(&dir, &access);
        let mut wrong = Vec::new();
        reader.frames(0..reader.segments(), |frame| {
            let Some(piece) = unsealer.piece(&frame) else { return ControlFlow::Continue(()) };
            let at = piece.at;
            let length = kept.bodies.entry((ulid_text(at.session), at.exchange)).or_insert(0);
            match piece.bytes {
                Ok(data) => {
                    let end = at.offset as usize + data.len();
                    if *length != at.offset || data[..] != pattern(at.exchange, end)[at.offset as usize..] {
                        wrong.push(format!("{at:?} is not what was sent, behind {length} bytes"));
                    }
                    *length = end as u64;
                }
                Err(why) => wrong.push(format!("{at:?}: {why:?}")),
            }
            ControlFlow::Continue(())
        })?;
        kept.damage = damage.iter().map(ToString::to_string).chain(wrong).collect();
        Ok(kept)
    }
}

/// A ULID's text (Crockford's Base32), so that a test does not trust the store's own.
fn ulid_text(id: u128) -> String {
    let digits = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..26).rev().map(|at| char::from(digits[(id >> (5 * at)) as usize & 31])).collect()
}

/// Verifies the store in `dir` as `sluice audit verify` does.
///
/// # Errors
/// It cannot be read, or is not good.
pub fn verified(dir: &Path, key: Option<&str>) -> Result<Report> {
    let key = key.map(str::parse).transpose().ok().context("a key")?;
    let report = audit::verify(&store_in(dir), &Options { key, ..Options::default() })?;
    let bad: Vec<&Finding> = report.findings.iter().filter(|found| found.grade == Grade::Bad).collect();
    ensure!(report.good(), "{bad:#?}\n{report:#?}");
    Ok(report)
}
