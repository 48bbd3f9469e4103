//! An upstream that tells its client what it was sent: every header of the request and the query, in one form or another.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::{Frame, Incoming};

use super::routes::{Answer, full, streamed, text, with_type};

/// `/mirror/HOW`.
pub(super) fn answer(request: &Request<Incoming>, how: &str) -> Answer {
    let mut told = format!("{}\n", request.uri());
    let mut values = Vec::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        told += &format!("{name}: {value}\n");
        values.push(value);
    }
    values.push(request.uri().query().unwrap_or_default().to_owned());
    let line = values.join(" ");
    match how {
        "base64" => text(StatusCode::OK, BASE64_STANDARD.encode(&told)),
        "base64url" => text(StatusCode::OK, BASE64_URL_SAFE_NO_PAD.encode(format!("x{told}"))),
        "hex" => text(StatusCode::OK, told.bytes().map(|b| format!("{b:02x}")).collect::<String>()),
        "url" => text(StatusCode::OK, told.bytes().map(|b| format!("%{b:02X}")).collect::<String>()),
        "broken" => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot serve {line}\n{told}")),
        "error" => text(StatusCode::UNAUTHORIZED, format!("{{\"error\":\"this key is wrong: {line}\"}}")),
        "one" => {
            let bytes = Bytes::from(told);
            let bytes: Vec<Bytes> = (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect();
            with_type(
                StatusCode::OK,
                "text/plain",
                streamed(stream::iter(bytes.into_iter().map(Frame::data))),
            )
        }
        "gzip" => coded(&told),
        "gzip-clean" => coded("nothing of it\n"),
        "head" | "location" => {
            let mut answer = text(StatusCode::FOUND, "elsewhere\n");
            for value in &values {
                if let Ok(value) = HeaderValue::from_str(value) {
                    answer.headers_mut().append("x-told", value);
                }
            }
            let place = format!("https://elsewhere.example/?was={}", line.replace(' ', "+"));
            if let Ok(place) = HeaderValue::from_str(&place) {
                answer.headers_mut().insert(header::LOCATION, place);
            }
            answer
        }
        "trailer" => {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(&line) {
                map.insert("x-told", value);
            }
            let frames = [Frame::data(Bytes::from_static(b"see below\n")), Frame::trailers(map)];
            let mut answer = with_type(StatusCode::OK, "text/plain", streamed(stream::iter(frames)));
            answer.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-told"));
            answer
        }
        _ => text(StatusCode::OK, told),
    }
}

/// One gzip member (RFC 1952) of one stored block (RFC 1951 §3.2.4).
fn coded(text: &str) -> Answer {
    let bytes = text.as_bytes();
    // A stand-in's own headers are short.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let bytes = &bytes[..usize::from(length)];
    let crc = !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| {
                if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
            },
        )
    });
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&u32::from(length).to_le_bytes());
    let mut answer = with_type(StatusCode::OK, "text/plain", full(out));
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}
