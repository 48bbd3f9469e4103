//! Opening the store: one writer, what the last one left, a fresh segment; and closing it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use time::OffsetDateTime;
use tokio::sync::watch;

use super::before;
use super::bodies::Sealer;
use super::frame::{Batch, Kind};
use super::headers::Salt;
use super::left::Left;
use super::lock::Lock;
use super::log::{Bounds, Evidence, Log};
use super::logs::boot_id;
use super::payload::{Run, stamp};
use super::segment::{self, Found};
use super::session::Session;
use super::trees::{self, Due, Notary};
use super::veil::Veil;
use super::writer::Need;
use super::{Health, Settings, Sink, Unrecordable, Unseen};
use crate::evidence::tree::Head;
use crate::turn::Ahead;
use crate::types::{Caller, Destination, LookedUp};

/// A smaller segment could not hold a head and what is reserved.
const SMALLEST: u64 = 64 * 1024;

/// Why the store cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made, read or written.
    #[error(
        "the store {dir} cannot be used; it must be a directory that the user running the gate can read and write"
    )]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// Somebody else writes.
    #[error(
        "the store {dir} is in use by another agent; stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A segment cannot be read.
    #[error(
        "the segment {path} cannot be read; give the user running the gate access to it, or move it away"
    )]
    Segment {
        /// The file.
        path: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// No segment can be made.
    #[error(
        "the store {dir} takes no new segment ({why}); free space on its file system or set a smaller size bound"
    )]
    NoSegment {
        /// The directory.
        dir: PathBuf,
        /// What was said.
        why: String,
    },
    /// Nobody could read the bodies.
    #[error("nobody is named who may read bodies: a store needs a recipient to seal their keys for")]
    NoRecipient,
    /// The sync thread cannot be made.
    #[error("the store's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The store's writing side. Cheap to clone. When the last clone and the last session are gone it is closed.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

/// What sessions and exchanges use of the store.
pub(super) struct Shared {
    pub log: Arc<Log>,
    pub sink: Sink,
    pub salt: Salt,
    pub body_limit: u64,
    unseen: OnceLock<Unseen>,
    run: Run,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.log.close(None);
    }
}

impl Shared {
    /// What must not be seen in a session of this caller's.
    pub fn veil(&self, caller: &Caller) -> Arc<Veil> {
        self.unseen.get().map_or_else(Veil::none, |unseen| unseen(caller))
    }
}

impl Ahead for Store {
    fn pass(&self) -> io::Result<()> {
        self.0.log.pass()
    }
}

impl Store {
    #[cfg(test)]
    pub(super) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.0.log)
    }

    pub(super) fn shared_log(&self) -> &Log {
        &self.0.log
    }

    /// Opens the store, or makes it. Cuts off what a crash left half written and says so in the store. Reads at most one
    /// segment, so it takes well under a second.
    ///
    /// # Errors
    /// [`Error`]: the gate must not serve.
    pub fn open(settings: Settings, sink: Sink) -> Result<Self, Error> {
        let Settings { dir, body_limit, segment_bytes, max_bytes, max_age, recipients } = settings;
        let bounds = Bounds { bytes: max_bytes, age: max_age };
        if recipients.is_empty() {
            return Err(Error::NoRecipient);
        }
        let segment_bytes = segment_bytes.max(SMALLEST);
        let unusable = |source| Error::Dir { dir: dir.clone(), source };
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(&dir).map_err(unusable)?;
        }
        let lock = Lock::take(&dir).map_err(unusable)?.ok_or_else(|| Error::InUse { dir: dir.clone() })?;
        let place = lock.place().map_err(unusable)?;
        let (all, spares) = segment::list(&dir).map_err(unusable)?;
        // What somebody else writes is not to be touched, nor what he has laid ready.
        let own = |found: &Found| place.as_ref().is_none_or(|place| found.number >= place.segment);
        let (mut segments, mut all): (Vec<Found>, Vec<Found>) = all.into_iter().partition(own);
        if place.is_none() {
            spares.iter().try_for_each(fs::remove_file).map_err(unusable)?;
        }
        let drains = place.as_ref().and_then(|place| place.log.clone());
        let draining = drains.as_ref().map(|end| end.log.clone());
        let left = Left::of(&dir, &mut segments, place)?;
        all.append(&mut segments);
        let before = before::logs(&dir, &all, drains.as_ref(), left.end).map_err(unusable)?;
        if before.boot_id.is_some_and(|before| before != boot_id()) {
            trees::mend(&dir).map_err(unusable)?;
        }
        let sealer = Arc::new(Sealer::new(recipients, segment_bytes));
        let mut writer = left.writer(&dir, segment_bytes, before.ends, sealer);
        let run = Run {
            time: stamp(OffsetDateTime::now_utc()),
            boot_id: boot_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        let mut batch = Batch::default();
        let framed = batch.json(Kind::Start, &run).and_then(|()| match &left.cut {
            Some(cut) => batch.json(Kind::Recovered, cut),
            None => Ok(()),
        });
        framed
            .map_err(|error| error.to_string())
            .and_then(|()| writer.append(&mut batch, Need::More))
            .map_err(|why| Error::NoSegment { dir: dir.clone(), why })?;
        let salt = Salt::of(&dir).map_err(unusable)?;
        let keys = trees::count_keys(&dir).map_err(unusable)?;
        let log = Log::start(writer, lock, bounds, left.last, Evidence::new(draining, keys))
            .map_err(Error::Thread)?;
        Ok(Self(Arc::new(Shared { log, sink, salt, body_limit, unseen: OnceLock::new(), run })))
    }

    /// In sessions that begin from now on, what `unseen` says is masked in every frame: heads, bodies, errors. Only the
    /// first call counts.
    pub fn keep_unseen(&self, unseen: Unseen) {
        let _ = self.0.unseen.set(unseen);
    }

    /// Has the trees over what is recorded signed from now on: at least once a second while there is something new. Only the
    /// first call counts.
    pub fn keep_evidence(&self, notary: Notary) {
        self.0.log.keep_evidence(notary);
    }

    /// Keeps a checkpoint: `note` is a signed tree `head` of this log, `keys` the certificates that follow those there are.
    pub fn signed(&self, log: &str, head: Head, note: &str, keys: &[String]) {
        self.0.log.signed(log, head, note, keys);
    }

    /// The tree `head` was signed last of this log: gives what is to be signed in place of what was asked for, `last` or not.
    pub fn behind(&self, log: &str, head: Head, last: bool) -> Option<Due> {
        self.0.log.behind(log, head, last)
    }

    /// Nothing more is signed of this log: what follows is another's.
    pub fn log_closed(&self, log: &str) {
        self.0.log.log_closed(log);
    }

    /// How many certificates of keys the store has.
    pub fn keys(&self) -> u64 {
        self.0.log.keys()
    }

    /// Waits, after [`Store::close`], until all is signed. Bounded by its caller.
    pub async fn sealed(&self) {
        self.0.log.sealed().await;
    }

    /// Begins a session. `looked_up`: the name that the caller was told the destination's address for.
    ///
    /// # Errors
    /// [`Unrecordable`]: refuse the connection.
    pub fn begin(
        &self,
        caller: Arc<Caller>,
        destination: Destination,
        client: SocketAddr,
        looked_up: Option<&LookedUp>,
    ) -> Result<Session, Unrecordable> {
        Session::begin(self.0.clone(), caller, destination, client, looked_up)
    }

    /// How the store does: changes when it begins or ceases to refuse, and with each trouble.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.log.health()
    }

    /// Lets the next writer begin while this one records what is under way to its end.
    ///
    /// # Errors
    /// In words. Nothing has changed: the next one must wait for the end of this.
    pub fn stand_aside(&self) -> Result<(), String> {
        self.0.log.stand_aside()
    }

    /// Ends the record in order: what is held is written, the stop frame is the last, all is synced, the directory is free
    /// for the next writer. Sessions that are still open get [`Unrecordable`] from then on. Blocks for the sync.
    pub fn close(&self) {
        let mut batch = Batch::default();
        let run = Run { time: stamp(OffsetDateTime::now_utc()), ..self.0.run.clone() };
        let framed = batch.json(Kind::Stop, &run);
        self.0.log.close(framed.is_ok().then_some(&mut batch));
    }
}
