//! The table.

use super::Entry::{Kept, Moved, Pid};
use super::Fate::{self, Closed, Open, Taken};
use super::Layer::{Agent, Bind, Connect, Create, Kernel, Lsm, Sendmsg, Setsockopt, Skb};
use super::Proof::{Group, Word};
use super::Way;

const fn taken(row: u8, name: &'static str, text: &'static str) -> Way {
    Way::new(row, name, text, Taken)
}

/// Either will do.
const fn either(row: u8, name: &'static str, text: &'static str) -> Way {
    Way::new(row, name, text, Fate::Either)
}

const fn closed(row: u8, name: &'static str, text: &'static str, by: &'static [super::Layer]) -> Way {
    Way::new(row, name, text, Closed(by))
}

const fn open(row: u8, name: &'static str, text: &'static str, why: &'static str) -> Way {
    Way::new(row, name, text, Open(why))
}

const OTHERS: &str =
    "a process outside the tag does it of its own will; policy on Unix names and a uid of its own lessen it";
const FILES: &str = "whoever reads a file later is outside; the documentation says so";
const ROOT: &str = "root, or whoever has the right, undoes what root did; doctor asks for a job without it";
const LOOPBACK: &str = "loopback is reachable unless the tag has loopback = \"deny\" or \"take\"";
const ROOT_FATE: Fate = Open(ROOT);

/// Every way, in the order of escapes.md.
pub const WAYS: &[Way] = &[
    taken(1, "tcp4", "connect() over IPv4"),
    taken(1, "tcp6", "connect() over IPv6"),
    taken(1, "tcp-mapped", "connect() to a v4-mapped address"),
    taken(1, "tcp-nonblocking", "connect() that is not waited for"),
    taken(1, "tcp-splice", "pages spliced into the connection"),
    taken(1, "tcp-sendfile", "sendfile() into the connection"),
    taken(1, "tcp-zerocopy", "MSG_ZEROCOPY"),
    taken(1, "tcp-tls-ulp", "kTLS sends instead of TCP"),
    taken(2, "tfo4", "sendto(MSG_FASTOPEN)"),
    taken(2, "tfo6", "sendto(MSG_FASTOPEN) over IPv6"),
    taken(2, "tfo-mapped", "sendto(MSG_FASTOPEN) to a v4-mapped address"),
    taken(2, "tfo-connect", "TCP_FASTOPEN_CONNECT"),
    taken(2, "tfo-sendmmsg", "sendmmsg(MSG_FASTOPEN)"),
    taken(2, "tfo-uring", "MSG_FASTOPEN by io_uring"),
    taken(3, "mptcp4", "MPTCP"),
    taken(3, "mptcp6", "MPTCP over IPv6"),
    taken(3, "mptcp-tfo", "MPTCP, MSG_FASTOPEN"),
    taken(4, "uring-connect", "io_uring connect and send"),
    taken(4, "uring-async", "io_uring connect by a worker of the kernel"),
    taken(4, "uring-sqpoll", "io_uring connect by the kernel's polling thread"),
    taken(4, "uring-socket", "a socket that io_uring made"),
    closed(4, "uring-sendmsg", "io_uring sendmsg over UDP", &[Sendmsg, Skb]),
    closed(4, "uring-sendmsg-sqpoll", "the same by the polling thread", &[Sendmsg, Skb]),
    closed(4, "uring-send-zc", "io_uring send_zc with an address", &[Sendmsg, Skb]),
    closed(5, "udp-connect", "UDP connect() and send()", &[Connect, Skb]),
    closed(5, "udp6-connect", "the same over IPv6", &[Connect, Skb]),
    closed(5, "udp-connect-mapped", "the same to a v4-mapped address", &[Connect, Skb]),
    closed(5, "udp6-connect-inet", "an IPv6 socket given an AF_INET address", &[Connect, Skb]),
    closed(5, "udp-sendto", "UDP sendto()", &[Sendmsg, Skb]),
    closed(5, "udp6-sendto", "the same over IPv6", &[Sendmsg, Skb]),
    closed(5, "udp-sendto-mapped", "the same to a v4-mapped address", &[Sendmsg, Skb]),
    closed(5, "udp6-sendto-inet", "an IPv6 socket given an AF_INET address", &[Sendmsg, Skb]),
    closed(5, "udp-sendmsg", "UDP sendmsg()", &[Sendmsg, Skb]),
    closed(5, "udp-sendmmsg", "sendmmsg(), the second one elsewhere", &[Sendmsg, Skb]),
    closed(5, "udp-elsewhere", "connected to loopback, then sendto() elsewhere", &[Sendmsg, Skb]),
    closed(5, "udp6-elsewhere", "the same over IPv6", &[Sendmsg, Skb]),
    closed(5, "udp-again", "connected to loopback, dissolved, connected again", &[Connect, Skb]),
    closed(5, "udp-cork", "UDP_CORK", &[Sendmsg, Skb]),
    closed(5, "udp-cork-elsewhere", "MSG_MORE to loopback, then elsewhere", &[Sendmsg, Skb]),
    closed(5, "udp-segments", "UDP_SEGMENT: one call, many datagrams", &[Sendmsg, Skb]),
    closed(5, "udp-fragments", "larger than a packet", &[Sendmsg, Skb]),
    closed(5, "udp-zerocopy", "MSG_ZEROCOPY over UDP", &[Sendmsg, Skb]),
    closed(5, "udp-splice", "a pipe spliced into a UDP socket", &[Connect, Skb]),
    closed(5, "udp-addrform", "IPV6_ADDRFORM, then IPv4", &[Sendmsg, Skb]),
    closed(5, "udp-broadcast", "SO_BROADCAST", &[Sendmsg, Skb]),
    closed(5, "udp6-multicast", "IPv6 multicast to all nodes", &[Sendmsg, Skb]),
    closed(5, "udp-mdns", "multicast DNS", &[Sendmsg, Skb]),
    closed(5, "udp-linklocal", "a scoped IPv6 address", &[Sendmsg, Skb]),
    closed(5, "udp-memory-full", "no room beside the socket for a program's storage", &[Sendmsg, Skb]),
    closed(5, "udp-quic", "port 443", &[Sendmsg, Skb]),
    closed(30, "igmp-join", "the kernel reports a multicast group that spells the marker", &[Setsockopt])
        .proof(Group),
    closed(30, "igmp-mcast-join", "the same by MCAST_JOIN_GROUP", &[Setsockopt]).proof(Group),
    closed(30, "igmp-source-join", "the same by IP_ADD_SOURCE_MEMBERSHIP", &[Setsockopt]).proof(Group),
    closed(30, "mld-join", "IPV6_ADD_MEMBERSHIP: the same over IPv6", &[Setsockopt]),
    closed(30, "mld-mcast-join", "MCAST_JOIN_GROUP: the same over IPv6", &[Setsockopt]),
    closed(6, "udp-unspec", "sendto() with AF_UNSPEC", &[Sendmsg, Skb]),
    closed(7, "udplite4", "UDP-Lite", &[Create, Skb]),
    closed(7, "udplite6", "UDP-Lite over IPv6", &[Create, Skb]),
    closed(7, "udplite-connect", "UDP-Lite, connected", &[Create, Skb]),
    closed(7, "sctp", "SCTP, one to one", &[Create, Skb]),
    closed(7, "sctp-many", "SCTP, one to many", &[Create, Skb]),
    closed(7, "sctp-connectx", "SCTP_SOCKOPT_CONNECTX", &[Create, Skb]),
    closed(7, "dccp", "DCCP", &[Create, Skb]),
    closed(7, "l2tp", "L2TP over IP", &[Create, Skb]).right(),
    closed(7, "rxrpc", "RxRPC: the kernel sends UDP for the job", &[Skb, Lsm]),
    closed(7, "rds", "RDS: the kernel dials TCP for the job", &[Connect, Lsm]),
    closed(7, "protocols", "any IP protocol but TCP, UDP and MPTCP can be had", &[Create]).proof(Word),
    closed(8, "ping4", "ICMP echo by a datagram socket", &[Create, Skb]),
    closed(8, "ping6", "ICMPv6 echo", &[Create, Skb]),
    closed(8, "ping-connect", "ICMP echo, connected", &[Create, Skb]),
    closed(9, "raw4", "raw IP", &[Create, Skb]).right(),
    closed(9, "raw6", "raw IPv6", &[Create, Skb]).right(),
    closed(9, "raw-connect", "raw IP, connected", &[Create, Skb]).right(),
    closed(9, "raw-hdrincl", "IP_HDRINCL with the agent's address", &[Create, Skb]).right(),
    closed(10, "packet-dgram", "AF_PACKET datagram", &[Lsm]).right(),
    closed(10, "packet-raw", "AF_PACKET frame", &[Lsm]).right(),
    closed(10, "packet-old", "SOCK_PACKET", &[Lsm]).right(),
    closed(10, "packet-ring", "PACKET_TX_RING past traffic control", &[Lsm]).right(),
    closed(10, "xdp", "AF_XDP", &[Lsm]).right(),
    closed(11, "vsock", "VSOCK to this machine", &[Lsm]),
    closed(11, "vsock-socket", "a VSOCK socket can be had", &[Lsm]).proof(Word),
    closed(11, "families", "any other family but those that jobs need can be had", &[Lsm]).proof(Word),
    closed(32, "pppol2tp", "PPP by L2TP, in a connected UDP socket's datagrams", &[Lsm]),
    closed(33, "pppoe", "PPP by Ethernet: a frame to any neighbour", &[Lsm]),
    either(12, "smc", "SMC, which falls back to TCP"),
    either(12, "smc-protocol", "SMC as an IP protocol"),
    either(12, "smc-ulp", "TCP_ULP smc"),
    closed(13, "kept-tcp-connected", "a connected socket kept across sluice run", &[Agent])
        .enter(Kept("tcp-connected")),
    closed(13, "kept-tcp", "an unconnected socket kept across sluice run", &[Agent]).enter(Kept("tcp")),
    closed(13, "kept-udp", "a UDP socket kept across sluice run", &[Agent]).enter(Kept("udp")),
    closed(13, "kept-packet", "a packet socket kept across sluice run", &[Agent])
        .enter(Kept("packet"))
        .right(),
    closed(13, "moved-tcp-connected", "connected, then moved into a tagged cgroup", &[Lsm]).enter(Moved),
    closed(13, "moved-tcp", "a TCP socket, then moved", &[Lsm]).enter(Moved),
    closed(13, "moved-tfo", "a TCP socket, moved, MSG_FASTOPEN", &[Lsm]).enter(Moved),
    closed(13, "moved-udp-connected", "a connected UDP socket, then moved", &[Lsm]).enter(Moved),
    closed(13, "moved-udp", "a UDP socket, then moved", &[Lsm]).enter(Moved),
    closed(13, "moved-udp-splice", "a UDP socket, moved, spliced into", &[Lsm]).enter(Moved),
    closed(13, "moved-listener", "a listener, then moved; dialled from outside", &[Lsm]).enter(Moved),
    closed(13, "moved-ping", "a ping socket, then moved", &[Lsm]).enter(Moved),
    closed(13, "moved-raw", "a raw socket, then moved", &[Lsm]).enter(Moved).right(),
    closed(13, "moved-packet", "a packet socket, then moved", &[Lsm]).enter(Moved).right(),
    closed(13, "moved-ring", "an io_uring with a registered socket, then moved", &[Lsm]).enter(Moved),
    closed(13, "moved-ring-sqpoll", "the same with a polling thread", &[Lsm]).enter(Moved),
    closed(13, "pid-tcp-connected", "connected, then sluice tag --pid", &[Agent]).enter(Pid),
    closed(13, "pid-tcp", "a TCP socket, then sluice tag --pid", &[Agent]).enter(Pid),
    closed(13, "pid-tfo", "a TCP socket, sluice tag --pid, MSG_FASTOPEN", &[Agent]).enter(Pid),
    closed(13, "pid-udp-connected", "a connected UDP socket, then sluice tag --pid", &[Agent]).enter(Pid),
    closed(13, "pid-udp", "a UDP socket, then sluice tag --pid", &[Agent]).enter(Pid),
    closed(13, "pid-listener", "a listener, then sluice tag --pid", &[Lsm]).enter(Pid),
    closed(13, "pid-ping", "a ping socket, then sluice tag --pid", &[Agent]).enter(Pid),
    closed(13, "pid-raw", "a raw socket, then sluice tag --pid", &[Agent]).enter(Pid).right(),
    closed(13, "pid-packet", "a packet socket, then sluice tag --pid", &[Lsm]).enter(Pid).right(),
    closed(13, "pid-ring", "an io_uring with a registered socket, then sluice tag --pid", &[Lsm]).enter(Pid),
    closed(14, "rights-tcp-connected", "a connected socket by SCM_RIGHTS", &[Lsm]),
    closed(14, "rights-tcp", "a TCP socket by SCM_RIGHTS", &[Lsm]),
    closed(14, "rights-udp-connected", "a connected UDP socket by SCM_RIGHTS", &[Lsm]),
    closed(14, "rights-udp", "a UDP socket by SCM_RIGHTS", &[Lsm]),
    closed(14, "rights-listener", "a listener by SCM_RIGHTS, dialled from outside", &[Lsm]),
    closed(14, "rights-nested", "a socket inside a passed Unix socket", &[Lsm]),
    closed(14, "rights-raw", "a raw socket by SCM_RIGHTS", &[Lsm]).right(),
    closed(14, "rights-packet", "a packet socket by SCM_RIGHTS", &[Lsm]).right(),
    closed(14, "getfd-tcp", "pidfd_getfd of a connected socket", &[Lsm]),
    closed(14, "getfd-udp", "pidfd_getfd of a UDP socket", &[Lsm]),
    open(15, "migrate", "the task writes itself into another cgroup", ROOT).right(),
    taken(15, "migrate-with-socket", "a tag's socket, used from another cgroup").right(),
    open(15, "born-outside", "clone3(CLONE_INTO_CGROUP)", ROOT).right(),
    open(15, "join-agent", "into the agent's own cgroup", ROOT).right(),
    taken(16, "sub-cgroup-tcp", "TCP from a cgroup below the tag's").right(),
    closed(16, "sub-cgroup-udp", "UDP from a cgroup below the tag's", &[Sendmsg, Skb]).right(),
    closed(16, "sub-cgroup-udplite", "UDP-Lite from a cgroup below the tag's", &[Create, Skb]).right(),
    closed(17, "new-namespaces", "user and network namespace", &[Kernel]).alone(),
    closed(17, "new-users", "a user namespace, then a raw socket", &[Kernel, Create]).alone(),
    closed(17, "netns-tcp", "TCP from a network namespace with a link of its own", &[Connect, Skb])
        .right()
        .root(Fate::Either),
    closed(17, "netns-tcp6", "the same over IPv6", &[Connect, Skb]).right().root(Fate::Either),
    closed(17, "netns-udp", "UDP from there", &[Sendmsg, Skb]).right(),
    closed(17, "netns-udplite", "UDP-Lite from there", &[Create, Skb]).right(),
    closed(17, "netns-socket", "a socket of that namespace, used after the way back", &[Connect, Skb])
        .right()
        .root(Fate::Either),
    closed(18, "inbound-tcp", "listens, and answers who dials in", &[Skb]),
    closed(18, "inbound-tcp6", "the same over IPv6", &[Skb]),
    closed(18, "inbound-reuseport", "listens with SO_REUSEPORT", &[Skb]),
    closed(18, "inbound-udp", "answers a datagram", &[Sendmsg, Skb]),
    closed(18, "inbound-udp-connected", "answers a datagram, connected to its sender", &[Connect, Skb]),
    open(19, "unix-path", "a Unix socket to a process that repeats it", OTHERS),
    open(19, "unix-abstract", "the same by an abstract name", OTHERS),
    open(19, "unix-datagram", "the same by datagrams", OTHERS),
    open(19, "unix-seqpacket", "the same by SOCK_SEQPACKET", OTHERS),
    closed(31, "netlink", "NETLINK_USERSOCK to a process that repeats it", &[Lsm]),
    closed(19, "docker", "/run/docker.sock", &[Lsm]),
    closed(19, "docker-var", "/var/run/docker.sock", &[Lsm]),
    closed(19, "docker-relative", "docker.sock, from /run", &[Lsm]),
    closed(19, "docker-root", "/proc/self/root/run/docker.sock", &[Lsm]),
    closed(19, "docker-symlink", "a symbolic link to docker.sock", &[Lsm]),
    closed(19, "docker-hardlink", "a hard link to docker.sock", &[Lsm]).right(),
    closed(19, "dbus", "the system bus", &[Lsm]),
    closed(19, "systemd", "systemd's private socket", &[Lsm]),
    closed(19, "user-bus", "the user's bus", &[Lsm]),
    closed(20, "device-tcp", "SO_BINDTODEVICE", &[Setsockopt, Connect]),
    closed(20, "device-udp", "SO_BINDTODEVICE, UDP", &[Setsockopt, Sendmsg, Skb]),
    closed(20, "ifindex-tcp", "SO_BINDTOIFINDEX", &[Setsockopt, Connect]),
    closed(20, "unicast-if", "IP_UNICAST_IF", &[Setsockopt]),
    closed(20, "unicast-if6", "IPV6_UNICAST_IF", &[Setsockopt]),
    taken(20, "pktinfo6", "sticky IPV6_PKTINFO"),
    closed(20, "udp-pktinfo", "source and link in a control message", &[Sendmsg, Skb]),
    taken(20, "tcp-bound-source", "bound to the link's address"),
    closed(20, "udp-bound-source", "bound to the link's address, UDP", &[Bind, Sendmsg, Skb]),
    closed(20, "tcp-linklocal", "a scoped IPv6 address", &[Connect]),
    taken(20, "dontroute", "SO_DONTROUTE"),
    closed(29, "route-loose", "IP_OPTIONS: loose source route", &[Setsockopt]),
    closed(29, "route-strict", "IP_OPTIONS: strict source route", &[Setsockopt]),
    closed(29, "route-hidden", "the same behind no-operations", &[Setsockopt]),
    closed(29, "route-mapped", "the same on an IPv6 socket", &[Setsockopt]),
    closed(29, "route-cmsg", "the same in a control message, to loopback", &[Skb]),
    closed(29, "route6", "IPV6_RTHDR: segment routing", &[Setsockopt]),
    closed(29, "route6-options", "the same in IPV6_2292PKTOPTIONS", &[Setsockopt]),
    closed(29, "route6-cmsg", "the same in a control message, to loopback", &[Skb]),
    closed(21, "mark", "SO_MARK", &[Setsockopt]).right(),
    closed(21, "transparent-tcp", "IP_TRANSPARENT", &[Setsockopt]).right(),
    closed(21, "transparent-udp", "IP_TRANSPARENT, from the agent's address", &[Setsockopt, Skb]).right(),
    taken(21, "agent-source", "from the agent's own address"),
    closed(21, "agent-user-udp", "as the agent's user, UDP", &[Sendmsg, Skb]).right(),
    taken(21, "agent-user-tcp", "as the agent's user").right(),
    closed(22, "agent-listener", "straight to the agent's listener", &[Connect, Agent]).alone(),
    closed(22, "agent-control", "the control socket", &[Kernel])
        .proof(Word)
        .alone()
        .root(Open("root may ask; changes are refused to whoever is in a tag (see untag)")),
    closed(22, "untag", "asks the agent to let it go", &[Kernel])
        .alone()
        .root(Closed(&[Agent, Lsm]))
        .enter(Kept("udp"))
        .last(),
    closed(22, "take-listener", "binds the listener's port on a more exact address", &[Bind, Kernel])
        .right()
        .proof(Word)
        .alone(),
    taken(23, "dns-udp", "a question to a server of its choice"),
    taken(23, "dns-tcp", "the same over TCP"),
    closed(23, "dns-junk", "to port 53, but no DNS", &[Agent, Skb]),
    closed(23, "dns-dot", "port 853", &[Connect]),
    closed(23, "dns-dtls", "port 853, UDP", &[Sendmsg, Skb]),
    taken(23, "dns-doh", "DNS over HTTPS' request"),
    closed(23, "metadata", "169.254.169.254", &[Connect]),
    closed(23, "metadata6", "fd00:ec2::254", &[Connect]),
    closed(23, "metadata-mapped", "the same v4-mapped", &[Connect]),
    taken(24, "tcp-again", "connected to loopback, dissolved, connected again"),
    taken(24, "tcp-taken-again", "taken, dissolved, connected again"),
    closed(24, "tcp-simultaneous", "both ends dial at once", &[Connect, Bind, Skb]),
    taken(24, "tcp-race", "four threads, one socket, two destinations"),
    either(24, "tcp-memory-full", "no room beside the socket for a program's storage"),
    closed(24, "tcp-repair", "TCP_REPAIR: connected without a handshake", &[Setsockopt, Connect, Skb])
        .right(),
    closed(26, "kill-agent", "kills the agent first", &[Connect, Skb]).right().last(),
    closed(27, "ptrace", "PTRACE_POKEDATA", &[Lsm]).root(Closed(&[Lsm])),
    closed(27, "proc-mem", "/proc/PID/mem", &[Lsm]),
    closed(27, "vm-writev", "process_vm_writev()", &[Lsm]),
    closed(27, "proc-pipe", "another process's pipe by way of /proc/PID/fd", &[Lsm]),
    closed(28, "orphan", "fork, setsid, the parent gone", &[Sendmsg, Skb]),
    open(28, "deferred", "left in a file that somebody outside reads later", FILES),
    open(28, "fifo", "a named pipe to a process that repeats it", OTHERS),
    open(19, "loopback-tcp", "a server on 127.0.0.1 that repeats it", LOOPBACK),
    open(19, "loopback-udp", "the same over UDP", LOOPBACK),
    closed(19, "own-udp", "a server on another address of this host", &[Sendmsg, Skb]),
    Way::new(21, "tun", "a device of its own, and the host routes", ROOT_FATE).right().last(),
    closed(21, "reroute", "the listener's addresses routed out of the host", &[Skb]).right().last(),
    Way::new(26, "unpin", "removes the agent's links from bpffs", ROOT_FATE).right().last(),
    Way::new(26, "detach", "BPF_LINK_DETACH", ROOT_FATE).right().last(),
];
