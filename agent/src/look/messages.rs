//! The messages of a WebSocket both ways, in the order of their times.

use super::item::Item;
use super::pace::Pace;
use super::websocket::{Deflate, Message, messages};

/// A message, its way and its time.
pub struct Timed {
    /// Towards the client.
    pub down: bool,
    /// Nanoseconds since 1970.
    pub at: i128,
    /// Where in the recorded bytes its first frame began (frames of other messages may lie between).
    pub from: u64,
    /// It.
    pub message: Message,
}

/// All of an exchange that became a WebSocket; none of another.
pub fn both_ways(item: &Item) -> Vec<Timed> {
    if !item.is_websocket() {
        return Vec::new();
    }
    let pace = Pace::of(item);
    let extensions = item.answers("sec-websocket-extensions");
    let side = |down: bool| {
        let bytes = if down { &item.exchange.down } else { &item.exchange.up };
        let (all, _) = messages(bytes, Deflate::agreed(extensions, if down { "server" } else { "client" }));
        let mut from = 0;
        let timed = |message: Message| {
            let begun = std::mem::replace(&mut from, message.end);
            Timed { down, at: pace.at(down, message.end), from: begun, message }
        };
        all.into_iter().map(timed).collect::<Vec<_>>()
    };
    let mut all = side(false);
    all.extend(side(true));
    // Stable: at one time the client's stand first, which the server's answer.
    all.sort_by_key(|timed| timed.at);
    all
}
