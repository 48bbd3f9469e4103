//! Answers to requests that bore a credential, and others of whom one is bound to: whatever of a live value an upstream
//! echoes is masked before the client sees it, in heads, trailers and bodies. What is masked stays as long as it was, and
//! nothing is held back but what may become a value with the next byte. Inside a content coding nothing can be masked: a
//! coded answer that shows one is cut.

use std::borrow::Cow;
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;

use super::body::Broke;
use super::came::Came;
use super::masked::Answer;
use crate::codec::coding::{Decoder, Step};
use crate::codec::scrub::{Needles, Stream};
use crate::credential::Value;
use crate::record::veil::Veil;

/// Decoded at once, before other tasks get their turn.
const AT_ONCE: usize = 1 << 20;
/// Decoded bytes that are looked at together.
const WINDOW: usize = 64 << 10;
/// Coded bytes that wait for what decides whether they show a value.
const CODED_MAX: usize = 256 << 10;

/// What cleans an answer.
pub(super) struct Cleaner {
    veil: Arc<Veil>,
    /// What the request bore, if anything: looked for as long as the answer lasts, whatever comes after it.
    bore: Option<Arc<Value>>,
}

impl Cleaner {
    pub(super) fn new(veil: &Arc<Veil>, bore: Option<&Arc<Value>>) -> Self {
        Self { veil: Arc::clone(veil), bore: bore.map(Arc::clone) }
    }

    /// Masks what a head shows.
    ///
    /// # Errors
    /// The body is in a coding that cannot be looked into.
    pub(super) fn head<B>(&self, response: &mut Response<B>) -> Result<(), &'static str> {
        if self.bore.is_some() {
            looked_into(response.headers())?;
        }
        let Some(needles) = self.veil.needles() else { return Ok(()) };
        fields(&needles, response.headers_mut());
        let phrase = response.extensions().get::<ReasonPhrase>();
        if phrase.is_some_and(|phrase| needles.is_in(phrase.as_bytes())) {
            response.extensions_mut().remove::<ReasonPhrase>();
        }
        Ok(())
    }
}

/// Whether a body can be looked into: hyper undoes `chunked` and no other transfer coding, [`Decoder`] the usual content
/// codings.
fn looked_into(headers: &HeaderMap) -> Result<(), &'static str> {
    let chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let transfer = headers.get_all(TRANSFER_ENCODING).iter().flat_map(|value| {
        value.as_bytes().split(|b| *b == b',').filter(|coding| !coding.trim_ascii().is_empty())
    });
    if !transfer.into_iter().all(chunked) {
        return Err("an answer to a request that bore a credential is in a transfer coding");
    }
    if Decoder::of(headers).is_err() {
        return Err("an answer to a request that bore a credential is in a content coding that is not known");
    }
    Ok(())
}

/// An informational answer's fields, with what they show masked.
pub(super) fn hints<'a>(needles: Option<&Needles>, headers: &'a HeaderMap) -> Cow<'a, HeaderMap> {
    let mut headers = Cow::Borrowed(headers);
    if let Some(needles) = needles {
        fields(needles, headers.to_mut());
    }
    headers
}

fn fields(needles: &Needles, headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if !needles.is_in(value.as_bytes()) {
            continue;
        }
        let mut masked = value.as_bytes().to_vec();
        needles.mask(&mut masked);
        // Parts of a value with others of the same kind in their place.
        *value = HeaderValue::from_bytes(&masked).unwrap_or_else(|_| HeaderValue::from_static(""));
    }
    // In a name it stands in lower case, which is among what is looked for.
    let shows = |name: &http::HeaderName| needles.is_in(name.as_str().as_bytes());
    let names: Vec<_> = headers.keys().filter(|name| shows(name)).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

/// An upstream's body, cleaned where its request bore a credential.
pub(super) enum Answered {
    As(Came<Incoming>),
    Clean(Box<Clean<Came<Incoming>>>),
    /// Rewritten by masks.
    Masked(Box<Answer>),
}

impl Answered {
    pub(super) fn of(inner: Came<Incoming>, headers: &HeaderMap, cleaner: Option<Cleaner>) -> Self {
        match cleaner {
            Some(cleaner) if !inner.is_end_stream() => {
                Self::Clean(Box::new(Clean::new(inner, headers, cleaner)))
            }
            _ => Self::As(inner),
        }
    }

    /// Whether it records itself what passes.
    pub(super) fn records(&self) -> bool {
        matches!(self, Self::Masked(_))
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        match &mut *self {
            Self::As(inner) => {
                Pin::new(inner).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Broke::Sender)))
            }
            Self::Clean(clean) => Pin::new(clean).poll_frame(cx),
            Self::Masked(answer) => Pin::new(answer).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::As(inner) => inner.is_end_stream(),
            Self::Clean(clean) => clean.is_end_stream(),
            Self::Masked(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::As(inner) => inner.size_hint(),
            Self::Clean(clean) => clean.size_hint(),
            Self::Masked(answer) => answer.size_hint(),
        }
    }
}

/// See the module.
pub(super) struct Clean<B> {
    inner: B,
    cleaner: Cleaner,
    way: Way,
    needles: Option<Arc<Needles>>,
    /// The inner body is over, or broke off.
    over: bool,
    /// They follow what was held back.
    trailers: Option<HeaderMap>,
}

enum Way {
    /// Bytes that mean themselves.
    Plain(Stream),
    Coded(Box<Coded>),
}

struct Coded {
    decoder: Decoder,
    /// Decoded: what may be the beginning of a value.
    window: Vec<u8>,
    /// Not decoded yet.
    input: Bytes,
    more: bool,
    /// Looked at, not passed on yet.
    waiting: Vec<u8>,
}

impl<B: Body<Data = Bytes> + Unpin> Clean<B>
where
    Broke: From<B::Error>,
{
    fn new(inner: B, headers: &HeaderMap, cleaner: Cleaner) -> Self {
        let decoder = Decoder::of(headers).ok().flatten();
        let way = match decoder {
            None => Way::Plain(Stream::default()),
            Some(decoder) => Way::Coded(Box::new(Coded {
                decoder,
                window: Vec::new(),
                input: Bytes::new(),
                more: false,
                waiting: Vec::new(),
            })),
        };
        Self { inner, cleaner, way, needles: None, over: false, trailers: None }
    }

    /// What can be passed on after `data`, all that is left when it was the last. `None`: more has to be decoded first.
    fn pass(&mut self, data: Bytes, needles: Option<&Needles>) -> Result<Option<Bytes>, Broke> {
        let Some(needles) = needles else {
            // What was not looked at from its beginning cannot be decoded later.
            self.way = Way::Plain(Stream::default());
            return Ok(Some(data));
        };
        match &mut self.way {
            Way::Plain(stream) => {
                let mut out = stream.push(needles, data);
                if self.over && stream.held() > 0 {
                    out = [out, stream.finish(needles)].concat().into();
                }
                Ok(Some(out))
            }
            Way::Coded(coded) => {
                coded.waiting.extend_from_slice(&data);
                coded.input = data;
                coded.look(needles)?;
                Ok(coded.passed(self.over))
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        self.needles = self.cleaner.veil.needles().or(self.needles.take());
        let needles = self.needles.clone();
        loop {
            if let (Way::Coded(coded), Some(needles)) = (&mut self.way, needles.as_deref())
                && coded.more
            {
                coded.look(needles)?;
                match coded.passed(self.over) {
                    None => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(data) if data.is_empty() => {}
                    Some(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                }
            }
            if self.over {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else { return Poll::Pending };
            let data = match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => data,
                Some(Err(frame)) => {
                    self.over = true;
                    self.trailers = frame.into_trailers().ok();
                    if let (Some(needles), Some(trailers)) = (&needles, &mut self.trailers) {
                        fields(needles, trailers);
                    }
                    Bytes::new()
                }
                None => {
                    self.over = true;
                    Bytes::new()
                }
            };
            self.over |= self.inner.is_end_stream();
            match self.pass(data, needles.as_deref())? {
                Some(data) if !data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                _ => {}
            }
        }
    }
}

impl Coded {
    /// Decodes some of what came, and looks at it.
    fn look(&mut self, needles: &Needles) -> Result<(), Broke> {
        let mut done = 0;
        self.more = true;
        while self.more && done < AT_ONCE {
            let mut input = &self.input[..];
            let before = self.window.len();
            let step = self.decoder.step(&mut input, &mut self.window, before + WINDOW);
            let step =
                step.map_err(|_| Broke::Shows("the answer's coding is broken: it cannot be looked into"))?;
            self.input = self.input.slice_ref(input);
            done += self.window.len() - before;
            if needles.is_in(&self.window) {
                return Err(Broke::Shows("the answer shows a credential inside its content coding"));
            }
            let settled = needles.settle(&mut self.window);
            self.window.drain(..settled);
            self.more = step == Step::Full;
        }
        if self.waiting.len() > CODED_MAX && !self.more && !self.window.is_empty() {
            return Err(Broke::Shows("the answer may show a credential inside its content coding"));
        }
        Ok(())
    }

    /// What waits, once nothing of it can show a value.
    fn passed(&mut self, over: bool) -> Option<Bytes> {
        if self.more {
            return None;
        }
        let waits = !over && !self.window.is_empty();
        Some(if waits { Bytes::new() } else { take(&mut self.waiting).into() })
    }
}

impl From<hyper::Error> for Broke {
    fn from(error: hyper::Error) -> Self {
        Self::Sender(error)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Clean<B>
where
    Broke: From<B::Error>,
{
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.over = true;
            self.trailers = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let more = matches!(&self.way, Way::Coded(coded) if coded.more);
        self.over && self.trailers.is_none() && !more
    }

    fn size_hint(&self) -> SizeHint {
        let held = match &self.way {
            Way::Plain(stream) => stream.held(),
            Way::Coded(coded) => coded.waiting.len(),
        } as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint.set_lower(inner.lower() + held);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_ENCODING;

    use super::*;

    #[test]
    fn what_cannot_be_looked_into_is_no_answer_to_who_bore_a_credential() {
        let of = |name, text: &'static str| {
            looked_into(&HeaderMap::from_iter([(name, HeaderValue::from_static(text))])).is_ok()
        };
        for good in ["chunked", "Chunked"] {
            assert!(of(TRANSFER_ENCODING, good), "{good}");
        }
        for bad in ["gzip, chunked", "gzip", "chunked, gzip"] {
            assert!(!of(TRANSFER_ENCODING, bad), "{bad}");
        }
        for good in ["gzip", "br", "zstd", "deflate", "identity", "gzip, br"] {
            assert!(of(CONTENT_ENCODING, good), "{good}");
        }
        for bad in ["compress", "dcz", "gzip, gzip, gzip, gzip"] {
            assert!(!of(CONTENT_ENCODING, bad), "{bad}");
        }
    }
}
