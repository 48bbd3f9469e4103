//! HTTP/2 connections through the engine: the client writes frames octet by octet, with no library between.

use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use sluice::engine::http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::rig::{PATIENCE, Rig};
use super::Passed;
use super::draw::{Asked, Wire};
use super::heard::Heard;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541 §5.1 with a prefix of seven bits, which are all ours.
fn length(n: usize) -> Vec<u8> {
    if n < 127 {
        return vec![u8::try_from(n).expect("small")];
    }
    let (mut rest, mut out) = (n - 127, vec![127]);
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).expect("small") | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).expect("small"));
    out
}

/// A header list, every field a literal without indexing (RFC 7541 §6.2.2).
pub fn block(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    list.iter().flat_map(|(n, v)| [&[0][..], &length(n.len()), n, &length(v.len()), v].concat()).collect()
}

fn fields(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_owned())).collect()
}

async fn hear(request: Request<h2::RecvStream>) -> Result<Heard, h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut heard = Heard {
        method: head.method.to_string(),
        path: head.uri.path().as_bytes().to_owned(),
        query: head.uri.query().map(str::to_owned),
        authority: head.uri.authority().map(ToString::to_string).unwrap_or_default(),
        headers: fields(&head.headers),
        ..Heard::default()
    };
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        heard.body.extend_from_slice(&data);
    }
    heard.trailers = body.trailers().await?.map(|t| fields(&t)).unwrap_or_default();
    Ok(heard)
}

async fn upstream(io: DuplexStream, heard: Sender<Heard>) {
    let Ok(mut server) = h2::server::handshake(io).await else { return };
    while let Some(Ok((request, mut respond))) = server.accept().await {
        let heard = heard.clone();
        tokio::spawn(async move {
            if let Ok(one) = hear(request).await {
                heard.send(one).expect("the test listens");
                let answer = Response::builder().status(204).body(()).expect("an answer");
                let _gone: Result<h2::SendStream<Bytes>, _> = respond.send_response(answer, true);
            }
        });
    }
}

struct Connection {
    client: DuplexStream,
    heard: Receiver<Heard>,
    stream: u32,
    bytes: Vec<u8>,
    done: JoinHandle<Result<(), String>>,
}

async fn connect(rig: &Rig) -> Connection {
    let ends = rig.http(Version::Http2);
    let (say, heard) = channel();
    tokio::spawn(upstream(ends.upstream, say));
    let mut client = ends.client;
    let room = (1_u32 << 30).to_be_bytes();
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(WINDOW_UPDATE, 0, 0, &room)].concat();
    client.write_all(&hello).await.expect("hello");
    Connection { client, heard, stream: 1, bytes: Vec::new(), done: ends.done }
}

impl Connection {
    /// Sends a request; whether the connection goes on after its answer.
    async fn ask(&mut self, list: &[(Vec<u8>, Vec<u8>)], said: &Heard) -> bool {
        let stream = self.stream;
        self.stream += 2;
        let empty = said.body.is_empty();
        let mut octets =
            frame(HEADERS, END_HEADERS | if empty { END_STREAM } else { 0 }, stream, &block(list));
        if !empty {
            let last = said.trailers.is_empty();
            octets.extend(frame(DATA, u8::from(last), stream, &said.body));
            if !last {
                let list: Vec<_> =
                    said.trailers.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone())).collect();
                octets.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&list)));
            }
        }
        if self.client.write_all(&octets).await.is_err() {
            return false;
        }
        loop {
            while self.bytes.len() >= 9 {
                let size = self.bytes[..3].iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
                if self.bytes.len() < 9 + size {
                    break;
                }
                let one: Vec<u8> = self.bytes.drain(..9 + size).collect();
                let (kind, flags) = (one[3], one[4]);
                let of = u32::from_be_bytes([one[5] & 0x7f, one[6], one[7], one[8]]);
                match kind {
                    SETTINGS if flags & 1 == 0 => {
                        let _gone = self.client.write_all(&frame(SETTINGS, 1, 0, &[])).await;
                    }
                    GOAWAY => return false,
                    RST_STREAM if of == stream => return true,
                    DATA | HEADERS if of == stream && flags & END_STREAM != 0 => return true,
                    _ => {}
                }
            }
            let read = timeout(PATIENCE, self.client.read_buf(&mut self.bytes)).await;
            if !matches!(read.expect("an answer"), Ok(1..)) {
                return false;
            }
        }
    }
}

/// Sends every request, and gives what became of each.
pub async fn pass(rig: &Rig, asked: &[Asked]) -> Vec<Passed> {
    let mut connection = connect(rig).await;
    let mut passed = Vec::new();
    for one in asked {
        let Wire::Frames(list) = &one.wire else { panic!("a request of HTTP/1") };
        let before = rig.count();
        let goes_on = connection.ask(list, &one.said).await;
        let heard = connection.heard.try_recv().ok();
        let record = if !goes_on || one.malformed {
            let old = std::mem::replace(&mut connection, connect(rig).await);
            drop(old.client);
            let _how = timeout(PATIENCE, old.done).await.expect("the engine ends");
            rig.so_far().get(before).cloned()
        } else {
            Some(rig.nth(before).await)
        };
        passed.push(Passed { heard, record });
    }
    passed
}
