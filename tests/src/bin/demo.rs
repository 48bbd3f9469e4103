//! `cargo xtask demo`: the main job in a minute. A space of its own (network namespace, cgroup), an upstream with real
//! TLS in it, the agent, then an unchanged curl and an unchanged Python script inside a tag, and what Sluice recorded
//! of them. Nothing of it stays.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, eventually, run};

/// An unchanged job: it knows nothing of Sluice, of a proxy, or of a certificate.
const SCRIPT: &str = r#"
import json, urllib.request
question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "good morning"}]}
request = urllib.request.Request("https://api.openai.com/v1/chat/completions", json.dumps(question).encode(),
                                 {"Content-Type": "application/json", "Authorization": "Bearer sk-demo"})
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"#;

fn main() -> Result<()> {
    let begin = Instant::now();
    say(
        "1. A network namespace and a cgroup of their own; in it, a TLS server that stands for the outside world,",
    );
    say(
        "   and the agent: `sluice daemon` loads its kernel programs, makes its CA and starts the unprivileged gate.",
    );
    let world = World::start()?;
    ensure!(!world.is_direct(), "unset SLUICE_E2E_DIRECT: a demo without the agent shows nothing");
    let daemon = world.daemon();
    detail(&format!("warden pid {} (root), gate pid {} (nobody)", daemon.warden_pid()?, daemon.gate_pid()?));

    say("2. Two unchanged jobs, each started with `sluice run --tag NAME -- …`.");
    let mut curl = world.job("shell", "curl")?;
    show(
        curl.args(["--silent", "--show-error", "https://www.example.test/"]),
        "sluice run --tag shell -- curl https://www.example.test/",
    )?;
    let mut python = world.job("assistant", "/usr/bin/python3")?;
    show(
        python.args(["-c", SCRIPT]),
        "sluice run --tag assistant -- python3 ask.py      # asks https://api.openai.com",
    )?;

    say("3. What the kernel and the gate saw of them, from the store:");
    eventually(PATIENCE, || Ok((world.sessions()?.len() >= 2).then_some(())))?;
    let mut sessions = daemon.cli(world.space(), &["sessions", "--store"])?;
    show(sessions.arg(daemon.store()), "sluice sessions")?;
    let recorded = world.sessions()?;
    if let Some(chat) = recorded.iter().find(|s| s.host == "api.openai.com") {
        let mut shown = daemon.cli(world.space(), &["show", &chat.session, "--store"])?;
        show(shown.arg(daemon.store()), &format!("sluice show {}", chat.session))?;
    }

    say("4. Whoever connected to the outside world, as that world saw it:");
    let (all, strangers) = (world.seen().connections(), world.seen().strangers());
    detail(&format!("{} connections, all of them the agent's", all.len()));
    ensure!(strangers.is_empty(), "connections that the agent did not make: {strangers:?}");
    ensure!(
        recorded.len() == 2 && recorded.iter().all(|s| s.status == Some(200)),
        "not both requests are recorded: {recorded:?}"
    );

    let cgroup = world.space().cgroup().to_owned();
    drop(world);
    ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
    say(&format!(
        "Done in {:.1} s. Namespace, cgroup, kernel programs and files are gone again.",
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn say(text: &str) {
    println!("{}{text}", if text.starts_with(' ') { "" } else { "\n" });
}

fn detail(text: &str) {
    println!("   {text}");
}

/// Runs a command under the line that a user would type, and prints what it prints.
fn show(command: &mut Command, typed: &str) -> Result<()> {
    println!("\n   $ {typed}");
    let ended = run(command, Duration::from_secs(30))?;
    for line in ended.stdout.lines().chain(ended.stderr.lines()) {
        println!("   {line}");
    }
    ensure!(ended.good(), "that failed ({:?})", ended.status);
    Ok(())
}
