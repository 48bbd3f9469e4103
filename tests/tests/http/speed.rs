//! What one request costs the engine: CPU time of the thread that runs it alone, over loopback TCP without TLS, with
//! recording. Printed, not judged: `cargo test -p sluice-tests --test http speed -- --ignored --nocapture`. Not among
//! the tests that are run always: nothing here can fail. Only an optimised build says something about the goals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use sluice::engine::http::{self, Version};
use sluice::stream::BoxStream;

use super::rig::Rig;

const REQUEST: &[u8] =
    b"GET /bench?x=1 HTTP/1.1\r\nHost: api.example\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";

fn answer(body: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 05:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {body}\r\nConnection: keep-alive\r\n\r\n"
    );
    [head.as_bytes(), &vec![b'x'; body]].concat()
}

/// CPU time of the engine's thread for `requests` requests of `body` octets each, one after another.
fn run(requests: usize, body: usize) -> (Duration, Duration) {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("bind");
    let upstream_at = upstream.local_addr().expect("address");
    let answer = answer(body);
    let whole = answer.len();
    std::thread::spawn(move || {
        let (mut stream, _) = upstream.accept().expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        let mut buf = [0; 4096];
        let mut have = 0;
        while let Ok(n @ 1..) = stream.read(&mut buf[have..]) {
            have += n;
            if buf[..have].ends_with(b"\r\n\r\n") {
                stream.write_all(&answer).expect("answer");
                have = 0;
            }
        }
    });
    let ours = TcpListener::bind("127.0.0.1:0").expect("bind");
    let ours_at = ours.local_addr().expect("address");
    let engine = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async move {
            let rig = Rig::new();
            ours.set_nonblocking(true).expect("nonblocking");
            let listener = tokio::net::TcpListener::from_std(ours).expect("listener");
            let (client, _) = listener.accept().await.expect("accept");
            let upstream = tokio::net::TcpStream::connect(upstream_at).await.expect("connect");
            client.set_nodelay(true).expect("nodelay");
            upstream.set_nodelay(true).expect("nodelay");
            let (client, upstream): (BoxStream, BoxStream) = (Box::new(client), Box::new(upstream));
            let before = cpu();
            http::serve(client, upstream, Version::Http1, rig.context()).await.expect("served");
            cpu() - before
        })
    });
    let mut client = TcpStream::connect(ours_at).expect("connect");
    client.set_nodelay(true).expect("nodelay");
    let started = Instant::now();
    let mut buf = vec![0; whole];
    for _ in 0..requests {
        client.write_all(REQUEST).expect("request");
        client.read_exact(&mut buf).expect("answer");
    }
    let took = started.elapsed();
    drop(client);
    (engine.join().expect("engine"), took)
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("clock").into()
}

#[test]
#[ignore = "a measurement"]
fn one_small_request() {
    let requests = 5_000;
    run(200, 1024);
    let (cpu, took) = run(requests, 1024);
    let each = |d: Duration| d.as_secs_f64() * 1e6 / requests as f64;
    println!(
        "1 KiB keep-alive: {:.1} us CPU of the engine, {:.1} us in all, a request",
        each(cpu),
        each(took)
    );
}

#[test]
#[ignore = "a measurement"]
fn one_large_answer() {
    let size = 256 << 20;
    let (cpu, took) = run(1, size);
    let gb = size as f64 / 1e9;
    println!(
        "bulk: {:.2} s CPU of the engine a GB, {:.0} MB/s",
        cpu.as_secs_f64() / gb,
        gb * 1e3 / took.as_secs_f64()
    );
}

/// Resident memory that idle connections cost: the engine's part, no TLS. What an open one used is used again by the next
/// once it is idle, so the second thousand shows it. It says something only when run alone.
#[tokio::test]
#[ignore = "a measurement"]
async fn an_idle_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const EACH: usize = 1000;
    let rig = Rig::new();
    let mut open = Vec::new();
    let answer = answer(1024);
    let mut before = resident();
    for what in ["the first", "the second", "the third"] {
        for _ in 0..EACH {
            let (mut client, ours) = tokio::net::UnixStream::pair().expect("pair");
            let (mut upstream, theirs) = tokio::net::UnixStream::pair().expect("pair");
            let (ours, theirs): (BoxStream, BoxStream) = (Box::new(ours), Box::new(theirs));
            let engine = tokio::spawn(http::serve(ours, theirs, Version::Http1, rig.context()));
            client.write_all(REQUEST).await.expect("request");
            upstream.read_exact(&mut vec![0; REQUEST.len()]).await.expect("request");
            upstream.write_all(&answer).await.expect("answer");
            client.read_exact(&mut vec![0; answer.len()]).await.expect("answer");
            open.push((client, upstream, engine));
        }
        // As long as it takes to be idle.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let now = resident();
        println!(
            "{what} {EACH} idle HTTP/1 connections: {:.1} KiB each",
            (now - before) as f64 / EACH as f64
        );
        before = now;
    }
}

/// KiB.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    statm.split(' ').nth(1).and_then(|n| n.parse::<i64>().ok()).expect("a number") * 4
}
