//! What every way is given, and the few moves that most of them share.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use libc::{AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM};
use nix::errno::Errno;

use crate::sys::{self, Done, sa4, sa6, stop};

/// How long one call may take: longer than any answer in a network of one machine.
pub fn call() -> Duration {
    Duration::from_millis(1500) * sluice_tests::process::slowness()
}

/// What a way came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Every call went well.
    Sent,
    /// And somebody answered.
    Answered,
}

/// See the module.
#[derive(Debug)]
pub struct Job {
    /// The far end, where the marker shall arrive.
    pub to4: Ipv4Addr,
    pub to6: Ipv6Addr,
    /// Its port for TCP, UDP and their kin.
    pub port: u16,
    pub marker: String,
    /// The link that leads there, and the far end's link address.
    pub device: String,
    pub link: [u8; 6],
    /// Our own addresses on that link, and the agent's.
    pub own4: Ipv4Addr,
    pub own6: Ipv6Addr,
    pub agent4: Ipv4Addr,
    /// Listeners of the agent.
    pub listeners: Vec<SocketAddr>,
    /// A directory that everybody may write to.
    pub dir: PathBuf,
    /// A descriptor from before the tag.
    pub fd: Option<RawFd>,
    /// An untagged process of the same user.
    pub helper: Helper,
    /// A cgroup that is not tagged, and the agent's own.
    pub untagged: PathBuf,
    pub agent_cgroup: PathBuf,
    /// The agent's program and its runtime directory, and the tag's name.
    pub sluice: PathBuf,
    pub runtime: PathBuf,
    pub tag: String,
    /// The agent's directory in bpffs.
    pub bpf: PathBuf,
    /// Network namespace with another way out.
    pub namespace: PathBuf,
}

/// See `helper.rs`.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    pub pid: i32,
    /// Address of a buffer whose text the helper sends to the far end whenever it changes.
    pub buffer: usize,
    /// Descriptors in it.
    pub tcp: RawFd,
    pub udp: RawFd,
    pub pipe: RawFd,
    /// Ports of its relays on loopback.
    pub tcp_port: u16,
    pub udp_port: u16,
}

impl Job {
    pub fn v4(&self) -> Vec<u8> {
        sa4(AF_INET, self.to4, self.port)
    }

    pub fn v6(&self) -> Vec<u8> {
        sa6(AF_INET6, self.to6, self.port, 0)
    }

    /// The IPv4 address as IPv6 sockets have it.
    pub fn mapped(&self) -> Vec<u8> {
        sa6(AF_INET6, self.to4.to_ipv6_mapped(), self.port, 0)
    }

    pub fn at_port(&self, port: u16) -> Vec<u8> {
        sa4(AF_INET, self.to4, port)
    }

    /// A place on loopback where nobody listens: a destination that is left alone.
    pub fn nowhere(&self) -> Vec<u8> {
        sa4(AF_INET, Ipv4Addr::LOCALHOST, 9)
    }

    /// What TCP ways say: an HTTP request with the marker as its path.
    pub fn request(&self) -> Vec<u8> {
        let host = self.to4;
        format!("GET /{} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", self.marker).into_bytes()
    }

    /// What datagrams say.
    pub fn bytes(&self) -> &[u8] {
        self.marker.as_bytes()
    }

    /// The descriptor from before the tag.
    pub fn given(&self) -> Done<OwnedFd> {
        match self.fd {
            Some(number) => sys::inherited(number),
            None => stop("inherit", Errno::EBADF),
        }
    }

    /// Sends the request over a connected stream and waits for the answer.
    pub fn talk(&self, fd: &impl AsRawFd) -> Done<Said> {
        let request = self.request();
        sys::send(fd, &request, 0)?;
        heard(fd)
    }

    /// Index of the link that leads to the far end.
    pub fn index(&self) -> Done<u32> {
        sys::step("if_nametoindex", nix::net::if_::if_nametoindex(self.device.as_str()))
    }
}

/// Waits for an answer. None within [`call`], or an end without one, is no failure of the way: the far end knows.
pub fn heard(fd: &impl AsRawFd) -> Done<Said> {
    let mut bytes = [0; 4096];
    match sys::recv(fd, &mut bytes) {
        Ok(1..) => Ok(Said::Answered),
        Ok(0) | Err(sys::Stop { errno: Errno::EAGAIN, .. }) => Ok(Said::Sent),
        Err(stop) => Err(stop),
    }
}

/// A TCP socket whose calls are bounded.
pub fn tcp(family: i32) -> Done<OwnedFd> {
    stream(family, libc::IPPROTO_TCP)
}

/// The same of another protocol.
pub fn stream(family: i32, protocol: i32) -> Done<OwnedFd> {
    let fd = sys::socket(family, SOCK_STREAM, protocol)?;
    sys::bounded(&fd, call())?;
    Ok(fd)
}

/// A datagram socket whose calls are bounded.
pub fn datagram(family: i32, protocol: i32) -> Done<OwnedFd> {
    let fd = sys::socket(family, SOCK_DGRAM, protocol)?;
    sys::bounded(&fd, call())?;
    Ok(fd)
}

pub fn udp(family: i32) -> Done<OwnedFd> {
    datagram(family, libc::IPPROTO_UDP)
}

/// Asks the test for something (`tcp PORT`: dial in) and waits until it is done.
pub fn ask(words: &str) -> Done {
    let mut out = std::io::stdout().lock();
    sys::io("ask", writeln!(out, "ask {words}").and_then(|()| out.flush()))?;
    let mut line = String::new();
    sys::io("ask", std::io::stdin().lock().read_line(&mut line)).map(drop)
}
