//! One of the resolver's sockets: datagrams in with the address that they were sent to, replies out from that address.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::codec::dns::MAX_QUESTION;
use crate::types::{ClientAddr, ListenerAddr, NetnsCookie};

/// See the module.
pub(super) struct Datagrams {
    socket: UdpSocket,
    local: SocketAddr,
    /// The network namespace that it lives in.
    pub netns: NetnsCookie,
}

/// One datagram.
pub(super) struct Datagram {
    pub bytes: Vec<u8>,
    pub client: ClientAddr,
    /// Which of our addresses it was sent to.
    pub listener: ListenerAddr,
}

impl Datagrams {
    pub fn new(fd: OwnedFd, netns: NetnsCookie) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(fd);
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, local, netns })
    }

    /// The next datagram; `None`: one that is longer than any question, or that does not say where it was sent to.
    pub async fn receive(&self) -> io::Result<Option<Datagram>> {
        self.socket.async_io(Interest::READABLE, || self.read()).await
    }

    fn read(&self) -> io::Result<Option<Datagram>> {
        // A byte more than a question has, so that a longer one is seen to be.
        let mut bytes = vec![0; MAX_QUESTION + 1];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let fd = self.socket.as_fd().as_raw_fd();
        let got = recvmsg::<SockaddrStorage>(fd, &mut iov, Some(&mut control), MsgFlags::empty())?;
        let to = match self.local {
            SocketAddr::V6(local) => Some(IpAddr::V6(*local.ip())),
            SocketAddr::V4(_) => got
                .cmsgs()?
                .find_map(|message| match message {
                    ControlMessageOwned::Ipv4PacketInfo(info) => Some(u32::from_be(info.ipi_addr.s_addr)),
                    _ => None,
                })
                .map(|ip| IpAddr::V4(ip.into())),
        };
        let from = got.address.as_ref().and_then(socket_address);
        let (length, cut) = (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC));
        let (Some(to), Some(from), false) = (to, from, cut) else { return Ok(None) };
        bytes.truncate(length);
        let listener = ListenerAddr(SocketAddr::new(to, self.local.port()));
        Ok(Some(Datagram { bytes, client: ClientAddr(from), listener }))
    }

    /// Sends a reply from where the question was sent to. Never waits: a reply that does not fit the socket's buffer is
    /// lost, as datagrams are.
    pub fn reply(&self, bytes: &[u8], client: ClientAddr, listener: ListenerAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(client.0);
        let iov = [IoSlice::new(bytes)];
        let fd = self.socket.as_fd().as_raw_fd();
        let info = match listener.0.ip() {
            IpAddr::V4(ip) => Some(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            // Bound to the one address of IPv6 loopback.
            IpAddr::V6(_) => None,
        };
        let control: Vec<_> = info.iter().map(ControlMessage::Ipv4PacketInfo).collect();
        self.socket.try_io(Interest::WRITABLE, || {
            Ok(sendmsg(fd, &iov, &control, MsgFlags::MSG_DONTWAIT, Some(&to)).map(drop)?)
        })
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
