//! HTTP/2 upstreams that do what they should not, in hand-made frames (RFC 9113 §4.1). Over TLS with ALPN h2; the port
//! chooses. Each waits for the first request's HEADERS before it misbehaves.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What the server does with the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2 {
    /// RST_STREAM instead of an answer.
    ResetStream,
    /// An answer's head, half a body, then RST_STREAM.
    ResetMidBody,
    /// GOAWAY that disowns the request, then close.
    GoAway,
    /// HEADERS without END_HEADERS and CONTINUATION without end (CVE-2024-27316 and kin).
    ContinuationFlood,
    /// PING without end and without an answer.
    PingFlood,
    /// SETTINGS without end.
    SettingsFlood,
    /// More DATA than the window allows.
    WindowOverflow,
    /// A header block that HPACK cannot read.
    BadHpack,
    /// A frame larger than the maximum.
    LargeFrame,
    /// Bytes that are no frames.
    Garbage,
}

/// All of them, in the order of their ports from 1101 on.
pub const ALL: [H2; 10] = [
    H2::ResetStream,
    H2::ResetMidBody,
    H2::GoAway,
    H2::ContinuationFlood,
    H2::PingFlood,
    H2::SettingsFlood,
    H2::WindowOverflow,
    H2::BadHpack,
    H2::LargeFrame,
    H2::Garbage,
];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// `:status: 200` of HPACK's static table (RFC 7541, appendix A, entry 8).
const STATUS_200: &[u8] = &[0x88];
const PREFACE: usize = 24;
/// Frames of a flood: an end even if the other side bears them all.
const FLOOD: usize = 1_000_000;

pub(super) async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, what: H2) -> io::Result<()> {
    let mut preface = [0; PREFACE];
    io.read_exact(&mut preface).await?;
    io.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    io.flush().await?;
    let stream = first_request(&mut io).await?;
    match what {
        H2::ResetStream => io.write_all(&frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())).await?,
        H2::ResetMidBody => {
            io.write_all(&frame(HEADERS, END_HEADERS, stream, STATUS_200)).await?;
            io.write_all(&frame(DATA, 0, stream, b"half")).await?;
            io.write_all(&frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())).await?;
        }
        H2::GoAway => {
            io.write_all(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])).await?;
            return io.shutdown().await;
        }
        H2::ContinuationFlood => {
            io.write_all(&frame(HEADERS, 0, stream, STATUS_200)).await?;
            // A literal header that is not indexed: a: b, so that every frame adds to the list.
            flood(&mut io, &frame(CONTINUATION, 0, stream, &[0, 1, b'a', 1, b'b'].repeat(1000))).await?;
        }
        H2::PingFlood => flood(&mut io, &frame(PING, 0, 0, &[7; 8])).await?,
        H2::SettingsFlood => flood(&mut io, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])).await?,
        H2::WindowOverflow => {
            io.write_all(&frame(HEADERS, END_HEADERS, stream, STATUS_200)).await?;
            flood(&mut io, &frame(DATA, 0, stream, &[b'o'; 16384])).await?;
        }
        H2::BadHpack => io.write_all(&frame(HEADERS, END_HEADERS, stream, &[0xff; 32])).await?,
        H2::LargeFrame => io.write_all(&frame(DATA, 0, stream, &vec![b'l'; 1 << 20])).await?,
        H2::Garbage => io.write_all(&[0xfe; 4096]).await?,
    }
    io.flush().await?;
    drain(&mut io).await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads frames up to the first HEADERS, acknowledges SETTINGS; gives the stream.
async fn first_request(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<u32> {
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await?;
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => io.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            HEADERS => return Ok(u32::from_be_bytes([head[5], head[6], head[7], head[8]])),
            _ => {}
        }
        io.flush().await?;
    }
}

async fn flood(io: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    for _ in 0..FLOOD {
        io.write_all(frame).await?;
    }
    io.flush().await
}

/// Waits for the other side to hang up.
async fn drain(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while io.read(&mut buffer).await? > 0 {}
    Ok(())
}
