//! A host that is really elsewhere: a network namespace of its own at the end of a veth pair of a space. What goes to
//! it leaves the space, as a job's traffic leaves its host; addresses on the space's loopback do not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns::{Space, listen_in};
use crate::process::run;

/// The far host's address.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));
/// The space's own address on the way there.
const NEAR: &str = "198.51.100.1/24";

/// A far host; it goes away with its space's processes, or when it is dropped.
#[derive(Debug)]
pub struct Far {
    holder: Child,
}

impl Far {
    /// Makes one. A space has room for one.
    ///
    /// # Errors
    /// No right to make namespaces, or the space has one already.
    pub fn make(space: &Space) -> Result<Self> {
        let mut command = space.command("far", "unshare")?;
        command.args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"]);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = holder.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the far namespace was not made (see stderr above)");
        }
        let far = Self { holder };
        let pid = far.holder.id().to_string();
        let near = "ip link add near0 type veth peer name far0 netns \"$1\" && ip addr add \"$2\" dev near0 && ip link set near0 up";
        far.must(space.command("far", "sh")?.args(["-c", near, "near", &pid, NEAR]))?;
        let address = format!("{ADDRESS}/24");
        far.must(far.command("sh").args([
            "-c",
            "ip addr add \"$0\" dev far0 && ip link set far0 up",
            &address,
        ]))?;
        Ok(far)
    }

    fn must(&self, command: &mut Command) -> Result<()> {
        let ended = run(command, Duration::from_secs(10))?;
        if !ended.good() {
            bail!("{command:?}: {}", ended.stderr);
        }
        Ok(())
    }

    /// A command on the far host; the rest of its world is the test's own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).args(["--", program]);
        command
    }

    /// A listener on the far host, owned by the test.
    ///
    /// # Errors
    /// The port is taken.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.holder.id()))?;
        listen_in(namespace, SocketAddr::new(ADDRESS, port))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
