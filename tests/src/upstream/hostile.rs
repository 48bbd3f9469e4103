//! Upstreams that do what they should not. Over TLS, the path of the first request chooses; without, the port.
//!
//! | path | does |
//! |---|---|
//! | `/reset` | RST after the request |
//! | `/reset-mid-body` | half a body, then RST |
//! | `/stall` | nothing, for ever |
//! | `/stall-mid-body` | half a body, then nothing |
//! | `/headers-forever` | header lines without end |
//! | `/long-header` | one header line without end |
//! | `/one-byte` | a good answer, each byte its own TLS record |
//! | `/many-headers` | 10,000 header lines |
//! | `/gib` | 1 GiB |
//! | `/truncated` | closes cleanly before Content-Length is reached |
//! | `/garbage` | bytes that are no HTTP |
//! | `/both-lengths` | Content-Length and Transfer-Encoding |
//! | `/bad-chunk` | a chunk size that is no number |
//! | `/split-header` | a header value with a bare CR |
//! | `/two-answers` | a second answer that nobody asked for |
//! | `/401-then-closes` | 401, then closes without having said so |
//! | `/401-long` | 401 with [`LONG`] bytes |
//! | `/transfer-gzip` | a transfer coding beside chunked |
//! | `/key-in-name` | the bearer token of the request as the name of a field |

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What a plain-TCP upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// Accepts, then RST.
    Reset,
    /// Accepts and says nothing.
    Silent,
    /// Reads the first bytes and answers with what is no protocol.
    Garbage,
    /// Sends a greeting first, then echoes lines (opaque, server speaks first).
    Greets,
    /// Sends half a TLS record and closes.
    HalfRecord,
}

/// Bytes of `/gib`.
pub const GIB: u64 = 1 << 30;

/// Bytes of `/401-long`.
pub const LONG: usize = 100_000;

/// Longest time that a stalling connection is held; the tests' own deadlines are shorter.
const FOR_EVER: Duration = Duration::from_secs(600);

type Tls = TlsStream<TcpStream>;

pub(super) async fn over_tcp(mut io: TcpStream, what: Tcp) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match what {
        Tcp::Reset => io.set_zero_linger(),
        Tcp::Silent => {
            hold(&mut io).await;
            Ok(())
        }
        Tcp::Garbage => {
            let _ = io.read(&mut buffer).await?;
            io.write_all(&[0x13; 512]).await?;
            io.shutdown().await
        }
        Tcp::Greets => {
            io.write_all(b"220 greeting\r\n").await?;
            loop {
                match io.read(&mut buffer).await? {
                    0 => return io.shutdown().await,
                    n => io.write_all(&buffer[..n]).await?,
                }
            }
        }
        Tcp::HalfRecord => {
            let _ = io.read(&mut buffer).await?;
            io.write_all(&[0x16, 3, 3, 0x10, 0, 2, 0]).await?;
            io.shutdown().await
        }
    }
}

pub(super) async fn over_tls(mut io: Tls) -> io::Result<()> {
    let Some(head) = request_head(&mut io).await? else { return Ok(()) };
    let path = head.split([' ', '?']).nth(1).unwrap_or_default();
    match path {
        "/reset" => reset(io),
        "/reset-mid-body" => {
            say(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\nhalf").await?;
            reset(io)
        }
        "/stall" => {
            hold(&mut io).await;
            Ok(())
        }
        "/stall-mid-body" => {
            say(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\nhalf").await?;
            hold(&mut io).await;
            Ok(())
        }
        "/headers-forever" => {
            for_ever(&mut io, "HTTP/1.1 200 OK\r\n", &"x-more: again and again\r\n".repeat(64)).await
        }
        "/long-header" => for_ever(&mut io, "HTTP/1.1 200 OK\r\nx-long: ", &"a".repeat(4096)).await,
        "/one-byte" => one_by_one(io).await,
        "/many-headers" => {
            let lines: String = (0..10_000).map(|i| format!("x-h-{i}: {i}\r\n")).collect();
            all(
                io,
                &format!("HTTP/1.1 200 OK\r\n{lines}content-length: 5\r\nconnection: close\r\n\r\nmany\n"),
            )
            .await
        }
        "/gib" => gib(io).await,
        "/two-answers" => {
            let one = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\none\n";
            say(&mut io, &format!("{one}HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nuninvited")).await?;
            hold(&mut io).await;
            Ok(())
        }
        "/401-long" => {
            let body = "w".repeat(LONG);
            say(&mut io, &format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {LONG}\r\n\r\n{body}"))
                .await?;
            hold(&mut io).await;
            Ok(())
        }
        "/key-in-name" => {
            let key = head.lines().find_map(|line| line.split_once("Bearer ")).map_or("none", |(_, key)| key);
            all(io, &format!("HTTP/1.1 200 OK\r\n{key}: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
                .await
        }
        other => all(io, malformed(other)).await,
    }
}

/// Answers whose only fault is their wording.
fn malformed(path: &str) -> &'static str {
    match path {
        "/truncated" => "HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\nonly this",
        "/garbage" => "\u{1}\u{2}\u{3} this is no HTTP \r\n\r\n\r\n",
        "/both-lengths" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        }
        "/bad-chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
        "/401-then-closes" => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 10\r\n\r\nwrong key\n",
        "/transfer-gzip" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
        }
        "/split-header" => "HTTP/1.1 200 OK\r\nx-split: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    }
}

/// A sound answer, each byte in a record of its own.
async fn one_by_one(mut io: Tls) -> io::Result<()> {
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-slow: yes\r\nconnection: close\r\n\r\nslowly" {
        io.write_all(&[*byte]).await?;
        io.flush().await?;
    }
    io.shutdown().await
}

/// Reads one request head; `None` when the client hung up.
async fn request_head(io: &mut Tls) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match io.read(&mut buffer).await? {
            0 => return Ok(None),
            n => head.extend_from_slice(&buffer[..n]),
        }
        if head.len() > 1 << 20 {
            return Ok(None);
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn reset(io: Tls) -> io::Result<()> {
    // Linger 0 turns the close into a RST (socket(7)).
    io.get_ref().0.set_zero_linger()
}

async fn say(io: &mut Tls, text: &str) -> io::Result<()> {
    io.write_all(text.as_bytes()).await?;
    io.flush().await
}

async fn all(mut io: Tls, text: &str) -> io::Result<()> {
    say(&mut io, text).await?;
    io.shutdown().await
}

/// Writes `again` until the other side gives up, or a GiB is through.
async fn for_ever(io: &mut Tls, start: &str, again: &str) -> io::Result<()> {
    say(io, start).await?;
    for _ in 0..GIB / again.len() as u64 {
        say(io, again).await?;
    }
    Ok(())
}

async fn gib(mut io: Tls) -> io::Result<()> {
    say(&mut io, &format!("HTTP/1.1 200 OK\r\ncontent-length: {GIB}\r\nconnection: close\r\n\r\n")).await?;
    let block = vec![b'g'; 1 << 18];
    for _ in 0..GIB / block.len() as u64 {
        io.write_all(&block).await?;
    }
    io.shutdown().await
}

/// Waits for the other side to hang up.
async fn hold(io: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    let gone = async { while matches!(io.read(&mut buffer).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(FOR_EVER, gone).await;
}
