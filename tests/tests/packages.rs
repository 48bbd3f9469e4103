//! Unchanged clients from PyPI and npm, inside a tag: see `clients`.

use std::path::{Path, PathBuf};

use sluice_tests::client;
use sluice_tests::client::check::{job, ok, recorded, wanted, world};
use sluice_tests::harness::World;
use sluice_tests::process::Ended;

/// Runs a Python client with the pinned packages.
fn python(world: &World, script: &str, args: &[&str]) -> (Ended, PathBuf) {
    let python = client::python().expect("python clients");
    let out =
        ok(job(world, &python).arg(client::program(script)).args(args).env("OPENAI_API_KEY", "sk-test"));
    (out, python)
}

#[test]
fn python_requests() {
    let world = world();
    let (out, python) = python(&world, "requests_get.py", &["https://www.example.test"]);
    assert_eq!(out.stdout, "200 1000\n200 {'a': 1}\n");
    let found = recorded(
        &world,
        &python,
        &[
            wanted("http/1.1", "www.example.test", "GET", "/bytes/1000", 200),
            wanted("http/1.1", "www.example.test", "POST", "/echo", 200),
        ],
    );
    if let [get, post] = &found[..] {
        assert_eq!(get.session, post.session, "one connection, one session");
        assert!(post.exchange > get.exchange);
    }
}

#[test]
fn python_httpx() {
    let world = world();
    let (out, python) = python(&world, "httpx_get.py", &["https://www.example.test"]);
    assert_eq!(out.stdout, "200 1000\n200 3\n");
    recorded(
        &world,
        &python,
        &[
            wanted("http/1.1", "www.example.test", "GET", "/bytes/1000", 200),
            wanted("http/1.1", "www.example.test", "GET", "/sse?n=3&ms=10", 200),
        ],
    );
}

#[test]
fn python_openai() {
    let world = world();
    let (out, python) = python(&world, "openai_chat.py", &[]);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "echo: plain chat",
            "echo: streamed chat 3",
            "echo: plain response",
            "echo: streamed response 3 response.completed"
        ]
    );
    let chat = || wanted("http/1.1", "api.openai.com", "POST", "/v1/chat/completions", 200);
    let responses = || wanted("http/1.1", "api.openai.com", "POST", "/v1/responses", 200);
    recorded(&world, &python, &[chat(), responses()]);
    if !world.is_direct() {
        assert_eq!(world.sessions().expect("sessions").len(), 4, "two of each");
    }
}

#[test]
fn python_grpc() {
    let world = world();
    let (out, python) = python(&world, "grpc_echo.py", &["www.example.test:443"]);
    assert_eq!(out.stdout, "hello grpc OK\n");
    recorded(&world, &python, &[wanted("h2", "www.example.test", "POST", "/echo.Echo/Unary", 200)]);
}

#[test]
fn python_websocket() {
    let world = world();
    let (out, python) = python(&world, "websocket_echo.py", &["wss://www.example.test/ws"]);
    assert_eq!(out.stdout, "hello websocket\n70000\nTrue\nclosed 1000\n");
    recorded(&world, &python, &[wanted("websocket", "www.example.test", "GET", "/ws", 101)]);
}

#[test]
fn node_fetch() {
    let world = world();
    let dir = client::node().expect("node clients");
    let out = ok(job(&world, "/usr/bin/node").arg(dir.join("fetch.mjs")).arg("https://www.example.test"));
    assert_eq!(out.stdout, "200 1000\n200 {\"a\":1}\n");
    recorded(
        &world,
        Path::new("/usr/bin/node"),
        &[
            wanted("http/1.1", "www.example.test", "GET", "/bytes/1000", 200),
            wanted("http/1.1", "www.example.test", "POST", "/echo", 200),
        ],
    );
}

#[test]
fn node_openai() {
    let world = world();
    let dir = client::node().expect("node clients");
    let out =
        ok(job(&world, "/usr/bin/node").arg(dir.join("openai_chat.mjs")).env("OPENAI_API_KEY", "sk-test"));
    assert_eq!(out.stdout, "echo: plain chat\necho: streamed chat 3\necho: plain response\n");
    recorded(
        &world,
        Path::new("/usr/bin/node"),
        &[
            wanted("http/1.1", "api.openai.com", "POST", "/v1/chat/completions", 200),
            wanted("http/1.1", "api.openai.com", "POST", "/v1/responses", 200),
        ],
    );
}
