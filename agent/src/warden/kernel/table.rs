//! What the tables of the tags have in common: a pinned one is opened, and an entry that may be gone is removed.

use std::io::ErrorKind;
use std::path::Path;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};

/// Opens a pinned map of the given kind; `None` if it is not there.
pub fn from_pin<T>(path: &Path, kind: fn(MapData) -> Map) -> Result<Option<T>, MapError>
where
    T: TryFrom<Map, Error = MapError>,
{
    if !path.exists() {
        return Ok(None);
    }
    T::try_from(kind(MapData::from_pin(path)?)).map(Some)
}

/// Removes an entry; nothing there is fine.
pub fn remove<K: Pod, V: Pod>(table: &mut HashMap<MapData, K, V>, key: &K) -> Result<(), MapError> {
    match table.remove(key) {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
