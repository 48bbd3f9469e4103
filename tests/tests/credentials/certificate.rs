//! A client certificate that the job does not have: curl without `--cert`, and nginx that demands one.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use sluice_tests::canary::{Found, Search};
use sluice_tests::harness::World;
use sluice_tests::process::{eventually, run};
use sluice_tests::upstream::certs::Flaw;

use crate::rig::{Keys, TAG, WWW, credential, curl, record, sluice, world};

/// Where nginx demands a certificate.
const PORT: u16 = 9443;

/// nginx in a world; it ends with this.
pub struct Demanding(Child);

impl Drop for Demanding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demanding {
    /// It tells each client as whom it came, and echoes its query.
    pub fn start(world: &World) -> Self {
        let dir = world.space().dir().join("nginx");
        fs::create_dir_all(&dir).expect("directory");
        let pem = world.authority().leaf(&[WWW, "api.openai.com"], Flaw::None).expect("certificate");
        fs::write(dir.join("chain.pem"), pem.chain).expect("certificate");
        fs::write(dir.join("key.pem"), pem.key).expect("key");
        fs::write(dir.join("ca.pem"), world.authority().pem()).expect("authority");
        let dir = dir.display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
            .collect();
        let text = format!(
            "daemon off; master_process off; user root; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ }}\n\
             http {{ access_log off; {temp}\n\
             server {{ listen 203.0.113.10:{PORT} ssl http2; ssl_certificate {dir}/chain.pem; ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_client_certificate {dir}/ca.pem; ssl_verify_client on; default_type text/plain;\n\
             return 200 \"$ssl_client_verify $ssl_client_s_dn $server_protocol $ssl_protocol $request_uri\\n\"; }} }}\n"
        );
        fs::write(format!("{dir}/nginx.conf"), text).expect("configuration");
        let mut nginx = world.untagged("nginx").expect("a command");
        nginx.arg("-p").arg(dir.to_string()).args(["-c", "nginx.conf"]).stdin(Stdio::null());
        let log = fs::File::create(format!("{dir}/stderr")).expect("log");
        let server = Self(nginx.stderr(log).spawn().expect("nginx"));
        let up = eventually(Duration::from_secs(10), || {
            let mut probe = world.untagged("curl")?;
            let ended = run(probe.args(["-sS", &format!("https://{WWW}:{PORT}/")]), Duration::from_secs(5))?;
            Ok(ended.stdout.contains("No required SSL certificate was sent").then_some(()))
        });
        assert!(
            up.expect("asked").is_some(),
            "{}",
            fs::read_to_string(format!("{dir}/stderr")).unwrap_or_default()
        );
        server
    }
}

/// A certificate and its key, as a credential's file has them.
pub fn certificate(world: &World, name: &str) -> String {
    let pem = world.authority().client(name).expect("certificate");
    format!("{}{}", pem.key, pem.chain)
}

/// A world with nginx, and a rule that names the certificate for all but `/open`.
fn demanding(keys: &Keys) -> (World, Demanding) {
    let file = keys.put("job", "not yet");
    let binding =
        format!("hosts = [\"{WWW}\"]\nports = [{PORT}, 443]\ntags = [\"{TAG}\"]\ninject.tls = true");
    let config = credential("mtls", &file, &binding)
        + "[[rule]]\nname = \"open\"\npath = \"/open\"\nverdict = \"allow\"\n"
        + "[[rule]]\nname = \"named\"\nverdict = \"allow\"\ncredential = \"mtls\"\n";
    let world = world(&config);
    let nginx = Demanding::start(&world);
    (world, nginx)
}

fn url(host: &str, path: &str) -> String {
    format!("https://{host}:{PORT}{path}")
}

/// Waits until nginx is shown the certificate of this name.
fn shown(world: &World, name: &str) {
    let turned = eventually(Duration::from_secs(10), || {
        Ok(curl(world, &[&url(WWW, "/x")]).1.contains(&format!("SUCCESS CN={name} ")).then_some(()))
    });
    assert!(turned.expect("asked").is_some(), "{name}");
}

#[test]
fn curl_without_a_certificate_where_one_is_demanded() {
    let keys = Keys::new();
    let (world, _nginx) = demanding(&keys);
    // Nothing that could be shown: told, and not by the upstream.
    let (status, body, _) = curl(&world, &[&url(WWW, "/early")]);
    assert!(status == "503" && body.contains("credential mtls: it has 0 certificates"), "{status} {body}");
    let first = certificate(&world, "job-one");
    keys.put("job", &first);
    shown(&world, "job-one");
    for (version, wanted) in [
        ("--http1.1", "SUCCESS CN=job-one HTTP/1.1 TLSv1.3 /x"),
        ("--http2", "SUCCESS CN=job-one HTTP/2.0 TLSv1.3 /x"),
    ] {
        let (status, body, ended) = curl(&world, &[version, &url(WWW, "/x")]);
        assert!(status == "200" && body.trim() == wanted, "{status} {body} {ended:?}");
    }
    let summary = record(&world, "one that bore it", |s| s.path.as_deref() == Some("/x"));
    assert_eq!((summary.credential.as_deref(), summary.rule.as_deref()), (Some("mtls"), Some("named")));
    let tested = sluice(&world, &["credentials", "test", "mtls"]);
    assert!(tested.stdout.contains("mtls: fetched"), "{tested:?}");

    // Another is shown on the next connection, and no request fails meanwhile.
    let second = certificate(&world, "job-two");
    keys.put("job", &second);
    assert_eq!(curl(&world, &[&url(WWW, "/x")]).0, "200");
    shown(&world, "job-two");

    // What is secret of it is nowhere.
    let lines = [&first, &second].map(|pem| pem.lines().nth(1).expect("a line of the key").to_owned());
    let search = Search::new(lines.iter().map(|line| (line, line))).expect("a search");
    let mut found = Found::new();
    for place in ["state", "runtime", "daemon.log"] {
        search.place(&world.space().dir().join(place), &mut found).expect("searched");
    }
    assert_eq!(found, Found::new());
}

#[test]
fn nothing_else_goes_out_in_its_name() {
    let keys = Keys::new();
    let (world, _nginx) = demanding(&keys);
    keys.put("job", certificate(&world, "job-one"));
    shown(&world, "job-one");
    // What another rule lets through, on whatever connection.
    for args in [&[][..], &["-o", "/dev/null", &url(WWW, "/x"), "--next", "-sS"]] {
        let (_, _, ended) = curl(&world, &[args, &[&url(WWW, "/open")]].concat());
        assert!(ended.stdout.contains("its certificate was shown on this connection"), "{ended:?}");
    }
    // Whom it is not bound to is not shown it: another host at the same server, another tag.
    let (status, body, _) = curl(&world, &[&url("api.openai.com", "/x")]);
    assert!(status == "403" && body.contains("not bound to api.openai.com"), "{status} {body}");
    let (status, body, _) = curl(&world, &[&url("api.openai.com", "/open")]);
    assert!(status == "400" && body.contains("No required SSL certificate"), "{status} {body}");
    let mut other = world.job("other", "curl").expect("a job");
    let ended = run(other.args(["-sS", &url(WWW, "/open")]), Duration::from_secs(20)).expect("started");
    assert!(ended.stdout.contains("No required SSL certificate"), "{ended:?}");
    // An upstream that does not ask gets no request that should bear it.
    let (status, body, _) = curl(&world, &[&format!("https://{WWW}/status/200")]);
    assert!(status == "503" && body.contains("did not ask for it"), "{status} {body}");
}
