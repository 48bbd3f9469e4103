//! Sockets: a tagged task makes only such as are followed, and uses only such as were made in its tag.

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::helpers::generated::{bpf_sk_storage_get, bpf_sock_from_file};

use agent_ebpf::lsm::{PROBE_PROTOCOL, SOCK_DPORT};
use agent_ebpf::{Born, Counter, joins_group};

use crate::event::{About, PASS, REFUSE, refuse};
use crate::kernel::{Pointer, Sock, Socket, member, offsets};
use crate::maps::{BORN, UNIX_BORN};
use crate::{tags, unix};

pub const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
/// A bus on which any two processes of the host talk, whatever else they may reach. No cgroup program sees it.
const NETLINK_USERSOCK: i32 = 2;
/// `::ffff:0:0/96`, third word, network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();

/// socket(): families that are followed pass, but netlink between processes. Which protocols of the IP families may be is the cgroup programs' word.
#[inline(always)]
pub fn create(family: i32, kind: i32, protocol: i32, by_kernel: bool) -> i32 {
    if by_kernel {
        return PASS;
    }
    if protocol == PROBE_PROTOCOL && family == i32::from(AF_UNIX) {
        return REFUSE; // The warden asks whether anybody hears it.
    }
    let tag = tags::current();
    let followed = match family as u16 {
        AF_UNIX | AF_INET | AF_INET6 => true,
        AF_NETLINK => protocol != NETLINK_USERSOCK,
        _ => false,
    };
    if tag == tags::NONE || followed {
        return PASS;
    }
    let (family, kind, protocol) = (family as u16, kind as u16, protocol as u16);
    refuse(Counter::Family, tag, &About { family, kind, protocol, ..About::NOTHING })
}

/// socket() and socketpair(), done: a Unix socket bears its tag, so that helpers inside the tag are told from those
/// outside. IP sockets are marked by the cgroup programs.
#[inline(always)]
pub fn created(socket: Pointer, family: i32, by_kernel: bool) -> i32 {
    if by_kernel || family != i32::from(AF_UNIX) {
        return PASS;
    }
    let mut tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    if let Some(sock) = Socket(socket).made() {
        // SAFETY: the socket's own storage. Where there is no memory for it, it counts as made outside.
        unsafe {
            bpf_sk_storage_get(
                (&raw const UNIX_BORN).cast_mut().cast(),
                sock.0.cast_mut(),
                (&raw mut tag).cast(),
                u64::from(BPF_SK_STORAGE_GET_F_CREATE),
            );
        }
    }
    PASS
}

/// connect(), listen(), accept(), sending and receiving.
#[inline(always)]
pub fn used(socket: Pointer) -> i32 {
    let tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    judge(Socket(socket), tag, Counter::ForeignSocket)
}

/// setsockopt(): no group, of which the kernel would tell the neighbours.
#[inline(always)]
pub fn option(level: i32, name: i32) -> i32 {
    if !joins_group(level, name) {
        return PASS;
    }
    let tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    let detail = (level as u32) << 16 | (name as u32) & 0xffff;
    refuse(Counter::Disguise, tag, &About { detail, ..About::NOTHING })
}

/// read(), write(), sendfile() or splice() of a file, if it is a socket.
#[inline(always)]
pub fn spliced(file: Pointer) -> i32 {
    match of_file(file) {
        Some(socket) => used(socket.0),
        None => PASS,
    }
}

/// A file that another process hands over, if it is a socket.
#[inline(always)]
pub fn received(file: Pointer) -> i32 {
    let tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    match of_file(file) {
        Some(socket) => judge(socket, tag, Counter::PassedSocket),
        None => PASS,
    }
}

#[inline(always)]
fn of_file(file: Pointer) -> Option<Socket> {
    // SAFETY: the helper takes the hook's own file.
    let socket: Pointer = unsafe { bpf_sock_from_file(file.cast_mut().cast()).cast_const().cast() };
    (!socket.is_null()).then_some(Socket(socket))
}

#[inline(always)]
fn judge(socket: Socket, tag: u32, why: Counter) -> i32 {
    let Some(sock) = socket.sock() else { return PASS };
    let family = sock.family();
    match family {
        AF_NETLINK => PASS,
        AF_UNIX => match unix::peer_rule(sock, tag) {
            None => PASS,
            Some(rule) => refuse(Counter::UnixPeer, tag, &unix::about(socket.kind(), rule)),
        },
        AF_INET | AF_INET6 if was_born_in(sock, tag) => PASS,
        _ => refuse(why, tag, &destination(socket, sock, family)),
    }
}

#[inline(always)]
fn was_born_in(sock: Sock, tag: u32) -> bool {
    // SAFETY: the socket's own storage, checked for null.
    unsafe {
        let born = bpf_sk_storage_get(
            (&raw const BORN).cast_mut().cast(),
            sock.0.cast_mut(),
            core::ptr::null_mut(),
            0,
        )
        .cast::<Born>();
        !born.is_null() && (*born).tag == tag
    }
}

/// Where a foreign socket is connected to.
#[inline(always)]
fn destination(socket: Socket, sock: Sock, family: u16) -> About {
    let mut words = [0; 4];
    let mut port = 0;
    if family == AF_INET || family == AF_INET6 {
        words = member::<[u32; 4]>(sock.0, offsets().sock_daddr6).unwrap_or([0; 4]);
        if family == AF_INET {
            words = [0, 0, MAPPED, member::<u32>(sock.0, 0).unwrap_or(0)];
        }
        port = u16::from_be(member::<u16>(sock.0, SOCK_DPORT as u32).unwrap_or(0));
    }
    About { words, port, family, kind: socket.kind(), ..About::NOTHING }
}
