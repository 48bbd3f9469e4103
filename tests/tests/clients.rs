//! Unchanged clients, each inside a tag, with only the trust variables that `sluice run` sets: what they print is what
//! they print without the agent, and each exchange is recorded with host, method, path, status, protocol, exe and tag.
//! Here what Debian has; `packages` has what PyPI and npm have.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use sluice_tests::client;
use sluice_tests::client::check::{job, ok, recorded, repository, wanted, world};
use sluice_tests::process::{PATIENCE, finish};

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

/// A command line that a shell takes apart again into the same words.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

#[test]
fn interactive_shell() {
    let world = world();
    let mut bash = job(&world, "bash");
    let shell = quoted(bash.args(["--norc", "-i"]));
    // `script` gives it a terminal; what is typed comes through a pipe.
    let mut script = Command::new("script");
    script.args(["-qec", &shell, "/dev/null"]).env_clear().env("TERM", "dumb");
    script.envs(bash.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("script");
    let typed = "tty; test -t 0 && echo terminal-$((1+1)); (curl -sS https://www.example.test/bytes/7 | cat; echo)\nexit 7\n";
    child.stdin.take().expect("piped").write_all(typed.as_bytes()).expect("typed");
    let ended = finish(child, PATIENCE).expect("ended");
    assert_eq!(ended.status.and_then(|s| s.code()), Some(7), "{ended:?}");
    assert!(ended.stdout.contains("/dev/pts/") && ended.stdout.contains("terminal-2"), "{ended:?}");
    assert!(ended.stdout.contains("xxxxxxx"), "{ended:?}");
    recorded(&world, Path::new("/usr/bin/curl"), &[wanted("h2", "www.example.test", "GET", "/bytes/7", 200)]);
}
