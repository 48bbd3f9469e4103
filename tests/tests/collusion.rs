//! A client in a tag and a server that are in it together, against the whole agent: they want to hold its memory and
//! its places, also after the job is gone.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_tests::client::judged::{Bystander, gate_kib};
use sluice_tests::harness::{World, address};
use sluice_tests::process::{PATIENCE, eventually, finish};

const PORT: u16 = 1100;

fn python(world: &World, script: &str, port: u16) -> Command {
    let mut python = world.job("raw", "/usr/bin/python3").expect("job");
    python.args(["-c", script, &address("hostile.example.test").to_string(), &port.to_string()]);
    python
}

/// The client says more than it waits for, and is gone; the server never answers. Nobody reads from the client, so only
/// its socket says that it died.
#[test]
fn a_session_does_not_outlive_its_client() {
    let world = World::start().expect("world");
    if world.is_direct() {
        return;
    }
    let script = r#"
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"GET /left HTTP/1.1\r\nHost: hostile.example.test\r\n\r\n" * 2)
sys.stdin.read()
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
"#;
    let mut client = python(&world, script, 1002);
    let mut child =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    world.expect("the request", |s| s.path.as_deref() == Some("/left")).expect("under way");
    drop(child.stdin.take());
    let ended = finish(child, PATIENCE).expect("waited");
    assert!(ended.good(), "{ended:?}");
    let over = eventually(Duration::from_secs(60), || {
        let all = world.sessions()?;
        let left =
            |s: &&sluice::types::Summary| s.path.as_deref() == Some("/left") && s.duration_us.is_some();
        Ok(all.iter().find(left).cloned())
    });
    let over = over.expect("no error").expect("the session is held by its upstream");
    assert!(over.error.is_some(), "{over:?}");
}

/// Serves HTTP/2 on `io`, grants every CONNECT and does the same inside.
fn serve<I>(io: I) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    Box::pin(async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            tokio::spawn(async move {
                if let Ok(inside) = hyper::upgrade::on(request).await {
                    serve(inside).await;
                }
            });
            Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.max_concurrent_streams(1000).serve_connection(io, service).await;
    })
}

/// The client; says `sent` and waits for its standard input.
const TUNNELS: &str = r#"
import socket, struct, sys, threading
def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
block = b"\x02\x07CONNECT\x01\x07x.y:443"
def inside(depth):
    out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    for n in range(128):
        out += frame(1, 4, 2 * n + 1, block)
    if depth:
        for n in range(128):
            out += frame(0, 0, 2 * n + 1, inside(depth - 1))
    return out
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
larger = threading.Event()
def drain():
    got = b""
    while block := s.recv(1 << 16):
        if larger.is_set(): continue
        got += block
        while len(got) >= 9 and len(got) >= (end := 9 + int.from_bytes(got[:3], "big")):
            if got[3] == 8 and got[5:9] == bytes(4): larger.set() # WINDOW_UPDATE of the connection
            got = got[end:]
threading.Thread(target=drain, daemon=True).start()
all = inside(1)
s.sendall(all[:33])
if not larger.wait(30): sys.exit("the window stays small")
s.sendall(all[33:])
print("sent", flush=True)
sys.stdin.read()
"#;

/// One connection, 128 CONNECTs in it, an HTTP/2 connection in each, with 128 CONNECTs again.
#[test]
fn tunnels_within_tunnels_are_bounded() {
    let world = World::start().expect("world");
    let listener =
        world.space().listen(SocketAddr::new(address("hostile.example.test"), PORT)).expect("listener");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(serve(TokioIo::new(io)));
            }
        });
    });
    let mut bystander = Bystander::start(&world);
    bystander.goes_on("the start");
    let before = gate_kib(&world);
    let mut child = python(&world, TUNNELS, PORT).stdin(Stdio::piped()).spawn().expect("started");
    let mut highest = 0;
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(500)); // the attack's own time
        highest = highest.max(gate_kib(&world));
    }
    let grown = highest.saturating_sub(before);
    eprintln!("the gate grew by {grown} KiB, {} records", world.sessions().expect("sessions").len());
    bystander.goes_on("tunnels within tunnels");
    child.stdin.take().expect("stdin").write_all(b"\n").expect("written");
    child.kill().expect("killed");
    child.wait().expect("waited");
    assert!(grown < 64 * 1024, "the gate grew by {grown} KiB");
}
