//! A WebSocket server that sends every message back (RFC 6455; no extensions).

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Seen;
use super::routes::{Answer, full, text};

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Largest message that comes back.
const LARGEST: u64 = 16 << 20;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Switches protocols and echoes.
pub(super) fn upgrade(request: Request<Incoming>, seen: Arc<Seen>) -> Answer {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n");
    };
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID.as_bytes()].concat());
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = echo(TokioIo::new(upgraded), &seen).await;
        }
    });
    let mut answer = Response::new(full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&STANDARD.encode(hash)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) -> io::Result<()> {
    loop {
        let start = io.read_u16().await?;
        let (fin_and_rsv, opcode, masked) =
            ((start >> 8) as u8 & 0xf0, (start >> 8) as u8 & 0x0f, start & 0x80 != 0);
        let length = match start & 0x7f {
            126 => u64::from(io.read_u16().await?),
            127 => io.read_u64().await?,
            n => u64::from(n),
        };
        // RFC 6455 §5.1: a client that does not mask is failed.
        if !masked || length > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut mask = [0; 4];
        io.read_exact(&mut mask).await?;
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        seen.body(&payload);
        let opcode = if opcode == PING { PONG } else { opcode };
        let mut frame = vec![fin_and_rsv | opcode];
        match payload.len() {
            n @ 0..=125 => frame.push(n as u8),
            n @ 126..=0xffff => {
                frame.push(126);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        io.write_all(&frame).await?;
        io.flush().await?;
        if opcode == CLOSE {
            return io.shutdown().await;
        }
    }
}
