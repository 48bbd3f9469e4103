//! Bodies on their way through: each frame is recorded before it is passed on, none is held back.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::clean::Answered;
use super::masked::{Masking, Upward};
use super::meter::Meter;
use super::source::Source;
use crate::credential::sigv4::{Broken, Chunks};
use crate::drain::Drain;
use crate::engine::live::{self, Live};
use crate::limit::Spent;
use crate::policy::Denied;
use crate::record::{Direction, Exchange, Unrecordable};
use crate::report::Chain;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broke {
    /// Its sender's connection failed.
    #[error("the body broke off")]
    Sender(#[source] hyper::Error),
    /// It cannot be recorded.
    #[error("the body cannot be recorded")]
    Unrecordable(#[source] Unrecordable),
    /// It is not what its signature says.
    #[error(transparent)]
    Unsigned(Broken),
    /// Rules that came later refuse it.
    #[error("{0}")]
    Cut(String),
    /// It cannot be masked.
    #[error("the body cannot be masked, and is not passed on unmasked: {0}")]
    Unmasked(String),
    /// It would show a credential.
    #[error("{0}")]
    Shows(&'static str),
}

/// Ends an exchange's record exactly once, whatever happens to the future that holds it.
pub(super) struct Finish {
    exchange: Exchange,
    drain: Drain,
    live: Option<Live>,
    /// What it takes of limits, where there are any.
    meter: Option<Meter>,
    masking: Option<Arc<Masking>>,
    done: bool,
}

impl Finish {
    pub(super) fn new(exchange: Exchange, drain: Drain) -> Self {
        Self { exchange, drain, live: None, meter: None, masking: None, done: false }
    }

    /// The exchange is cut when rules come that refuse it.
    pub(super) fn while_allowed(mut self, live: Live) -> Self {
        self.live = Some(live);
        self
    }

    /// The exchange is on the count of limits.
    pub(super) fn counted(mut self, meter: Option<Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// What it hides stands in its record.
    pub(super) fn masked(mut self, masking: Option<&Arc<Masking>>) -> Self {
        self.masking = masking.cloned();
        self
    }

    /// An answer of our own as the record may have it.
    pub(super) fn for_record(&self, answer: &Bytes) -> Bytes {
        let text = |masking: &Arc<Masking>| masking.for_record(String::from_utf8_lossy(answer).into_owned());
        self.masking.as_ref().map_or_else(|| answer.clone(), |masking| text(masking).into())
    }

    /// What hides, if anything does.
    pub(super) fn masking(&self) -> Option<&Arc<Masking>> {
        self.masking.as_ref()
    }

    /// The same, while it lasts.
    pub(super) fn meter(&mut self) -> Option<&mut Meter> {
        self.meter.as_mut()
    }

    /// Completes when rules that came meanwhile refuse the exchange.
    pub(super) async fn refused(&mut self) -> Denied {
        poll_fn(|waking| self.poll_refused(waking, true)).await
    }

    /// Rules that came later refuse it.
    fn cut(&mut self, denied: &Denied) -> Broke {
        let why = live::cut(denied);
        self.finish(Some(why.clone()));
        Broke::Cut(why)
    }

    /// As [`Live::poll_refused`].
    fn poll_refused(&mut self, waking: &mut Context<'_>, wait: bool) -> Poll<Denied> {
        self.live.as_mut().map_or(Poll::Pending, |live| live.poll_refused(waking, wait))
    }

    /// Hands on what watches the rules.
    pub(super) fn take_live(&mut self) -> Option<Live> {
        self.live.take()
    }

    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The exchange is over; only the first call counts.
    pub(super) fn finish(&mut self, error: Option<String>) {
        if !std::mem::replace(&mut self.done, true) {
            let error = match self.masking.take() {
                Some(masking) => {
                    self.exchange.masked(masking.told());
                    error.map(|error| masking.for_record(masking.explain(error)))
                }
                None => error,
            };
            self.exchange.finish(match self.meter.take() {
                Some(mut meter) => {
                    meter.end(error.is_none());
                    meter.spent().note(error)
                }
                None => error,
            });
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let why = if std::thread::panicking() {
            "the agent failed"
        } else if self.drain.has_begun() {
            "cut off while the agent was ending"
        } else {
            "the client went away before the whole answer"
        };
        self.finish(Some(why.to_owned()));
    }
}

/// The length that hyper is told: HTTP/1 frames by it; in HTTP/2 it would add a content-length that nobody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Told,
    Untold,
}

/// Held by everything that is left of an exchange: as long as there is one, the connection is not idle.
pub(super) type Open = Arc<()>;

/// A request's body: small, since hyper hands requests on by moving them.
pub(super) struct Up(pub(super) Box<Leaving>);

/// See [`Up`].
pub(super) struct Leaving {
    pub(super) inner: Source,
    /// `None`: what is sent again, and was recorded when it was sent first.
    pub(super) exchange: Option<Exchange>,
    pub(super) spent: Option<Arc<Spent>>,
    /// Signs the pieces of a body anew that is signed in pieces.
    pub(super) signing: Option<Box<Chunks>>,
    /// Records it where the record may not have what goes.
    pub(super) masked: Option<Box<Upward>>,
    pub(super) length: Length,
    pub(super) _open: Open,
}

impl Leaving {
    fn poll_signed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()?;
            let Some(chunks) = &mut self.signing else { return Poll::Ready(frame.map(Ok)) };
            match frame.map(Frame::into_data) {
                None if chunks.is_whole() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(Broke::Unsigned(Broken("it ends too early"))))),
                Some(Ok(data)) => {
                    let signed = chunks.push(&data).map_err(Broke::Unsigned)?;
                    if !signed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(signed))));
                    }
                }
                Some(Err(frame)) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }
}

impl Leaving {
    /// Nothing more comes.
    fn ended(&mut self) -> Result<(), Broke> {
        self.masked.as_mut().map_or(Ok(()), |masked| masked.end().map_err(Broke::Unrecordable))
    }
}

impl Body for Up {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let this = &mut *self.0;
        this.poll_signed(cx).map(|frame| {
            if frame.is_none()
                && let Err(broke) = this.ended()
            {
                return Some(Err(broke));
            }
            frame.map(|frame| {
                let frame = frame?;
                match (&mut this.masked, &this.exchange) {
                    (Some(masked), _) => masked.frame(&frame).map_err(Broke::Unrecordable)?,
                    (None, Some(exchange)) => {
                        record(exchange, Direction::Up, &frame).map_err(Broke::Unrecordable)?;
                    }
                    (None, None) => {}
                }
                if this.inner.is_end_stream() {
                    this.ended()?;
                }
                if let Some(spent) = &this.spent {
                    spent.bytes(frame.data_ref().map_or(0, Bytes::len) as u64);
                }
                Ok(frame)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        let signed = self.0.signing.as_ref().is_none_or(|chunks| chunks.is_whole());
        signed && self.0.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        hint(&self.0.inner, self.0.length)
    }
}

/// An answer's body.
pub(super) enum Down {
    /// The upstream's, with the guard that ends the exchange.
    Upstream { inner: Answered, finish: Finish, length: Length, _open: Open },
    /// Our own.
    Own(Option<Bytes>),
}

impl Body for Down {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        match &mut *self {
            Self::Own(bytes) => {
                Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Self::Upstream { inner, finish, .. } => {
                if let Poll::Ready(denied) = finish.poll_refused(cx, false) {
                    return Poll::Ready(Some(Err(finish.cut(&denied))));
                }
                let Poll::Ready(frame) = Pin::new(&mut *inner).poll_frame(cx) else {
                    return finish.poll_refused(cx, true).map(|denied| Some(Err(finish.cut(&denied))));
                };
                let passed = frame.map(|frame| {
                    let frame = frame?;
                    if !inner.records() {
                        record(&finish.exchange, Direction::Down, &frame).map_err(Broke::Unrecordable)?;
                    }
                    if let (Some(meter), Some(data)) = (finish.meter(), frame.data_ref()) {
                        meter.down(data);
                    }
                    Ok(frame)
                });
                match &passed {
                    Some(Err(error)) => {
                        finish.finish(Some(format!("the answer broke off: {}", Chain(error))))
                    }
                    // Whoever takes trailers does not ask again.
                    Some(Ok(frame)) if !inner.is_end_stream() && !frame.is_trailers() => (),
                    Some(Ok(_)) | None => finish.finish(None),
                }
                Poll::Ready(passed)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Upstream { inner, length, .. } => hint(inner, *length),
        }
    }
}

fn hint(inner: &impl Body, length: Length) -> SizeHint {
    match length {
        Length::Told => inner.size_hint(),
        Length::Untold => SizeHint::default(),
    }
}

fn record(exchange: &Exchange, direction: Direction, frame: &Frame<Bytes>) -> Result<(), Unrecordable> {
    match (frame.data_ref(), frame.trailers_ref(), direction) {
        (Some(data), _, Direction::Up) => exchange.up(data),
        (Some(data), _, Direction::Down) => exchange.down(data),
        (None, Some(trailers), _) => exchange.trailers(direction, trailers),
        (None, None, _) => Ok(()),
    }
}
