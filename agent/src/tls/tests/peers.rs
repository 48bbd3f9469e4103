//! The same with other people's programs: OpenSSL as upstream, curl, Python and OpenSSL as clients, on loopback.

#![expect(clippy::disallowed_methods, reason = "the tests' own servers and clients")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustls::AlertDescription as Alert;
use tokio::net::{TcpListener, TcpStream};

use super::*;

const HOST: &str = "api.example.com";

/// A program with the trust variables of this shell taken away.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Killed when dropped. Its output is held open, so that it can go on to print.
struct Running(Child, BufReader<ChildStdout>);

impl Drop for Running {
    fn drop(&mut self) {
        // Already over is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `openssl s_server` with the certificate and key in `directory`, on a port of its choice, and its address.
fn s_server(directory: &Path, more: &[&str]) -> (Running, SocketAddr) {
    let mut server = program("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "leaf.pem", "-key", "key.pem"])
        .args(more)
        .current_dir(directory)
        .stdin(Stdio::piped()) // it ends when its input does
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let said = BufReader::new(server.stdout.take().expect("stdout"));
    let mut server = Running(server, said);
    let mut lines = server.1.by_ref().lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok());
    (server, address.expect("s_server listens"))
}

/// The reason for which the upstream at `address` is refused, `None` when it is not.
async fn verdict(fixture: &Fixture, address: SocketAddr) -> Option<(Option<Alert>, String)> {
    let (client_end, agent_client) = pipe();
    let upstream = Box::new(TcpStream::connect(address).await.expect("connect"));
    let client = TlsConnector::from(fixture.client(&[])).connect(name(HOST), client_end);
    let (_, opened) = tokio::join!(client, fixture.open("ci", agent_client, upstream));
    opened.err().map(|refused| (refused.alert, refused.reason))
}

/// A CA of OpenSSL's in `directory`, for what rcgen cannot make.
fn openssl_ca(directory: &Path) -> String {
    let request =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"];
    run(program("openssl")
        .args(request)
        .args(["-subj", "/CN=OpenSSL Root", "-keyout", "ca.key", "-out", "ca.pem"])
        .current_dir(directory));
    fs::write(directory.join("index.txt"), "").expect("write");
    fs::read_to_string(directory.join("ca.pem")).expect("read")
}

/// Issues leaf.pem and key.pem for [`HOST`], the way of the common instructions, with a key of `kind`.
fn openssl_leaf(directory: &Path, kind: &[&str]) {
    let extensions = format!(
        "authorityKeyIdentifier=keyid,issuer\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n\
         extendedKeyUsage=serverAuth\nsubjectAltName=DNS:{HOST}\n"
    );
    fs::write(directory.join("leaf.ext"), extensions).expect("write");
    run(program("openssl")
        .args([
            "req", "-new", "-nodes", "-subj", "/CN=leaf", "-keyout", "key.pem", "-out", "leaf.csr", "-newkey",
        ])
        .args(kind)
        .current_dir(directory));
    run(program("openssl")
        .args([
            "x509",
            "-req",
            "-in",
            "leaf.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-set_serial",
            "0x51",
            "-days",
            "5",
        ])
        .args(["-extfile", "leaf.ext", "-out", "leaf.pem"])
        .current_dir(directory));
}

#[tokio::test]
async fn keys_of_an_openssl_upstream() {
    let directory = tempfile::tempdir().expect("directory");
    let fixture = Fixture::trusting(Some(openssl_ca(directory.path())));
    for (kind, weak) in [
        (&["rsa:1024"][..], Some("RSA of 1024 bits")),
        (&["rsa:2047"], Some("RSA of 2047 bits")),
        (&["rsa:2048"], None),
        (&["rsa:3072"], None),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-192"], Some("elliptic curve that is not supported")),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], None),
        (&["ed25519"], None),
    ] {
        openssl_leaf(directory.path(), kind);
        // -cipher …@SECLEVEL=0: OpenSSL itself would not serve the weak ones else.
        let (_server, address) = s_server(directory.path(), &["-cipher", "ALL:@SECLEVEL=0"]);
        let verdict = verdict(&fixture, address).await;
        match (weak, &verdict) {
            (None, None) => {}
            // Without a curve or key that both take, OpenSSL ends the handshake before its certificate is seen.
            (Some(words), Some((alert, reason))) => assert!(
                reason.contains(words) && *alert == Some(Alert::InsufficientSecurity)
                    || *alert == Some(Alert::HandshakeFailure),
                "{kind:?}: {verdict:?}"
            ),
            _ => panic!("{kind:?}: {verdict:?}"),
        }
    }
}

/// A responder with a certificate of the issuer's for it: responder.pem and responder.key.
fn openssl_responder(path: &Path) {
    fs::write(path.join("responder.ext"), "authorityKeyIdentifier=keyid\nextendedKeyUsage=OCSPSigning\n")
        .expect("write");
    let request = ["req", "-new", "-nodes", "-subj", "/CN=responder", "-newkey", "rsa:2048"];
    run(program("openssl")
        .args(request)
        .args(["-keyout", "responder.key", "-out", "responder.csr"])
        .current_dir(path));
    run(program("openssl")
        .args([
            "x509",
            "-req",
            "-in",
            "responder.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-set_serial",
            "0x52",
        ])
        .args(["-extfile", "responder.ext", "-out", "responder.pem"])
        .current_dir(path));
}

#[tokio::test]
async fn stapled_answers() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path();
    let fixture = Fixture::trusting(Some(openssl_ca(path)));
    openssl_leaf(path, &["rsa:2048"]);
    let respond = |status: &str, signer: (&str, &str), days: &str| {
        let revoked = if status == "R" { "250101000000Z" } else { "" };
        fs::write(
            path.join("index.txt"),
            format!("{status}\t491231235959Z\t{revoked}\t51\tunknown\t/CN=leaf\n"),
        )
        .expect("write");
        run(program("openssl")
            .args([
                "ocsp",
                "-index",
                "index.txt",
                "-CA",
                "ca.pem",
                "-issuer",
                "ca.pem",
                "-cert",
                "leaf.pem",
                "-ndays",
                days,
            ])
            .args(["-rsigner", signer.0, "-rkey", signer.1, "-respout", "staple.der"])
            .current_dir(path));
    };
    openssl_responder(path);
    let (issuer, stranger) = (("ca.pem", "ca.key"), ("leaf.pem", "key.pem"));
    // The stranger is the server itself, whose certificate is for no responder.
    let responder = ("responder.pem", "responder.key");
    for (status, signer, refused) in
        [("V", issuer, false), ("R", issuer, true), ("R", stranger, false), ("R", responder, true)]
    {
        respond(status, signer, "1");
        let (_server, address) = s_server(path, &["-status_file", "staple.der"]);
        let verdict = verdict(&fixture, address).await;
        assert!(refused || verdict.is_none(), "{verdict:?}");
        let revoked = matches!(&verdict, Some((Some(Alert::CertificateRevoked), reason)) if reason.contains("stapled OCSP"));
        assert_eq!(revoked, refused, "{status} {signer:?}: {verdict:?}");
    }
    let staple = fs::read(path.join("staple.der")).expect("read");
    let mut bent = staple.clone();
    bent[60..90].fill(0xff);
    fs::write(path.join("staple.der"), bent).expect("write");
    let (_server, address) = s_server(path, &["-status_file", "staple.der"]);
    let verdict = verdict(&fixture, address).await;
    assert!(
        !matches!(verdict, Some((Some(Alert::CertificateRevoked), _))),
        "garbage proves nothing: {verdict:?}"
    );
}

/// An agent on loopback: takes connections, opens both legs, and answers each request itself with what it saw.
async fn agent(fixture: Arc<Fixture>, host: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = fixture.pki.server(&[host]).config(&["h2", "http/1.1"]);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("accept");
            let (fixture, server) = (Arc::clone(&fixture), Arc::clone(&server));
            tokio::spawn(async move {
                let (agent_upstream, upstream_end) = pipe();
                let upstream = tokio_rustls::TlsAcceptor::from(server).accept(upstream_end);
                let (opened, upstream) =
                    tokio::join!(fixture.open("ci", Box::new(client), agent_upstream), upstream);
                let Ok(mut opened) = opened else { return };
                let _upstream = upstream.expect("upstream");
                let mut request = [0; 4096];
                if opened.client.read(&mut request).await.is_ok_and(|n| n > 0) {
                    let seen = format!("{:?} {}", opened.alpn, opened.verified);
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{seen}",
                        seen.len()
                    );
                    opened.client.write_all(answer.as_bytes()).await.expect("write");
                    opened.client.shutdown().await.expect("shutdown");
                }
            });
        }
    });
    address
}

/// Runs a program to its end beside the agent.
async fn beside(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("run")).await.expect("join")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_openssl_and_strict_python_are_content() {
    let fixture = Arc::new(Fixture::new());
    let address = agent(Arc::clone(&fixture), HOST).await;
    let directory = tempfile::tempdir().expect("directory");
    let bundle = directory.path().join("ca.pem");
    fs::write(&bundle, pki::pem(&fixture.ca)).expect("write");
    let bundle = bundle.to_str().expect("path");
    let (connect, port) = (format!("{HOST}:443:{address}"), address.port().to_string());

    let mut curl = program("curl");
    curl.args([
        "-sS",
        "--http1.1",
        "--cacert",
        bundle,
        "--connect-to",
        &connect,
        &format!("https://{HOST}/"),
    ]);
    let output = beside(curl).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("Http1 {HOST}"), "{output:?}");

    let mut curl = program("curl");
    curl.args(["-sS", "--connect-to", &connect, "--cacert", "/dev/null", &format!("https://{HOST}/")]);
    assert!(!beside(curl).await.status.success(), "without our CA");

    let mut openssl = program("openssl");
    openssl.args([
        "s_client",
        "-connect",
        &address.to_string(),
        "-servername",
        HOST,
        "-verify_return_error",
        "-brief",
    ]);
    openssl.args(["-x509_strict", "-verify_hostname", HOST, "-CAfile", bundle]);
    let output = beside(openssl).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("Verification: OK"), "{output:?}");

    // What Python 3.13 does by default.
    let script = "import ssl,socket,sys\n\
        c=ssl.create_default_context(cafile=sys.argv[1])\n\
        c.verify_flags|=ssl.VERIFY_X509_STRICT|ssl.VERIFY_X509_PARTIAL_CHAIN\n\
        s=c.wrap_socket(socket.create_connection(('127.0.0.1',int(sys.argv[2]))),server_hostname=sys.argv[3])\n\
        s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n\
        print(s.version(),s.recv(4096)[:15])\n";
    let mut python = program("python3");
    python.args(["-c", script, bundle, &port, HOST]);
    let output = beside(python).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "TLSv1.3 b'HTTP/1.1 200 OK'", "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_is_told_why_by_an_alert() {
    let fixture = Arc::new(Fixture::new());
    let address = agent(Arc::clone(&fixture), "other.example.com").await;
    let mut curl = program("curl");
    curl.args(["-sS", "--connect-to", &format!("{HOST}:443:{address}"), &format!("https://{HOST}/")]);
    let output = beside(curl).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("alert bad certificate"), "{said}");
    assert_eq!(fixture.signed(), 0);
}
