//! Stand-ins for those who give credentials, or verify them: programs of `tests/clients` and real servers, over TLS at one
//! of a world's outside addresses.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::client;
use crate::harness::World;
use crate::upstream::certs::Flaw;

/// Their name.
pub const HOST: &str = "www.example.test";
/// And address.
pub const ADDRESS: &str = "203.0.113.10";

/// A server beside the world's own; it ends with this.
pub struct Server(Child);

impl Server {
    /// One that was started.
    pub fn of(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A certificate for them: files of its key and its chain.
///
/// # Errors
/// It cannot be made or written.
pub fn certificate(world: &World) -> Result<(PathBuf, PathBuf)> {
    let pem = world.authority().leaf(&[HOST, ADDRESS], Flaw::None)?;
    let (key, chain) = (world.space().dir().join("provider.key"), world.space().dir().join("provider.pem"));
    fs::write(&key, pem.key)?;
    fs::write(&chain, pem.chain)?;
    Ok((key, chain))
}

/// Starts one of `tests/clients` (`PROGRAM ADDRESS PORT KEY CERT MORE…`), and waits until it says that it is ready.
///
/// # Errors
/// It does not.
pub fn serve(
    world: &World,
    interpreter: &Path,
    program: &str,
    (port, more): (u16, &[&str]),
    env: &[(&str, &str)],
) -> Result<Server> {
    let (key, chain) = certificate(world)?;
    let mut command = world.untagged(interpreter)?;
    command.arg(client::program(program)).arg(ADDRESS).arg(port.to_string()).arg(key).arg(chain).args(more);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command.envs(env.iter().copied()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "{program} says {line:?}");
    Ok(Server(child))
}

/// Lines of JSON that a stand-in wrote.
///
/// # Errors
/// It wrote none.
pub fn told(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// `Authorization` of Basic (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// npm's oauth2-mock-server: an issuer, and a token endpoint for client credentials, on port 8443.
pub struct Mock {
    server: Server,
    answers: BufReader<ChildStdout>,
}

impl Mock {
    /// Starts it.
    ///
    /// # Errors
    /// Node or the package is missing.
    pub fn start(world: &World) -> Result<Self> {
        let (key, chain) = certificate(world)?;
        let mut command = world.untagged("node")?;
        command.arg(client::node()?.join("issuer.mjs")).args([ADDRESS, "8443"]).arg(key).arg(chain);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().context("piped")?);
        let mut mock = Self { server: Server(child), answers };
        ensure!(mock.order(&json!({ "do": "start" }))?["started"] == true, "it did not start");
        Ok(mock)
    }

    /// A token of somebody's for Sluice.
    ///
    /// # Errors
    /// It gives none.
    pub fn token(&mut self, subject: &str) -> Result<String> {
        let order = json!({ "do": "token", "claims": { "sub": subject, "aud": "sluice" } });
        Ok(self.order(&order)?["token"].as_str().context("a token")?.to_owned())
    }

    fn order(&mut self, order: &Value) -> Result<Value> {
        writeln!(self.server.0.stdin.as_mut().context("piped")?, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{order}: {line:?}"))
    }
}
