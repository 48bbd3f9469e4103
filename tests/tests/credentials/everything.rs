//! Credentials of every source and every way into a request, each with a secret of its own, and those who give them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use sluice_tests::canary::Search;
use sluice_tests::harness::{Options, World};
use sluice_tests::provider::{self, Mock, Server};

use crate::certificate::{self, Demanding};
use crate::rig::{Keys, WWW, rule, with};

/// Where the providers are.
const AT: &str = "https://203.0.113.10:8445";
/// What a job may show anybody: the control of every search.
pub const PLANTED: &str = "planted";

/// Name, source, way in; `D` stands for the directory of keys, `K` for what is new with each run.
const CREDENTIALS: [(&str, &str, &str); 21] = [
    ("file", "file = \"D/file\"", "bearer = true"),
    ("systemd", "systemd = \"systemd\"", "header = \"x-api-key\""),
    ("command", "command = [\"/bin/cat\", \"D/command\"]", "basic = \"robot\""),
    ("env", "env = \"SLUICE_CANARY\"", "query = \"key\""),
    ("kubernetes", "file = \"D/k8s/token\"", "cookie = \"session\""),
    ("pair", "file = \"D/pair\"", "basic = true"),
    ("prefixed", "file = \"D/prefixed\"", "header = \"authorization\"\ninject.prefix = \"token \""),
    ("keys", "file = \"D/keys\"", "sigv4 = {}"),
    ("certificate", "file = \"D/certificate\"", "tls = true"),
    (
        "client",
        "oauth2 = { token_url = \"A/token\", client_id = \"me\", secret = \"b-client\" }",
        "bearer = true",
    ),
    (
        "exchange",
        "exchange = { token_url = \"A/token\", client_id = \"me\", secret = \"b-client\" }",
        "header = \"x-api-key\"",
    ),
    (
        "github",
        "github_app = { app_id = \"42\", installation_id = \"7\", key = \"b-rsa\", api_url = \"A/api/v3\", repositories = [\"one\"], permissions = { contents = \"read\" } }",
        "basic = \"x-access-token\"",
    ),
    ("signed", "jwt = { key = \"b-rsa\", issuer = \"42\", audience = \"x\" }", "bearer = true"),
    (
        "kv",
        "vault = { url = \"A\", path = \"secret/data/job\", field = \"key\", login = { approle = { role_id = \"r\", secret = \"b-vault\" } } }",
        "query = \"key\"",
    ),
    (
        "leased",
        "vault = { url = \"A\", path = \"database/creds/ro\", field = \"username:password\", login = { approle = { role_id = \"r\", secret = \"b-vault\" } } }",
        "basic = true",
    ),
    (
        "manager",
        "aws_secret = { region = \"eu-west-1\", keys = \"b-aws\", id = \"x\", endpoint = \"A\" }",
        "cookie = \"session\"",
    ),
    (
        "parameter",
        "aws_ssm = { region = \"eu-west-1\", keys = \"b-aws\", parameter = \"x\", endpoint = \"A\" }",
        "header = \"api-key\"",
    ),
    (
        "assumed",
        "sts = { region = \"eu-west-1\", keys = \"b-aws\", role_arn = \"arn:aws:iam::123456789012:role/x\", endpoint = \"A\" }",
        "sigv4 = {}",
    ),
    (
        "gcp",
        "gcp_secret = { project = \"p\", secret = \"s\", key = \"b-google\", endpoint = \"A\" }",
        "bearer = true",
    ),
    (
        "azure",
        "azure_secret = { vault_url = \"A\", name = \"key\", tenant = \"tenant\", client_id = \"me\", secret = \"b-client\", login_url = \"A\" }",
        "bearer = true",
    ),
    ("twice", "file = \"D/file\"", "cookie = \"twice\""),
];

/// Those that others need only: name and file.
const BOTTOM: [&str; 5] = ["b-client", "b-rsa", "b-vault", "b-aws", "b-google"];

/// What a provider's secret begins with, by the stand-in's word for it.
const MINTED: [&str; 11] =
    ["client", "for-alice", "ghs", "hvs", "kv", "leased", "manager", "parameter", "assumed", "gcp", "azure"];

/// All of it, running.
pub struct Everything {
    pub world: World,
    pub keys: Keys,
    pub mock: Mock,
    /// Secrets by name, as far as they are known before anything is asked.
    pub secrets: Vec<(String, String)>,
    /// While this says `echo`, providers answer 500 with all that they were sent.
    pub control: PathBuf,
    pub log: PathBuf,
    // Before the world: they are in it.
    _servers: (Server, Demanding),
}

/// Names of the credentials that jobs may bear.
pub fn names() -> impl Iterator<Item = &'static str> {
    CREDENTIALS.iter().map(|(name, ..)| *name)
}

/// A secret of this run: what URL-encoding and base64 change, and AWS takes.
fn secret(name: &str, run: &str) -> String {
    format!("{name}/{run}+own=")
}

fn config(keys: &Keys) -> String {
    let directory = keys.path("").display().to_string();
    let mut text = "[record]\ndurable = true\n[[issuer]]\nurl = \"https://203.0.113.10:8443\"\naudience = \"sluice\"\naccept_bearer = true\n".to_owned();
    for (name, source, inject) in CREDENTIALS {
        let source = source.replace("D/", &directory).replace("\"A", &format!("\"{AT}"));
        text += &format!(
            "[[credential]]\nname = \"{name}\"\nhosts = [\"{WWW}\"]\nports = [443, 9443]\nsource.{source}\ninject.{inject}\n"
        );
        text += &rule(name);
    }
    for name in BOTTOM {
        text += &format!("[[credential]]\nname = \"{name}\"\nsource.file = \"{directory}{name}\"\n");
    }
    text + "[[rule]]\nname = \"plain\"\npath = [\"/echo\", \"/seen/**\"]\nverdict = \"allow\"\n"
}

/// As Kubernetes mounts a secret: a link to a directory's link.
fn kubernetes(keys: &Keys, text: &str) {
    let data = keys.path("k8s/..2026_11_22");
    fs::create_dir_all(&data).expect("directory");
    fs::write(data.join("token"), text).expect("written");
    fs::set_permissions(data.join("token"), fs::Permissions::from_mode(0o400)).expect("mode");
    symlink("..2026_11_22", keys.path("k8s/..data")).expect("a link");
    symlink("..data/token", keys.path("k8s/token")).expect("a link");
}

fn openssl(args: &[&str], dir: &Path) -> String {
    let done = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

impl Everything {
    pub fn start() -> Self {
        let run = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a number")[..8].to_owned();
        let keys = Keys::new();
        let mut secrets: Vec<(String, String)> = Vec::new();
        let mut own = |name: &str| {
            let text = secret(name, &run);
            secrets.push((name.to_owned(), text.clone()));
            text
        };
        for name in ["file", "command", "prefixed", "systemd"] {
            keys.put(name, own(name) + "\n");
        }
        keys.put("pair", format!("me:{}", own("pair")));
        keys.put("keys", format!("AKIDOWN:{}", own("keys")));
        let (aws, client, vault, env) = (own("b-aws"), own("b-client"), own("b-vault"), own("env"));
        keys.put("b-aws", format!("AKIDAWS:{aws}"));
        keys.put("b-client", &client);
        keys.put("b-vault", &vault);
        kubernetes(&keys, &own("kubernetes"));
        let dir = keys.path("");
        openssl(&["genrsa", "-out", "b-rsa", "2048"], &dir);
        let modulus = openssl(&["rsa", "-in", "b-rsa", "-noout", "-modulus"], &dir);
        let pem = fs::read_to_string(keys.path("b-rsa")).expect("a key");
        keys.put("b-rsa", &pem);
        let account = serde_json::json!({"type": "service_account", "client_email": "me@p.iam.gserviceaccount.com",
            "private_key_id": "1", "private_key": pem});
        keys.put("b-google", account.to_string());
        let planted = secret(PLANTED, &run);
        let environment = vec![
            ("SLUICE_CANARY".to_owned(), env),
            ("CREDENTIALS_DIRECTORY".to_owned(), dir.display().to_string()),
        ];
        let config = format!("mode = \"enforce\"\n{}", config(&keys));
        let world =
            with(Options { config, environment, no_roots: true, journal: true, ..Options::default() });
        let shown = certificate::certificate(&world, "job");
        keys.put("certificate", &shown);
        let line = |pem: &str, at| pem.lines().nth(at).expect("a line of the key").to_owned();
        secrets.extend([("rsa".to_owned(), line(&pem, 5)), ("certificate".to_owned(), line(&shown, 1))]);
        secrets.extend(MINTED.map(|kind| (format!("minted {kind}"), format!("{kind}/{run}/"))));
        secrets.push((PLANTED.to_owned(), planted));
        let (log, control) = (keys.path("mint.log"), keys.path("control"));
        let (client, aws) = (format!("me:{client}"), format!("AKIDAWS:{aws}"));
        let env = [
            ("MODULUS", modulus.trim().trim_start_matches("Modulus=")),
            ("CLIENT", &client),
            ("VAULT_SECRET", &vault),
            ("AWS_KEYS", &aws),
            ("CANARY", &run),
            ("CONTROL", control.to_str().expect("a path")),
        ];
        let more = (8445, &[log.to_str().expect("a path")][..]);
        let mint = provider::serve(&world, Path::new("/usr/bin/python3"), "mint_server.py", more, &env);
        let (servers, mock) = ((mint.expect("a mint"), Demanding::start(&world)), Mock::start(&world));
        Self { world, keys, mock: mock.expect("an issuer"), secrets, control, log, _servers: servers }
    }

    /// A search for all of them, and for what was signed here and sent.
    pub fn search(&self) -> Search {
        let signed = self.world.seen().requests().into_iter().filter(|one| one.path.contains("is=signed"));
        let signed = signed.filter_map(|one| {
            let (_, value) = one.headers.into_iter().find(|(name, _)| name == "authorization")?;
            Some(("signed".to_owned(), value.strip_prefix("Bearer ")?.rsplit('.').next()?.to_owned()))
        });
        Search::new(self.secrets.iter().cloned().chain(signed)).expect("a search")
    }

    /// The secret of this name.
    pub fn secret(&self, name: &str) -> &str {
        let found = self.secrets.iter().find(|(of, _)| of == name);
        &found.unwrap_or_else(|| panic!("no secret {name}")).1
    }
}
