//! Whether an upstream's answer has one meaning, so far as hyper's client does not see to that.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};

/// What hyper's client lets in and its server could not say in one way.
pub(super) fn check<B>(response: &mut Response<B>, switched: bool) -> Result<(), &'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !switched {
        return Err("the upstream switched protocols without being asked");
    }
    if response.version() == Version::HTTP_2 {
        return Ok(());
    }
    let headers = response.headers_mut();
    let encoded = headers.contains_key(TRANSFER_ENCODING);
    if encoded && headers.contains_key(CONTENT_LENGTH) {
        return Err("the upstream's answer has both Content-Length and Transfer-Encoding");
    }
    // Some readers look at the first coding, some at the last, some at each: one is what all read alike.
    let codings = || tokens(headers, TRANSFER_ENCODING);
    let last = codings().next_back().is_none_or(|t| t.eq_ignore_ascii_case(b"chunked"));
    if encoded && (!last || codings().count() == 0) {
        return Err("the upstream's answer has a Transfer-Encoding that does not end in chunked");
    }
    let odd = |t: &[u8]| {
        t.eq_ignore_ascii_case(b"identity") || !t.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    if codings().filter(|t| t.eq_ignore_ascii_case(b"chunked")).count() > 1 || codings().any(odd) {
        return Err("the upstream's answer has a Transfer-Encoding that readers count differently");
    }
    if headers.contains_key("transfer_encoding") || headers.contains_key("content_length") {
        return Err("a field of the upstream's answer looks like one that frames the message");
    }
    const KEPT: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];
    if tokens(headers, CONNECTION).any(|t| KEPT.iter().any(|k| t.eq_ignore_ascii_case(k))) {
        return Err("the upstream's Connection names a field that frames the message");
    }
    // hyper read them as one number or failed: say it once.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next()
        && (lengths.next().is_some() || first.as_bytes().contains(&b','))
    {
        let one = first.as_bytes().split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        let one = HeaderValue::from_bytes(one).map_err(|_| "the upstream's Content-Length is no number")?;
        headers.insert(CONTENT_LENGTH, one);
    }
    Ok(())
}

/// The elements of a list, over all of its fields.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
    fn elements(v: &HeaderValue) -> impl DoubleEndedIterator<Item = &[u8]> {
        v.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii)
    }
    headers.get_all(name).iter().flat_map(elements).filter(|t| !t.is_empty())
}
