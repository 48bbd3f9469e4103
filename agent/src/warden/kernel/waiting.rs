//! One tag's connections that are established and that nobody has asked for: look up once, sweep what was forgotten.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_ebpf::{Origin, Tuple};
use aya::maps::{HashMap, Map, MapData, MapError};
use nix::time::{ClockId, clock_gettime};

use super::pins::Pins;
use super::{Error, table};
use crate::types::TagName;

/// How long an entry outlives its connection: what was written before the close may still wait for the gate.
const AFTER_CLOSE: Duration = Duration::from_secs(60);
/// How long an entry may wait at all: a gate that was away for longer closes the connection.
const AT_ALL: Duration = Duration::from_secs(15 * 60);

type Table = HashMap<MapData, Tuple, agent_ebpf::Waiting>;

/// The map `WAITING` of one tag.
pub struct Waiting(Mutex<Table>);

fn failed(source: MapError) -> Error {
    Error::Map { map: "WAITING", source }
}

impl Waiting {
    pub fn new(table: Table) -> Self {
        Self(Mutex::new(table))
    }

    /// Opens a pinned map; `None` if it is not there.
    pub fn from_pin(path: &Path) -> Result<Option<Self>, Error> {
        Ok(table::from_pin(path, Map::HashMap).map_err(failed)?.map(Self::new))
    }

    /// Those of a tag's that programs of an earlier ABI filled and that can be read all the same.
    pub fn older(pins: &Pins, name: &TagName) -> Result<Vec<Self>, Error> {
        let places = pins.older(name, "WAITING", agent_ebpf::WAITING_SINCE);
        places.iter().filter_map(|place| Self::from_pin(place).transpose()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry out.
    pub fn take(&self, key: &Tuple) -> Result<Option<Origin>, Error> {
        let mut table = self.lock();
        let found = match table.get(key, 0) {
            Err(MapError::KeyNotFound) => return Ok(None),
            found => found.map_err(failed)?,
        };
        table::remove(&mut table, key).map_err(failed)?;
        Ok(Some(found.origin))
    }

    /// Removes what is overdue at `now` (time since boot).
    pub fn sweep(&self, now: Duration) -> Result<usize, Error> {
        let mut table = self.lock();
        let since = |ns: u64| now.saturating_sub(Duration::from_nanos(ns));
        let overdue = |w: &agent_ebpf::Waiting| {
            (w.closed_at != 0 && since(w.closed_at) > AFTER_CLOSE) || since(w.origin.connected_at) > AT_ALL
        };
        let mut swept = Vec::new();
        for entry in table.iter().take(agent_ebpf::WAITING_ENTRIES as usize) {
            match entry {
                Ok((key, waiting)) if overdue(&waiting) => swept.push(key),
                Ok(_) | Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        swept.iter().try_for_each(|key| table::remove(&mut table, key)).map_err(failed)?;
        Ok(swept.len())
    }

    /// How many entries there are.
    pub fn len(&self) -> Result<usize, Error> {
        let table = self.lock();
        let keys = table.keys().take(agent_ebpf::WAITING_ENTRIES as usize);
        keys.map(|key| key.map(|_| 1)).sum::<Result<usize, MapError>>().map_err(failed)
    }
}

/// The kernel's key for an accepted connection.
pub fn tuple(netns: u64, client: SocketAddr, listener: SocketAddr) -> Tuple {
    let mapped = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Tuple {
        netns,
        source: mapped(client.ip()),
        target: mapped(listener.ip()),
        source_port: client.port(),
        target_port: listener.port(),
        zero: 0,
    }
}

/// Whether a tag leads connections to this address: its number is the third octet of IPv4 ones.
pub fn may_be(tag: u32, listener: SocketAddr) -> bool {
    match listener.ip().to_canonical() {
        IpAddr::V4(v4) => u32::from(v4.octets()[2]) == tag & 0xff,
        IpAddr::V6(_) => true,
    }
}

/// Time since boot, with sleep: what `bpf_ktime_get_boot_ns` says.
pub fn boot_time() -> Result<Duration, Error> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).map_err(|errno| Error::Io {
        what: "cannot read",
        path: "CLOCK_BOOTTIME".into(),
        source: errno.into(),
    })
}
