//! Records to the store in a directory until it is killed, and says what was acknowledged, each with the time of the
//! machine's clock in nanoseconds (`CLOCK_MONOTONIC`):
//!
//! ```text
//! sluice-recorder DIR SEED [durable] [for=MILLISECONDS] [flush]
//!
//! E SESSION EXCHANGE TIME           its head is recorded
//! D SESSION EXCHANGE TIME           and is on disk
//! F SESSION EXCHANGE LENGTH TIME    its end is recorded, and a body of so many bytes
//! R TIME WHY                        it was refused: tried again a little later
//! ```
//!
//! `for`: ends in order after that time. `flush`: has the kernel write back whatever file of the store at whatever moment,
//! as it may by itself.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use sluice::record::{Store, Unrecordable};
use sluice_tests::recorder::{Recorder, begin, head, pattern, store_in};

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
}

/// In one write: a pipe keeps it whole, whatever happens to us.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line} {}\n", now()).as_bytes()).expect("the parent reads");
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, options @ ..] = words.as_slice() else { panic!("see the head of sluice-recorder.rs") };
    let (dir, seed): (&Path, u64) = (Path::new(dir), seed.parse().expect("a number"));
    let is = |option: &str| options.iter().any(|given| given == option);
    let limit = options.iter().find_map(|option| option.strip_prefix("for=")?.parse().ok());
    let recorder = Recorder::open(dir).expect("opens");
    let end = limit.map(|ms| Instant::now() + Duration::from_millis(ms));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if is("flush") {
            scope.spawn(|| write_back(&store_in(dir), seed, &over));
        }
        for thread in 0..3 {
            let (store, durable, over) = (&recorder.store, is("durable"), &over);
            scope.spawn(move || {
                let mut state = seed + thread;
                loop {
                    if let Err(why) = session(store, &mut state, durable) {
                        say(&format!("R {}", why.0.replace(' ', "_")));
                        // As clients do that come again.
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    if end.is_some_and(|end| end <= Instant::now()) {
                        break;
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
        }
    });
    recorder.close();
}

fn session(store: &Store, state: &mut u64, durable: bool) -> Result<(), Unrecordable> {
    let session = begin(store)?;
    let id = session.id();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    for _ in 0..=random(state) % 20 {
        let exchange = session.exchange(head())?;
        let number = exchange.number().0;
        say(&format!("E {id} {number}"));
        if durable {
            runtime.block_on(exchange.durable())?;
            say(&format!("D {id} {number}"));
        }
        let most = if random(state).is_multiple_of(4) { 40_000 } else { 400 };
        let body = pattern(number, random(state) as usize % most);
        exchange.response(200, &http::HeaderMap::new())?;
        body.chunks(5000).try_for_each(|piece| exchange.down(piece))?;
        exchange.finish(None);
        say(&format!("F {id} {number} {}", body.len()));
    }
    session.close(None);
    Ok(())
}

/// Starts writing back one file after another, in no order.
#[expect(unsafe_code, reason = "sync_file_range has no other name here")]
fn write_back(store: &Path, seed: u64, over: &AtomicBool) {
    let mut state = seed ^ 0x5bd1_e995;
    while !over.load(Ordering::Relaxed) {
        let files: Vec<_> =
            fs::read_dir(store).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        let Some(path) = files.get(random(&mut state) as usize % files.len().max(1)) else { continue };
        if let Ok(file) = File::open(path) {
            // SAFETY: a descriptor that is open here, no pointers.
            unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        }
        std::thread::sleep(Duration::from_millis(random(&mut state) % 4));
    }
}
