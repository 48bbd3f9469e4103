//! When the bytes of a body went by: by the times of its pieces where the store has them, else spread evenly between the
//! times that it has (the heads and the end).

use super::item::Item;
use crate::record::read::whole::Piece;

/// The pace of one exchange. Times are nanoseconds since 1970.
#[derive(Debug)]
pub struct Pace<'a> {
    pieces: &'a [Piece],
    began: i128,
    /// From when to when the bodies went, `[up, down]`, and how long they are.
    spans: [(i128, i128, u64); 2],
}

impl<'a> Pace<'a> {
    /// Of an exchange.
    pub fn of(item: &'a Item) -> Self {
        let began = item.began();
        let answered = item.answered();
        let ended = item.ended().or(answered).unwrap_or(began);
        // Of what goes both ways at once (a tunnel, a WebSocket) the request's side ends with the whole.
        let both_ways = !item.is_http() || item.is_websocket();
        let up = if both_ways { ended } else { answered.unwrap_or(ended) };
        let up_from = if item.is_websocket() { answered.unwrap_or(began) } else { began };
        let (up_length, down_length) = (item.exchange.up.len() as u64, item.exchange.down.len() as u64);
        let spans = [(up_from, up, up_length), (answered.unwrap_or(began), ended, down_length)];
        Self { pieces: &item.exchange.pieces, began, spans }
    }

    /// Whether the store says when pieces of bodies went by.
    pub fn is_known(&self) -> bool {
        self.pieces.iter().any(|piece| piece.at.is_some())
    }

    /// When the byte before `end` of a body went by.
    pub fn at(&self, down: bool, end: u64) -> i128 {
        let last = end.saturating_sub(1);
        let known = self.pieces.iter().find_map(|piece| {
            let holds = piece.down == down && (piece.offset..piece.offset + piece.length).contains(&last);
            piece.at.filter(|_| holds)
        });
        let (from, to, length) = self.spans[usize::from(down)];
        if let Some(micros) = known {
            // By the monotonic clock; the heads' times are the wall's, which may have been set meanwhile.
            return (self.began + i128::from(micros) * 1000).max(from);
        }
        from + (to - from).max(0) * i128::from(end.min(length)) / i128::from(length.max(1))
    }
}
