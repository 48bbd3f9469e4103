//! One tag's questions to the resolver whose asker is remembered.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use agent_ebpf::{Origin, Tuple};
use aya::maps::{HashMap, Map, MapData, MapError};

use super::{Error, table};

type Table = HashMap<MapData, Tuple, Origin>;

/// The map `ASKERS` of one tag.
pub struct Askers(Mutex<Table>);

fn failed(source: MapError) -> Error {
    Error::Map { map: "ASKERS", source }
}

impl Askers {
    pub fn new(table: Table) -> Self {
        Self(Mutex::new(table))
    }

    /// Opens a pinned map; `None` if it is not there.
    pub fn from_pin(path: &Path) -> Result<Option<Self>, Error> {
        Ok(table::from_pin(path, Map::LruHashMap).map_err(failed)?.map(Self::new))
    }

    /// Who asked last with these addresses.
    pub fn find(&self, key: &Tuple) -> Result<Option<Origin>, Error> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match table.get(key, 0) {
            Err(MapError::KeyNotFound) => Ok(None),
            found => found.map(Some).map_err(failed),
        }
    }
}
