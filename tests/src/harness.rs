//! A world: a space, upstreams in it, and the agent, the real `sluice daemon`. Jobs are started in it as a user would,
//! with `sluice run`, and what was recorded is read as a user would, with `sluice sessions`.
//!
//! `SLUICE_E2E_DIRECT=1` leaves the agent out: the same clients against the same upstreams, to see whether a failure
//! is the agent's at all. Assertions on the record are skipped then.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::ServerConfig;
use sluice::types::Summary;

use crate::daemon::Daemon;
use crate::journal::Journal;
use crate::netns::{Place, Space};
use crate::process::{PATIENCE, eventually};
use crate::upstream::certs::{Authority, BySni, Flaw};
use crate::upstream::{self, Behaviour, Seen, hostile, hostile_h2};

/// Outside hosts. The comment says what listens there.
const HOSTS: [(&str, [u16; 8]); 15] = [
    ("api.openai.com", v4(10)),                                 // 443: HTTPS, h2 and 1.1
    ("api.anthropic.com", v4(10)),                              // the same
    ("www.example.test", v4(10)),                               // 443 the same; 80: HTTP
    ("git.example.test", v4(10)),                               // the same
    ("a.cold.example.test", v4(10)),                            // the same, wildcard certificate
    ("h1.example.test", v4(11)),                                // 443: HTTPS, 1.1 only
    ("six.example.test", [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10]), // 443: HTTPS
    ("hostile.example.test", v4(12)),                           // 443: by path; 1001…: by port
    ("expired.example.test", v4(13)),                           // 443: bad certificates, by name
    ("selfsigned.example.test", v4(13)),
    ("wrongname.example.test", v4(13)),
    ("untrusted.example.test", v4(13)),
    ("revoked.example.test", v4(13)),
    ("weak.example.test", v4(14)),   // 443: nothing until a test starts it
    ("nobody.example.test", v4(15)), // nothing listens
];

/// Ports of hostile.example.test whose server misbehaves before any TLS.
pub const HOSTILE_PORTS: [(u16, hostile::Tcp); 5] = [
    (1001, hostile::Tcp::Reset),
    (1002, hostile::Tcp::Silent),
    (1003, hostile::Tcp::Garbage),
    (1004, hostile::Tcp::Greets),
    (1005, hostile::Tcp::HalfRecord),
];

/// 203.0.113.`last`, v4-mapped.
const fn v4(last: u16) -> [u16; 8] {
    [0, 0, 0, 0, 0, 0xffff, 203 << 8, 113 << 8 | last]
}

/// Address of one of the outside hosts.
///
/// # Panics
/// The name is none of them.
pub fn address(name: &str) -> IpAddr {
    let found = HOSTS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no host {name}"));
    IpAddr::from(found.1).to_canonical()
}

/// What a world is made with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lines appended to sluice.toml.
    pub config: String,
    /// Variables of the agent's environment.
    pub environment: Vec<(String, String)>,
    /// Size of a tmpfs that the store is on, in KiB; `None`: the space's directory.
    pub store_kib: Option<u64>,
    /// A stand-in for journald in the space; without it the agent's journal lines go to its standard error.
    pub journal: bool,
    /// No agent.
    pub direct: bool,
    /// Where the outside hosts are.
    pub place: Place,
    /// The agent finds no system's roots, only the upstreams' own: reading them is most of the start of an unoptimised
    /// gate, and the start is all that a test of many starts waits for.
    pub no_roots: bool,
}

/// See the module.
pub struct World {
    // Order of fields is order of dropping: the agent first, its space last.
    daemon: Option<Daemon>,
    journal: Option<Journal>,
    seen: Arc<Seen>,
    runtime: Option<tokio::runtime::Runtime>,
    authority: Authority,
    space: Space,
    direct: bool,
}

impl World {
    /// A world with the agent up and ready.
    ///
    /// # Errors
    /// Whatever keeps it from being made; the text says which tool or right is missing.
    pub fn start() -> Result<Self> {
        Self::with(Options::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn with(options: Options) -> Result<Self> {
        let hosts: Vec<(&str, IpAddr)> =
            HOSTS.iter().map(|(n, a)| (*n, IpAddr::from(*a).to_canonical())).collect();
        let space = Space::at(options.place, &hosts)?;
        let authority = Authority::new("Sluice tests' upstream authority")?;
        fs::write(space.dir().join("upstream-ca.pem"), authority.pem())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let seen = Arc::new(Seen::default());
        let direct = options.direct || std::env::var_os("SLUICE_E2E_DIRECT").is_some();
        let mut world =
            Self { daemon: None, journal: None, seen, runtime: Some(runtime), authority, space, direct };
        world.start_upstreams()?;
        if options.journal {
            world.journal = Some(Journal::start(&world.space.dir().join("run"))?);
        }
        if !direct {
            world.daemon = Some(Daemon::prepare(&world.space, &options)?);
            world.daemon_mut().start()?;
        }
        Ok(world)
    }

    fn start_upstreams(&self) -> Result<()> {
        let dir = self.space.dir();
        let ca = &self.authority;
        let good = ca.certified(
            &[
                "www.example.test",
                "api.openai.com",
                "api.anthropic.com",
                "git.example.test",
                "h1.example.test",
                "six.example.test",
                "hostile.example.test",
                "*.cold.example.test",
                "203.0.113.10",
            ],
            Flaw::None,
            dir,
        )?;
        let mut bad = HashMap::new();
        for (name, flaw) in [
            ("expired.example.test", Flaw::Expired),
            ("selfsigned.example.test", Flaw::SelfSigned),
            ("wrongname.example.test", Flaw::WrongName),
            ("untrusted.example.test", Flaw::Untrusted),
            ("revoked.example.test", Flaw::Revoked),
        ] {
            bad.insert(name.to_owned(), ca.certified(&[name], flaw, dir)?);
        }
        let good = BySni { by_name: HashMap::new(), fallback: good };
        let bad = BySni { by_name: bad, fallback: Arc::clone(&good.fallback) };
        let good = Arc::new(good);
        let both = tls_config(Arc::clone(&good), &[b"h2", b"http/1.1"])?;
        let only_1 = tls_config(Arc::clone(&good), &[b"http/1.1"])?;
        let only_2 = tls_config(Arc::clone(&good), &[b"h2"])?;
        let bad = tls_config(Arc::new(bad), &[b"h2", b"http/1.1"])?;
        self.serve("www.example.test", 443, Behaviour::Https(Arc::clone(&both)))?;
        self.serve("www.example.test", 80, Behaviour::Http)?;
        self.serve("six.example.test", 443, Behaviour::Https(both))?;
        self.serve("h1.example.test", 443, Behaviour::Https(Arc::clone(&only_1)))?;
        self.serve("hostile.example.test", 443, Behaviour::HostileTls(only_1))?;
        for (port, what) in HOSTILE_PORTS {
            self.serve("hostile.example.test", port, Behaviour::HostileTcp(what))?;
        }
        for (port, what) in (1101..).zip(hostile_h2::ALL) {
            self.serve("hostile.example.test", port, Behaviour::HostileH2(Arc::clone(&only_2), what))?;
        }
        self.serve("expired.example.test", 443, Behaviour::Https(bad))
    }

    /// Adds a server at one of the hosts' addresses.
    ///
    /// # Errors
    /// The port is taken.
    pub fn serve(&self, host: &str, port: u16, behaviour: Behaviour) -> Result<()> {
        self.serve_on(self.space.listen(SocketAddr::new(address(host), port))?, behaviour)
    }

    /// Adds a server on a listener from anywhere.
    ///
    /// # Errors
    /// It cannot be registered with the runtime.
    pub fn serve_on(&self, listener: std::net::TcpListener, behaviour: Behaviour) -> Result<()> {
        let repositories = self.space.dir().join("repositories");
        let shared = upstream::Shared { seen: Arc::clone(&self.seen), repositories };
        let runtime = self.runtime.as_ref().context("the runtime lives as long as the world")?;
        upstream::serve(runtime, listener, behaviour, shared)
    }

    /// A command to be run inside the tag `tag` (directly, when there is no agent). Add arguments and environment.
    ///
    /// # Errors
    /// The cgroup cannot be made.
    pub fn job(&self, tag: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let Some(daemon) = &self.daemon else {
            let mut command = self.space.command("untagged", program)?;
            for (name, value) in direct_trust(&self.space.dir().join("upstream-ca.pem")) {
                command.env(name, value);
            }
            return Ok(command);
        };
        let mut command = daemon.cli(&self.space, &["run", "--tag", tag, "--"])?;
        command.arg(program);
        Ok(command)
    }

    /// A command outside of every tag, in the same space, that trusts the upstreams.
    ///
    /// # Errors
    /// The cgroup cannot be made.
    pub fn untagged(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = self.space.command("untagged", program)?;
        command.envs(direct_trust(&self.space.dir().join("upstream-ca.pem")));
        Ok(command)
    }

    /// Everything recorded so far, oldest first; empty without an agent.
    ///
    /// # Errors
    /// `sluice sessions` failed, or printed what is no summary.
    pub fn sessions(&self) -> Result<Vec<Summary>> {
        match &self.daemon {
            Some(daemon) => daemon.sessions(&self.space),
            None => Ok(Vec::new()),
        }
    }

    /// Waits until a recorded exchange passes `wanted`, and gives it. Without an agent: `None`.
    ///
    /// # Errors
    /// None came within [`PATIENCE`]; the text lists what there is.
    pub fn expect(&self, what: &str, wanted: impl Fn(&Summary) -> bool) -> Result<Option<Summary>> {
        if self.direct {
            return Ok(None);
        }
        let mut last = Vec::new();
        let found = eventually(PATIENCE, || {
            last = self.sessions()?;
            Ok(last.iter().find(|s| wanted(s)).cloned())
        })?;
        if found.is_none() {
            let lines: Vec<String> = last.iter().map(|s| format!("{s:?}")).collect();
            bail!("no record of {what}; there are {}:\n{}", lines.len(), lines.join("\n"));
        }
        Ok(found)
    }

    /// The agent.
    ///
    /// # Panics
    /// The world is direct: ask [`World::is_direct`] first.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a world with an agent")
    }

    /// The agent, to be stopped or started.
    ///
    /// # Panics
    /// As [`World::daemon`].
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a world with an agent")
    }

    /// The stand-in for journald, or none; take it away to make journald die.
    pub fn journal_mut(&mut self) -> &mut Option<Journal> {
        &mut self.journal
    }

    /// Whether the agent is left out.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What the upstreams saw.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// A server's TLS as the well-behaved hosts have it: HTTP/2 and 1.1.
    ///
    /// # Errors
    /// No certificate could be made.
    pub fn good_tls(&self) -> Result<Arc<ServerConfig>> {
        let leaf = self.authority.certified(&["www.example.test"], Flaw::None, self.space.dir())?;
        tls_config(Arc::new(BySni { by_name: HashMap::new(), fallback: leaf }), &[b"h2", b"http/1.1"])
    }

    /// The authority that signs upstreams.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(daemon) = &self.daemon
        {
            eprintln!("--- daemon's log ---\n{}", daemon.log());
            match self.sessions() {
                Ok(sessions) => sessions.iter().for_each(|s| eprintln!("session: {s:?}")),
                Err(error) => eprintln!("sessions: {error:#}"),
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The variables by which unchanged clients are told of a bundle, as `sluice run` sets them; here with the upstreams'
/// own authority, for runs without the agent.
fn direct_trust(bundle: &Path) -> Vec<(&'static str, String)> {
    let names = [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ];
    let path = bundle.display().to_string();
    let mut all: Vec<_> = names.into_iter().map(|n| (n, path.clone())).collect();
    // A PEM file is a key store that Java reads with -Djavax.net.ssl.trustStoreType=PEM only in newer releases: the
    // Java client's own test makes a PKCS#12 store. wget knows its rc file only.
    let wgetrc = bundle.with_file_name("wgetrc");
    let _ = fs::write(&wgetrc, format!("ca_certificate = {path}\n"));
    all.push(("WGETRC", wgetrc.display().to_string()));
    all
}

fn tls_config(certificates: Arc<BySni>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}
