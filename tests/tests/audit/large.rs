//! A store of ten million records, and how long one waits for what is asked of it. To be run by hand, with a program that was
//! built for speed:
//! `SLUICE_BIN=target/release/sluice cargo test -p sluice-tests --test audit -- --ignored --nocapture large`.
//! `SLUICE_LARGE` is the number of records (5 GB for ten million), `SLUICE_LARGE_DIR` where they are kept for the next time.

use std::process::Command;
use std::time::{Duration, Instant};

use sluice_tests::binary::sluice_binary;
use ulid::Ulid;

use super::*;

/// Records of one exchange and its session.
const EACH: u64 = 6;
/// So many come in a second, which is signed at its end.
const SECOND: u64 = 10_000;
/// Bytes of a segment, by the records in it.
const SEGMENT: u64 = 140_000;
/// The day on which it all was, in milliseconds since 1970: that of [`Maker::time`].
const DAY: u64 = 1_795_392_000_000;

const SESSION: &str = r#"{"session":"@S","time":"@T","client":"127.0.0.1:52598","destination":"203.0.113.10:443","caller":{"tag":"job","pid":26275,"start_time":7658070,"uid":1000,"gid":1000,"user":"ann","comm":"curl","exe":{"path":"/usr/bin/curl","device":65024,"inode":247074,"sha256":null},"cgroup":"/system.slice/@U.service","unit":"@U.service","container":null,"container_runtime":null,"image":null,"netns":null,"weakened":["shared-uid"]},"looked_up":[]}"#;
const TLS: &str = r#"{"session":"@S","time":"@T","sni":"www.example.test","verified_name":"www.example.test","client":{"version":"TLSv1_3","suite":"TLS13_AES_256_GCM_SHA384","group":"X25519","alpn":"http/1.1","resumed":false},"upstream":{"version":"TLSv1_3","suite":"TLS13_AES_256_GCM_SHA384","group":"X25519MLKEM768","alpn":"http/1.1","resumed":false},"upstream_leaf_sha256":"d26d7a3d234cd368b00cb8c782447417eb374be96fcffee35b18d12cd7cf27c4","issued_leaf_sha256":"d5b09ac6ba25a0931ed13606d1bfc4c38ab809c3ebaa55f07d1787c7e3eb9110"}"#;
const HEAD: &str = r#"{"session":"@S","exchange":1,"time":"@T","protocol":"http/1.1","host":"www.example.test","host_source":"request","method":"POST","path":"/echo?q=@S","rule":"all","verdict":"allow","identity":null,"issuer":null,"groups":[],"caller_keys":[],"headers":[["host","www.example.test"],["user-agent","curl/7.88.1"],["content-type","application/json"],["accept","application/json"],["content-length","27"]],"headers_cut":0}"#;
const ANSWER: &str = r#"{"session":"@S","exchange":1,"time":"@T","status":200,"headers":[["content-type","application/json"],["transfer-encoding","chunked"],["date","Mon, 23 Nov 2026 02:05:11 GMT"]],"headers_cut":0}"#;
const END: &str = r#"{"session":"@S","exchange":1,"up":{"kept":0,"total":27},"down":{"kept":0,"total":27},"summary":{"address":"203.0.113.10:443","cgroup":"/system.slice/@U.service","container":null,"container_runtime":null,"enforcement":"weakened","exe":"/usr/bin/curl","image":null,"netns":null,"pid":26275,"session":"@S","start_time":7658070,"tag":"job","uid":1000,"unit":"@U.service","user":"ann","weakened":["shared-uid"],"exchange":1,"time":"@T","duration_us":1193,"identity":null,"groups":[],"protocol":"http/1.1","host":"www.example.test","host_source":"request","method":"POST","path":"/echo?q=@S","status":200,"rule":"all","verdict":"allow","credential":null,"caller_keys":[],"masked":{},"bytes_up":27,"bytes_down":27,"error":null}}"#;
const SESSION_END: &str = r#"{"session":"@S","time":"@T","duration_us":38033,"exchanges":1,"error":null}"#;

fn made(dir: &Path, records: u64) {
    let mut maker = Maker::new(dir);
    maker.begin();
    let (mut second, mut full) = (0, SEGMENT);
    while maker.sequence < records {
        let micros = maker.sequence * (1_000_000 / SECOND);
        let seconds = micros / 1_000_000;
        let time = format!(
            "2026-11-23T{:02}:{:02}:{:02}.{:06}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            micros % 1_000_000
        );
        let session = Ulid::from_parts(DAY + micros / 1000, u128::from(maker.sequence)).to_string();
        let unit = format!("job-{}", maker.sequence / EACH % 1000);
        for (kind, text) in [(16, SESSION), (17, TLS), (32, HEAD), (33, ANSWER), (36, END), (18, SESSION_END)]
        {
            let text = text.replace("@S", &session).replace("@T", &time).replace("@U", &unit);
            maker.raw(kind, text.as_bytes());
        }
        if seconds > second {
            second = seconds;
            maker.back_to(second);
            maker.checkpoint();
            if second % 10 == 0 {
                maker.back_to(second);
                maker.beat();
            }
        }
        if maker.sequence > full {
            full += SEGMENT;
            maker.back_to(second);
            maker.rotate();
        }
    }
    maker.stop();
}

/// Runs a verb and gives what it says and how long it took, the best of so many times.
fn timed(args: &[&str], times: usize) -> (String, Duration) {
    let run = || {
        let begun = Instant::now();
        let out = Command::new(sluice_binary().expect("built")).args(args).output().expect("started");
        let took = begun.elapsed();
        assert!(
            out.status.success(),
            "{args:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        (String::from_utf8(out.stdout).expect("text"), took)
    };
    (0..times).map(|_| run()).min_by_key(|(_, took)| *took).expect("once")
}

#[test]
#[ignore = "a measurement, of minutes and gigabytes"]
fn of_a_large_store() {
    let records = std::env::var("SLUICE_LARGE").map_or(10_000_000, |n| n.parse().expect("a number"));
    let fresh = tempfile::tempdir().expect("directory");
    let parent = std::env::var_os("SLUICE_LARGE_DIR").map_or(fresh.path().to_owned(), PathBuf::from);
    let dir = parent.join("store");
    if !dir.exists() {
        let begun = Instant::now();
        made(&dir, records);
        println!("made in {:.0?}", begun.elapsed());
    }
    let store = dir.to_str().expect("text");
    let (said, took) = timed(&["audit", "verify", store, "--json"], 2);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let (there, bytes) = (said["records"].as_u64().expect("records"), said["bytes"].as_u64().expect("bytes"));
    assert_eq!(said["proven"], said["records"]);
    println!(
        "verify {there} records, {bytes} bytes: {took:.2?}, {:.0} MB/s",
        bytes as f64 / 1e6 / took.as_secs_f64()
    );
    let (_, took) = timed(&["audit", "verify", store, "--segments", "40-41"], 3);
    println!("verify two segments: {took:.1?}");
    for record in [1, there / 2, there - 1] {
        let (proof, took) = timed(&["audit", "prove", &record.to_string(), "--store", store], 5);
        assert!(proof.contains("\"inclusion\""));
        println!("prove record {record}: {took:.1?}");
    }
    let (found, took) =
        timed(&["sessions", "--store", store, "--unit", "job-7", "--limit", "100", "--json"], 1);
    assert_eq!(found.lines().count(), 100);
    println!("sessions by unit, which makes the index: {took:.2?}");
    let (_, took) = timed(&["store", "rebuild-index", "--store", store], 1);
    println!("rebuild-index: {took:.2?}, {:.0} records/s", there as f64 / took.as_secs_f64());
    let (_, took) = timed(&["sessions", "--store", store, "--unit", "job-7", "--limit", "100", "--json"], 5);
    println!("sessions by unit: {took:.1?}");
    let one: Value = serde_json::from_str(found.lines().next().expect("one")).expect("JSON");
    let (_, took) = timed(&["audit", "prove", one["session"].as_str().expect("id"), "--store", store], 3);
    println!("prove a session: {took:.1?}");
}
