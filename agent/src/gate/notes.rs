//! What somebody did with the store, recorded and done at the warden's word.

use crate::types::note::Note;
use crate::wire::ToWarden;

use super::Services;

/// Does it beside all else: it waits for the disk. Bounded: the warden asks for a few at once.
pub fn begin(call: u64, note: Box<Note>, services: &Services) {
    let (store, warden) = (services.store.clone(), services.warden.clone());
    tokio::task::spawn_blocking(move || {
        let outcome = store.note(&note);
        warden.tell(ToWarden::Noted { call, outcome });
    });
}
