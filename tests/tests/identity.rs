//! Who stands behind a job, end to end: tokens of a real OpenID Connect provider (oauth2-mock-server, with TLS of its own in
//! the test's namespace), from the environment, a file, `sluice run` and the request; rules that ask for groups; new keys,
//! a provider that restarts, and one that is gone.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sluice_tests::client;
use sluice_tests::harness::{Options, World};
use sluice_tests::process::{PATIENCE, eventually, run};
use sluice_tests::upstream::certs::Flaw;

const URL: &str = "https://203.0.113.10:8443";

const CONFIG: &str = r#"mode = "enforce"
[[issuer]]
url = "https://203.0.113.10:8443"
audience = "sluice"
groups_claim = "groups"
token_env = ["CI_JOB_JWT"]
token_file = "id.jwt"
accept_bearer = true
[[rule]]
name = "ml"
groups = ["ml-team"]
hosts = ["www.example.test"]
verdict = "allow"
[[rule]]
name = "main"
issuers = ["https://203.0.113.10:8443"]
claims = { ref = "main", "build.trusted" = "true" }
hosts = ["h1.example.test"]
verdict = "allow"
limit = [{ requests = 2, per = "1h", by = "claim:project" }, { requests = 3, per = "1h", by = "identity" }]
[[rule]]
name = "git"
identities = ["bot"]
hosts = ["git.example.test"]
verdict = "allow"
"#;

/// The provider, in the world's namespace.
struct Provider {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Provider {
    fn start(world: &World) -> Self {
        let dir = world.space().dir();
        let pem = world.authority().leaf(&["203.0.113.10"], Flaw::None).expect("certificate");
        fs::write(dir.join("issuer.key"), pem.key).expect("key");
        fs::write(dir.join("issuer.pem"), pem.chain).expect("certificate");
        let program = client::node().expect("node").join("issuer.mjs");
        let mut command = world.untagged("node").expect("a command");
        command.arg(program).args(["203.0.113.10", "8443"]);
        command.arg(dir.join("issuer.key")).arg(dir.join("issuer.pem"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut provider = Self { child, orders, answers };
        provider.order(&json!({ "do": "start" }));
        provider
    }

    fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders, "{order}").expect("node listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("node answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{order}: {error}: {line:?}"))
    }

    fn restart(&mut self) {
        self.order(&json!({ "do": "stop" }));
        self.order(&json!({ "do": "start" }));
    }

    fn token(&mut self, subject: &str, groups: &[&str]) -> String {
        self.token_with(&json!({ "sub": subject, "groups": groups }))
    }

    fn token_with(&mut self, more: &Value) -> String {
        let mut claims = json!({ "aud": "sluice", "exp": now() + 600 });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let answer = self.order(&json!({ "do": "token", "claims": claims }));
        answer["token"].as_str().expect("a token").to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A world and its provider. The agent begins without one, and finds it by itself.
fn start() -> (World, Provider) {
    let world = World::with(Options { config: CONFIG.to_owned(), ..Options::default() }).expect("a world");
    let provider = Provider::start(&world);
    (world, provider)
}

/// What a command of `curl` prints: the answer's status, then the body.
fn status(command: &mut Command) -> String {
    let ended = run(command, PATIENCE).expect("it runs");
    assert!(ended.good(), "{}", ended.stderr);
    ended.stdout
}

fn tag() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("identity-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `curl` in a tag of its own.
fn curl(world: &World, url: &str) -> Command {
    let mut command = world.job(&tag(), "curl").expect("a job");
    command.args(["-sS", "-w", "\n%{http_code}", url]);
    command
}

fn with_environment(world: &World, url: &str, token: &str) -> String {
    status(curl(world, url).env("CI_JOB_JWT", token))
}

const WWW: &str = "https://www.example.test/";

/// Until the agent has keys: it asks again after a failure, at most a minute later.
fn until_allowed(world: &World, token: &str) {
    let allowed = || Ok(with_environment(world, WWW, token).ends_with("\n200").then_some(()));
    let allowed = eventually(Duration::from_secs(90), allowed).expect("curl runs");
    assert!(allowed.is_some(), "the keys were never found");
}

fn recorded(world: &World, what: &str, wanted: impl Fn(&sluice::types::Summary) -> bool) {
    world.expect(what, wanted).expect(what);
}

#[test]
fn groups_decide_wherever_the_token_comes_from() {
    let (world, mut provider) = start();
    let ml = provider.token("ada", &["dev", "ml-team"]);
    until_allowed(&world, &ml);
    recorded(&world, "ada's request", |s| {
        s.identity.as_deref() == Some("ada")
            && s.groups == ["dev", "ml-team"]
            && s.rule.as_deref() == Some("ml")
    });

    // Environment: another group, nobody, and what an unverified token is told.
    let sales = provider.token("bob", &["sales"]);
    assert!(with_environment(&world, WWW, &sales).ends_with("\n403"));
    recorded(&world, "bob's refusal", |s| s.identity.as_deref() == Some("bob") && s.groups == ["sales"]);
    assert!(status(&mut curl(&world, WWW)).ends_with("\n403"));
    let expired = provider.token_with(&json!({ "sub": "eve", "groups": ["ml-team"], "exp": now() - 61 }));
    let said = with_environment(&world, WWW, &expired);
    assert!(said.ends_with("\n403") && said.contains("the token is expired (exp)"), "{said}");
    let foreign = provider.token_with(&json!({ "sub": "eve", "groups": ["ml-team"], "aud": "vault" }));
    let said = with_environment(&world, WWW, &foreign);
    assert!(said.ends_with("\n403") && said.contains("audience"), "{said}");
    let bot = provider.token("bot", &[]);
    assert!(with_environment(&world, "https://git.example.test/", &bot).ends_with("\n200"));
    assert!(with_environment(&world, "https://git.example.test/", &ml).ends_with("\n403"));

    claims_decide_and_are_replayed(&world, &mut provider);

    // A file in the working directory.
    let dir = world.space().dir().join("work");
    fs::create_dir(&dir).expect("directory");
    fs::write(dir.join("id.jwt"), &ml).expect("token");
    fs::set_permissions(dir.join("id.jwt"), fs::Permissions::from_mode(0o644)).expect("mode");
    let there = |url: &str| {
        let mut job = world.job(&tag(), "sh").expect("a job");
        job.args(["-c", "cd \"$0\" && exec curl -sS -w '\\n%{http_code}' \"$1\""]).arg(&dir).arg(url);
        status(&mut job)
    };
    assert!(there(WWW).ends_with("\n200"));
    fs::write(dir.join("id.jwt"), &sales).expect("token");
    assert!(there(WWW).ends_with("\n403"), "a fresh token replaces the last");

    // `sluice run --identity-token-file`, replaced from inside.
    let file = world.space().dir().join("run.jwt");
    fs::write(&file, &ml).expect("token");
    fs::write(world.space().dir().join("sales.jwt"), &sales).expect("token");
    let held = tag();
    let file = file.display().to_string();
    let arguments = ["run", "--tag", &held, "--identity-token-file", &file, "--", "sh", "-c"];
    let mut job = world.daemon().cli(world.space(), &arguments).expect("a command");
    job.arg("cd /; curl -sS -o /dev/null -w '%{http_code} ' \"$0\"; (curl -sS -o /dev/null -w '%{http_code}' \"$0\")").arg(WWW);
    assert_eq!(status(&mut job), "200 200", "all of the tag");

    assert!(world.seen().strangers().iter().all(|peer| peer.port() != 443), "nothing went past the agent");
}

/// Rules that ask for an issuer and claims, limits by a claim and by who it is, and what a record knows of claims afterwards.
fn claims_decide_and_are_replayed(world: &World, provider: &mut Provider) {
    const H1: &str = "https://h1.example.test/bytes/3";
    let mut token_of = |subject: &str, project: &str, of: &str, trusted: bool| {
        let build = json!({ "trusted": trusted });
        provider.token_with(&json!({ "sub": subject, "ref": of, "project": project, "build": build }))
    };
    let other = token_of("other", "fifth", "main", true);
    let mut token = |project: &str, of: &str, trusted: bool| token_of("ci", project, of, trusted);
    let (first, second) = (token("first", "main", true), token("second", "main", true));
    for (token, wanted) in [
        (&first, "\n200"),
        (&first, "\n200"),
        (&first, "\n429"),
        (&second, "\n200"),
        (&token("fourth", "main", true), "\n429"),
        (&other, "\n200"),
        (&token("third", "dev", true), "\n403"),
        (&token("third", "main", false), "\n403"),
    ] {
        let said = with_environment(world, H1, token);
        assert!(said.ends_with(wanted), "{wanted}: {said}");
    }
    let replayed = |asks: &str| {
        let dir = tempfile::tempdir().expect("directory");
        let rule =
            format!("mode = \"enforce\"\n[[rule]]\nname = \"x\"\nclaims = {asks}\nverdict = \"allow\"\n");
        fs::write(dir.path().join("sluice.toml"), rule).expect("written");
        let mut command = Command::new(sluice_tests::binary::sluice_binary().expect("sluice"));
        command.args(["policy", "replay", "--json", "--host", "h1.example.test", "--store"]);
        let ended =
            run(command.arg(world.daemon().store()).arg(dir.path()).env_clear(), PATIENCE).expect("started");
        let last = ended.stdout.lines().last().unwrap_or_else(|| panic!("{ended:?}")).to_owned();
        let counts: Value = serde_json::from_str(&last).expect("JSON");
        (counts["refused"].as_u64().expect("a count"), counts["unknown"].as_u64().expect("a count"))
    };
    // What a limit refused is not judged again.
    assert_eq!(replayed("{ ref = \"main\" }"), (0, 2), "the claims that rules asked for are in the record");
    assert_eq!(replayed("{ ref = \"dev\" }"), (4, 0));
    let (refused, unknown) = replayed("{ project = \"first\" }");
    assert!(refused == 0 && unknown > 3, "no rule asked for it then: {refused} {unknown}");
    let store = fs::read_dir(world.daemon().store()).expect("store");
    let bytes = store.filter_map(|entry| fs::read(entry.ok()?.path()).ok()).flatten().collect::<Vec<u8>>();
    assert!(memchr::memmem::find(&bytes, first.as_bytes()).is_none(), "the token is in the store");
}

#[test]
fn a_request_may_bear_the_token_itself() {
    let (world, mut provider) = start();
    let ml = provider.token("ada", &["ml-team"]);
    until_allowed(&world, &ml);
    let bear = |token: &str, version: &str, path: &str| {
        let mut command = curl(&world, &format!("{WWW}{path}"));
        status(command.arg(version).arg("-H").arg(format!("Authorization: Bearer {token}")))
    };
    for (version, path) in [("--http1.1", "one"), ("--http2", "two")] {
        assert!(bear(&ml, version, path).ends_with("\n200") || bear(&ml, version, path).ends_with("\n404"));
    }
    for request in world.seen().requests().iter().filter(|r| r.path == "/one" || r.path == "/two") {
        let bears = request.headers.iter().any(|(name, _)| name == "authorization");
        assert!(!bears, "the token was for us: {request:?}");
    }
    let sales = provider.token("bob", &["sales"]);
    assert!(bear(&sales, "--http1.1", "three").ends_with("\n403"));
    // Somebody else's token is the upstream's, and proves nothing here.
    let vault = provider.token_with(&json!({ "sub": "ada", "groups": ["ml-team"], "aud": "vault" }));
    let mut command = curl(&world, &format!("{WWW}four"));
    command.env("CI_JOB_JWT", &ml).arg("-H").arg(format!("Authorization: Bearer {vault}"));
    assert!(!status(&mut command).ends_with("\n403"));
    let seen = world.seen().requests();
    let four = seen.iter().find(|r| r.path == "/four").expect("it arrived");
    assert!(four.headers.iter().any(|(name, value)| name == "authorization" && value.contains(&vault)));
    recorded(&world, "the bearer's request", |s| {
        s.path.as_deref() == Some("/one") && s.identity.as_deref() == Some("ada")
    });
}

#[test]
fn keys_change_and_the_provider_comes_and_goes() {
    let (mut world, mut provider) = start();
    let early = provider.token("ada", &["ml-team"]);
    until_allowed(&world, &early);

    // New keys: the first token that was signed by one has them fetched.
    provider.restart();
    let rotated = provider.token("ada", &["ml-team"]);
    assert!(with_environment(&world, WWW, &rotated).ends_with("\n200"), "rotated");
    let said = with_environment(&world, WWW, &early);
    assert!(said.ends_with("\n403") && said.contains("kid"), "its key was taken back: {said}");

    // Gone: the keys at hand go on counting.
    let spare = provider.token("ada", &["ml-team"]);
    provider.order(&json!({ "do": "stop" }));
    assert!(with_environment(&world, WWW, &spare).ends_with("\n200"), "an outage");

    // An agent that starts meanwhile has none: nobody is verified, and it is said why.
    world.daemon_mut().stop().expect("stopped");
    world.daemon_mut().start().expect("started");
    let said = with_environment(&world, WWW, &spare);
    assert!(said.ends_with("\n403") && said.contains(&format!("the keys of {URL} cannot be had")), "{said}");

    // Back: found again without a restart.
    provider.order(&json!({ "do": "start" }));
    let late = provider.token("ada", &["ml-team"]);
    until_allowed(&world, &late);
}
