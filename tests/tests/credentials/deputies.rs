//! Confused deputies: a job that wants the credential sent where it can read it.

use std::net::{SocketAddr, UdpSocket};

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use sluice_tests::harness::{Options, address};
use sluice_tests::provider;
use sluice_tests::upstream::Behaviour;

use crate::rig::{Keys, WWW, credential, curl, field, record, rule, seen, sluice, with, world};

const CANARY: &str = "sk-deputy-canary";

fn has_canary(world: &sluice_tests::harness::World) -> Vec<sluice_tests::upstream::Request> {
    world.seen().requests().into_iter().filter(|request| format!("{request:?}").contains("-canary")).collect()
}

#[test]
fn a_credential_goes_to_its_host_alone() {
    let keys = Keys::new();
    let file = keys.put("openai", CANARY);
    // A rule as wide as can be: what it chooses is bound all the same.
    let config = credential(
        "openai",
        &file,
        "hosts = [\"api.openai.com\", \"untrusted.example.test\", \"selfsigned.example.test\", \"wrongname.example.test\"]\ninject.bearer = true",
    ) + "[[rule]]\nname = \"all\"\nverdict = \"allow\"\ncredential = \"openai\"\n";
    let world = world(&config);
    let refused = |args: &[&str], status: &str, why: &str| {
        let (got, body, ended) = curl(&world, args);
        assert!(got == status && body.contains(why), "{args:?}: {got} {body} {}", ended.stderr);
    };
    let www = format!("https://{WWW}/status/200");
    // Another host; also as a redirect would have it, and on a connection that bore the credential.
    refused(&[&www], "403", "credential openai: it is not bound to www.example.test");
    let (_, _, ended) = curl(&world, &["https://api.openai.com/status/200", "--next", "-sS", &www]);
    assert!(ended.stdout.contains("not bound to www.example.test"), "{ended:?}");
    assert_eq!(has_canary(&world).len(), 1, "the first of the two");
    // Its name in Host or :authority, on another's connection; the name in SNI, at an address where another answers.
    for version in ["--http1.1", "--http2"] {
        refused(&[version, "-H", "Host: api.openai.com", &www], "421", "verified for www.example.test");
        refused(
            &[version, "-H", "Host: www.example.test", "https://api.openai.com/x"],
            "421",
            "verified for api.openai.com",
        );
    }
    // A certificate that does not prove the name.
    for host in ["selfsigned.example.test", "wrongname.example.test", "untrusted.example.test"] {
        let (status, body, ended) = curl(&world, &["--insecure", &format!("https://{host}/x")]);
        assert!(status == "000" || status == "502", "{host}: {status} {body} {}", ended.stderr);
    }
    // No TLS, whatever name it claims; a name by the address alone; a port of others on the host.
    refused(&["http://api.openai.com/x"], "403", "it is sent over TLS only");
    refused(&["http://www.example.test/x", "-H", "Host: api.openai.com"], "403", "credential openai");
    refused(&["--insecure", "https://203.0.113.10/x"], "403", "nothing proves the name");
    assert_eq!(has_canary(&world).len(), 1, "{:?}", has_canary(&world));
}

#[test]
fn where_servers_send_a_job_it_does_not_go() {
    let keys = Keys::new();
    let binding = "hosts = [\"api.openai.com\"]\nports = [443, 8446]\ninject.bearer = true";
    let config = credential("openai", &keys.put("openai", CANARY), binding)
        + "[[rule]]\nname = \"none\"\npath = \"/mirror/**\"\nverdict = \"allow\"\n"
        + "[[rule]]\nname = \"all\"\nverdict = \"allow\"\ncredential = \"openai\"\n";
    let world = world(&config);
    let sent = |times: usize| {
        let had = has_canary(&world);
        assert!(had.len() == times && had.iter().all(|one| one.host == "api.openai.com"), "{had:?}");
    };
    // An open redirect of the bound host to another, followed by a client that trusts it, to a rule that would give it and to
    // one that would not.
    let trusting = |version: &str, to: &str| {
        let url = format!("https://api.openai.com/redirect/{to}");
        curl(
            &world,
            &[version, "-L", "--location-trusted", "-H", "Authorization: Bearer sk-sluice-mine", &url],
        )
    };
    for version in ["--http1.1", "--http2"] {
        let (status, body, _) = trusting(version, &format!("https://{WWW}/echo"));
        assert!(status == "403" && body.contains("not bound to www.example.test"), "{status} {body}");
        sent(1);
        let (status, body, ended) = trusting(version, &format!("https://{WWW}/mirror/plain"));
        assert!(status == "200" && !format!("{body}{}", ended.stderr).contains("canary"), "{status} {body}");
        sent(2);
        let plain = trusting(version, "http://api.openai.com/echo");
        assert!(plain.0 == "403" && plain.1.contains("over TLS only"), "{plain:?}");
        has_canary(&world).into_iter().for_each(|one| assert!(one.path.starts_with("/redirect/"), "{one:?}"));
        world.seen().forget();
    }
    // SNI and Host of the bound host, at an attacker's address: its certificate is good, and its own.
    let attacker = SocketAddr::new(address("nobody.example.test"), 443);
    let tls = world.good_tls().expect("TLS");
    world.serve("nobody.example.test", 443, Behaviour::Https(tls)).expect("a server");
    let resolve = format!("api.openai.com:443:{}", attacker.ip());
    for version in ["--http1.1", "--http2"] {
        let (status, body, ended) =
            curl(&world, &[version, "--insecure", "--resolve", &resolve, "https://api.openai.com/x"]);
        assert_eq!(status, "000", "{body} {}", ended.stderr);
    }
    sent(0);
    // One HTTP/2 connection for both names, as a client has it that coalesces: the certificate that it is shown is for one.
    let www = format!("https://{WWW}/mirror/x");
    let swapped = [
        "--http2",
        &www,
        "--next",
        "-sS",
        "--http2",
        "-H",
        "Host: api.openai.com",
        &format!("https://{WWW}/x"),
    ];
    let (_, _, ended) = curl(&world, &swapped);
    assert!(ended.stdout.contains("verified for www.example.test"), "{ended:?}");
    let shown = curl(&world, &["-v", "--http2", "https://api.openai.com/mirror/x"]).2.stderr;
    let names = shown.lines().find(|line| line.contains("subjectAltName")).expect("curl -v tells");
    assert!(names.contains("api.openai.com") && !names.contains(WWW), "{names}");
    sent(0);
}

#[test]
fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let keys = Keys::new();
    let binding = format!("hosts = [\"{WWW}\"]\nports = [8446]\ninject.bearer = true");
    let config = credential("key", &keys.put("key", CANARY), &binding)
        + &rule("key")
        + "[[rule]]\nname = \"rest\"\nverdict = \"allow\"\n";
    let world = world(&config);
    let python = std::path::Path::new("/usr/bin/python3");
    let _splitter = provider::serve(&world, python, "splitter.py", (8446, &[]), &[]).expect("a server");
    // The second answer is there before the second request, which bears nothing, and whose answer is not masked.
    let url = |path: &str| format!("https://{WWW}:8446{path}");
    for (path, good) in [("/one?is=key", true), ("/split?is=key", false)] {
        let two = [&url(path), "--next", "-sS", "-w", "\n%{http_code}", &url("/two")];
        let (status, body, ended) = curl(&world, &[&["--http1.1"][..], &two].concat());
        let received = format!("{body}{}{}", ended.stdout, ended.stderr);
        assert!(!received.contains("canary") && !received.contains("not asked for"), "{received}");
        // Where the first connection is given up, the client opens another, or is told.
        assert!(!good || status == "200", "{status} {received}");
        assert!(received.contains("answer\n"), "{received}");
    }
}

#[test]
fn plain_http_needs_leave_and_a_name_that_the_job_cannot_give() {
    const NAME: &str = "plain.dns.test";
    let keys = Keys::new();
    let file = keys.put("plain", CANARY);
    let server = SocketAddr::new(address("nobody.example.test"), 53);
    let config = format!("mode = \"enforce\"\n[dns]\nupstream = [\"{}\"]\n", server.ip())
        + &credential(
            "plain",
            &file,
            "hosts = [\"*.dns.test\", \"www.example.test\"]\ninsecure = true\ninject.bearer = true",
        )
        + "[[rule]]\nname = \"all\"\nverdict = \"allow\"\ncredential = \"plain\"\n";
    let world = with(Options { config, no_roots: true, ..Options::default() });
    world.space().resolv_conf(&format!("nameserver {}\n", server.ip())).expect("resolv.conf");
    let socket = world.space().datagrams(server).expect("a socket");
    std::thread::spawn(move || answer(&socket));
    let url = |path: &str| format!("http://{NAME}/{path}");
    // A name of the job's own making: rebinding, its own hosts file, a Host that is made up.
    for args in [
        &["--resolve", "plain.dns.test:80:203.0.113.10", &url("x")][..],
        &["-H", "Host: plain.dns.test", "http://203.0.113.10/x"],
    ] {
        let (status, body, _) = curl(&world, args);
        assert!(
            status == "403" && body.contains("nothing proves the name of the other side"),
            "{args:?} {body}"
        );
    }
    let (status, body, _) = curl(&world, &[&url("yes")]);
    assert_eq!(status, "404", "{body}");
    assert_eq!(field(&seen(&world, "/yes")[0], "authorization"), [format!("Bearer {CANARY}")]);
    // Told that address for one name, it asks for another there.
    let (status, body, _) = curl(&world, &["-H", "Host: other.dns.test", &url("no")]);
    assert!(status == "403" && body.contains("the request is for another host"), "{status} {body}");
    assert_eq!(has_canary(&world).len(), 1);
    let tested = sluice(&world, &["credentials", "test", "plain"]);
    assert!(
        tested.good() && tested.stdout.contains("www.example.test:443: verified; nothing was sent"),
        "{tested:?}"
    );
    assert_eq!(has_canary(&world).len(), 1);
}

/// A name server for which every name is at one address.
fn answer(socket: &UdpSocket) {
    let mut buffer = [0; 4096];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let Ok(asked) = Message::from_vec(&buffer[..n]) else { continue };
        let Some(query) = asked.queries.first() else { continue };
        let mut reply = Message::response(asked.metadata.id, OpCode::Query);
        reply.metadata.recursion_available = true;
        reply.add_query(query.clone());
        if query.query_type == RecordType::A {
            let at = RData::A(A::new(203, 0, 113, 10));
            reply.add_answer(Record::from_rdata(query.name.clone(), 60, at));
        }
        let _ = socket.send_to(&reply.to_vec().expect("a message"), from);
    }
}

#[test]
fn each_exchange_of_a_connection_bears_its_own() {
    let keys = Keys::new();
    let binding = "hosts = [\"www.example.test\"]\ninject.bearer = true";
    let config = credential("one", &keys.put("one", "one-canary"), binding)
        + &credential("two", &keys.put("two", "two-canary"), binding)
        + &rule("one")
        + &rule("two")
        + "[[rule]]\nname = \"rest\"\nverdict = \"allow\"\n";
    let world = world(&config);
    for version in ["--http1.1", "--http2"] {
        let url = |name: &str| format!("https://{WWW}/x?is={name}&{version}");
        let urls = ["one", "two", "none", "one"].map(url);
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let (_, body, ended) =
            curl(&world, &[&[version, "-H", "Authorization: Bearer mine"][..], &urls].concat());
        assert!(ended.good(), "{body} {ended:?}");
        let of = |path: &str| {
            let requests = seen(&world, &format!("/x?is={path}&{version}"));
            requests.iter().map(|request| field(request, "authorization").join(",")).collect::<Vec<_>>()
        };
        assert_eq!(of("one"), ["Bearer one-canary", "Bearer one-canary"]);
        assert_eq!(of("two"), ["Bearer two-canary"]);
        assert_eq!(of("none"), ["Bearer mine"], "without a credential the caller's own is its own");
    }
    let summary =
        record(&world, "without one", |s| s.path.as_deref().is_some_and(|path| path.contains("is=none")));
    assert_eq!((summary.credential, summary.rule.as_deref()), (None, Some("rest")));
}
