//! Messages on a WebSocket: each is masked whole, and recorded as it may be kept. What spans two messages is not found.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::Masking;
use super::reader::{How, Reader};
use crate::codec::websocket::frame;
use crate::mask::Binary;
use crate::record::{Exchange, Unrecordable};
use crate::types::action::Speaker;

/// Opcodes (RFC 6455 §5.2).
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// One side's messages.
pub(in crate::engine::http) struct Side {
    masking: Arc<Masking>,
    exchange: Exchange,
    from: Speaker,
    /// Set where the record keeps no more of it.
    lost: bool,
}

impl Side {
    pub(in crate::engine::http) fn new(masking: &Arc<Masking>, exchange: &Exchange, from: Speaker) -> Self {
        Self { masking: Arc::clone(masking), exchange: exchange.clone(), from, lost: false }
    }

    fn wire(&self) -> Option<How> {
        match self.from {
            Speaker::Client => self.masking.masks.request.as_ref().map(|plan| How::Hide(Arc::clone(plan))),
            Speaker::Server => self.masking.answers(),
        }
    }

    /// Whether the record has what goes on, but for values in place of tokens.
    fn wire_is_record(&self) -> bool {
        match self.from {
            Speaker::Client => self.masking.masks.request.is_some() && !self.masking.records_request(),
            Speaker::Server => self.masking.answer_is_record(),
        }
    }

    /// Whether what cannot be read ends the conversation.
    pub(in crate::engine::http) fn must_read(&self) -> bool {
        self.wire().is_some()
    }

    /// What goes on in place of a message, recorded. `None`: the message itself.
    ///
    /// # Errors
    /// Why it cannot be masked, or recorded: nothing of it may go on.
    pub(in crate::engine::http) fn message(
        &mut self,
        binary: bool,
        data: &[u8],
    ) -> Result<Option<Vec<u8>>, String> {
        let hides = matches!(self.wire(), Some(How::Hide(_) | How::Both(_)));
        let wire = self.wire().map(|how| self.through(&how, binary, data, hides)).transpose();
        let (wire, kept) = wire.map_err(|why| self.masking.refuse(why))?.unzip();
        let kept = match kept.flatten().filter(|_| self.wire_is_record()) {
            Some(kept) => Ok(kept),
            None => {
                let how = How::Hide(Arc::clone(&self.masking.masks.record));
                self.through(&how, binary, data, !hides).map(|(hidden, _)| hidden)
            }
        };
        match kept {
            Ok(kept) => self.keep(binary, &kept).map_err(|error| error.to_string())?,
            Err(_) => self.pass(data.len()),
        }
        Ok(wire.filter(|wire| wire != data))
    }

    /// Nothing that follows is kept: these octets passed unread.
    pub(in crate::engine::http) fn pass(&mut self, octets: usize) {
        self.lost = true;
        match self.from {
            Speaker::Client => self.exchange.passed(octets as u64, 0),
            Speaker::Server => self.exchange.passed(0, octets as u64),
        }
    }

    fn keep(&mut self, binary: bool, data: &[u8]) -> Result<(), Unrecordable> {
        if self.lost {
            self.pass(data.len());
            return Ok(());
        }
        let frame = frame(if binary { BINARY } else { TEXT }, data, None);
        match self.from {
            Speaker::Client => self.exchange.up(&frame),
            Speaker::Server => self.exchange.down(&frame),
        }
    }

    /// What becomes of a message, and what the record has of that where it is hidden by the same plan.
    fn through(
        &self,
        how: &How,
        binary: bool,
        data: &[u8],
        counted: bool,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
        let refuses = |plan: &crate::mask::Plan| plan.binary() == Binary::Refuse;
        if binary && matches!(how, How::Hide(plan) | How::Both(plan) if refuses(plan)) {
            return Err("a message that is no text, which the mask refuses".to_owned());
        }
        let kinds: &[&'static str] = match data.trim_ascii_start().first() {
            _ if binary => &["application/octet-stream"],
            // What only looks like JSON is text.
            Some(b'{' | b'[') => &["application/json", "text/plain"],
            _ => &["text/plain"],
        };
        let mut failed = String::new();
        for kind in kinds {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let (mut out, again) = (Vec::new(), how.again());
            let mut reader = Reader::new(&self.masking, again, &headers, counted);
            reader.keeps();
            match reader.last(data, &mut out) {
                Ok(()) => {
                    let kept = reader.kept(&out).map(Cow::into_owned);
                    return Ok((out, kept));
                }
                Err(why) => {
                    reader.uncount();
                    failed = why;
                }
            }
        }
        Err(failed)
    }
}
