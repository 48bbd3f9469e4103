//! A search for canaries, byte by byte, in everything that a run leaves behind or gives away.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::rig::{Keys, WWW, credential, curl, rule, seen, sluice, world};

/// What a secret may look like: plain, in hex, URL-encoded, in base64 at each of its three alignments.
pub fn looks(secret: &str) -> Vec<String> {
    let mut looks = vec![secret.to_owned()];
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    looks.extend([hex.to_uppercase(), hex]);
    looks.push(secret.bytes().map(|b| format!("%{b:02X}")).collect());
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let text = engine.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            // Only what no neighbour has a part in.
            let from = (before * 8).div_ceil(6);
            let upto = (before + secret.len()) * 8 / 6;
            looks.push(text[from..upto].to_owned());
        }
    }
    looks
}

pub fn find(place: &Path, looks: &[String], found: &mut Vec<String>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).expect("directory") {
            find(&entry.expect("entry").path(), looks, found);
        }
    } else if let Ok(bytes) = fs::read(place) {
        for look in looks {
            if bytes.windows(look.len()).any(|window| window == look.as_bytes()) {
                found.push(format!("{}: {look}", place.display()));
            }
        }
    }
}

#[test]
fn nothing_that_is_left_or_given_has_a_secret() {
    let keys = Keys::new();
    let secrets =
        ["bearer-canary-7f3a9c", "basic-canary-51be02", "query-canary-c0ffee", "cookie-canary-9d1e44"];
    let ways =
        ["inject.bearer = true", "inject.basic = \"me\"", "inject.query = \"key\"", "inject.cookie = \"s\""];
    let mut config = "[record]\ndurable = true\n".to_owned();
    for (at, (secret, way)) in secrets.iter().zip(ways).enumerate() {
        let file = keys.put(&format!("{at}"), secret);
        config += &credential(&format!("c{at}"), &file, &format!("hosts = [\"www.example.test\"]\n{way}"));
        config += &rule(&format!("c{at}"));
    }
    let world = world(&config);
    let mut given = String::new();
    for at in 0..secrets.len() {
        for (path, more) in [
            ("status/200", &["--http2"][..]),
            ("status/401", &["--http1.1"]),
            ("echo", &["--http1.1", "-d", "body"]),
            ("status/500", &["--http2", "-v"]),
        ] {
            let url = format!("https://{WWW}/{path}?is=c{at}");
            let (_, body, ended) = curl(&world, &[more, &[&url]].concat());
            given += &format!("{body}{}{}", ended.stdout, ended.stderr);
        }
        // Refused: nobody else's host.
        let (_, body, _) = curl(&world, &[&format!("https://api.openai.com/x?is=c{at}")]);
        given += &body;
    }
    assert_eq!(seen(&world, "/").len(), 4 * secrets.len());
    for verb in [
        &["credentials"][..],
        &["credentials", "--json"],
        &["status", "--json"],
        &["credentials", "test", "c0"],
    ] {
        let ended = sluice(&world, verb);
        given += &format!("{}{}", ended.stdout, ended.stderr);
    }
    given += &world.daemon().log();
    for session in world.sessions().expect("sessions") {
        given += &serde_json::to_string(&session).expect("JSON");
    }
    let looks: Vec<String> = secrets.iter().flat_map(|secret| looks(secret)).collect();
    let told: Vec<&String> = looks.iter().filter(|look| given.contains(look.as_str())).collect();
    assert!(told.is_empty(), "{told:?}");
    let mut found = Vec::new();
    for place in ["state", "runtime"] {
        find(&world.space().dir().join(place), &looks, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
    // The search finds what is there.
    find(&keys.path(""), &looks, &mut found);
    assert_eq!(found.len(), secrets.len());
}
