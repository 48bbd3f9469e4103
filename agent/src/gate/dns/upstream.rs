//! Asking name servers: one question out, the answer to exactly that question back. Over UDP first, over TCP when the
//! answer was cut.
//!
//! Every question goes out under a random id from a fresh, connected socket with a port of the kernel's choice: only the
//! server itself, or who can read the way to it, can answer.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::codec::dns::{Answer, Bogus, Question, Rcode};
use crate::gate::Warden;
use crate::policy::Permit;
use crate::types::NetnsCookie;

/// How long one server may take over UDP before the next is asked.
const TRY: Duration = Duration::from_millis(1500);
/// How long one server may take over TCP.
const TRY_TCP: Duration = Duration::from_secs(3);
/// How long all of it may take: stub resolvers give up after 5 s, and ask once more.
const WITHIN: Duration = Duration::from_secs(8);
/// How often each server is asked when none answers.
const ROUNDS: usize = 2;
/// Datagrams that answer another question, before a server is given up.
const STRAYS: usize = 32;
/// Largest datagram that is read; a server that keeps to what it was told sends 1232 bytes.
const DATAGRAM: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("there is no name server to ask")]
    NoServer,
    #[error("no name server answered within {} s", WITHIN.as_secs())]
    Silent,
    #[error("name server {0}")]
    Io(SocketAddr, #[source] io::Error),
    #[error("name server {0} sent")]
    Bogus(SocketAddr, #[source] Bogus),
    #[error("name server {0} sent {STRAYS} answers to other questions")]
    Strays(SocketAddr),
    #[error("the question cannot be written")]
    Unwritable,
    #[error("chance could not be had")]
    NoChance,
}

/// From where servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The agent's own network namespace.
    Home,
    /// This network namespace, by a socket that the warden makes inside it.
    Namespace(NetnsCookie),
}

/// Asks `servers`, one after the other, until one has said something definite. Spends the permit.
pub(super) async fn resolve(
    permit: Permit,
    question: &Question,
    servers: &[SocketAddr],
    from: From,
    warden: &Warden,
) -> Result<Answer, Error> {
    let _spent = permit;
    ask_all(question, servers, from, warden).await
}

/// The same for a question of the gate's own.
pub(super) async fn ask_all(
    question: &Question,
    servers: &[SocketAddr],
    from: From,
    warden: &Warden,
) -> Result<Answer, Error> {
    let way = Way { question, from, warden, end: Instant::now() + WITHIN };
    let mut failed = Error::NoServer;
    for _ in 0..ROUNDS {
        let mut indefinite = None;
        for server in servers {
            if Instant::now() >= way.end {
                return Err(failed);
            }
            match ask(*server, &way).await {
                Ok(answer) if is_definite(answer.rcode()) => return Ok(answer),
                Ok(answer) => indefinite = indefinite.or(Some(answer)),
                Err(error) => failed = error,
            }
        }
        // All who spoke were at a loss; to ask them again would change nothing.
        if let Some(answer) = indefinite {
            return Ok(answer);
        }
    }
    Err(failed)
}

/// Whether another server would hardly say anything else.
fn is_definite(rcode: Rcode) -> bool {
    !matches!(rcode, Rcode::ServFail | Rcode::Refused | Rcode::NotImp | Rcode::FormErr)
}

async fn ask(server: SocketAddr, way: &Way<'_>) -> Result<Answer, Error> {
    let answer = over_udp(server, way, true).await?;
    // Servers that do not know EDNS say so in one of two ways (RFC 6891 §7).
    if matches!(answer.rcode(), Rcode::FormErr | Rcode::NotImp) {
        return over_udp(server, way, false).await;
    }
    Ok(answer)
}

async fn over_udp(server: SocketAddr, way: &Way<'_>, edns: bool) -> Result<Answer, Error> {
    let (id, bytes) = way.written(edns)?;
    let exchange = async {
        let socket = way.datagrams(server).await.map_err(|e| Error::Io(server, e))?;
        socket.send(&bytes).await.map_err(|e| Error::Io(server, e))?;
        // A longer one is cut by a byte that it cannot do without.
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..STRAYS {
            let n = socket.recv(&mut buffer).await.map_err(|e| Error::Io(server, e))?;
            match way.question.read_answer(id, &buffer[..n], true) {
                Ok(answer) => return Ok(Some(answer)),
                Err(Bogus::Truncated) => return Ok(None),
                // Perhaps forged: the true one may still come.
                Err(Bogus::Foreign | Bogus::Malformed) => {}
                Err(bogus @ Bogus::Aliases) => return Err(Error::Bogus(server, bogus)),
            }
        }
        Err(Error::Strays(server))
    };
    let soon = way.end.min(Instant::now() + TRY);
    match timeout_at(soon, exchange).await.unwrap_or(Err(Error::Silent))? {
        Some(answer) => Ok(answer),
        None => over_tcp(server, way, edns).await,
    }
}

async fn over_tcp(server: SocketAddr, way: &Way<'_>, edns: bool) -> Result<Answer, Error> {
    let (id, bytes) = way.written(edns)?;
    let exchange = async {
        let mut stream = way.stream(server).await?;
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let soon = way.end.min(Instant::now() + TRY_TCP);
    let answer = timeout_at(soon, exchange).await.map_err(|_| Error::Silent)?;
    let answer = answer.map_err(|e| Error::Io(server, e))?;
    way.question.read_answer(id, &answer, false).map_err(|bogus| Error::Bogus(server, bogus))
}

/// What servers are asked, how they are reached, and until when.
struct Way<'a> {
    question: &'a Question,
    from: From,
    warden: &'a Warden,
    end: Instant,
}

impl Way<'_> {
    /// The question as it is sent, with a fresh id of its own.
    fn written(&self, edns: bool) -> Result<(u16, Vec<u8>), Error> {
        let id = random_id()?;
        let bytes = self.question.ask(id, edns).ok_or(Error::Unwritable)?;
        Ok((id, bytes))
    }

    /// A datagram socket that speaks with `server` only.
    async fn datagrams(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let fd = match self.from {
            From::Home => {
                let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?
            }
            From::Namespace(netns) => {
                self.warden.socket(netns, server.is_ipv6(), true).await.map_err(io::Error::other)?
            }
        };
        let socket = std::net::UdpSocket::from(fd);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        // Not bound: the sandbox lets nobody bind, and connect() chooses a random port.
        socket.connect(server).await?;
        Ok(socket)
    }

    /// A connection to `server`.
    async fn stream(&self, server: SocketAddr) -> io::Result<TcpStream> {
        match self.from {
            #[expect(
                clippy::disallowed_methods,
                reason = "name servers are reached from here only, with a permit"
            )]
            From::Home => TcpStream::connect(server).await,
            From::Namespace(netns) => {
                let fd =
                    self.warden.socket(netns, server.is_ipv6(), false).await.map_err(io::Error::other)?;
                let socket = StdStream::from(fd);
                socket.set_nonblocking(true)?;
                TcpSocket::from_std_stream(socket).connect(server).await
            }
        }
    }
}

fn random_id() -> Result<u16, Error> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Error::NoChance)?;
    Ok(u16::from_be_bytes(id))
}
