//! The corpus of `tests/desync` through the gate to nginx, Node, Go and gunicorn: the requests that the gate recorded as
//! sent are the requests that the server's application handled, each time. Straight to them the same bytes are different
//! numbers of requests to different servers, which is why there is a gate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice::engine::http::{self, Version};
use sluice::stream::BoxStream;
use sluice::types::{Summary, Verdict};
use sluice_tests::upstream::counted::{Counted, Kind};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::rig::Rig;

/// For what is done in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Case {
    name: String,
    bytes: Vec<u8>,
    /// How many exchanges the gate records: every request that it forwards, and one refusal after them at most.
    exchanges: usize,
}

fn octets(text: &Value) -> Vec<u8> {
    text.as_str().expect("text").chars().map(|c| u8::try_from(u32::from(c)).expect("an octet")).collect()
}

fn cases() -> Vec<Case> {
    let read = |text: &str| serde_json::from_str::<Vec<Value>>(text).expect("cases");
    let refused = |case: &Value| usize::from(case["status"] != 200);
    let known = read(include_str!("../../desync/payloads.json"));
    let tricky = read(include_str!("../../desync/tricky.json"));
    let name = |case: &Value| case["name"].as_str().expect("name").to_owned();
    let known = known
        .iter()
        .map(|c| (name(c), octets(&c["bytes"]), c["forwarded"].as_array().expect("list").len() + refused(c)));
    let tricky = tricky.iter().map(|c| {
        (
            name(c),
            octets(&c["bytes"]),
            usize::try_from(c["exchanges"].as_u64().expect("number")).expect("few"),
        )
    });
    known.chain(tricky).map(|(name, bytes, exchanges)| Case { name, bytes, exchanges }).collect()
}

/// Method and path of a request line's beginning, or of a record, without the authority of an absolute target.
fn plain(method: &str, target: &str) -> String {
    let low = target.to_ascii_lowercase();
    let path = match ["http://", "https://"].iter().find(|s| low.starts_with(*s)) {
        Some(scheme) => target[scheme.len()..].find('/').map_or("/", |at| &target[scheme.len() + at..]),
        None => target,
    };
    format!("{method} {path}")
}

fn handled(server: &Counted) -> Vec<String> {
    let lines = server.handled().expect("its log");
    lines.iter().map(|l| l.split_once(' ').map_or_else(|| l.clone(), |(m, t)| plain(m, t))).collect()
}

/// Passes octets between the engine and a server, and goes on reading until the server closes: then it has done all that
/// it will ever do with what it got.
async fn relay(engine: DuplexStream, server: UnixStream) {
    let (mut from_engine, mut to_engine) = tokio::io::split(engine);
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let _ended = tokio::io::copy(&mut from_engine, &mut to_server).await;
        let _closed = to_server.shutdown().await;
    };
    let down = async {
        let mut some = [0; 4096];
        while let Ok(n @ 1..) = from_server.read(&mut some).await {
            // The engine may have gone: the rest is read all the same.
            let _gone = to_engine.write_all(&some[..n]).await;
        }
        let _closed = to_engine.shutdown().await;
    };
    timeout(PATIENCE, async { tokio::join!(up, down) }).await.expect("the server closes");
}

/// What one connection through the gate came to: what it recorded.
async fn through(server: &Counted, case: &Case, piece: usize) -> Vec<Summary> {
    let rig = Rig::new();
    let (mut client, ours) = duplex(64 * 1024);
    let (theirs, upstream) = duplex(64 * 1024);
    let far = UnixStream::connect(server.socket()).await.expect("connect");
    let relay = tokio::spawn(relay(upstream, far));
    let (ours, theirs): (BoxStream, BoxStream) = (Box::new(ours), Box::new(theirs));
    let engine = tokio::spawn(http::serve(ours, theirs, Version::Http1, rig.context()));
    let started = Instant::now();
    let (mut answers, mut hung) = (Vec::new(), false);
    let mut rest = case.bytes.chunks(piece);
    loop {
        match rest.next() {
            // It may have been refused, and closed, before its end.
            Some(bytes) => drop(client.write_all(bytes).await),
            None if rig.count() >= case.exchanges => break,
            None if started.elapsed() > PATIENCE => {
                hung = true;
                break;
            }
            None => {}
        }
        let mut some = [0; 4096];
        match timeout(Duration::from_micros(100), client.read(&mut some)).await {
            // Closed: there will be no more.
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(n)) => answers.extend_from_slice(&some[..n]),
            Err(_) => {}
        }
    }
    drop(client);
    let _ended = timeout(PATIENCE, engine).await.expect("the engine ends");
    relay.await.expect("relay");
    let records = rig.so_far();
    assert!(
        !hung,
        "{}: {} of {}: {}\n{records:#?}",
        case.name,
        records.len(),
        case.exchanges,
        answers.escape_ascii()
    );
    records
}

/// The requests that went upstream whole and were answered well, and the one at most that did not.
fn sent(records: &[Summary]) -> (Vec<String>, Vec<String>) {
    let sent = records.iter().filter(|r| r.verdict == Verdict::Allow);
    let (whole, cut): (Vec<_>, Vec<_>) = sent.partition(|r| r.error.is_none() && r.status == Some(200));
    let text =
        |r: &&Summary| plain(r.method.as_deref().unwrap_or_default(), r.path.as_deref().unwrap_or_default());
    (whole.iter().map(text).collect(), cut.iter().map(text).collect())
}

/// Plays all cases to one server; gives what was wrong.
async fn play(kind: Kind, server: Arc<Counted>, piece: usize) -> Vec<String> {
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for case in cases() {
        let before = handled(&server).len();
        let records = through(&server, &case, piece).await;
        let (mut whole, cut) = sent(&records);
        // Go's server answers that itself.
        whole.retain(|one| kind != Kind::Go || one != "OPTIONS *");
        asked += whole.len();
        let got = handled(&server).split_off(before);
        // What was cut off, or refused by the server itself, may have reached the application or not.
        let fits = got == whole || (cut.len() == 1 && got == [&whole[..], &cut].concat());
        // A server may close before it has heard all.
        if !fits
            || records.len() > case.exchanges
            || cut.len() > 1
            || got.iter().any(|g| g.contains("SMUGGLED"))
        {
            wrong.push(format!(
                "{kind:?}, {}: the gate sent {whole:?} (cut {cut:?}) in {} records, handled {got:?}",
                case.name,
                records.len()
            ));
        }
    }
    if asked < 120 {
        wrong.push(format!("{kind:?}: only {asked} requests came through"));
    }
    wrong
}

async fn every(piece: usize) {
    let dir = TempDir::with_prefix("sluice-servers-").expect("directory");
    let mut running = Vec::new();
    for kind in Kind::ALL {
        let server = Counted::start(kind, &dir.path().join(format!("{kind:?}"))).expect("server");
        running.push(tokio::spawn(play(kind, Arc::new(server), piece)));
    }
    let mut wrong = Vec::new();
    for one in running {
        wrong.extend(one.await.expect("played"));
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_and_the_server_count_alike() {
    every(usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_and_the_server_count_alike_in_pieces() {
    every(7).await;
}

/// Straight to a server: what its application handled.
async fn straight(server: &Counted, case: &Case) -> Vec<String> {
    let before = handled(server).len();
    let mut io = UnixStream::connect(server.socket()).await.expect("connect");
    // It may close before it has read all.
    let _written = io.write_all(&case.bytes).await;
    let _closed = io.shutdown().await;
    let mut some = [0; 4096];
    let ended = timeout(PATIENCE, async { while let Ok(1..) = io.read(&mut some).await {} }).await;
    assert!(ended.is_ok(), "{}: the server does not close", case.name);
    handled(server).split_off(before)
}

#[tokio::test]
async fn without_the_gate_servers_disagree() {
    let all = cases();
    let distinct: std::collections::BTreeSet<&[u8]> = all.iter().map(|c| &c.bytes[..]).collect();
    assert!(distinct.len() >= 250 && distinct.len() == all.len(), "{} of {}", distinct.len(), all.len());
    let dir = TempDir::with_prefix("sluice-servers-").expect("directory");
    let start = |kind| Counted::start(kind, &dir.path().join(format!("{kind:?}"))).expect("server");
    let servers = Kind::ALL.map(start);
    let (mut differ, mut smuggled) = (Vec::new(), 0);
    for case in &all {
        let mut counts = Vec::new();
        let mut names = Vec::new();
        for server in &servers {
            let got = straight(server, case).await;
            counts.push(got.len());
            names.push(got.iter().any(|g| g.contains("SMUGGLED")));
        }
        if counts.iter().any(|n| *n != counts[0]) {
            smuggled += usize::from(names.contains(&true) && names.contains(&false));
            differ.push(format!("{}: {counts:?}", case.name));
        }
    }
    println!("{} of {} cases (nginx, Node, Go, gunicorn):\n{}", differ.len(), all.len(), differ.join("\n"));
    println!("{smuggled} of them are a second request to some and none to others");
    assert!(differ.len() >= 30 && smuggled >= 10, "{} differ, {smuggled} smuggle", differ.len());
}
