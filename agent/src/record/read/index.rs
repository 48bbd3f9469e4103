//! An index over the segments that are whole: which exchanges there are, and where. It is made from the segments and can be
//! thrown away at any time; nothing that it says is believed further than the place in the store that it names. SQLite, so
//! that operators can ask it themselves (`docs/store.md` has the tables).
//!
//! It belongs to whoever reads, beside the store and never in it: what the gate writes is not opened as a database by root.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params, params_from_iter};

use super::list::{Filter, Host, Open, Status, walk_on};
use super::{Damage, Error, Reader};
use crate::record::frame::{HEADER, Kind, MAX_PAYLOAD, Seen, see};
use crate::record::payload::{ExchangeEnd, SessionBegin};
use crate::record::segment;
use crate::types::{Caller, Summary};

/// Of the tables: another one's index is made anew.
const VERSION: &str = "1";

const TABLES: &str = include_str!("index.sql");

/// Why there is no index. The store can be read without.
#[derive(Debug, thiserror::Error)]
pub enum Unindexed {
    /// The database.
    #[error("the index {path} cannot be used; remove it, or make it anew with sluice store rebuild-index")]
    Database {
        /// Its file.
        path: PathBuf,
        /// What was said.
        #[source]
        source: rusqlite::Error,
    },
    /// Its file.
    #[error("the index {path} cannot be made")]
    File {
        /// The file.
        path: PathBuf,
        /// What was said.
        #[source]
        source: io::Error,
    },
    /// It names a place at which something else is.
    #[error("the index {path} is not of this store: make it anew with sluice store rebuild-index")]
    Stale {
        /// Its file.
        path: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
}

/// See the module.
pub struct Index {
    path: PathBuf,
    database: Connection,
}

/// Where the index of a store is: beside its directory.
pub fn path_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".index.sqlite");
    name.into()
}

/// What a catching up added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Segments.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
}

impl Index {
    /// Opens the index in `path` of the store that `reader` reads, or makes an empty one.
    ///
    /// # Errors
    /// [`Unindexed`].
    pub fn open(path: &Path, reader: &Reader) -> Result<Self, Unindexed> {
        let failed = |source| Unindexed::Database { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // It says who spoke with whom: nobody else's to read, nor what SQLite lays beside it.
        let mut made = OpenOptions::new();
        made.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let made = made.open(path);
        made.map_err(|source| Unindexed::File { path: path.to_owned(), source })?;
        let database = Connection::open_with_flags(path, flags).map_err(failed)?;
        let mut index = Self { path: path.to_owned(), database };
        index.prepare(reader.store().unwrap_or_default()).map_err(failed)?;
        Ok(index)
    }

    fn prepare(&mut self, store: &str) -> rusqlite::Result<()> {
        // It can be made anew: what a power cut takes is made again.
        self.database.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA trusted_schema = OFF;",
        )?;
        self.database.busy_timeout(std::time::Duration::from_secs(10))?;
        let of = |name: &str| {
            let mut asked = self.database.prepare("SELECT value FROM meta WHERE name = ?1").ok()?;
            asked.query_row([name], |row| row.get::<_, String>(0)).ok()
        };
        if of("version").as_deref() == Some(VERSION) && of("store").as_deref() == Some(store) {
            return Ok(());
        }
        self.clear(store)
    }

    fn clear(&mut self, store: &str) -> rusqlite::Result<()> {
        let write = self.database.transaction()?;
        for table in ["meta", "exchange", "open_session", "open_exchange"] {
            write.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
        }
        write.execute_batch(TABLES)?;
        for (name, value) in [("version", VERSION), ("store", store), ("through", "0")] {
            write.execute("INSERT INTO meta VALUES (?1, ?2)", [name, value])?;
        }
        write.commit()
    }

    /// The number of the last segment that it covers; 0 for none.
    ///
    /// # Errors
    /// [`Unindexed`].
    pub fn through(&self) -> Result<u64, Unindexed> {
        let asked = self
            .database
            .query_row("SELECT value FROM meta WHERE name = 'through'", [], |row| row.get::<_, String>(0));
        Ok(asked.map_err(|source| self.failed(source))?.parse().unwrap_or(0))
    }

    /// Forgets everything that it covers.
    ///
    /// # Errors
    /// [`Unindexed`].
    pub fn forget(&mut self, reader: &Reader) -> Result<(), Unindexed> {
        self.clear(reader.store().unwrap_or_default()).map_err(|source| self.failed(source))
    }

    /// Adds the segments that are whole and that it does not cover, and takes out what is no more in the store.
    ///
    /// # Errors
    /// [`Unindexed`].
    pub fn catch_up(&mut self, reader: &Reader) -> Result<Added, Unindexed> {
        let through = self.through()?;
        let whole = reader.whole();
        let from = (0..whole).find(|index| reader.number(*index) > through).unwrap_or(whole);
        let mut added = Added::default();
        for index in from..whole {
            added.records += self.add(reader, index)?;
            added.segments += 1;
        }
        if reader.segments() > 0 {
            let first = reader.number(0);
            let gone = self.database.execute("DELETE FROM exchange WHERE segment < ?1", [first as i64]);
            gone.map_err(|source| self.failed(source))?;
        }
        Ok(added)
    }

    fn add(&mut self, reader: &Reader, index: usize) -> Result<u64, Unindexed> {
        let (sessions, exchanges) = self.under_way()?;
        let path = self.path.clone();
        let failed = |source| Unindexed::Database { path: path.clone(), source };
        let write = self.database.transaction().map_err(failed)?;
        let mut open = Open::from(reader, sessions, exchanges);
        let (mut records, mut wrong) = (0, Ok(()));
        reader.frames(index..index + 1, |frame| {
            records += 1;
            // One that ends has its own place; one that was interrupted has none, and is kept here whole.
            let place = (frame.kind == Some(Kind::ExchangeEnd)).then_some((frame.segment, frame.offset));
            let mut put = |summary: Summary| {
                wrong = insert(&write, &summary, place, frame.segment).map_err(failed);
                if wrong.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            match open.frame(&frame, &mut put) {
                Ok(flow) => flow,
                Err(error) => {
                    wrong = Err(error.into());
                    ControlFlow::Break(())
                }
            }
        })?;
        wrong?;
        let (sessions, exchanges) = open.into_parts();
        keep_open(&write, &sessions, &exchanges, reader.number(index)).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(records)
    }

    /// What had begun and not ended where the index ends.
    #[expect(clippy::type_complexity, reason = "the two maps that a walk begins with")]
    pub(super) fn under_way(
        &self,
    ) -> Result<(HashMap<String, SessionBegin<Caller>>, BTreeMap<(String, u32), Summary>), Unindexed> {
        let rows = |table: &str| -> rusqlite::Result<Vec<String>> {
            let mut asked = self.database.prepare(table)?;
            asked.query_map([], |row| row.get::<_, String>(0))?.collect()
        };
        let sessions = rows("SELECT begin FROM open_session").map_err(|source| self.failed(source))?;
        let exchanges = rows("SELECT summary FROM open_exchange").map_err(|source| self.failed(source))?;
        let sessions = sessions.iter().filter_map(|json| {
            let begin: SessionBegin<Caller> = serde_json::from_str(json).ok()?;
            Some((begin.session.clone(), begin))
        });
        let exchanges = exchanges.iter().filter_map(|json| {
            let summary: Summary = serde_json::from_str(json).ok()?;
            Some(((summary.session.clone(), summary.exchange), summary))
        });
        Ok((sessions.collect(), exchanges.collect()))
    }

    /// The wanted exchanges that it covers and that ended, `limit` at most, those that began last.
    ///
    /// # Errors
    /// [`Unindexed`].
    pub fn newest(&self, reader: &Reader, filter: &Filter, limit: usize) -> Result<Vec<Summary>, Unindexed> {
        let (wanted, values) = conditions(filter);
        let sql = format!(
            "SELECT session, exchange, segment, offset, summary FROM exchange {wanted} ORDER BY time DESC LIMIT {limit}"
        );
        let failed = |source| self.failed(source);
        let mut asked = self.database.prepare(&sql).map_err(failed)?;
        let mut rows = asked.query(params_from_iter(values)).map_err(failed)?;
        let (mut found, mut files) = (Vec::new(), HashMap::new());
        while let Some(row) = rows.next().map_err(failed)? {
            let whole: Option<String> = row.get(4).map_err(failed)?;
            let summary = match whole {
                Some(json) => serde_json::from_str(&json).ok(),
                None => {
                    let (segment, offset): (i64, i64) =
                        (row.get(2).map_err(failed)?, row.get(3).map_err(failed)?);
                    let place = (segment.unsigned_abs(), offset.unsigned_abs());
                    read(reader.dir(), place, &mut files)
                }
            };
            let named: (String, u32) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            let summary: Summary = summary
                .filter(|summary: &Summary| (&summary.session, summary.exchange) == (&named.0, named.1))
                .ok_or_else(|| Unindexed::Stale { path: self.path.clone() })?;
            found.push(summary);
        }
        Ok(found)
    }

    fn failed(&self, source: rusqlite::Error) -> Unindexed {
        Unindexed::Database { path: self.path.clone(), source }
    }
}

/// As [`super::list::newest`], with an index for the segments that are whole: only what is behind them is read.
///
/// # Errors
/// [`Unindexed`]: the store can be read without.
pub fn newest(
    dir: &Path,
    path: &Path,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<Summary>, Vec<Damage>), Unindexed> {
    let reader = Reader::open(dir)?;
    let mut index = Index::open(path, &reader)?;
    index.catch_up(&reader)?;
    let key = |summary: &Summary| (summary.time.clone(), summary.session.clone(), summary.exchange);
    let known = index.newest(&reader, filter, limit)?;
    let mut found: BTreeMap<_, _> = known.into_iter().map(|summary| (key(&summary), summary)).collect();
    let (sessions, exchanges) = index.under_way()?;
    let open = Open::from(&reader, sessions, exchanges);
    let damage = walk_on(open, reader.whole(), |summary| {
        if filter.wants(&summary) {
            found.insert(key(&summary), summary);
            if found.len() > limit {
                found.pop_first();
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok((found.into_values().collect(), damage))
}

fn insert(
    write: &Transaction<'_>,
    s: &Summary,
    place: Option<(u64, u64)>,
    segment: u64,
) -> rusqlite::Result<()> {
    let mut statement =
        write.prepare_cached("INSERT INTO exchange VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)")?;
    let whole = place.is_none().then(|| serde_json::to_string(s).unwrap_or_default());
    let (segment, offset) = place.unwrap_or((segment, 0));
    let verdict = serde_json::to_value(s.verdict).ok().and_then(|v| v.as_str().map(str::to_owned));
    statement.execute(params![
        s.session,
        s.exchange,
        s.time,
        s.tag,
        s.unit,
        s.host.to_ascii_lowercase(),
        s.status,
        verdict.unwrap_or_default(),
        s.rule,
        segment as i64,
        offset as i64,
        whole
    ])?;
    Ok(())
}

fn keep_open(
    write: &Transaction<'_>,
    sessions: &HashMap<String, SessionBegin<Caller>>,
    exchanges: &BTreeMap<(String, u32), Summary>,
    through: u64,
) -> rusqlite::Result<()> {
    write.execute_batch("DELETE FROM open_session; DELETE FROM open_exchange")?;
    for (id, begin) in sessions {
        let json = serde_json::to_string(begin).unwrap_or_default();
        write.prepare_cached("INSERT INTO open_session VALUES (?1, ?2)")?.execute(params![id, json])?;
    }
    for ((session, exchange), summary) in exchanges {
        let json = serde_json::to_string(summary).unwrap_or_default();
        let mut put = write.prepare_cached("INSERT INTO open_exchange VALUES (?1, ?2, ?3)")?;
        put.execute(params![session, exchange, json])?;
    }
    write.execute("UPDATE meta SET value = ?1 WHERE name = 'through'", [through.to_string()])?;
    Ok(())
}

/// The filter in SQL, and the values in it.
fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let Filter { since, until, tag, unit, host, status } = filter;
    let (mut parts, mut values) = (Vec::new(), Vec::new());
    let mut and = |part: &str, value: Value| {
        values.push(value);
        parts.push(part.replace('?', &format!("?{}", values.len())));
    };
    let text = |text: &String| Value::Text(text.clone());
    since.iter().for_each(|since| and("time >= ?", text(since)));
    until.iter().for_each(|until| and("time < ?", text(until)));
    tag.iter().for_each(|tag| and("tag = ?", text(tag)));
    unit.iter().for_each(|unit| and("unit = ?", text(unit)));
    match host {
        Some(Host::Exact(name)) => and("host = ?", Value::Text(name.to_ascii_lowercase())),
        Some(Host::Below(suffix)) => {
            let end = format!(".{}", suffix.to_ascii_lowercase());
            and("substr(host, -length(?)) = ?", Value::Text(end));
        }
        None => {}
    }
    match *status {
        Some(Status::Exact(code)) => and("status = ?", Value::Integer(i64::from(code))),
        Some(Status::Class(digit)) => and("status / 100 = ?", Value::Integer(i64::from(digit))),
        None => {}
    }
    let wanted = if parts.is_empty() { String::new() } else { format!("WHERE {}", parts.join(" AND ")) };
    (wanted, values)
}

/// The summary in the frame at a place, if there is one.
fn read(
    dir: &Path,
    (segment, offset): (u64, u64),
    files: &mut HashMap<u64, Option<File>>,
) -> Option<Summary> {
    let file =
        files.entry(segment).or_insert_with(|| segment::open_plain(&dir.join(segment::name(segment))).ok());
    let file = file.as_ref()?;
    let mut bytes = vec![0; HEADER];
    let exact = |bytes: &mut [u8]| -> io::Result<()> { file.read_exact_at(bytes, offset) };
    exact(&mut bytes).ok()?;
    if let Seen::Need(whole) = see(&bytes) {
        if whole > HEADER + MAX_PAYLOAD {
            return None;
        }
        bytes.resize(whole, 0);
        exact(&mut bytes).ok()?;
    }
    let Seen::Frame { kind, length, .. } = see(&bytes) else { return None };
    if Kind::of(kind) != Some(Kind::ExchangeEnd) {
        return None;
    }
    let end: ExchangeEnd<'_> = serde_json::from_slice(&bytes[HEADER..HEADER + length]).ok()?;
    Some(end.summary.into_owned())
}
