//! Credentials that a provider mints, or that sign a request: unchanged clients with placeholders, and stand-ins that verify
//! what reaches them with nothing of the agent's code.

#[path = "providers/openbao.rs"]
mod openbao;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluice_tests::client;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, run};
use sluice_tests::provider::{self, ADDRESS, HOST, Mock, told};

const TAG: &str = "job";

/// A directory of root's for files with secrets.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
        path.display().to_string()
    }
}

fn world(config: &str) -> World {
    let config = format!("mode = \"enforce\"\n{config}");
    World::with(Options { config, no_roots: true, ..Options::default() }).expect("a world with the agent")
}

#[test]
fn boto3_with_placeholders_reaches_an_s3_that_verifies_signatures() {
    let keys = Keys::new();
    let file = keys.put("aws", "REALKEYID:real/secret+access=key:real//session+token==\n");
    let world = world(&format!(
        r#"
[[credential]]
name = "aws"
hosts = ["{HOST}"]
ports = [8444]
source.file = "{file}"
inject.sigv4 = {{}}
[[rule]]
name = "s3"
hosts = ["{HOST}"]
verdict = "allow"
credential = "aws"
"#
    ));
    let log = world.space().dir().join("s3.log");
    let env = [
        ("REAL_ID", "REALKEYID"),
        ("REAL_SECRET", "real/secret+access=key"),
        ("REAL_TOKEN", "real//session+token=="),
    ];
    let python = client::python_aws().expect("boto3");
    let more = (8444, &[log.to_str().expect("a path")][..]);
    let _server = provider::serve(&world, &python, "s3_server.py", more, &env).expect("an S3");
    let mut job = world.job(TAG, &python).expect("a job");
    job.arg(client::program("s3_job.py")).arg(format!("https://{HOST}:8444"));
    let ended = run(&mut job, PATIENCE * 3).expect("it runs");
    let told = told(&log).expect("a log");
    let wrong: Vec<&Value> = told.iter().filter(|said| !said["wrong"].is_null()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ended.good() && ended.stdout.ends_with("all good\n"), "{}{}", ended.stdout, ended.stderr);
    assert!(told.iter().all(|said| said["leaked"] == false), "{told:#?}");
    for kind in [
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "UNSIGNED-PAYLOAD",
        "",
    ] {
        assert!(told.iter().any(|said| said["payload"] == kind), "{kind}: {told:#?}");
    }
    let seen = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!seen.contains("real/secret") && !seen.contains("real//session"));
    let shown = format!("{:?}", world.sessions().expect("sessions"));
    assert!(!shown.contains("real/secret") && !shown.contains("real//session"), "{shown}");
}

/// An app's key, and its modulus in hex.
fn app_key(world: &World) -> (String, String) {
    let run = |args: &[&str]| {
        let done =
            Command::new("openssl").args(args).current_dir(world.space().dir()).output().expect("openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    };
    run(&["genrsa", "-out", "app.pem", "2048"]);
    let modulus = run(&["rsa", "-in", "app.pem", "-noout", "-modulus"]);
    let pem = fs::read_to_string(world.space().dir().join("app.pem")).expect("a key");
    (pem, modulus.trim().trim_start_matches("Modulus=").to_owned())
}

/// A tag's `curl` to a path of the upstream: the status.
fn curl(world: &World, path: &str, more: &[&str]) -> String {
    let mut command = world.job(TAG, "curl").expect("a job");
    command.args(["-sS", "-o", "-", "-w", "\n%{http_code}", "--max-time", "30"]).args(more);
    let ended = run(command.arg(format!("https://{HOST}{path}")), PATIENCE).expect("it runs");
    assert!(ended.good(), "{}", ended.stderr);
    ended.stdout
}

/// Credentials of all kinds, each for a path.
fn minted(client_file: &str, vault_file: &str, app_file: &str) -> String {
    let at = format!("https://{ADDRESS}:8445");
    let one = |name: &str, source: &str| {
        format!(
            "[[credential]]\nname = \"{name}\"\nhosts = [\"{HOST}\"]\nsource.{source}\ninject.bearer = true\n\
             [[rule]]\nname = \"for-{name}\"\npath = \"{}\"\nverdict = \"allow\"\ncredential = \"{name}\"\n",
            path(name)
        )
    };
    let held =
        |name: &str, file: &str| format!("[[credential]]\nname = \"{name}\"\nsource.file = \"{file}\"\n");
    let client_and =
        |more: &str| format!("token_url = \"{at}/token\", client_id = \"me\", secret = \"cs\"{more}");
    [
        held("cs", client_file),
        held("vs", vault_file),
        held("ak", app_file),
        one("client", &format!("oauth2 = {{ {} }}", client_and(""))),
        one("mock", "oauth2 = { token_url = \"https://203.0.113.10:8443/token\", client_id = \"x\", secret = \"cs\" }"),
        one("github", &format!("github_app = {{ app_id = \"42\", installation_id = \"7\", key = \"ak\", api_url = \"{at}/api/v3\", repositories = [\"one\"], permissions = {{ contents = \"read\" }} }}")),
        one("vault", &format!("vault = {{ url = \"{at}\", path = \"secret/data/job\", field = \"key\", login = {{ approle = {{ role_id = \"r\", secret = \"vs\" }} }} }}")),
        one("signed", "jwt = { key = \"ak\", issuer = \"42\", audience = \"x\" }"),
        one("exchange", &format!("exchange = {{ {} }}", client_and(", audience = \"a\""))),
        "[[issuer]]\nurl = \"https://203.0.113.10:8443\"\naudience = \"sluice\"\naccept_bearer = true\n".to_owned(),
    ]
    .concat()
}

#[test]
fn tokens_are_minted_for_a_job_that_has_none() {
    let keys = Keys::new();
    let [client_file, vault_file, app_file] =
        ["client", "vault", "app"].map(|name| keys.put(name, "not yet"));
    let world = world(&minted(&client_file, &vault_file, &app_file));
    let (pem, modulus) = app_key(&world);
    let (client_secret, vault_secret) = ("client-secret-canary", "vault-secret-canary");
    keys.put("client", client_secret);
    keys.put("vault", vault_secret);
    keys.put("app", &pem);
    let log = world.space().dir().join("mint.log");
    let pair = format!("me:{client_secret}");
    let env = [("MODULUS", modulus.as_str()), ("CLIENT", &pair), ("VAULT_SECRET", vault_secret)];
    let (python, more) = (Path::new("/usr/bin/python3"), (8445, &[log.to_str().expect("a path")][..]));
    let _mint = provider::serve(&world, python, "mint_server.py", more, &env).expect("a mint");
    let mut mock = Mock::start(&world).expect("an issuer");

    for name in ["client", "mock", "github", "vault", "signed"] {
        for _ in 0..2 {
            let answer = curl(&world, &path(name), &["-H", "Authorization: Bearer sk-sluice-x"]);
            assert!(answer.ends_with("\n200"), "{name}: {answer} {:?}", fs::read_to_string(&log));
        }
        let sent = sent(&world, &path(name));
        assert!(sent.len() == 2 && sent[0] == sent[1], "one serves both: {sent:?}");
        let token = sent[0].strip_prefix("Bearer ").expect("a bearer").to_owned();
        match name {
            "mock" | "signed" => assert_eq!(token.split('.').count(), 3, "a JWT: {token}"),
            _ => assert!(given(&log).contains(&token), "{token}: {:?}", told(&log)),
        }
    }
    let told = told(&log).expect("a log");
    assert!(told.iter().all(|said| said["status"].as_u64() < Some(300)), "{told:#?}");
    assert_eq!(told.iter().filter(|said| said["path"] == "/token").count(), 1, "fetched once");
    assert_eq!(told.last().expect("some")["left"], 0, "Vault's token was given back");

    each_caller_has_its_own(&world, &mut mock);
    let shown = format!("{:?}", world.sessions().expect("sessions"));
    for canary in [client_secret, vault_secret] {
        assert!(!shown.contains(canary), "{shown}");
    }
}

/// Token exchange: nothing without a caller's token, and one for each caller.
fn each_caller_has_its_own(world: &World, mock: &mut Mock) {
    let refused = curl(world, &path("exchange"), &[]);
    assert!(refused.ends_with("\n503") && refused.contains("credential exchange"), "{refused}");
    for who in ["alice", "bob"] {
        let bearer = format!("Authorization: Bearer {}", mock.token(who).expect("a token"));
        let answer = curl(world, &path("exchange"), &["-H", &bearer]);
        assert!(answer.ends_with("\n200"), "{answer}");
        let sent = sent(world, &path("exchange"));
        assert!(sent.last().expect("sent").starts_with(&format!("Bearer for-{who}-")), "{sent:?}");
    }
}

/// The path that a credential is for: as many bytes as its name has.
fn path(name: &str) -> String {
    format!("/bytes/{}", name.bytes().map(usize::from).sum::<usize>())
}

/// The fields `authorization` that the upstream was sent with this path.
fn sent(world: &World, path: &str) -> Vec<String> {
    let requests = world.seen().requests().into_iter().filter(|request| request.path == path);
    requests
        .map(|request| {
            let named: Vec<&(String, String)> =
                request.headers.iter().filter(|(name, _)| name == "authorization").collect();
            assert_eq!(named.len(), 1, "{request:?}");
            named[0].1.clone()
        })
        .collect()
}

/// Every text that the stand-in gave.
fn given(log: &Path) -> String {
    told(log).expect("a log").iter().map(|said| said["given"].to_string()).collect()
}
