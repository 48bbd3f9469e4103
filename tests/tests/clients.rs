//! Unchanged clients, each inside a tag, with only the trust variables that `sluice run` sets: what they print is what
//! they print without the agent, and each exchange is recorded with host, method, path, status, protocol, exe and tag.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sluice::types::{Summary, Verdict};
use sluice_tests::client;
use sluice_tests::harness::{Ended, PATIENCE, World, run};

const TAG: &str = "job";

/// What the record must say of one exchange.
struct Wanted<'a> {
    protocol: &'a str,
    host: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
}

const fn wanted<'a>(
    protocol: &'a str,
    host: &'a str,
    method: &'a str,
    path: &'a str,
    status: u16,
) -> Wanted<'a> {
    Wanted { protocol, host, method, path, status }
}

fn world() -> World {
    World::start().expect("a world with the agent")
}

fn job(world: &World, program: impl AsRef<std::ffi::OsStr>) -> Command {
    world.job(TAG, program).expect("a job")
}

#[track_caller]
fn ok(command: &mut Command) -> Ended {
    let ended = run(command, PATIENCE).expect("started");
    assert!(
        ended.good(),
        "{command:?}\n{:?}\nstdout: {}\nstderr: {}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    ended
}

/// Every exchange of `all` is recorded, by `exe`, and nothing reached the upstream past the agent.
#[track_caller]
fn recorded(world: &World, exe: &Path, all: &[Wanted<'_>]) -> Vec<Summary> {
    let exe = fs::canonicalize(exe).expect("the client's executable");
    let mut found = Vec::new();
    for w in all {
        let what = format!("{} {} {}{} {}", w.protocol, w.method, w.host, w.path, w.status);
        let same = |s: &Summary| {
            s.protocol == w.protocol
                && s.host == w.host
                && s.method.as_deref() == Some(w.method)
                && s.path.as_deref() == Some(w.path)
                && s.status == Some(w.status)
        };
        let summary = world.expect(&what, same).expect("recorded");
        if let Some(s) = &summary {
            assert_eq!((s.tag.as_str(), s.verdict, s.error.as_deref()), (TAG, Verdict::Allow, None), "{s:?}");
            assert_eq!(s.exe.as_deref(), exe.to_str(), "{s:?}");
            assert!(s.pid > 0 && s.duration_us.is_some() && s.rule.as_deref() == Some("observe"), "{s:?}");
        }
        found.extend(summary);
    }
    if !world.is_direct() {
        assert_eq!(world.seen().strangers(), [], "connections that the agent did not make");
    }
    found
}

#[test]
fn curl_http1() {
    let world = world();
    let out = ok(job(&world, "curl").args([
        "-sS",
        "--http1.1",
        "-w",
        " %{http_code} %{http_version}",
        "https://www.example.test/",
    ]));
    assert_eq!(out.stdout, "hello from upstream\n 200 1.1");
    recorded(&world, Path::new("/usr/bin/curl"), &[wanted("http/1.1", "www.example.test", "GET", "/", 200)]);
}

#[test]
fn curl_http2() {
    let world = world();
    let out = ok(job(&world, "curl").args([
        "-sS",
        "--http2",
        "-w",
        " %{http_code} %{http_version}",
        "-o",
        "/dev/null",
        "https://www.example.test/bytes/100000?q=1",
        "--next",
        "-sS",
        "--http2",
        "-d",
        "a=b",
        "-w",
        " %{http_code}",
        "https://www.example.test/echo",
    ]));
    assert_eq!(out.stdout, " 200 2a=b 200");
    let found = recorded(
        &world,
        Path::new("/usr/bin/curl"),
        &[
            wanted("h2", "www.example.test", "GET", "/bytes/100000?q=1", 200),
            wanted("h2", "www.example.test", "POST", "/echo", 200),
        ],
    );
    if let [get, post] = &found[..] {
        assert_eq!((get.bytes_up, get.bytes_down), (0, 100_000));
        assert_eq!((post.bytes_up, post.bytes_down), (3, 3));
    }
}

#[test]
fn curl_sees_the_upstreams_protocol_only() {
    let world = world();
    let out = ok(job(&world, "curl").args([
        "-sS",
        "--http2",
        "-w",
        " %{http_version}",
        "https://h1.example.test/status/404",
    ]));
    assert_eq!(out.stdout, "status 404\n 1.1");
    recorded(
        &world,
        Path::new("/usr/bin/curl"),
        &[wanted("http/1.1", "h1.example.test", "GET", "/status/404", 404)],
    );
}

#[test]
fn curl_over_ipv6() {
    let world = world();
    let out = ok(job(&world, "curl").args(["-sS", "https://six.example.test/bytes/5"]));
    assert_eq!(out.stdout, "xxxxx");
    let found = recorded(
        &world,
        Path::new("/usr/bin/curl"),
        &[wanted("h2", "six.example.test", "GET", "/bytes/5", 200)],
    );
    assert!(found.iter().all(|s| s.address == "[2001:db8::10]:443"), "{found:?}");
}

#[test]
fn curl_plain_http() {
    let world = world();
    let out = ok(job(&world, "curl").args([
        "-sS",
        "http://www.example.test/headers/3",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    ]));
    assert_eq!(out.stdout, "200");
    recorded(
        &world,
        Path::new("/usr/bin/curl"),
        &[wanted("http/1.1", "www.example.test", "GET", "/headers/3", 200)],
    );
}

#[test]
fn curl_http2_prior_knowledge() {
    let world = world();
    let out = ok(job(&world, "curl").args([
        "-sS",
        "--http2-prior-knowledge",
        "-w",
        "%{http_version}",
        "http://www.example.test/bytes/3",
    ]));
    assert_eq!(out.stdout, "xxx2");
    recorded(&world, Path::new("/usr/bin/curl"), &[wanted("h2", "www.example.test", "GET", "/bytes/3", 200)]);
}

#[test]
fn curl_trailers() {
    let world = world();
    let out =
        ok(job(&world, "curl").args(["-sS", "--http2", "-D", "-", "https://www.example.test/trailers"]));
    assert!(
        out.stdout.contains("body then trailers") && out.stdout.contains("x-checksum: ok"),
        "{}",
        out.stdout
    );
    recorded(
        &world,
        Path::new("/usr/bin/curl"),
        &[wanted("h2", "www.example.test", "GET", "/trailers", 200)],
    );
}

#[test]
fn wget() {
    let world = world();
    let out = ok(job(&world, "wget").args(["-q", "-O", "-", "https://www.example.test/bytes/9"]));
    assert_eq!(out.stdout, "xxxxxxxxx");
    recorded(
        &world,
        Path::new("/usr/bin/wget"),
        &[wanted("http/1.1", "www.example.test", "GET", "/bytes/9", 200)],
    );
}

/// A bare repository with one commit, below the directory that the upstream serves.
fn repository(world: &World) {
    let bare = world.space().dir().join("repositories/demo.git");
    let work = world.space().dir().join("work");
    let git = |dir: &Path, args: &[&str]| {
        let mut git = Command::new("/usr/bin/git");
        git.args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.test",
            "-c",
            "init.defaultBranch=main",
        ]);
        ok(git.args(args).current_dir(dir).env("HOME", dir).env_remove("GIT_DIR"));
    };
    for dir in [&bare, &work] {
        fs::create_dir_all(dir).expect("directory");
    }
    git(&bare, &["init", "-q", "--bare"]);
    git(&work, &["init", "-q"]);
    fs::write(work.join("README"), "cloned through the line\n".repeat(2000)).expect("file");
    git(&work, &["add", "README"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["push", "-q", bare.to_str().expect("UTF-8"), "HEAD:main"]);
}

#[test]
fn git_clone() {
    let world = world();
    repository(&world);
    let to = world.space().dir().join("clone");
    ok(job(&world, "/usr/bin/git").args(["clone", "-q", "https://git.example.test/git/demo.git"]).arg(&to));
    let text = fs::read_to_string(to.join("README")).expect("cloned");
    assert_eq!(text.lines().count(), 2000);
    recorded(
        &world,
        Path::new("/usr/lib/git-core/git-remote-https"),
        &[
            wanted("h2", "git.example.test", "GET", "/git/demo.git/info/refs?service=git-upload-pack", 200),
            wanted("h2", "git.example.test", "POST", "/git/demo.git/git-upload-pack", 200),
        ],
    );
}

/// Runs a Python client with the pinned packages.
fn python(world: &World, script: &str, args: &[&str]) -> (Ended, PathBuf) {
    let python = client::python().expect("python clients");
    let out =
        ok(job(world, &python).arg(client::program(script)).args(args).env("OPENAI_API_KEY", "sk-test"));
    (out, python)
}

#[test]
fn python_urllib() {
    let world = world();
    let python = Path::new("/usr/bin/python3");
    let out = ok(job(&world, python)
        .arg(client::program("urllib_get.py"))
        .arg("https://www.example.test/bytes/1000"));
    assert_eq!(out.stdout, "200 1000\n");
    recorded(&world, python, &[wanted("http/1.1", "www.example.test", "GET", "/bytes/1000", 200)]);
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

#[test]
fn java_http_client() {
    let world = world();
    let java = Path::new("/usr/bin/java");
    let mut command = job(&world, java);
    if world.is_direct() {
        let store = world.space().dir().join("upstream.p12");
        let mut keytool = Command::new("keytool");
        keytool.args(["-importcert", "-noprompt", "-alias", "upstream", "-storepass", "changeit", "-file"]);
        ok(keytool.arg(world.space().dir().join("upstream-ca.pem")).arg("-keystore").arg(&store));
        let options = format!(
            "-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStorePassword=changeit",
            store.display()
        );
        command.env("JAVA_TOOL_OPTIONS", options);
    }
    let out = ok(command.arg(client::program("HttpGet.java")).arg("https://www.example.test/bytes/1000"));
    assert_eq!(out.stdout, "200 1000 HTTP_2\n");
    recorded(&world, java, &[wanted("h2", "www.example.test", "GET", "/bytes/1000", 200)]);
}

#[test]
fn go_http() {
    let world = world();
    let go = client::go().expect("go client");
    let out = ok(job(&world, &go).arg("https://www.example.test/bytes/1000"));
    assert_eq!(out.stdout, "200 1000 HTTP/2.0 <nil>\n");
    recorded(&world, &go, &[wanted("h2", "www.example.test", "GET", "/bytes/1000", 200)]);
}
