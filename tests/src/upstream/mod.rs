//! Upstreams: servers inside a test's space that the agent forwards to. Each counts whoever connects.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::netns::{AGENT_V4, AGENT_V6};

mod anthropic;
pub mod certs;
pub mod counted;
mod git;
pub mod haproxy;
pub mod hostile;
pub mod hostile_h2;
mod mirror;
pub mod nginx;
mod openai;
mod routes;
mod websocket;

pub use routes::{SSE_STAMP, monotonic_ns};

/// What a server saw, shared between the server and the test.
#[derive(Debug, Default)]
pub struct Seen {
    connections: Mutex<Vec<SocketAddr>>,
    requests: Mutex<Vec<Request>>,
    bodies: Mutex<Vec<u8>>,
}

/// Bytes of bodies that are remembered.
const BODIES: usize = 16 << 20;

/// One request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host or :authority.
    pub host: String,
    /// Header lines, names as hyper gives them (lower case), in order.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// Peers of every connection so far, also of those that never spoke.
    pub fn connections(&self) -> Vec<SocketAddr> {
        lock(&self.connections).clone()
    }

    /// Peers that were not the agent: a connection that slipped by.
    pub fn strangers(&self) -> Vec<SocketAddr> {
        self.connections().into_iter().filter(|peer| !from_agent(*peer)).collect()
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// What came in the bodies of requests to `/echo`, `/sink`, `/v1/…` and gRPC, and in messages to `/ws`, one behind the other, as far as it is remembered.
    pub fn bodies(&self) -> Vec<u8> {
        lock(&self.bodies).clone()
    }

    /// Forgets them.
    pub fn forget(&self) {
        lock(&self.requests).clear();
        lock(&self.bodies).clear();
    }

    fn body(&self, bytes: &[u8]) {
        let mut bodies = lock(&self.bodies);
        let room = BODIES.saturating_sub(bodies.len()).min(bytes.len());
        bodies.extend_from_slice(&bytes[..room]);
    }

    fn connected(&self, peer: SocketAddr) {
        lock(&self.connections).push(peer);
    }

    fn requested(&self, request: Request) {
        lock(&self.requests).push(request);
    }
}

/// Whether a peer address is the one that only the agent's user gets in a space ([`crate::netns`]).
pub fn from_agent(peer: SocketAddr) -> bool {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => ip == AGENT_V4,
        IpAddr::V6(ip) => ip == AGENT_V6,
    }
}

/// What a server does with a connection.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers HTTP (`routes`) over TLS, HTTP/2 or 1.1 by ALPN.
    Https(Arc<ServerConfig>),
    /// The same without TLS; HTTP/2 with prior knowledge.
    Http,
    /// Misbehaves over TLS, by path ([`hostile`]).
    HostileTls(Arc<ServerConfig>),
    /// Misbehaves in HTTP/2 ([`hostile_h2`]).
    HostileH2(Arc<ServerConfig>, hostile_h2::H2),
    /// Misbehaves from the first byte on.
    HostileTcp(hostile::Tcp),
}

/// Settings that every server of a space shares.
#[derive(Clone)]
pub struct Shared {
    /// What was seen.
    pub seen: Arc<Seen>,
    /// Bare git repositories to serve below `/git/`.
    pub repositories: std::path::PathBuf,
}

/// Serves `listener` until the runtime ends.
///
/// # Errors
/// The listener cannot be registered with the runtime.
pub fn serve(
    runtime: &tokio::runtime::Runtime,
    listener: std::net::TcpListener,
    behaviour: Behaviour,
    shared: Shared,
) -> Result<()> {
    let _inside = runtime.enter();
    let listener = TcpListener::from_std(listener).context("registering a listener")?;
    runtime.spawn(async move {
        loop {
            match listener.accept().await {
                Ok((io, peer)) => {
                    shared.seen.connected(peer);
                    tokio::spawn(connection(io, behaviour.clone(), shared.clone()));
                }
                // Out of descriptors, say: the test that causes it sees it in its own counts.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    Ok(())
}

async fn connection(io: TcpStream, behaviour: Behaviour, shared: Shared) {
    // Errors of one connection are the client's to notice: a test asserts what the client and the record say.
    let _ = io.set_nodelay(true);
    match behaviour {
        Behaviour::Http => {
            let mut start = [0; 3];
            let h2 = matches!(io.peek(&mut start).await, Ok(3) if &start == b"PRI");
            routes::serve(io, h2, shared).await;
        }
        Behaviour::Https(config) => {
            if let Ok(tls) = TlsAcceptor::from(config).accept(io).await {
                let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                routes::serve(tls, h2, shared).await;
            }
        }
        Behaviour::HostileTls(config) => {
            if let Ok(tls) = TlsAcceptor::from(config).accept(io).await {
                let _ = hostile::over_tls(tls).await;
            }
        }
        Behaviour::HostileH2(config, what) => {
            if let Ok(tls) = TlsAcceptor::from(config).accept(io).await {
                let _ = hostile_h2::serve(tls, what).await;
            }
        }
        Behaviour::HostileTcp(what) => {
            let _ = hostile::over_tcp(io, what).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
