//! An answer's body: values are hidden and tokens followed by theirs on its way to the caller, and the record has it with both
//! hidden. What came together is passed on together: an event waits for nothing but what may yet become a value.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::coded::Coded;
use super::head::drop_sums;
use super::reader::{How, Reader};
use super::record::Recorder;
use super::{Masking, unreadable};
use crate::engine::http::body::Broke;
use crate::engine::http::clean::Answered;
use crate::record::{Direction, Exchange};

/// See the module.
pub(in crate::engine::http) struct Answer {
    inner: Answered,
    masking: Arc<Masking>,
    coded: Option<Coded>,
    /// What the caller gets; `None`: what came.
    wire: Option<Reader>,
    record: Recorder,
    /// Whether what reads for the caller says what the record has.
    keeps: bool,
    /// Came, not read yet.
    input: Bytes,
    more: bool,
    plain: Vec<u8>,
    /// Nothing more comes.
    over: bool,
    /// Nothing more is left to pass on but trailers.
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl Masking {
    /// Reads an answer's head, and rewrites it. Gives the fields as the record may have them, and what reads its body.
    ///
    /// # Errors
    /// Why it cannot be masked.
    pub(in crate::engine::http) fn answer<B: Body>(
        self: &Arc<Self>,
        response: &mut Response<B>,
        switched: bool,
    ) -> Result<(HeaderMap, Parts), String> {
        let body = !switched && !response.body().is_end_stream();
        let kept = response.headers().clone();
        let mut coded = None;
        if body && self.answers().is_some() {
            let kind = kept.get(http::header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
            let parts = kind.is_some_and(|kind| kind.trim_ascii_start().starts_with(b"multipart/byteranges"));
            if parts || response.status() == StatusCode::PARTIAL_CONTENT {
                return Err("a part of an answer cannot be masked (206)".to_owned());
            }
            if let Some(why) = unreadable(&kept) {
                return Err(why);
            }
            coded = Coded::of(&kept)?;
        }
        // The answer to HEAD speaks of a body that is not there.
        let speaks = !switched && response.status() != StatusCode::NOT_MODIFIED;
        let seen = self.answer_fields(response.headers_mut(), body || speaks);
        Ok((seen, Parts { headers: kept, coded }))
    }
}

/// What is kept of an answer's head for its body.
pub(in crate::engine::http) struct Parts {
    headers: HeaderMap,
    coded: Option<Coded>,
}

impl Answer {
    /// Of a body with this head.
    pub(in crate::engine::http) fn new(
        inner: Answered,
        masking: &Arc<Masking>,
        Parts { headers, coded }: Parts,
        exchange: &Exchange,
    ) -> Self {
        let counted = masking.masks.answer.is_some();
        let mut wire = masking.answers().map(|how| Reader::new(masking, how, &headers, counted));
        let keeps = masking.answer_is_record() && wire.as_mut().is_some_and(Reader::keeps);
        let mut record = if keeps {
            Recorder::told(masking, exchange, Direction::Down)
        } else {
            Recorder::new(masking, exchange, Direction::Down, &headers, !counted)
        };
        let coded = match (&wire, coded) {
            (Some(_), coded) => coded,
            // Nothing is refused for the record alone.
            (None, _) => Coded::of(&headers).unwrap_or_else(|_| {
                record.give_up();
                None
            }),
        };
        Self {
            inner,
            masking: Arc::clone(masking),
            coded,
            wire,
            record,
            keeps,
            input: Bytes::new(),
            more: false,
            plain: Vec::new(),
            over: false,
            ended: false,
            trailers: None,
        }
    }

    /// Reads what has come; gives what may be passed on of it.
    fn step(&mut self) -> Result<Option<Bytes>, Broke> {
        let mut out = Vec::new();
        while self.more && out.is_empty() {
            if self.wire.is_none() {
                return self.record_only().map(Some);
            }
            let data = match &mut self.coded {
                None => {
                    self.more = false;
                    std::mem::take(&mut self.input)
                }
                Some(coded) => {
                    let mut input = &self.input[..];
                    self.more =
                        coded.step(&mut input, &mut self.plain).map_err(|why| refused(&self.masking, why))?;
                    self.input = self.input.slice_ref(input);
                    Bytes::copy_from_slice(&self.plain)
                }
            };
            if !self.keeps {
                self.record.push(&data).map_err(Broke::Unrecordable)?;
            }
            // What is all there is read at once.
            let last = self.over && self.coded.is_none();
            if let Some(wire) = &mut self.wire {
                let read = if last { wire.last(&data, &mut out) } else { wire.push(&data, &mut out) };
                self.read(read, &out, data.len())?;
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// What the caller gets was read, or not: what the record has of it.
    fn read(&mut self, read: Result<(), String>, out: &[u8], length: usize) -> Result<(), Broke> {
        let kept = match (read, &mut self.wire) {
            (Ok(()), Some(wire)) if self.keeps && !out.is_empty() => match wire.kept(out) {
                Some(kept) => self.record.take(&kept),
                None => {
                    self.record.passed(length);
                    Ok(())
                }
            },
            (Ok(()), _) => Ok(()),
            (Err(why), _) => {
                if self.keeps {
                    // Counted, and not kept.
                    self.record.passed(length);
                }
                return Err(refused(&self.masking, why));
            }
        };
        kept.map_err(Broke::Unrecordable)
    }

    /// What came passes as it is; the record reads it.
    fn record_only(&mut self) -> Result<Bytes, Broke> {
        self.more = false;
        let data = std::mem::take(&mut self.input);
        let Some(coded) = self.coded.as_mut().filter(|_| self.record.reads()) else {
            self.record.push(&data).map_err(Broke::Unrecordable)?;
            return Ok(data);
        };
        let mut input = &data[..];
        while let Ok(more) = coded.step(&mut input, &mut self.plain) {
            self.record.push(&self.plain).map_err(Broke::Unrecordable)?;
            if !more {
                return Ok(data);
            }
        }
        self.record.give_up();
        self.record.push(&data).map_err(Broke::Unrecordable)?;
        Ok(data)
    }

    /// It is over: the rest.
    fn end(&mut self) -> Result<Option<Bytes>, Broke> {
        self.ended = true;
        let mut out = Vec::new();
        if let Some(wire) = &mut self.wire {
            let whole = self.coded.as_ref().map_or(Ok(()), Coded::end);
            let ended = whole.and_then(|()| wire.end(&mut out));
            self.read(ended, &out, 0)?;
        }
        match &mut self.trailers {
            None => self.record.end().map_err(Broke::Unrecordable)?,
            Some(trailers) => {
                self.record.trailers(trailers).map_err(Broke::Unrecordable)?;
                if let Some(how) = self.masking.answers() {
                    drop_sums(trailers);
                    let counted = !matches!(how, How::Restore);
                    self.masking.trailers(&how, trailers, counted);
                }
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        loop {
            if let Some(data) = self.step()? {
                if self.over && !self.more && self.wire.as_ref().is_some_and(Reader::is_ended) {
                    // Nothing is left to pass on.
                    self.end()?;
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.over
                && !self.ended
                && let Some(data) = self.end()?
            {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                None => self.over = true,
                Some(Ok(data)) => {
                    (self.input, self.more) = (data, true);
                    self.over |= self.inner.is_end_stream();
                }
                Some(Err(frame)) => {
                    self.over = true;
                    self.trailers = frame.into_trailers().ok();
                }
            }
        }
    }
}

fn refused(masking: &Masking, why: String) -> Broke {
    Broke::Unmasked(masking.refuse(why))
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            (self.over, self.ended, self.more, self.trailers) = (true, true, false, None);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // What is rewritten has a length that nobody knows yet.
        if self.wire.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}
