//! Many connections, and the time of one.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use sluice_tests::host::{Cgroup, Held, raise_open_files};
use sluice_tests::process::in_guest;

use crate::stage::{Stage, WORLD4, WORLD6, look_up};

/// Accepts on every listener, asks, and holds up to `hold` connections, until `work` is done. Returns its result, and
/// how many connections were known and unknown.
fn serve<T>(stage: &Stage, hold: bool, work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (known, unknown, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let held = Mutex::new(Vec::new());
    let done = thread::scope(|scope| {
        for listener in std::iter::once(&stage.listeners.v4).chain(&stage.listeners.v6) {
            listener.set_nonblocking(false).expect("blocking");
            scope.spawn(|| {
                while let Ok((stream, _)) = listener.accept() {
                    let found = look_up(&stage.kernel, stage.netns, &stream).is_some();
                    if !found && over.load(Ordering::SeqCst) {
                        return; // Ours, behind all others.
                    }
                    if found { &known } else { &unknown }.fetch_add(1, Ordering::SeqCst);
                    if hold {
                        held.lock().expect("no panic").push(stream);
                    }
                }
            });
        }
        let done = work();
        over.store(true, Ordering::SeqCst);
        stage.namespace.enter(|| {
            for listener in std::iter::once(&stage.listeners.v4).chain(&stage.listeners.v6) {
                let mut address = listener.local_addr().expect("address");
                if address.is_ipv4() {
                    address.set_ip([127, 0, 0, 1].into());
                }
                TcpStream::connect(address).expect("wake the thread up");
            }
        });
        done
    });
    (done, known.into_inner(), unknown.into_inner())
}

/// A guest makes a tenth of them.
fn many(connections: usize) -> usize {
    if in_guest() { connections / 10 } else { connections }
}

#[test]
fn forty_thousand_short_connections_in_a_row() {
    let stage = Stage::tagged("storm");
    let count = many(40_000);
    for address in [WORLD4, WORLD6] {
        let start = Instant::now();
        let (answer, known, unknown) =
            serve(&stage, false, || stage.dial(&["storm", address, &count.to_string()]));
        println!("{count} short connections to {address} in {:?}", start.elapsed());
        assert_eq!(answer, format!("ok {count}"), "{address}");
        assert_eq!((known, unknown), (count, 0), "{address}");
    }
}

#[test]
fn eight_thousand_connections_at_once() {
    let hard = raise_open_files();
    assert!(hard >= 16_500, "needs 16,500 open files, the hard limit is {hard}");
    let stage = Stage::tagged("many");
    let count = many(8_000);
    for address in [WORLD4, WORLD6] {
        let words = ["many", address, &count.to_string()];
        let ((), known, unknown) = serve(&stage, true, || {
            let (held, answer) = Held::start(stage.dialler(Some(&stage.cgroup)).args(words));
            assert_eq!(answer, format!("ok {count}"), "{address}");
            held.release();
        });
        assert_eq!((known, unknown), (count, 0), "{address}");
    }
}

#[test]
fn connect_of_a_tagged_process_takes_at_most_15_microseconds_more() {
    let stage = Stage::tagged("latency");
    let other = Cgroup::new("latency-other");
    let own = format!("127.83.7.1:{}", stage.config().port4);
    let measure = |cgroup: &Cgroup, address: &str| -> i64 {
        let (answer, _, _) =
            serve(&stage, false, || stage.dial_in(Some(cgroup), &["latency", address, "4000"]));
        answer.strip_prefix("ok ").and_then(|ns| ns.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    };
    let mut rounds: Vec<(i64, i64)> =
        (0..5).map(|_| (measure(&stage.cgroup, WORLD4), measure(&other, &own))).collect();
    rounds.sort_by_key(|(tagged, untagged)| tagged - untagged);
    let (tagged, untagged) = rounds[2];
    println!("connect(): tagged {tagged} ns, untagged {untagged} ns, added {} ns", tagged - untagged);
    assert!(tagged - untagged <= 15_000, "medians of 4,000, of five rounds: {rounds:?}");
}
