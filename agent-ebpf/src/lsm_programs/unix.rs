//! Unix sockets: helpers outside of the tag that would act for a job (start containers, units, connections) are not
//! talked to. Which they are says `UNIX_DENY`, by the name that the *server* bound: a job cannot change that by links,
//! mounts or its working directory.
//!
//! Names are brought into one form: `/var/run/` becomes `/run/`, the number in `/run/user/1000/` becomes `*`, and the
//! leading NUL of an abstract name becomes `@`. A rule is a prefix of that; an exact one ends with the NUL.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_storage_get};

use agent_ebpf::Counter;
use agent_ebpf::lsm::UNIX_NAME;

use crate::event::{About, PASS, refuse};
use crate::kernel::{Pointer, Sock, Socket, member, offsets};
use crate::maps::{UNIX_BORN, UNIX_DENY};
use crate::sockets::AF_UNIX;
use crate::tags;

const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
/// What `sockaddr_un` begins with, before its name.
const FAMILY: u32 = 2;
const VAR: usize = "/var".len();
const USER: usize = "/run/user/".len();
/// Digits of a user id at most.
const DIGITS: usize = 10;

/// connect() of a stream or packet socket to `other`, a listening `struct sock *`.
#[inline(always)]
pub fn connected(other: Pointer) -> i32 {
    let tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    decide(Sock(other), tag, SOCK_STREAM)
}

/// A datagram to, or connect() of a datagram socket to, the `struct socket *` `other`.
#[inline(always)]
pub fn sent(other: Pointer) -> i32 {
    let tag = tags::current();
    if tag == tags::NONE {
        return PASS;
    }
    match Socket(other).made() {
        Some(sock) => decide(sock, tag, SOCK_DGRAM),
        None => PASS,
    }
}

#[inline(always)]
fn decide(other: Sock, tag: u32, kind: u16) -> i32 {
    if was_born_in(other, tag) {
        return PASS;
    }
    match rule(other.0) {
        None => PASS,
        Some(rule) => refuse(Counter::UnixPeer, tag, &about(kind, rule)),
    }
}

/// The rule against the one that a connected socket talks to. One that was made in the tag was judged when it connected.
#[inline(always)]
pub fn peer_rule(sock: Sock, tag: u32) -> Option<u32> {
    if was_born_in(sock, tag) {
        return None;
    }
    rule(member::<Pointer>(sock.0, offsets().unix_peer)?)
}

#[inline(always)]
pub fn about(kind: u16, rule: u32) -> About {
    About { family: AF_UNIX, kind, detail: rule, ..About::NOTHING }
}

#[inline(always)]
fn was_born_in(sock: Sock, tag: u32) -> bool {
    // SAFETY: the socket's own storage, checked for null.
    unsafe {
        let born = bpf_sk_storage_get(
            (&raw const UNIX_BORN).cast_mut().cast(),
            sock.0.cast_mut(),
            core::ptr::null_mut(),
            0,
        )
        .cast::<u32>();
        !born.is_null() && *born == tag
    }
}

/// The rule that the name of a `struct unix_sock` falls under.
#[inline(always)]
fn rule(sock: Pointer) -> Option<u32> {
    let layout = offsets();
    let address = member::<Pointer>(sock, layout.unix_addr).filter(|address| !address.is_null())?;
    let length = member::<i32>(address, layout.address_len)?;
    let name = address.cast::<u8>().wrapping_add((layout.address_name + FAMILY) as usize);
    let length = (length as u32).wrapping_sub(FAMILY);
    let mut key = Key::new(UNIX_NAME as u32 * 8, [0_u8; UNIX_NAME]);
    copy(&mut key, 0, name, length)?;
    if key.data[0] == 0 {
        key.data[0] = b'@';
    } else {
        let mut skipped = 0;
        if starts(&key.data, b"/var/run/") {
            skipped = VAR;
            copy(&mut key, 0, name.wrapping_add(skipped), length.wrapping_sub(skipped as u32))?;
        }
        if starts(&key.data, b"/run/user/") {
            any_user(&mut key, name.wrapping_add(skipped), length.wrapping_sub(skipped as u32));
        }
    }
    UNIX_DENY.get(&key).copied()
}

/// `/run/user/1000/bus` becomes `/run/user/*/bus`. What stands behind the name's NUL does not matter: a rule ends there.
#[inline(always)]
fn any_user(key: &mut Key<[u8; UNIX_NAME]>, name: *const u8, length: u32) {
    let mut digits = 1;
    while digits <= DIGITS {
        if key.data[USER + digits] == b'/' {
            key.data[USER] = b'*';
            let slash = USER + digits;
            let _left_as_it_was =
                copy(key, USER + 1, name.wrapping_add(slash), length.wrapping_sub(slash as u32));
            return;
        }
        digits += 1;
    }
}

/// Copies `length` octets of a name, cut to what there is room for from `at` on.
#[inline(always)]
fn copy(key: &mut Key<[u8; UNIX_NAME]>, at: usize, from: *const u8, length: u32) -> Option<()> {
    let room = (UNIX_NAME - at) as u32;
    if length == 0 {
        return None;
    }
    let length = if length > room { room } else { length };
    // SAFETY: room for `length` octets from `at` on; the helper checks the source.
    let failed = unsafe { bpf_probe_read_kernel((&raw mut key.data[at]).cast(), length, from.cast()) };
    (failed == 0).then_some(())
}

#[inline(always)]
fn starts<const N: usize>(name: &[u8; UNIX_NAME], with: &[u8; N]) -> bool {
    let mut at = 0;
    while at < N {
        if name[at] != with[at] {
            return false;
        }
        at += 1;
    }
    true
}
