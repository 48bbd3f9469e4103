//! What the record has of a body where that is not what passes: hidden for itself. What cannot be read is counted, and not kept.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::Masking;
use super::coded::Coded;
use super::reader::{How, Reader};
use crate::record::{Direction, Exchange, Unrecordable};

/// One direction's record.
pub(super) struct Recorder {
    exchange: Exchange,
    direction: Direction,
    masking: Arc<Masking>,
    /// `None`: nothing more of it is kept.
    reader: Option<Reader>,
    out: Vec<u8>,
}

impl Recorder {
    /// Of a body with this head. `counted`: what it hides stands in the summary.
    pub(super) fn new(
        masking: &Arc<Masking>,
        exchange: &Exchange,
        direction: Direction,
        headers: &HeaderMap,
        counted: bool,
    ) -> Self {
        let how = How::Hide(Arc::clone(&masking.masks.record));
        let reader = Some(Reader::new(masking, how, headers, counted));
        Self { exchange: exchange.clone(), direction, masking: Arc::clone(masking), reader, out: Vec::new() }
    }

    /// Of a body that another reads, who says what the record may have: [`Recorder::take`].
    pub(super) fn told(masking: &Arc<Masking>, exchange: &Exchange, direction: Direction) -> Self {
        let masking = Arc::clone(masking);
        Self { exchange: exchange.clone(), direction, masking, reader: None, out: Vec::new() }
    }

    /// Some of it, as the record may have it.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(super) fn take(&self, kept: &[u8]) -> Result<(), Unrecordable> {
        match self.direction {
            Direction::Up => self.exchange.up(kept),
            Direction::Down => self.exchange.down(kept),
        }
    }

    /// Whether any more of it is to be read.
    pub(super) fn reads(&self) -> bool {
        self.reader.is_some()
    }

    /// Some of it, decoded.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(super) fn push(&mut self, plain: &[u8]) -> Result<(), Unrecordable> {
        let Some(reader) = &mut self.reader else {
            self.passed(plain.len());
            return Ok(());
        };
        let pushed = reader.push(plain, &mut self.out);
        self.keep(pushed, plain.len())
    }

    /// It has ended.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(super) fn end(&mut self) -> Result<(), Unrecordable> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let ended = reader.end(&mut self.out);
        self.keep(ended, 0)?;
        self.reader = None;
        Ok(())
    }

    /// Trailers.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Unrecordable> {
        self.end()?;
        let mut trailers = trailers.clone();
        let how = How::Hide(Arc::clone(&self.masking.masks.record));
        self.masking.trailers(&how, &mut trailers, false);
        self.exchange.trailers(self.direction, &trailers)
    }

    /// Nothing more of it is kept.
    pub(super) fn give_up(&mut self) {
        self.reader = None;
    }

    fn keep(&mut self, read: Result<(), String>, length: usize) -> Result<(), Unrecordable> {
        if read.is_err() {
            self.give_up();
            self.out.clear();
            self.passed(length);
            return Ok(());
        }
        let kept = self.take(&self.out);
        self.out.clear();
        kept
    }

    /// So much has passed that is not kept.
    pub(super) fn passed(&self, length: usize) {
        match self.direction {
            Direction::Up => self.exchange.passed(length as u64, 0),
            Direction::Down => self.exchange.passed(0, length as u64),
        }
    }
}

/// The record of a request's body, as it goes upstream.
pub(in crate::engine::http) struct Upward {
    coded: Option<Coded>,
    recorder: Recorder,
    plain: Vec<u8>,
}

impl Upward {
    /// Where what goes upstream is not yet what the record may have.
    pub(in crate::engine::http) fn of(
        masking: Option<&Arc<Masking>>,
        headers: &HeaderMap,
        exchange: &Exchange,
    ) -> Option<Box<Self>> {
        let masking = masking.filter(|masking| masking.records_request())?;
        let counted = masking.masks.request.is_none();
        let mut recorder = Recorder::new(masking, exchange, Direction::Up, headers, counted);
        let coded = Coded::of(headers).unwrap_or_else(|_| {
            recorder.give_up();
            None
        });
        Some(Box::new(Self { coded, recorder, plain: Vec::new() }))
    }

    /// One frame of it.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(in crate::engine::http) fn frame(&mut self, frame: &Frame<Bytes>) -> Result<(), Unrecordable> {
        if let Some(trailers) = frame.trailers_ref() {
            return self.recorder.trailers(trailers);
        }
        let Some(data) = frame.data_ref() else { return Ok(()) };
        let Some(coded) = self.coded.as_mut().filter(|_| self.recorder.reads()) else {
            return self.recorder.push(data);
        };
        let mut input = &data[..];
        loop {
            match coded.step(&mut input, &mut self.plain) {
                Err(_) => {
                    self.recorder.give_up();
                    return self.recorder.push(data);
                }
                Ok(more) => {
                    self.recorder.push(&self.plain)?;
                    if !more {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// It has ended.
    ///
    /// # Errors
    /// [`Unrecordable`].
    pub(in crate::engine::http) fn end(&mut self) -> Result<(), Unrecordable> {
        self.recorder.end()
    }
}
