//! Debian's haproxy as the benchmark's peer: it ends TLS and opens it again, one server connection for each client's,
//! as the agent does, and does nothing else. Clients reach it by address; it needs no kernel program.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::certs::Flaw;
use crate::harness::World;
use crate::process::eventually;

/// Where it listens, on the ports of the server behind it.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A running haproxy; dropped, it is ended.
pub struct Haproxy {
    child: Child,
}

impl Haproxy {
    /// Starts it in the world's space, in front of `server`'s `ports`, on the processor `core` if one is given.
    ///
    /// # Errors
    /// haproxy is missing or does not come up; its own words are in the text.
    pub fn start(world: &World, server: IpAddr, ports: &[u16], core: Option<usize>) -> Result<Self> {
        let dir = world.space().dir().join("haproxy");
        fs::create_dir_all(&dir)?;
        let pem = world
            .authority()
            .leaf(&["www.example.test", "a.cold.example.test", "*.cold.example.test"], Flaw::None)?;
        let log = dir.join("stderr");
        fs::write(dir.join("front.pem"), format!("{}{}", pem.chain, pem.key))?;
        let sections: String =
            ports.iter().map(|port| section(*port, server, &dir.display().to_string())).collect();
        let authority = world.space().dir().join("upstream-ca.pem");
        let head = format!(
            "global\n maxconn 9000\n nbthread 1\n ssl-server-verify required\n ca-base /\n\
             defaults\n mode http\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n http-reuse never\n\
             default-server ssl verify required ca-file {} sni str(www.example.test) alpn h2,http/1.1\n",
            authority.display()
        );
        fs::write(dir.join("haproxy.cfg"), head + &sections)?;
        let mut command = world.space().command("peer", "taskset")?;
        command.args([
            "-c",
            &core.map_or_else(|| "0-1023".to_owned(), |core| core.to_string()),
            "haproxy",
            "-db",
            "-f",
        ]);
        command.arg(dir.join("haproxy.cfg")).stdin(Stdio::null()).stderr(fs::File::create(&log)?);
        let mut peer = Self { child: command.spawn()? };
        let up = eventually(Duration::from_secs(10), || {
            if let Some(status) = peer.child.try_wait()? {
                bail!("haproxy ended: {status}: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            let mut curl = world.untagged("curl")?;
            let url = format!("https://a.cold.example.test:{}/1k", ports.first().context("a port")?);
            let ended =
                crate::process::run(curl.args(["-sS", "-o", "/dev/null", &url]), Duration::from_secs(5))?;
            Ok(ended.good().then_some(()))
        })?;
        up.context("haproxy does not answer")?;
        Ok(peer)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn section(port: u16, server: IpAddr, dir: &str) -> String {
    format!(
        "frontend f{port}\n bind {ADDRESS}:{port} ssl crt {dir}/front.pem alpn h2,http/1.1\n default_backend b{port}\n\
         backend b{port}\n server s {server}:{port}\n"
    )
}
