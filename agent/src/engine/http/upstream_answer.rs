//! Whether an upstream's answer has one meaning, so far as hyper's client does not see to that.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version};

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
    if encoded {
        let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
        let last = last.map(|v| v.as_bytes().rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii());
        if !last.is_some_and(|v| v.eq_ignore_ascii_case(b"chunked")) {
            return Err("the upstream's answer has a Transfer-Encoding that does not end in chunked");
        }
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
    if headers.get_all(CONNECTION).iter().any(|v| v.as_bytes().eq_ignore_ascii_case(b"content-length")) {
        return Err("the upstream's Connection names Content-Length");
    }
    Ok(())
}
