//! Groups from a SAML identity provider, by way of a bridge: a provider (samlp), SATOSA as the bridge to OpenID Connect, a
//! browser, and an unchanged curl whose token came that way. Sluice reads no SAML: what the bridge must refuse is asked of the
//! bridge, with the configuration that docs/identity.md recommends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use sluice_tests::binary::workspace;
use sluice_tests::client;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually, run};
use sluice_tests::upstream::certs::Flaw;

const ADDRESS: &str = "203.0.113.10";
const BRIDGE: &str = "203.0.113.10:8443";
const PROVIDER: &str = "203.0.113.10:8444";

const CONFIG: &str = r#"mode = "enforce"
[[issuer]]
url = "https://203.0.113.10:8443"
audience = "sluice"
groups_claim = "groups"
token_env = ["SLUICE_ID_TOKEN"]
[[rule]]
name = "ml"
groups = ["ml-team"]
hosts = ["www.example.test"]
verdict = "allow"
[[rule]]
name = "git"
hosts = ["git.example.test"]
verdict = "allow"
"#;

/// What the bridge is told, of tests/clients/saml.
const CONFIGURATION: [&str; 5] = [
    "proxy_conf.yaml",
    "internal_attributes.yaml",
    "saml2_backend.yaml",
    "openid_connect_frontend.yaml",
    "clients.json",
];

/// The provider and the bridge, in the world's namespace.
struct SignOn<'a> {
    world: &'a World,
    dir: PathBuf,
    provider: Child,
    bridge: Child,
}

impl<'a> SignOn<'a> {
    fn start(world: &'a World) -> Self {
        let dir = world.space().dir().join("saml");
        fs::create_dir(&dir).expect("directory");
        let pem = world.authority().leaf(&[ADDRESS], Flaw::None).expect("certificate");
        fs::write(dir.join("tls.key"), pem.key).expect("key");
        fs::write(dir.join("tls.pem"), pem.chain).expect("certificate");
        for name in ["provider", "impostor"] {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=idp"]);
            openssl.arg("-keyout").arg(dir.join(name).with_extension("key"));
            good(openssl.arg("-out").arg(dir.join(name).with_extension("pem")));
        }
        good(
            Command::new("openssl")
                .args(["genrsa", "-traditional", "-out"])
                .arg(dir.join("oidc.key"))
                .arg("2048"),
        );
        // The bridge fetches the provider's metadata when it starts.
        let provider = provider(world, &dir);
        let bridge = bridge(world, &dir);
        let mut started = Self { world, dir, provider, bridge };
        started.until_up();
        started
    }

    fn until_up(&mut self) {
        let up = eventually(Duration::from_secs(60), || {
            if let Some(status) = self.bridge.try_wait()? {
                anyhow::bail!("the bridge ended: {status}: {}", self.log());
            }
            let mut curl = self.world.untagged("curl")?;
            curl.args(["-sf", &format!("https://{BRIDGE}/.well-known/openid-configuration")]);
            Ok(run(&mut curl, PATIENCE)?.good().then_some(()))
        });
        assert!(up.expect("curl runs").is_some(), "the bridge does not answer: {}", self.log());
    }

    /// What the bridge wrote so far.
    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("bridge.log")).unwrap_or_default()
    }

    /// One sign-in, and what the browser says of it. `how`: see browser.py.
    fn sign_in(&self, user: &str, client: &str, how: &str) -> Value {
        let mut browser = self.world.untagged(client::saml_bridge().expect("the bridge")).expect("a command");
        browser.arg(client::program("saml/browser.py"));
        let password = if user == "ada" { "correct horse" } else { "battery staple" };
        browser.args([user, password, client, how]).arg(self.dir.join("provider.pem"));
        let said = good(&mut browser);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{how}: {error}: {said:?}"))
    }

    fn token(&self, user: &str, client: &str) -> String {
        let said = self.sign_in(user, client, "honest");
        said["token"].as_str().unwrap_or_else(|| panic!("{said}: {}", self.log())).to_owned()
    }

    /// There is no token in that way, and the bridge's log says why.
    fn refuses(&self, user: &str, how: &str, why: &str) -> Value {
        let before = self.log().len();
        let said = self.sign_in(user, "sluice", how);
        let log = self.log();
        assert!(said["token"].is_null() && said["by"] == "bridge", "{how}: {said}");
        assert!(log[before..].contains(why), "{how}: {}", &log[before..]);
        said
    }
}

impl Drop for SignOn<'_> {
    fn drop(&mut self) {
        // SIGTERM, so that gunicorn ends its worker.
        let _ = Command::new("kill").arg(self.bridge.id().to_string()).status();
        let _ = self.bridge.wait();
        let _ = self.provider.kill();
        let _ = self.provider.wait();
    }
}

fn provider(world: &World, dir: &Path) -> Child {
    let mut node = world.untagged("node").expect("a command");
    node.arg(client::saml_provider().expect("the provider").join("idp.mjs")).args(PROVIDER.split(':'));
    node.args(
        ["tls.key", "tls.pem", "provider.key", "provider.pem", "impostor.key", "impostor.pem"]
            .map(|n| dir.join(n)),
    );
    let mut child = node.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("node runs");
    let mut line = String::new();
    let _ = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
    assert_eq!(line, "listening\n", "the provider does not start");
    child
}

fn bridge(world: &World, dir: &Path) -> Child {
    for name in CONFIGURATION {
        fs::copy(client::program("saml").join(name), dir.join(name)).expect(name);
    }
    let python = client::saml_bridge().expect("the bridge");
    let mut gunicorn = world.untagged(python.with_file_name("gunicorn")).expect("a command");
    gunicorn.args([
        "--no-control-socket",
        "--bind",
        BRIDGE,
        "--keyfile",
        "tls.key",
        "--certfile",
        "tls.pem",
        "--chdir",
    ]);
    gunicorn
        .arg(dir)
        .arg("satosa.wsgi:app")
        .env("SATOSA_STATE_ENCRYPTION_KEY", "for one test, on one machine");
    gunicorn.stdin(Stdio::null()).stderr(File::create(dir.join("bridge.log")).expect("log"));
    gunicorn.process_group(0).spawn().expect("gunicorn runs")
}

/// What a command prints that ends well.
fn good(command: &mut Command) -> String {
    let ended = run(command, PATIENCE).expect("it runs");
    assert!(ended.good(), "{command:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// An unchanged `curl` in a tag, its token in its environment: the answer, then the status.
fn curl(world: &World, token: &str) -> String {
    let mut curl = world.job("saml", "curl").expect("a job");
    curl.args(["-sS", "-w", "\n%{http_code}", "https://www.example.test/"]);
    good(curl.env("SLUICE_ID_TOKEN", token))
}

#[test]
fn groups_of_a_saml_provider_decide() {
    let world = World::with(Options { config: CONFIG.to_owned(), ..Options::default() }).expect("a world");
    let sign_on = SignOn::start(&world);
    let ada = sign_on.token("ada", "sluice");
    // The agent began before the bridge: it asks again after a failure.
    let allowed = || Ok(curl(&world, &ada).ends_with("\n200").then_some(()));
    let allowed = eventually(Duration::from_secs(90), allowed).expect("curl runs");
    assert!(allowed.is_some(), "{}", curl(&world, &ada));
    let recorded = world.expect("ada's request", |s| {
        s.identity.as_deref() == Some("ada")
            && s.groups == ["dev", "ml-team"]
            && s.rule.as_deref() == Some("ml")
    });
    recorded.expect("recorded");

    let said = curl(&world, &sign_on.token("bob", "sluice"));
    assert!(said.ends_with("\n403"), "{said}");
    let recorded =
        world.expect("bob's refusal", |s| s.identity.as_deref() == Some("bob") && s.groups == ["sales"]);
    recorded.expect("recorded");

    let said = curl(&world, &sign_on.token("ada", "wiki"));
    assert!(
        said.ends_with("\n403") && said.contains("another audience"),
        "another application's token: {said}"
    );
    assert!(world.seen().strangers().iter().all(|peer| peer.port() != 443), "nothing went past the agent");
}

#[test]
fn the_bridge_gives_no_token_for_a_bad_assertion() {
    let world = World::with(Options { direct: true, ..Options::default() }).expect("a world");
    let sign_on = SignOn::start(&world);
    // Each way begins as this one, which ends well.
    assert!(sign_on.sign_in("bob", "sluice", "honest")["token"].is_string(), "{}", sign_on.log());

    let said = sign_on.refuses("bob", "edited", "Failed to verify signature");
    assert_eq!(said["signature_holds"], false);
    sign_on.refuses("bob", "unsigned", "Signature missing for assertion");
    sign_on.refuses("ada", "impostor", "Failed to verify signature");

    // Wrapped: the signature in the document is good, and what it signs is not what is said.
    for (how, why) in [
        ("wrapped-before", "Invalid number of assertions"),
        ("wrapped-after", "Invalid number of assertions"),
        ("wrapped-around", "Signature missing for assertion"),
        ("wrapped-extension", "Signature missing for assertion"),
    ] {
        assert_eq!(sign_on.refuses("bob", how, why)["signature_holds"], true, "{how} is no attack");
    }
    sign_on.refuses("bob", "wrapped-object", "Signature failed to meet constraints");

    sign_on.refuses("ada", "other-audience", "AudienceRestrictions conditions not satisfied");
    sign_on.refuses("ada", "stale", "Condition not OK");
    sign_on.refuses("ada", "replayed", "Unsolicited response");
    sign_on.refuses("ada", "unasked", "did not match relay state");

    // The code is worth nothing without the verifier of whoever asked for it (PKCE).
    for how in ["code-alone", "code-other-verifier"] {
        let said = sign_on.sign_in("ada", "sluice", how);
        assert!(said["token"].is_null() && said["by"] == "bridge, for a code", "{how}: {said}");
    }
}

#[test]
fn the_page_shows_the_configuration_that_is_tested() {
    let page = fs::read_to_string(workspace().join("docs/identity.md")).expect("the page");
    let page = page.replace("sso.example.com", BRIDGE).replace("idp.example.com", PROVIDER);
    for name in CONFIGURATION {
        let file = fs::read_to_string(client::program("saml").join(name)).expect(name);
        assert!(page.contains(&file), "{name} is another there");
    }
}
