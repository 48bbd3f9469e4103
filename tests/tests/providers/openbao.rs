//! A real OpenBao in dev mode: its logins, a KV 2 secret, and leased users of a RabbitMQ that end with their lease.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sluice_tests::client;
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, eventually, run};
use sluice_tests::provider::{self, ADDRESS, HOST, Server, told};

use super::{Keys, app_key, curl, path, sent, world};

const SECRET: &str = "bao/kv+canary==";
const PORT: u16 = 8200;

/// The server, ready.
fn bao(world: &World) -> Server {
    let (key, chain) = provider::certificate(world).expect("certificate");
    let config = world.space().dir().join("bao.hcl");
    let text = format!(
        "listener \"tcp\" {{ address = \"{ADDRESS}:{PORT}\" tls_cert_file = \"{}\" tls_key_file = \"{}\" }}\n\
         api_addr = \"http://127.0.0.1:{PORT}\"\n",
        chain.display(),
        key.display()
    );
    fs::write(&config, text).expect("configuration");
    let mut server = world.untagged(client::bao().expect("bao")).expect("a command");
    server.args(["server", "-dev", "-dev-root-token-id=root"]).arg(format!("-config={}", config.display()));
    let log = fs::File::create(world.space().dir().join("bao.log")).expect("a log");
    let server = Server::of(server.stdout(log.try_clone().expect("log")).stderr(log).spawn().expect("bao"));
    let up = eventually(PATIENCE, || {
        let mut status = world.untagged("curl")?;
        let asked = status.args(["-sS", &format!("https://{ADDRESS}:{PORT}/v1/sys/health")]);
        Ok(run(asked, Duration::from_secs(5))?.stdout.contains("\"sealed\":false").then_some(()))
    });
    let log = || fs::read_to_string(world.space().dir().join("bao.log")).unwrap_or_default();
    assert!(up.expect("asked").is_some(), "{}", log());
    server
}

/// Users come and go there; their log.
fn rabbit(world: &World, log: &Path) -> Server {
    let mut command = world.untagged("/usr/bin/python3").expect("a command");
    command.arg(client::program("rabbit.py")).arg("15672").arg(log);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("python");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    Server::of(child)
}

/// Credentials by each login, and the one that is leased.
fn config(files: &[String; 4]) -> String {
    let held =
        |name: &str, file: &str| format!("[[credential]]\nname = \"{name}\"\nsource.file = \"{file}\"\n");
    let one = |name: &str, what: &str, login: &str, inject: &str| {
        format!(
            "[[credential]]\nname = \"{name}\"\nhosts = [\"{HOST}\"]\ninject.{inject}\n\
             source.vault = {{ url = \"https://{ADDRESS}:{PORT}\", {what}, login = {{ {login} }} }}\n\
             [[rule]]\nname = \"for-{name}\"\npath = \"{}\"\nverdict = \"allow\"\ncredential = \"{name}\"\n",
            path(name)
        )
    };
    let approle = "approle = { role_id = \"sluice-role\", secret = \"id\" }";
    let kv = "path = \"secret/data/job\", field = \"key\"";
    let leased = "path = \"rabbitmq/creds/ro\", field = \"username:password\"";
    let [id, pem, app, root] = files;
    [
        held("id", id),
        held("pem", pem),
        held("app", app),
        held("root", root),
        "[[credential]]\nname = \"signed\"\nsource.jwt = { key = \"app\", issuer = \"me\", audience = \"vault\" }\n".to_owned(),
        one("approle", kv, approle, "bearer = true"),
        one("cert", kv, "cert = { secret = \"pem\" }", "bearer = true"),
        one("jwt", kv, "jwt = { role = \"ci\", secret = \"signed\" }", "bearer = true"),
        one("token", kv, "token = \"root\"", "bearer = true"),
        one("leased", leased, approle, "basic = true"),
    ]
    .concat()
}

#[test]
fn a_real_openbao_by_every_login_and_with_leases() {
    let keys = Keys::new();
    let files = ["id", "pem", "app", "root"].map(|name| keys.put(name, "not yet"));
    let world = world(&config(&files));
    let dir = world.space().dir().to_owned();
    let (pem, _) = app_key(&world);
    let mut public = Command::new("openssl");
    public.args(["rsa", "-pubout", "-in", "app.pem", "-out", "app.pub"]).current_dir(&dir);
    assert!(public.output().expect("openssl").status.success());
    let log = dir.join("rabbit.log");
    let (_bao, _rabbit) = (bao(&world), rabbit(&world, &log));
    let mut setup = world.untagged("sh").expect("a command");
    setup
        .arg(client::program("bao_setup.sh"))
        .arg(dir.join("upstream-ca.pem"))
        .arg(dir.join("app.pub"))
        .arg(SECRET);
    let bin = client::bao().expect("bao");
    setup.env("PATH", format!("{}:/usr/bin:/bin", bin.parent().expect("a directory").display()));
    setup.envs([("BAO_ADDR", format!("http://127.0.0.1:{PORT}")), ("BAO_TOKEN", "root".to_owned())]);
    let done = run(&mut setup, PATIENCE * 2).expect("started");
    assert!(done.good(), "{}", done.stderr);
    keys.put("id", &done.stdout);
    let own = world.authority().client("sluice").expect("certificate");
    keys.put("pem", &format!("{}{}", own.key, own.chain));
    keys.put("app", &pem);
    keys.put("root", "root");

    for name in ["approle", "cert", "jwt", "token"] {
        let answer = curl(&world, &path(name), &["-H", "Authorization: Bearer sk-sluice-x"]);
        assert!(answer.ends_with("\n200"), "{name}: {answer}");
        assert_eq!(sent(&world, &path(name)), [format!("Bearer {SECRET}")], "{name}");
    }
    leases(&world, &log);
    let shown = format!("{:?}{}", world.sessions().expect("sessions"), world.daemon().log());
    assert!(!shown.contains(SECRET) && !shown.contains(done.stdout.trim()), "{shown}");
}

/// Requests for longer than a lease may last: each bears a user that is there still.
fn leases(world: &World, log: &Path) {
    let begun = std::time::Instant::now();
    let mut users = Vec::new();
    while begun.elapsed() < Duration::from_secs(9) {
        let answer = curl(world, &path("leased"), &[]);
        assert!(answer.ends_with("\n200"), "{answer}");
        let pair = sent(world, &path("leased")).pop().expect("sent");
        let of = |what: &str| {
            told(log).expect("a log").into_iter().filter(move |one| one["do"] == what).collect::<Vec<Value>>()
        };
        let gone = of("DELETE");
        let made = of("PUT").into_iter().find(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            pair == provider::basic(&text("user"), &text("password"))
        });
        let user = made.expect("a user that the server made")["user"].clone();
        assert!(gone.iter().all(|one| one["user"] != user), "it is gone: {user}");
        if !users.contains(&user) {
            users.push(user);
        }
    }
    assert!(users.len() > 1, "no lease lasts for 9 s: {users:?}");
}
