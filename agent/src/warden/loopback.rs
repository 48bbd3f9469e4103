//! The loopback device of the network namespace that the calling thread is in, by rtnetlink(7): our listeners stand on it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Brings the device up where it is down; it has its addresses then. Where it is up, which is mostly so, this takes no lock of
/// the kernel's.
///
/// # Errors
/// No right over the namespace (`CAP_NET_ADMIN`).
pub fn raise() -> io::Result<()> {
    // Nothing is sent: connect() looks for a route.
    let reached = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect((Ipv4Addr::LOCALHOST, 9));
    if reached.is_ok() { Ok(()) } else { Route::open()?.loopback_up() }
}

/// A line to the kernel's part of one namespace that does links and addresses.
pub struct Route(OwnedFd);

impl Route {
    /// To that of the calling thread.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        Ok(Self(socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?))
    }

    /// Brings the loopback device up; it has its addresses then. Nothing happens where it is up.
    ///
    /// # Errors
    /// No right over the namespace (`CAP_NET_ADMIN`).
    pub fn loopback_up(&self) -> io::Result<()> {
        // ifinfomsg: family, type, index 1, flags IFF_UP, change IFF_UP.
        let mut up = vec![0u8; 4];
        for field in [1u32, 1, 1] {
            up.extend(field.to_ne_bytes());
        }
        self.ask(RTM_NEWLINK, 0, &up)
    }

    /// Gives it one more address, usable at once.
    ///
    /// # Errors
    /// No right, no such family, or it has it already.
    pub fn add_to_loopback(&self, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, octets) = match address {
            IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
        };
        // ifaddrmsg: family, prefix, IFA_F_NODAD, scope; then index 1.
        let mut message = vec![family, prefix, 2, 0];
        message.extend(1u32.to_ne_bytes());
        for attribute in [IFA_LOCAL, IFA_ADDRESS] {
            message.extend((4 + octets.len() as u16).to_ne_bytes());
            message.extend(attribute.to_ne_bytes());
            message.extend(&octets);
        }
        self.ask(RTM_NEWADDR, NLM_F_CREATE, &message)
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((1 | 4 | flags).to_ne_bytes()); // NLM_F_REQUEST, NLM_F_ACK
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0u8; 1024];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
        match error.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
