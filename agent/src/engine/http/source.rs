//! A request's body on its way in: a stream, of which the begin may have been read to be judged. What was judged is what
//! goes on, byte for byte.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::engine::held::Held;
use crate::types::action;

/// A body that is judged must be there within this time.
const WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Source {
    /// Read already.
    read: BytesMut,
    trailers: Option<HeaderMap>,
    /// What was not read; `None` when all was.
    rest: Option<Incoming>,
    /// Why the whole is not known, where it is not.
    unknowable: Option<String>,
    /// What is read takes of the process's memory.
    held: Option<Held>,
}

impl Source {
    pub(super) fn new(body: Incoming) -> Self {
        Self { read: BytesMut::new(), trailers: None, rest: Some(body), unknowable: None, held: None }
    }

    /// Whatever is read of it is taken of this share, and only so much.
    pub(super) fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// Hands on what was taken: a copy of the body outlives it.
    pub(super) fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// Reads it whole, up to `max` bytes; what goes wrong is part of what is known of it.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(super) async fn read(&mut self, headers: &HeaderMap, max: u64) -> Result<(), hyper::Error> {
        if let Some(coding) = headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            self.unknowable = Some(format!("its content coding is {coding:?}"));
            return Ok(());
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let reading = tokio::time::timeout(WITHIN, self.fill(max));
        match reading.await {
            Ok(filled) => filled,
            Err(_) => {
                self.unknowable = Some(format!("it was not there within {} s", WITHIN.as_secs()));
                Ok(())
            }
        }
    }

    async fn fill(&mut self, max: usize) -> Result<(), hyper::Error> {
        // Kept as it comes: a reading that is cut short has lost nothing.
        while let Some(rest) = &mut self.rest {
            if self.read.len() > max {
                self.unknowable = Some(format!("it is longer than {max} bytes"));
                break;
            }
            match std::future::poll_fn(|cx| Pin::new(&mut *rest).poll_frame(cx)).await.transpose()? {
                None => self.rest = None,
                Some(frame) => match frame.into_data() {
                    Ok(data) => {
                        self.read.extend_from_slice(&data);
                        let held = self.held.as_mut().map_or(Ok(()), |held| held.reach(self.read.len()));
                        if let Err(full) = held {
                            self.unknowable = Some(full.to_string());
                            break;
                        }
                    }
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
        Ok(())
    }

    /// What policy may know of it.
    pub(super) fn known(&self) -> action::Body<'_> {
        match (&self.unknowable, &self.rest) {
            (Some(why), _) => action::Body::Unknowable(why),
            (None, None) => action::Body::Whole(&self.read),
            (None, Some(_)) => action::Body::Unread,
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.read.split().freeze()))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.len() as u64;
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
