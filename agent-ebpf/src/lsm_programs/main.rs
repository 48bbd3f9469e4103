//! The LSM programs: entry points only. Unlike the programs of a tag's cgroup they see the *task* that uses a socket,
//! wherever that was made: [`sockets`] refuses what was not made in the tag, [`unix`] refuses helpers outside of it,
//! [`trace`] keeps a task's hands off processes outside. [`tags`] says whose task it is.
//!
//! One object for the host: every hook runs for every process, so each asks first whether the task is tagged at all.
//! Optional by design: it loads where the kernel has BPF LSM on (`lsm=…,bpf`), and the warden says so where not. Kernel
//! 5.15 is the oldest; members of kernel structs are found by the kernel's own BTF, see [`kernel`].
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute macros wrap each entry point in a bare function of its name")]
#![expect(
    unsafe_code,
    reason = "kernel contexts and maps are raw pointers; the verifier checks every access"
)]

mod event;
mod kernel;
mod maps;
mod sockets;
mod tags;
#[path = "../told.rs"]
mod told;
mod trace;
mod unix;

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

// The kernel asks the next program of a hook only if this one did not object, so nobody's refusal is undone here.

/// `socket_create(int family, int type, int protocol, int kern)`.
#[lsm(hook = "socket_create")]
pub fn lsm_create(ctx: LsmContext) -> i32 {
    sockets::create(ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg::<i32>(3) != 0)
}

/// `socket_post_create(struct socket *sock, int family, int type, int protocol, int kern)`.
#[lsm(hook = "socket_post_create")]
pub fn lsm_created(ctx: LsmContext) -> i32 {
    sockets::created(ctx.arg(0), ctx.arg(1), ctx.arg::<i32>(4) != 0)
}

/// `socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`.
#[lsm(hook = "socket_connect")]
pub fn lsm_connect(ctx: LsmContext) -> i32 {
    sockets::used(ctx.arg(0))
}

/// `socket_listen(struct socket *sock, int backlog)`.
#[lsm(hook = "socket_listen")]
pub fn lsm_listen(ctx: LsmContext) -> i32 {
    sockets::used(ctx.arg(0))
}

/// `socket_accept(struct socket *sock, struct socket *newsock)`.
#[lsm(hook = "socket_accept")]
pub fn lsm_accept(ctx: LsmContext) -> i32 {
    sockets::used(ctx.arg(0))
}

/// `socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)`.
#[lsm(hook = "socket_sendmsg")]
pub fn lsm_sendmsg(ctx: LsmContext) -> i32 {
    sockets::used(ctx.arg(0))
}

/// `socket_recvmsg(struct socket *sock, struct msghdr *msg, int size, int flags)`.
#[lsm(hook = "socket_recvmsg")]
pub fn lsm_recvmsg(ctx: LsmContext) -> i32 {
    sockets::used(ctx.arg(0))
}

/// `socket_setsockopt(struct socket *sock, int level, int optname)`: of 32-bit calls, too, about which the kernel asks no
/// program of a cgroup.
#[lsm(hook = "socket_setsockopt")]
pub fn lsm_option(ctx: LsmContext) -> i32 {
    sockets::option(ctx.arg(1), ctx.arg(2))
}

/// `file_permission(struct file *file, int mask)`: sendfile() and splice() ask nothing else before Linux 6.5.
#[lsm(hook = "file_permission")]
pub fn lsm_spliced(ctx: LsmContext) -> i32 {
    sockets::spliced(ctx.arg(0))
}

/// `file_receive(struct file *file)`: by `SCM_RIGHTS`, pidfd_getfd(), and seccomp's supervisor.
#[lsm(hook = "file_receive")]
pub fn lsm_receive(ctx: LsmContext) -> i32 {
    sockets::received(ctx.arg(0))
}

/// `unix_stream_connect(struct sock *sock, struct sock *other, struct sock *newsk)`.
#[lsm(hook = "unix_stream_connect")]
pub fn lsm_unix_connect(ctx: LsmContext) -> i32 {
    unix::connected(ctx.arg(1))
}

/// `unix_may_send(struct socket *sock, struct socket *other)`.
#[lsm(hook = "unix_may_send")]
pub fn lsm_unix_send(ctx: LsmContext) -> i32 {
    unix::sent(ctx.arg(1))
}

/// `ptrace_access_check(struct task_struct *child, unsigned int mode)`.
#[lsm(hook = "ptrace_access_check")]
pub fn lsm_ptrace(ctx: LsmContext) -> i32 {
    trace::accessed(ctx.arg(0), ctx.arg(1))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// GPL-compatible, as the kernel demands for LSM programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
