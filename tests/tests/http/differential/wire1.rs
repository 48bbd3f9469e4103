//! HTTP/1 connections through the engine: one request after the other.

use std::sync::mpsc::{Receiver, Sender, channel};

use sluice::engine::http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::super::rig::{Ends, PATIENCE, Rig};
use super::Passed;
use super::draw::{Asked, Wire};
use super::heard::{Heard, http1};

/// Hears requests and answers each, until the engine closes.
async fn upstream(mut io: DuplexStream, heard: Sender<Heard>) {
    let mut bytes = Vec::new();
    loop {
        while let Some((one, length)) = http1(&bytes) {
            bytes.drain(..length);
            heard.send(one).expect("the test listens");
            if io.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                return;
            }
        }
        if !matches!(io.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

struct Connection {
    ends: Ends,
    heard: Receiver<Heard>,
}

fn connect(rig: &Rig) -> Connection {
    let mut ends = rig.http(Version::Http1);
    let (say, heard) = channel();
    let (_, gone) = tokio::io::duplex(1);
    tokio::spawn(upstream(std::mem::replace(&mut ends.upstream, gone), say));
    Connection { ends, heard }
}

/// Reads one answer; whether the connection goes on.
async fn answered(client: &mut DuplexStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        let mut from = 0;
        // An informational answer is none.
        while bytes[from..].starts_with(b"HTTP/1.1 1") {
            match memchr::memmem::find(&bytes[from..], b"\r\n\r\n") {
                Some(end) => from += end + 4,
                None => break,
            }
        }
        if let Some(end) = memchr::memmem::find(&bytes[from..], b"\r\n\r\n").map(|end| from + end + 4) {
            let head = String::from_utf8_lossy(&bytes[from..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.map_or(0, |n| n.parse().expect("a length"));
            // To HEAD it is a length of nothing.
            if bytes.len() >= end + length || bytes.len() == end {
                let rest = (end + length).saturating_sub(bytes.len());
                return rest == 0 && !head.contains("connection: close");
            }
        }
        match timeout(PATIENCE, client.read_buf(&mut bytes)).await.expect("an answer") {
            Ok(1..) => {}
            _ => return false,
        }
    }
}

/// Sends every request, and gives what became of each.
pub async fn pass(rig: &Rig, asked: &[Asked]) -> Vec<Passed> {
    let mut connection = connect(rig);
    let mut passed = Vec::new();
    for one in asked {
        let Wire::Octets(octets) = &one.wire else { panic!("a request of HTTP/2") };
        let before = rig.count();
        // What is refused may be refused before its end.
        let _refused = connection.ends.client.write_all(octets).await;
        let goes_on = answered(&mut connection.ends.client).await;
        let heard = connection.heard.try_recv().ok();
        if !goes_on || one.malformed {
            // Whatever else was made of it is recorded before the next.
            let old = std::mem::replace(&mut connection, connect(rig));
            drop(old.ends.client);
            let _how = timeout(PATIENCE, old.ends.done).await.expect("the engine ends");
        }
        let record = rig.nth(before).await;
        passed.push(Passed { heard, record: Some(record) });
    }
    passed
}
