//! The chain of signing keys: each hour and each start has a key of its own, certified by the one before, which is then
//! erased. Who takes the host later cannot sign anything for the time before.
//!
//! A certificate is a signed note, signed by the *old* key (the first by itself):
//!
//! ```text
//! sluice/<store's ULID>/key
//! <number, from 0>
//! <the new verifier key>
//! <RFC 3339 in UTC with microseconds>
//! <log's ULID> <size> <root, base64>      one line a log; "- 0 -" when there is none
//! ```
//!
//! The lines at the end *pin* trees: the last that the old key signed of **each log that it signed anything of**, closed
//! meanwhile or not, and what its own certificate pinned of logs that are still open. Nobody can change that later, the key is
//! gone. So of every log, in the epoch of key N, what the certificate N pins is the least and what N + 1 pins is the end;
//! and a log that was pinned before and is no more was closed.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use super::checkpoint::{self, Checkpoint, Origin};
use super::note::{self, Note, Unsigned, VerifierKey};
use super::tree::{Hash, Head};

/// What stands for no log.
const NONE: &str = "- 0 -";
/// Most logs that a certificate pins: one is open at a time, two while a gate drains.
const PINS: usize = 1000;

/// The name of a store's key of this number.
pub fn key_name(store: Ulid, number: u64) -> String {
    format!("sluice/{store}/key#{number}")
}

/// A tree that a certificate states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Of which log.
    pub log: Ulid,
    /// Which.
    pub tree: Head,
}

/// A key's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose.
    pub store: Ulid,
    /// The key's number, from 0.
    pub number: u64,
    /// The key. Its name is [`key_name`].
    pub key: VerifierKey,
    /// When it began.
    pub time: String,
    /// What the key before signed last.
    pub pins: Vec<Pin>,
}

impl Certificate {
    /// What it pins of a log.
    pub fn pin(&self, log: Ulid) -> Option<Head> {
        self.pins.iter().find(|pin| pin.log == log).map(|pin| pin.tree)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, number, key, time, pins } = self;
        write!(f, "sluice/{store}/key\n{number}\n{key}\n{time}\n")?;
        if pins.is_empty() {
            return writeln!(f, "{NONE}");
        }
        pins.iter().try_for_each(|pin| writeln!(f, "{} {} {}", pin.log, pin.tree.size, pin.tree.root))
    }
}

impl FromStr for Certificate {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        let mut lines = text.strip_suffix('\n').ok_or(Broken::Certificate)?.split('\n');
        let mut line = || lines.next().ok_or(Broken::Certificate);
        let store = line()?.strip_prefix("sluice/").and_then(|line| line.strip_suffix("/key"));
        let store = store.and_then(checkpoint::ulid).ok_or(Broken::Certificate)?;
        let number = checkpoint::number(line()?).ok_or(Broken::Certificate)?;
        let key: VerifierKey = line()?.parse().map_err(Broken::Note)?;
        let time = Some(line()?).filter(|time| checkpoint::is_time(time)).ok_or(Broken::Certificate)?;
        let rest: Vec<_> = lines.collect();
        let pins = match &rest[..] {
            [] => return Err(Broken::Certificate),
            [NONE] => Vec::new(),
            pins => pins.iter().map(|line| pin(line)).collect::<Option<_>>().ok_or(Broken::Certificate)?,
        };
        let mut logs: Vec<_> = pins.iter().map(|pin| pin.log).collect();
        logs.sort_unstable();
        logs.dedup();
        if key.name() != key_name(store, number) || logs.len() != pins.len() || pins.len() > PINS {
            return Err(Broken::Certificate);
        }
        Ok(Self { store, number, key, time: time.to_owned(), pins })
    }
}

fn pin(line: &str) -> Option<Pin> {
    let mut words = line.split(' ');
    let log = words.next().and_then(checkpoint::ulid)?;
    let size = words.next().and_then(checkpoint::number)?;
    let root: Hash = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Pin { log, tree: Head { size, root } })
}

/// Why a certificate does not go on from the chain before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no note.
    #[error("it is no signed note: {0}")]
    Note(#[source] note::Malformed),
    /// It is no certificate.
    #[error("its text is no certificate of a key")]
    Certificate,
    /// The key that must have signed it did not.
    #[error("the key that must have signed it did not: {0}")]
    Unsigned(#[source] Unsigned),
    /// The first key is not the one that was asked for.
    #[error("the first key is another one than the one that was given")]
    First,
    /// It is another store's.
    #[error("it is of another store")]
    Store,
    /// Its number is not the next.
    #[error("its number is not the next one")]
    Number,
    /// It is older than the one before.
    #[error("it pins a smaller or another tree of a log than the certificate before")]
    Shrunk,
}

/// Why a checkpoint is not worth anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Worthless {
    /// Its text is none.
    #[error("its text is no checkpoint: {0}")]
    Malformed(#[source] checkpoint::Malformed),
    /// No signature names a key of the chain.
    #[error("no key of the chain signed it")]
    Unknown,
    /// The signature of the key that it names is wrong.
    #[error("the signature of key {0} is wrong")]
    Wrong(u64),
    /// It is of another store.
    #[error("it is of another store")]
    Store,
    /// The key signed a smaller tree than its own certificate pins.
    #[error("key {0} signed a smaller tree than its certificate pins, or another of the same size")]
    Before(u64),
    /// The key signed a larger tree than the next certificate says it did.
    #[error(
        "key {0} signed more than the certificate of its successor says, or another tree of the same size"
    )]
    After(u64),
    /// The log was closed before this key began.
    #[error("key {0} signed for a log that was closed before it began")]
    Closed(u64),
}

/// A verified chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// One a number, from 0; never empty.
    certificates: Vec<Certificate>,
}

impl Chain {
    /// Begins with the first certificate, which signs itself: `first` is the key that it must be of. Without one the chain
    /// says no more than that all is of one hand.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn begin(note: &Note, first: Option<&VerifierKey>) -> Result<Self, Broken> {
        let certificate: Certificate = note.text().parse()?;
        if certificate.number != 0 {
            return Err(Broken::Number);
        }
        if first.is_some_and(|first| *first != certificate.key) {
            return Err(Broken::First);
        }
        note.signed_by(&certificate.key).map_err(Broken::Unsigned)?;
        Ok(Self { certificates: vec![certificate] })
    }

    /// Adds the next.
    ///
    /// # Errors
    /// [`Broken`]; the chain is as before.
    pub fn add(&mut self, note: &Note) -> Result<(), Broken> {
        let certificate: Certificate = note.text().parse()?;
        let last = self.last();
        if certificate.store != last.store {
            return Err(Broken::Store);
        }
        if Some(certificate.number) != last.number.checked_add(1) {
            return Err(Broken::Number);
        }
        note.signed_by(&last.key).map_err(Broken::Unsigned)?;
        let grew = |pin: &Pin| {
            let before = self.certificates.iter().rev().find_map(|c| c.pin(pin.log));
            before.is_none_or(|before| grows(&before, &pin.tree))
        };
        if !certificate.pins.iter().all(grew) {
            return Err(Broken::Shrunk);
        }
        self.certificates.push(certificate);
        Ok(())
    }

    /// All certificates, by number.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The store.
    pub fn store(&self) -> Ulid {
        self.last().store
    }

    /// The key that an auditor keeps.
    pub fn first(&self) -> &VerifierKey {
        &self.certificates[0].key
    }

    /// The newest certificate.
    pub fn last(&self) -> &Certificate {
        &self.certificates[self.certificates.len() - 1]
    }

    /// Reads a checkpoint that one of the keys signed, and checks what can be told without records: that what was pinned
    /// before and after allows it. Gives the key's number.
    ///
    /// # Errors
    /// [`Worthless`].
    pub fn open(&self, note: &Note) -> Result<(u64, Checkpoint), Worthless> {
        let checkpoint: Checkpoint = note.text().parse().map_err(Worthless::Malformed)?;
        if checkpoint.origin.store != self.store() {
            return Err(Worthless::Store);
        }
        let prefix = key_name(self.store(), 0);
        let prefix = prefix.trim_end_matches('0');
        let of = |name: &str| name.strip_prefix(prefix).and_then(checkpoint::number);
        let number = note.signatures().iter().find_map(|s| of(&s.name)).ok_or(Worthless::Unknown)?;
        let certificate = self.certificate(number).ok_or(Worthless::Unknown)?;
        note.signed_by(&certificate.key).map_err(|why| match why {
            Unsigned::Missing => Worthless::Unknown,
            Unsigned::Wrong => Worthless::Wrong(number),
        })?;
        self.allows(number, checkpoint.origin, &checkpoint.tree)?;
        Ok((number, checkpoint))
    }

    fn certificate(&self, number: u64) -> Option<&Certificate> {
        self.certificates.get(usize::try_from(number).ok()?)
    }

    /// Whether the key `number` may have signed this tree, by what is pinned.
    fn allows(&self, number: u64, origin: Origin, tree: &Head) -> Result<(), Worthless> {
        let Some(own) = self.certificate(number) else { return Err(Worthless::Unknown) };
        match own.pin(origin.log) {
            Some(least) if !grows(&least, tree) => return Err(Worthless::Before(number)),
            Some(_) => {}
            None => {
                let before = &self.certificates[..own.number as usize];
                if before.iter().any(|c| c.pin(origin.log).is_some()) {
                    return Err(Worthless::Closed(number));
                }
            }
        }
        match self.certificate(number + 1).map(|next| next.pin(origin.log)) {
            Some(end) if !end.is_some_and(|end| grows(tree, &end)) => Err(Worthless::After(number)),
            _ => Ok(()),
        }
    }
}

/// Whether the sizes and roots alone allow that `new` grew from `old`.
fn grows(old: &Head, new: &Head) -> bool {
    old.size < new.size || old == new
}

#[cfg(test)]
mod tests;
