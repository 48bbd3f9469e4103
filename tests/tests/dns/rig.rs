//! A world with a name server, and how its jobs ask.

use std::net::SocketAddr;
use std::process::Command;

use sluice::types::Summary;
use sluice_tests::harness::{Options, World, address};
use sluice_tests::process::{Ended, PATIENCE, run};

use crate::server::Server;

/// The name server's address: a host of the world at which nothing else listens.
pub fn server_address() -> SocketAddr {
    SocketAddr::new(address("nobody.example.test"), 53)
}

pub struct Rig {
    pub world: World,
    pub server: Server,
}

impl Rig {
    /// With `[dns]` keys besides the upstream.
    pub fn with(keys: &str) -> Self {
        let upstream = server_address().ip();
        Self::configured(&format!("[dns]\nupstream = [\"{upstream}\"]\n{keys}"))
    }

    pub fn configured(config: &str) -> Self {
        let options = Options { config: config.to_owned(), ..Options::default() };
        let world = World::with(options).expect("a world");
        world.space().resolv_conf(&format!("nameserver {}\n", server_address().ip())).expect("resolv.conf");
        let server = Server::start(world.space(), server_address());
        Self { world, server }
    }

    /// A job of the tag `ci`.
    pub fn job(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.world.job("ci", program).expect("a job")
    }

    /// What a job prints.
    pub fn says(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Ended {
        run(self.job(program).args(arguments), PATIENCE).expect("it runs")
    }

    /// `dig +short` and more words; its output, and it must end well.
    pub fn dig(&self, words: &[&str]) -> String {
        let ended = self.says("dig", &[&["+tries=1", "+time=10"], words].concat());
        assert!(ended.good(), "dig {words:?}: {ended:?}");
        ended.stdout
    }

    /// Waits for the record of a question, and gives it.
    pub fn question(&self, host: &str, kind: &str) -> Option<Summary> {
        let wanted = |s: &Summary| {
            s.protocol == "dns"
                && s.host == host
                && s.method.as_deref() == Some(kind)
                && s.duration_us.is_some()
        };
        self.world.expect(&format!("{kind} {host}"), wanted).expect("recorded")
    }
}
