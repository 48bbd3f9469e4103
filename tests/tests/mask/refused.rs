//! What cannot be masked is not sent, and says why.

use std::io::Write as _;

use crate::rig::{EMAIL, WWW, curl, file, kept_nowhere, record, sent, with, world};

#[test]
fn what_cannot_be_read_is_refused_before_it_is_sent() {
    let world = world();
    let utf16: Vec<u8> =
        format!("{{\"mail\":\"{EMAIL}\"}}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let zeros = |n: usize| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        (0..n).for_each(|_| gzip.write_all(&[b' '; 1 << 20]).expect("written"));
        gzip.finish().expect("coded")
    };
    // SLUICE_MASK_BOMB: MiB of spaces; 1024 takes a while to be made.
    let bomb = zeros(std::env::var("SLUICE_MASK_BOMB").map_or(256, |mib| mib.parse().expect("a number")));
    let marked = [&b"\xff\xfe"[..], &utf16].concat();
    let cases: [(&str, &[u8], &[&str], &str); 12] = [
        ("marked", &marked, &["Content-Type: application/json"], "cannot be read"),
        ("wide", &utf16, &["Content-Type: application/octet-stream"], "cannot be read"),
        ("wide-text", &utf16, &["Content-Type: text/plain"], "cannot be read"),
        ("overlong", b"[\"jane\xc1\x80corp.test\"]", &["Content-Type: application/json"], "no UTF-8"),
        ("overlong-form", b"a=jane%C1%80corp.test", &[], "no UTF-8"),
        ("utf16", &utf16, &["Content-Type: application/json; charset=utf-16"], "cannot be read"),
        ("lie", b"{\"mail\": oops", &["Content-Type: application/json"], "no valid JSON"),
        ("bomb", &bomb, &["Content-Type: application/json", "Content-Encoding: gzip"], "grows more than"),
        ("unknown", b"xyz", &["Content-Encoding: lz4"], "its content coding is"),
        ("part", b"jane.", &["Content-Range: bytes 0-4/99"], "a part of a body"),
        ("nested", b"xyz", &["Content-Encoding: gzip, gzip, gzip, gzip"], "content codings"),
        ("broken", b"no gzip at all, sorry", &["Content-Encoding: gzip"], "coding is broken"),
    ];
    for (name, body, headers, why) in cases {
        let data = format!("@{}", file(&world, name, body).display());
        let url = format!("{WWW}/echo?{name}");
        let mut args: Vec<&str> = headers.iter().flat_map(|header| ["-H", *header]).collect();
        args.extend(["--data-binary", &data, &url]);
        let (status, said, ended) = curl(&world, &args);
        assert_eq!(status, "422", "{name}: {ended:?}");
        assert!(said.contains("cannot be masked") && said.contains(why), "{name}: {said}");
        let path = format!("/echo?{name}");
        let summary =
            record(&world, name, |s| s.path.as_deref() == Some(path.as_str()) && s.duration_us.is_some());
        assert!(summary.error.as_deref().is_some_and(|e| e.contains(why)), "{summary:?}");
    }
    let sent = sent(&world);
    assert!(!sent.contains("jane.roe") && !sent.contains("oops") && sent.len() < 20 << 20, "{}", sent.len());
}

#[test]
fn answers_that_cannot_be_read() {
    // The upstream of /status says text/plain; a part of an answer is none.
    let world = with(&crate::rig::RULES.replace("\"/sink\", ", ""));
    let (status, said, ended) = curl(&world, &[&format!("{WWW}/status/206")]);
    assert_eq!(status, "502", "{ended:?}");
    assert!(said.contains("206"), "{said}");
}

#[test]
fn what_a_limit_refuses_is_recorded_masked() {
    let few = "[[rule]]\nname = \"few\"\npaths = [\"/few/**\"]\nverdict = \"allow\"\nmask = [\"pii\"]\n\
               limit = { requests = 1, per = \"1h\", by = \"tag\" }\n\n[[rule]]\nname = \"open\"";
    let world = with(&crate::rig::RULES.replacen("[[rule]]\nname = \"open\"", few, 1));
    let header = format!("X-Note: {EMAIL}");
    let url = format!("{WWW}/few/{EMAIL}?to={EMAIL}");
    for status in ["404", "429"] {
        let (got, _, ended) = curl(&world, &["-H", &header, &url]);
        assert_eq!(got, status, "{ended:?}");
        record(&world, status, |s| s.status.is_some_and(|s| s.to_string() == status));
    }
    kept_nowhere(&world, &["jane.roe"]);
}

#[test]
fn bytes_that_are_no_text_by_rule() {
    let world = world();
    let path = file(&world, "binary", &[0, 1, 2, 255, 254, 0, 9, 200, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let data = format!("@{}", path.display());
    let send = |query: &str| {
        let url = format!("{WWW}/echo{query}");
        curl(
            &world,
            &[
                "-o",
                "/dev/null",
                "-H",
                "Content-Type: application/octet-stream",
                "--data-binary",
                &data,
                &url,
            ],
        )
        .0
    };
    assert_eq!(send("").trim(), "200");
    assert_eq!(send("?how=redact").trim(), "422");
}

#[test]
fn a_tunnel_is_not_let_through_unread() {
    let world = world();
    let mut job = world.job(crate::rig::TAG, "python3").expect("a job");
    let script = "import socket\ns = socket.create_connection(('www.example.test', 443))\ns.sendall(b'hello, no TLS')\ns.shutdown(1)\nprint(len(s.recv(100)))";
    let ended = sluice_tests::process::run(job.args(["-c", script]), sluice_tests::process::PATIENCE)
        .expect("started");
    let summary = record(&world, "the tunnel", |s| s.protocol == "tunnel");
    assert!(summary.error.as_deref().is_some_and(|e| e.contains("mask")), "{summary:?} {ended:?}");
}
