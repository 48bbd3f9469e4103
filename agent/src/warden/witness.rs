//! Who holds the other end of an accepted connection, or sent a datagram, now. The kernel programs remember a connection by its four-tuple,
//! and a four-tuple can change hands before the gate asks: its maker resets it, and anybody on the host makes the same
//! one anew. The socket's cookie does not change hands, so the kernel is asked (sock_diag(7)) whether the socket that
//! bears the tuple is the remembered one. One that its maker closed in order is found too, waiting in FIN-WAIT.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use rustix::net::sockopt::socket_cookie;

use super::destroy::diag_message;

/// `SOCK_DIAG_BY_FAMILY`, linux/sock_diag.h: of the question, and of the answer when there is such a socket.
const BY_FAMILY: u16 = 20;

/// A sock_diag socket in the network namespace of the thread that opened it, where the listeners are.
#[derive(Debug)]
pub struct Witness {
    netlink: OwnedFd,
    /// The kernel answers for UDP too (`CONFIG_INET_UDP_DIAG`).
    udp: bool,
}

/// [`Witness::holds`] or [`Witness::sent`].
pub type Question = fn(&Witness, SocketAddr, SocketAddr, u64) -> io::Result<bool>;

impl Witness {
    /// Opens it, and asks for `listener`, which is there: kernels can lack the answering part (`CONFIG_INET_TCP_DIAG`).
    ///
    /// # Errors
    /// What the kernel says, or `Unsupported`.
    pub fn open(listener: impl AsFd) -> io::Result<Self> {
        let protocol = Some(SockProtocol::NetlinkSockDiag);
        let netlink = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The answer is there when send() returns; a kernel that has none must not stop the daemon.
        setsockopt(&netlink, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(1, 0))?;
        let mut witness = Self { netlink, udp: true };
        let local = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        let nobody = SocketAddr::new(local.ip(), 0);
        if !witness.holds(local, nobody, socket_cookie(&listener)?)? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let asker = UdpSocket::bind(SocketAddr::new(local.ip(), 0))?;
        let from = asker.local_addr()?;
        witness.udp = witness.sent(from, from, socket_cookie(&asker)?)?;
        if !witness.udp {
            tracing::error!("the kernel cannot tell who holds a UDP socket (load udp_diag and restart)");
        }
        Ok(witness)
    }

    /// Whether the TCP socket at `local`, connected to `peer`, is the one with this cookie.
    ///
    /// # Errors
    /// What the netlink socket says.
    pub fn holds(&self, local: SocketAddr, peer: SocketAddr, cookie: u64) -> io::Result<bool> {
        self.ask(&diag_message(BY_FAMILY, libc::NLM_F_REQUEST, libc::IPPROTO_TCP, local, peer, cookie))
    }

    /// Whether the UDP socket that gets what `peer` sends to `local` is the one with this cookie: as long as it is open,
    /// nobody else's can be. Yes where the kernel cannot tell.
    ///
    /// # Errors
    /// What the netlink socket says.
    pub fn sent(&self, local: SocketAddr, peer: SocketAddr, cookie: u64) -> io::Result<bool> {
        // For UDP the kernel takes the two addresses the other way round (udp_dump_one, net/ipv4/udp_diag.c).
        let question = diag_message(BY_FAMILY, libc::NLM_F_REQUEST, libc::IPPROTO_UDP, peer, local, cookie);
        Ok(!self.udp || self.ask(&question)?)
    }

    fn ask(&self, question: &[u8]) -> io::Result<bool> {
        // Answers that an interrupted question left behind.
        while recv(self.netlink.as_raw_fd(), &mut [0; 8], MsgFlags::MSG_DONTWAIT).is_ok() {}
        send(self.netlink.as_raw_fd(), question, MsgFlags::empty())?;
        let mut answer = [0; 1024];
        let length = recv(self.netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // The other answer is NLMSG_ERROR with ENOENT: nobody, or another socket.
        Ok(length >= 6 && u16::from_ne_bytes([answer[4], answer[5]]) == BY_FAMILY)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a client of the test's own listener")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn knows_a_socket_by_its_cookie_also_after_its_close() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).expect("listener");
            let witness = Witness::open(&listener).expect("sock_diag");
            let at = listener.local_addr().expect("address");
            let client = TcpStream::connect(at).expect("connected");
            let (_accepted, from) = listener.accept().expect("accepted");
            let cookie = socket_cookie(&client).expect("cookie");
            assert!(witness.holds(from, at, cookie).expect("an answer"));
            assert!(!witness.holds(from, at, cookie + 1).expect("an answer"));
            drop(client);
            assert!(
                witness.holds(from, at, cookie).expect("an answer"),
                "closed in order: the tuple is still its"
            );
        }
    }

    #[test]
    fn knows_who_sent_a_datagram_for_as_long_as_its_socket_is_open() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let witness = Witness::open(TcpListener::bind(host).expect("listener")).expect("sock_diag");
            assert!(witness.udp, "this kernel can tell");
            let resolver = UdpSocket::bind(host).expect("socket").local_addr().expect("address");
            let asker = UdpSocket::bind(host).expect("socket");
            let (from, cookie) =
                (asker.local_addr().expect("address"), socket_cookie(&asker).expect("cookie"));
            assert!(witness.sent(from, resolver, cookie).expect("an answer"));
            assert!(!witness.sent(from, resolver, cookie + 1).expect("an answer"));
            asker.connect(resolver).expect("connected");
            assert!(witness.sent(from, resolver, cookie).expect("an answer"), "connected, too");
            drop(asker);
            assert!(!witness.sent(from, resolver, cookie).expect("an answer"), "nobody's");
            let thief = UdpSocket::bind(from).expect("the same port");
            assert!(!witness.sent(from, resolver, cookie).expect("an answer"), "another's: {thief:?}");
        }
    }

    #[test]
    fn a_reset_connection_is_nobodys() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let witness = Witness::open(&listener).expect("sock_diag");
        let at = listener.local_addr().expect("address");
        let client = TcpStream::connect(at).expect("connected");
        let (from, cookie) = (client.local_addr().expect("address"), socket_cookie(&client).expect("cookie"));
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&client, sockopt::Linger, &linger).expect("linger");
        drop(client);
        assert!(!witness.holds(from, at, cookie).expect("an answer"));
    }
}
