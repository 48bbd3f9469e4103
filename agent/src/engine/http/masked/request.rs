//! A request's body on its way out: hidden whole where it can be read ahead, or as it passes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode};

use super::coded::Coded;
use super::head::{drop_sums, rewritten};
use super::reader::{How, Reader};
use super::{Masking, unreadable};
use crate::credential::sigv4;
use crate::engine::http::refusal::Refusal;
use crate::engine::http::source::Source;
use crate::mask::Plan;

/// A body that is longer decoded is hidden as it passes, in pieces.
const DECODED: usize = 8 << 20;
const SHA: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What cannot be masked is refused.
pub(in crate::engine::http) fn refusal(masking: &Masking, rule: Option<&str>, why: &str) -> Refusal {
    let names = masking.masks.names.join(", ");
    let why = format!("the request cannot be masked ({names}), and is not sent unmasked: {why}");
    let reason = match rule {
        Some(rule) => format!("{why} (rule {rule})"),
        None => why,
    };
    Refusal { rule: rule.map(str::to_owned), ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason) }
}

/// Has a body hidden as it passes.
///
/// # Errors
/// Why it cannot be.
pub(in crate::engine::http) fn passing(
    masking: &Arc<Masking>,
    plan: &Arc<Plan>,
    request: &mut Request<Source>,
) -> Result<(), String> {
    let hiding = Hiding::new(masking, plan, request.headers())?;
    rewritten(request.headers_mut());
    unsigned(request.headers_mut());
    request.body_mut().hide(hiding);
    Ok(())
}

/// Why a body cannot be masked, as far as its head says.
pub(in crate::engine::http) fn unmaskable(headers: &HeaderMap) -> Option<String> {
    if headers.get(SHA).is_some_and(|sha| sha.as_bytes().starts_with(b"STREAMING-")) {
        return Some("a body of aws-chunked pieces is not read".to_owned());
    }
    if headers.contains_key(CONTENT_RANGE) {
        return Some("a part of a body cannot be masked (Content-Range)".to_owned());
    }
    unreadable(headers)
}

/// A hash that the client made of what is now another body.
fn unsigned(headers: &mut HeaderMap) {
    if is_signed(headers) {
        headers.remove(SHA);
    }
}

fn is_signed(headers: &HeaderMap) -> bool {
    headers.get(SHA).is_some_and(|sha| sha.len() == 64)
}

/// Hides a body that is read ahead whole. Whether it was: a longer one is not.
pub(in crate::engine::http) async fn whole(
    masking: &Arc<Masking>,
    plan: &Arc<Plan>,
    most: u64,
    request: &mut Request<Source>,
) -> Result<bool, String> {
    let mut hiding = Hiding::new(masking, plan, request.headers())?;
    let read = request.body_mut().whole(most).await;
    let read = read.map_err(|_| "it broke off before it could be read".to_owned())?;
    let Some(came) = read.map(Bytes::copy_from_slice) else { return Ok(false) };
    let Some(out) = hiding.all(&came)? else { return Ok(false) };
    request.body_mut().with_trailers(|trailers| hiding.trailers(trailers));
    if hiding.coded.is_none() && out == came {
        return Ok(true);
    }
    replace(request, &out);
    Ok(true)
}

/// Another body in place of one that was read whole, and what the head says of it.
pub(super) fn replace(request: &mut Request<Source>, body: &[u8]) {
    let headers = request.headers_mut();
    let (said, signed) = (headers.contains_key(CONTENT_LENGTH), is_signed(headers));
    rewritten(headers);
    if said {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    if signed {
        // What signs the request covers this body, as what the client signed covered the other.
        headers.insert(SHA, HeaderValue::from_str(&sigv4::hash(body)).expect("digits and letters"));
    }
    request.body_mut().replace(body);
}

/// A body that is hidden as it passes.
pub(in crate::engine::http) struct Hiding {
    masking: Arc<Masking>,
    how: How,
    coded: Option<Coded>,
    reader: Reader,
    /// Came, not read yet.
    input: Bytes,
    more: bool,
    plain: Vec<u8>,
    over: bool,
}

impl Hiding {
    fn new(masking: &Arc<Masking>, plan: &Arc<Plan>, headers: &HeaderMap) -> Result<Self, String> {
        let how = || How::Hide(Arc::clone(plan));
        Ok(Self {
            masking: Arc::clone(masking),
            how: how(),
            coded: Coded::of(headers)?,
            reader: Reader::new(masking, how(), headers, true),
            input: Bytes::new(),
            more: false,
            plain: Vec::new(),
            over: false,
        })
    }

    /// Hides what is there whole. `None`: decoded it is too long for that; nothing of it is counted.
    fn all(&mut self, came: &Bytes) -> Result<Option<Vec<u8>>, String> {
        let most = DECODED.max(came.len());
        let mut out = Vec::new();
        if self.coded.is_none() {
            let read = self.reader.last(came, &mut out);
            read.map_err(|why| self.masking.refuse(why))?;
        } else {
            self.push(came.clone());
            while let Some(some) = self.step()? {
                out.extend_from_slice(&some);
                if out.len() > most {
                    break;
                }
            }
        }
        if out.len() > most {
            self.reader.uncount();
            return Ok(None);
        }
        out.extend_from_slice(&self.end()?);
        Ok(Some(out))
    }

    /// Takes what has come, once [`Hiding::step`] has nothing more.
    pub(in crate::engine::http) fn push(&mut self, data: Bytes) {
        (self.input, self.more) = (data, true);
    }

    /// Some of what may be passed on; `None`: more has to come first.
    ///
    /// # Errors
    /// Why it cannot be masked: the exchange must end.
    pub(in crate::engine::http) fn step(&mut self) -> Result<Option<Bytes>, String> {
        let mut out = Vec::new();
        while self.more && out.is_empty() {
            let read = match &mut self.coded {
                None => {
                    self.more = false;
                    self.reader.push(&std::mem::take(&mut self.input), &mut out)
                }
                Some(coded) => {
                    let mut input = &self.input[..];
                    let stepped = coded.step(&mut input, &mut self.plain);
                    self.input = self.input.slice_ref(input);
                    stepped.and_then(|more| {
                        self.more = more;
                        self.reader.push(&self.plain, &mut out)
                    })
                }
            };
            read.map_err(|why| self.masking.refuse(why))?;
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Nothing more comes: the rest.
    ///
    /// # Errors
    /// As [`Hiding::step`].
    pub(in crate::engine::http) fn end(&mut self) -> Result<Bytes, String> {
        self.over = true;
        let mut out = Vec::new();
        let whole = self.coded.as_ref().map_or(Ok(()), Coded::end);
        let ended = whole.and_then(|()| self.reader.end(&mut out));
        ended.map_err(|why| self.masking.refuse(why))?;
        Ok(out.into())
    }

    /// Whether [`Hiding::end`] was called.
    pub(in crate::engine::http) fn is_over(&self) -> bool {
        self.over
    }

    /// Hides what trailers show.
    pub(in crate::engine::http) fn trailers(&self, trailers: &mut HeaderMap) {
        drop_sums(trailers);
        self.masking.trailers(&self.how, trailers, true);
    }
}
