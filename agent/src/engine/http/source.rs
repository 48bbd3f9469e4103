//! A request's body on its way in: a stream, of which the begin may have been read to be judged. What was judged is what
//! goes on, byte for byte: where a content coding was undone for the judgement, the coded bytes go on.
//!
//! A server may leave a coding as it is and read the coded bytes themselves. So a coded body is judged only where nobody
//! could take those for something else: see [`two_meanings`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::codec::coding::{Decoder, Fault, Step};
use crate::types::action;

/// A body that is judged must be there within this time.
const WITHIN: Duration = Duration::from_secs(60);
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
        }
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
                        if let Some(decoder) = &mut decoder
                            && let Err(fault) = self.decode(decoder, &data, max).await
                        {
                            self.unknowable = Some(fault.to_string());
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

    async fn decode(&mut self, decoder: &mut Decoder, mut data: &[u8], max: usize) -> Result<(), Fault> {
        let decoded = self.decoded.get_or_insert_default();
        loop {
            let upto = decoded.len().saturating_add(TURN).min(max.saturating_add(1));
            match decoder.step(&mut data, decoded, upto)? {
                Step::Hungry => return Ok(()),
                Step::Full if decoded.len() > max => return Err(Fault::TooLong(max)),
                Step::Full => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether some of it is still to come from the client, as far as is known.
    pub(super) fn is_coming(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| !rest.is_end_stream())
    }

    /// The same body once more, where all of it is there. For one that has been judged: policy sees neither again.
    pub(super) fn replay(&mut self) -> Option<Self> {
        let whole = self.rest.is_none() && self.trailers.is_none();
        let empty = self.ended && self.read.is_empty();
        if !(whole || empty) || self.read.len() > REPLAYED {
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

/// Why a server that leaves the content coding as it is could read `coded` as something else than it stands for. Readers
/// of forms and of multipart skip what they do not understand, and some coded data is text.
fn two_meanings(headers: &HeaderMap, coded: &[u8]) -> Option<&'static str> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter().map(|value| value.as_bytes().to_ascii_lowercase());
    let lenient = |kind: Vec<u8>| {
        let kind = kind.trim_ascii_start();
        kind.starts_with(b"multipart/") || kind.starts_with(b"application/x-www-form-urlencoded")
    };
    if coded.is_empty() {
        None
    } else if kinds.any(lenient) {
        Some("it is a form with a content coding, which servers read differently")
    } else if std::str::from_utf8(coded).is_ok() {
        Some("its coded bytes are text as well, which servers read differently")
    } else {
        None
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Some(rest) => self.kept.is_empty() && self.read.is_empty() && rest.is_end_stream(),
            None => self.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn coded_bytes_that_are_something_else_too() {
        let of = |kind: &'static str, coded: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            two_meanings(&headers, coded).is_some()
        };
        assert!(!of("application/json", b"\x1f\x8b\x08") && !of("application/json", b""));
        // As br it is the empty body, and bytes behind it that some leave out.
        assert!(of("application/json", b"{\"model\": \"other\"}"));
        assert!(of("Multipart/form-data; boundary=x", b"\x1f\x8b\x08"));
        assert!(of(" application/x-www-form-urlencoded", b"\x1f\x8b\x08"));
    }
}
