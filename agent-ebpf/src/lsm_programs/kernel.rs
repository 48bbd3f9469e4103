//! Reading the kernel's own structs.
//!
//! Two ways: by typed pointers, which the verifier follows, where the member's place is the same in every kernel (the
//! warden checks it before it loads this); by copies with places from the kernel's BTF everywhere else. A copy of what
//! is not there fails, and each caller says what it takes that for.

use core::ffi::c_void;

use agent_ebpf::lsm::{Offsets, SOCK_FAMILY, SOCKET_FILE, SOCKET_SK, SOCKET_TYPE};
use aya_ebpf::helpers::bpf_probe_read_kernel;

/// A pointer to a kernel struct; the verifier may know which.
pub type Pointer = *const c_void;

/// Filled in by the warden when it loads the object.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_cgroups: 0,
    task_tgid: 0,
    css_set_cgroup: 0,
    cgroup_kn: 0,
    cgroup_parent: 0,
    kn_id: 0,
    unix_addr: 0,
    unix_peer: 0,
    address_len: 0,
    address_name: 0,
    sock_daddr6: 0,
    zero: 0,
};

/// The running kernel's layout.
#[inline(always)]
pub fn offsets() -> &'static Offsets {
    // Not what stands above at compile time: the map behind it.
    core::hint::black_box(&OFFSETS)
}

/// Copies a member out of a struct.
#[inline(always)]
pub fn member<T>(of: Pointer, at: u32) -> Option<T> {
    if of.is_null() {
        return None;
    }
    // SAFETY: the helper checks the address itself.
    unsafe { bpf_probe_read_kernel(of.cast::<u8>().wrapping_add(at as usize).cast::<T>()).ok() }
}

/// A `struct socket *` whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Socket(pub Pointer);

impl Socket {
    /// The socket below it; `None` for the kernel's own sockets, and while it is made.
    #[inline(always)]
    pub fn sock(self) -> Option<Sock> {
        // SAFETY: members of the struct that the verifier knows this to be.
        let (file, sk) = unsafe {
            (
                self.0.cast::<u8>().add(SOCKET_FILE).cast::<Pointer>().read_volatile(),
                self.0.cast::<u8>().add(SOCKET_SK).cast::<Pointer>().read_volatile(),
            )
        };
        (!file.is_null() && !sk.is_null()).then_some(Sock(sk))
    }

    /// The socket below it, whether it has a file yet or not.
    #[inline(always)]
    pub fn made(self) -> Option<Sock> {
        // SAFETY: as above.
        let sk = unsafe { self.0.cast::<u8>().add(SOCKET_SK).cast::<Pointer>().read_volatile() };
        (!sk.is_null()).then_some(Sock(sk))
    }

    /// `SOCK_STREAM` and so on.
    #[inline(always)]
    pub fn kind(self) -> u16 {
        // SAFETY: as above.
        unsafe { self.0.cast::<u8>().add(SOCKET_TYPE).cast::<u16>().read_volatile() }
    }
}

/// A `struct sock *` whose type the verifier knows; not null.
#[derive(Clone, Copy)]
pub struct Sock(pub Pointer);

impl Sock {
    /// `AF_INET` and so on.
    #[inline(always)]
    pub fn family(self) -> u16 {
        // SAFETY: as above.
        unsafe { self.0.cast::<u8>().add(SOCK_FAMILY).cast::<u16>().read_volatile() }
    }
}
