//! A request's body on its way in: a stream, of which the begin may have been read to be judged. What was judged is what
//! goes on, byte for byte, but for what masks hide of it: where a content coding was undone for the judgement, the coded bytes go
//! on.
//!
//! A server may leave a coding as it is and read the coded bytes themselves. So a coded body is judged only where nobody
//! could take those for something else: see [`two_meanings`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::Broke;
use super::masked::Hiding;
use crate::codec::coding::{Decoder, Fault, Step, two_meanings};
use crate::engine::held::Held;
use crate::types::action;

/// A body that is judged must be there within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// Octets of a refused body that are let come, …
const LET_COME: usize = 1 << 20;
/// … and for how long.
const LET_COME_WITHIN: Duration = Duration::from_millis(500);
/// A longer body is not kept for a second sending.
const REPLAYED: usize = 1 << 20;
/// Decoded at once before others get their turn.
const TURN: usize = 256 << 10;
/// By how much coded bytes may be more than what they stand for: a sixteenth, and this.
const CODED_MORE: usize = 4096;

/// See the module.
pub(super) struct Source {
    /// Read already, and kept for a second sending: comes before `read`.
    kept: Bytes,
    /// Read already.
    read: BytesMut,
    /// What that stands for, where it has a content coding.
    decoded: Option<Vec<u8>>,
    trailers: Option<HeaderMap>,
    /// What was not read; `None` when all was.
    rest: Option<Incoming>,
    /// Why the whole is not known, where it is not.
    unknowable: Option<String>,
    /// Whether there is nothing more to poll for, as whoever sends it is told: an empty body that came with a framing goes
    /// on with it, read or not.
    ended: bool,
    /// What is read takes of the process's memory.
    held: Option<Held>,
    /// Hides what passes, where masks hold for it.
    hiding: Option<Box<Hiding>>,
}

impl Source {
    pub(super) fn new(body: Incoming) -> Self {
        let ended = body.is_end_stream();
        Self {
            kept: Bytes::new(),
            read: BytesMut::new(),
            decoded: None,
            trailers: None,
            rest: Some(body),
            unknowable: None,
            ended,
            held: None,
            hiding: None,
        }
    }

    /// Whatever is read of it is taken of this share, and only so much.
    pub(super) fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// Hands on what was taken: a copy of the body outlives it.
    pub(super) fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// Reads it whole, up to `max` bytes after content codings; what goes wrong is part of what is known of it.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(super) async fn read(&mut self, headers: &HeaderMap, max: u64) -> Result<(), hyper::Error> {
        let decoder = match Decoder::of_request(headers) {
            Ok(decoder) => decoder,
            Err(unsupported) => {
                self.unknowable = Some(unsupported.to_string());
                return Ok(());
            }
        };
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let coded = decoder.is_some();
        let reading = tokio::time::timeout(WITHIN, self.fill(decoder, max));
        match reading.await {
            Ok(filled) => filled?,
            Err(_) => self.unknowable = Some(format!("it was not there within {} s", WITHIN.as_secs())),
        }
        if coded && self.unknowable.is_none() {
            self.unknowable = two_meanings(headers, &self.read).map(ToOwned::to_owned);
        }
        Ok(())
    }

    /// Reads all of it as it comes; `None`: it is longer than `max` bytes, or was not there in time.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(super) async fn whole(&mut self, max: u64) -> Result<Option<&[u8]>, hyper::Error> {
        if self.hiding.is_some() {
            return Ok(None);
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if let Ok(filled) = tokio::time::timeout(WITHIN, self.fill(None, max)).await {
            filled?;
        }
        Ok((self.rest.is_none() && self.read.len() <= max).then_some(&self.read))
    }

    /// From here on what passes is hidden.
    pub(super) fn hide(&mut self, hiding: Hiding) {
        self.decoded = None;
        self.hiding = Some(Box::new(hiding));
    }

    /// Another body in place of one that was read whole.
    pub(super) fn replace(&mut self, body: &[u8]) {
        (self.read, self.decoded) = (BytesMut::from(body), None);
    }

    /// Changes trailers that have been read.
    pub(super) fn with_trailers(&mut self, change: impl FnOnce(&mut HeaderMap)) {
        if let Some(trailers) = &mut self.trailers {
            change(trailers);
        }
    }

    async fn fill(&mut self, mut decoder: Option<Decoder>, max: usize) -> Result<(), hyper::Error> {
        let coded_max = match &decoder {
            Some(_) => max.saturating_add(max / 16).saturating_add(CODED_MORE),
            None => max,
        };
        // Kept as it comes: a reading that is cut short has lost nothing.
        while let Some(rest) = &mut self.rest {
            if self.read.len() > coded_max {
                self.unknowable = Some(format!("it is longer than {coded_max} bytes"));
                return Ok(());
            }
            match std::future::poll_fn(|cx| Pin::new(&mut *rest).poll_frame(cx)).await.transpose()? {
                None => self.rest = None,
                Some(frame) => match frame.into_data() {
                    Ok(data) => {
                        self.read.extend_from_slice(&data);
                        if let Err(full) = self.reach() {
                            self.unknowable = Some(full);
                            return Ok(());
                        }
                        if let Some(decoder) = &mut decoder
                            && let Err(why) = self.decode(decoder, &data, max).await
                        {
                            self.unknowable = Some(why);
                            return Ok(());
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        if let Some(decoder) = decoder {
            self.decoded.get_or_insert_default();
            self.unknowable = decoder.finish().err().map(|fault| fault.to_string());
        }
        Ok(())
    }

    async fn decode(&mut self, decoder: &mut Decoder, mut data: &[u8], max: usize) -> Result<(), String> {
        loop {
            let decoded = self.decoded.get_or_insert_default();
            let upto = decoded.len().saturating_add(TURN).min(max.saturating_add(1));
            let step = decoder.step(&mut data, decoded, upto).map_err(|fault| fault.to_string())?;
            let too_long = decoded.len() > max;
            self.reach()?;
            match step {
                Step::Hungry => return Ok(()),
                Step::Full if too_long => return Err(Fault::TooLong(max).to_string()),
                Step::Full => tokio::task::yield_now().await,
            }
        }
    }

    /// Takes what has been read so far.
    fn reach(&mut self) -> Result<(), String> {
        let length = self.read.len() + self.decoded.as_ref().map_or(0, Vec::len);
        self.held.as_mut().map_or(Ok(()), |held| held.reach(length)).map_err(|full| full.to_string())
    }

    /// Lets come what is on its way, and forgets it: a stream of HTTP/2 that is answered before its request has ended is reset
    /// behind the answer (RFC 9113 §8.1), and clients (curl 7.88) take that for a failure and show no answer.
    pub(super) async fn let_come(&mut self) {
        let coming = async {
            let mut left = LET_COME;
            while let Some(rest) = self.rest.as_mut().filter(|_| left > 0) {
                match std::future::poll_fn(|cx| Pin::new(&mut *rest).poll_frame(cx)).await {
                    Some(Ok(frame)) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                    Some(Err(_)) | None => self.rest = None,
                }
            }
        };
        // Whoever sends more than that, or slower, may miss the answer.
        let _ = tokio::time::timeout(LET_COME_WITHIN, coming).await;
    }

    /// Whether some of it is still to come from the client, as far as is known.
    pub(super) fn is_coming(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| !rest.is_end_stream())
    }

    /// The same body once more, where all of it is there. For one that has been judged: policy sees neither again.
    pub(super) fn replay(&mut self) -> Option<Self> {
        let whole = self.rest.is_none() && self.trailers.is_none();
        let empty = self.ended && self.read.is_empty();
        if !(whole || empty) || self.read.len() > REPLAYED || self.hiding.is_some() {
            return None;
        }
        self.kept = self.read.split().freeze();
        Some(Self {
            kept: self.kept.clone(),
            read: BytesMut::new(),
            decoded: None,
            trailers: None,
            rest: None,
            unknowable: None,
            ended: self.ended,
            // The bytes are there until the later of the two has gone.
            held: self.held.take(),
            hiding: None,
        })
    }

    /// What policy may know of it.
    pub(super) fn known(&self) -> action::Body<'_> {
        match (&self.unknowable, &self.rest) {
            (Some(why), _) => action::Body::Unknowable(why),
            (None, None) => action::Body::Whole(self.decoded.as_deref().unwrap_or(&self.read)),
            (None, Some(_)) => action::Body::Unread,
        }
    }
}

impl Source {
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.kept.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.kept)))));
        }
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.read.split().freeze()))));
        }
        let next = match &mut self.rest {
            Some(rest) => std::task::ready!(Pin::new(rest).poll_frame(cx)),
            None => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
        };
        self.ended = next.is_none();
        Poll::Ready(next)
    }

    fn poll_hidden(
        &mut self,
        hiding: &mut Hiding,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        loop {
            if let Some(data) = hiding.step().map_err(Broke::Unmasked)? {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if hiding.is_over() {
                let mut trailers = self.trailers.take();
                trailers.iter_mut().for_each(|trailers| hiding.trailers(trailers));
                self.ended = true;
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let next = std::task::ready!(self.poll_raw(cx)).transpose().map_err(Broke::Sender)?;
            match next.map(Frame::into_data) {
                Some(Ok(data)) => hiding.push(data),
                ended => {
                    self.trailers = ended.and_then(Result::err).and_then(|frame| frame.into_trailers().ok());
                    let rest = hiding.end().map_err(Broke::Unmasked)?;
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let this = &mut *self;
        let Some(mut hiding) = this.hiding.take() else {
            return this.poll_raw(cx).map(|next| next.map(|frame| frame.map_err(Broke::Sender)));
        };
        let polled = this.poll_hidden(&mut hiding, cx);
        this.hiding = Some(hiding);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match (&self.rest, &self.hiding) {
            (_, Some(hiding)) => hiding.is_over() && self.ended,
            (Some(rest), None) => self.kept.is_empty() && self.read.is_empty() && rest.is_end_stream(),
            (None, None) => self.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.hiding.is_some() {
            return SizeHint::default();
        }
        let read = (self.kept.len() + self.read.len()) as u64;
        let Some(rest) = &self.rest else { return SizeHint::with_exact(read) };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + read);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read);
        }
        hint
    }
}
