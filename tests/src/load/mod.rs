//! The load generator of the benchmark: what `wrk`, `h2load` and `curl` do not measure. It is a client like any other:
//! it trusts the bundle in `SSL_CERT_FILE`, dials an address, asks for a name, and knows nothing of Sluice. One thread.
//!
//! Each scenario prints one JSON object. Times are microseconds.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::{Ended, run};
use crate::upstream::{SSE_STAMP, monotonic_ns};

pub mod credentials;
pub mod goals;
pub mod machine;
mod measure;
pub mod rules;
mod words;

pub use measure::{Spread, spread};
pub use words::{after, duration_us};

type Tls = TlsStream<TcpStream>;

/// Longest time for one measurement.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a client to its good end.
///
/// # Errors
/// It failed: its own words are in the text.
pub fn good(command: &mut Command) -> Result<Ended> {
    let ended = run(command, PATIENCE)?;
    if !ended.good() {
        bail!("{command:?}: {:?}\n{}\n{}", ended.status, ended.stdout, ended.stderr);
    }
    Ok(ended)
}

/// A figure of a client's.
///
/// # Errors
/// It is none.
pub fn float(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}

/// Names that `cold` asks for: `PREFIX-N.cold.example.test`, one connection each.
pub const COLD_DOMAIN: &str = "cold.example.test";

/// A target: where to dial, whom to ask for.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    name: String,
    tls: Arc<ClientConfig>,
}

/// Runs one scenario: `SCENARIO ADDRESS NAME COUNT [MORE]`, and prints its result.
///
/// # Errors
/// Wrong usage, or the scenario met an error: a benchmark with errors in it measures nothing.
pub fn main(arguments: &[String]) -> Result<()> {
    let [scenario, address, name, count, rest @ ..] = arguments else {
        bail!("SCENARIO ADDRESS NAME COUNT [MORE]")
    };
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let count: u64 = count.parse().context("COUNT")?;
    let more = rest.first().map(String::as_str).unwrap_or_default();
    if scenario == "connect" {
        println!("{}", connects(address, count)?);
        return Ok(());
    }
    let target = Target { address, name: name.clone(), tls: trusting()? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match scenario.as_str() {
            "new" => {
                new_connections(&target, Duration::from_millis(count), more.parse().context("workers")?).await
            }
            "warm" => first_bytes(&target, count, None).await,
            "cold" => first_bytes(&target, count, Some(more)).await,
            "sse" => events(&target, count, more.parse().context("gap in ms")?).await,
            "idle" => idle(&target, count).await,
            other => bail!("no scenario {other}"),
        }
    })?;
    println!("{result}");
    Ok(())
}

/// Every handshake is a full one: no session is kept.
fn trusting() -> Result<Arc<ClientConfig>> {
    let bundle = std::env::var_os("SSL_CERT_FILE").context("SSL_CERT_FILE is not set")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(bundle)?.filter_map(Result::ok));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Target {
    async fn open(&self, name: &str) -> Result<Tls> {
        let io = TcpStream::connect(self.address).await?;
        io.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, io).await?)
    }
}

/// Asks for `path` and waits for the head of the answer; gives when its first byte came and what else came with it.
async fn ask(io: &mut Tls, host: &str, path: &str) -> Result<(Instant, Vec<u8>)> {
    io.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::with_capacity(2048);
    let mut first = None;
    loop {
        ensure!(io.read_buf(&mut bytes).await? > 0, "the answer ended early");
        let first = *first.get_or_insert_with(Instant::now);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            ensure!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes[..end]));
            let rest = bytes.split_off(end + 4);
            return Ok((first, rest));
        }
    }
}

/// Asks for the 1 KiB answer and reads all of it; gives when its first byte came.
async fn kibibyte(io: &mut Tls, host: &str) -> Result<Instant> {
    let (first, mut body) = ask(io, host, "/1k").await?;
    while body.len() < 1024 {
        ensure!(io.read_buf(&mut body).await? > 0, "the body ended early");
    }
    Ok(first)
}

/// Connections with one request each for `time`, by `workers` at once.
async fn new_connections(target: &Target, time: Duration, workers: usize) -> Result<Value> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let target = target.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while start.elapsed() < time {
                    let mut io = target.open(&target.name).await?;
                    kibibyte(&mut io, &target.name).await?;
                    io.shutdown().await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({"count": count, "per_second": count as f64 / seconds}))
}

/// New connections one after another: from connect() to the first byte of the answer. `cold`: each to a name of its own.
async fn first_bytes(target: &Target, count: u64, cold: Option<&str>) -> Result<Value> {
    let mut took = Vec::new();
    for n in 0..count {
        let name = cold.map_or_else(|| target.name.clone(), |prefix| format!("{prefix}-{n}.{COLD_DOMAIN}"));
        let start = Instant::now();
        let mut io = target.open(&name).await?;
        let first = kibibyte(&mut io, &name).await?;
        took.push((first - start).as_secs_f64() * 1e6);
        io.shutdown().await?;
    }
    Ok(json!({"first_byte_us": spread(took)}))
}

/// One stream of events: from connect() to the first, and each one's way from its sender, by the clock they share.
async fn events(target: &Target, count: u64, gap_ms: u64) -> Result<Value> {
    let start = Instant::now();
    let mut io = target.open(&target.name).await?;
    let (_, mut bytes) = ask(&mut io, &target.name, &format!("/sse?n={count}&ms={gap_ms}")).await?;
    let (mut delays, mut first, mut scanned) = (Vec::new(), None, 0);
    while (delays.len() as u64) < count {
        let text = String::from_utf8_lossy(&bytes[scanned..]).into_owned();
        let now = monotonic_ns();
        if let Some(end) = text.rfind("\n\n") {
            first.get_or_insert_with(|| start.elapsed());
            for stamp in text[..end].split(SSE_STAMP).skip(1) {
                let digits: String = stamp.chars().take_while(char::is_ascii_digit).collect();
                delays.push((now - digits.parse::<i64>()?) as f64 / 1e3);
            }
            scanned += end + 2;
        }
        if (delays.len() as u64) < count {
            ensure!(io.read_buf(&mut bytes).await? > 0, "the stream ended early");
        }
    }
    let first = first.context("an event")?;
    Ok(json!({"first_event_us": first.as_secs_f64() * 1e6, "delay_us": spread(delays)}))
}

/// Opens `count` connections, one answered request on each, says so, and holds them until standard input ends.
async fn idle(target: &Target, count: u64) -> Result<Value> {
    let limit = count + 1024;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit)
        .context("open files")?;
    let open = Arc::new(tokio::sync::Semaphore::new(32));
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (target, open) = (target.clone(), Arc::clone(&open));
        tasks.push(tokio::spawn(async move {
            let _turn = open.acquire().await?;
            let mut io = target.open(&target.name).await?;
            kibibyte(&mut io, &target.name).await?;
            anyhow::Ok(io)
        }));
    }
    let mut held = Vec::new();
    for task in tasks {
        held.push(task.await??);
    }
    println!("{}", json!({"open": held.len()}));
    let mut end = [0; 1];
    // Blocks the only thread: nothing else is to run while the connections idle.
    let _ = std::io::stdin().read(&mut end);
    // A connection that was closed meanwhile was not idle but gone.
    let alive = held.iter_mut().map(|io| kibibyte(io, &target.name));
    let mut answered = 0;
    for one in alive {
        answered += u64::from(one.await.is_ok());
    }
    Ok(json!({"answered": answered}))
}

/// The connect() system call alone, one after another; each connection is reset at once.
fn connects(address: SocketAddr, count: u64) -> Result<Value> {
    let mut took = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let io = std::net::TcpStream::connect(address)?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
        // SO_LINGER 0: a reset, so that no port stays in TIME_WAIT.
        nix::sys::socket::setsockopt(
            &io,
            nix::sys::socket::sockopt::Linger,
            &libc::linger { l_onoff: 1, l_linger: 0 },
        )?;
    }
    Ok(json!({"connect_us": spread(took)}))
}
