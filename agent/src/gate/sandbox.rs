//! The sandbox: what is left of the process's rights before it reads a byte from any network.
//!
//! In this order: another user, no capability in any set, `no_new_privs`, not dumpable, Landlock over the file system,
//! seccomp over the system calls. Each step fails the start when it cannot be had, but for Landlock on kernels
//! without it (before 5.13), where the plain file permissions of the user remain.

use std::collections::BTreeMap;
use std::path::Path;

use caps::{CapSet, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::wire::GateSettings;

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user could not be changed.
    #[error("becoming the gate's user")]
    User(#[source] nix::Error),
    /// The gate's user is root.
    #[error("the gate's user must not be root: set `user` to an account without rights")]
    Root,
    /// Capabilities could not be dropped.
    #[error("dropping capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// A prctl failed.
    #[error("setting process attributes")]
    Prctl(#[source] nix::Error),
    /// Landlock refused the rules.
    #[error("restricting file access with Landlock")]
    Landlock(#[source] landlock::RulesetError),
    /// A path of the rules cannot be opened.
    #[error("opening {path} for Landlock")]
    Path {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: landlock::PathFdError,
    },
    /// Seccomp refused the filter.
    #[error("restricting system calls with seccomp")]
    Seccomp(#[source] seccompiler::Error),
    /// The filter could not be built.
    #[error("building the seccomp filter")]
    Filter(#[source] seccompiler::BackendError),
}

/// What may be read besides the store: trusted roots, time zones not included, and nothing of the configuration.
const READABLE: &[&str] = &[
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/ssl",
    "/var/lib/ca-certificates",
    // The store notes in which boot it was written.
    "/proc/sys/kernel/random/boot_id",
];

/// Enters the sandbox. Must be called while the process has one thread.
///
/// # Errors
/// [`Error`]: the gate must not go on.
pub fn enter(settings: &GateSettings) -> Result<(), Error> {
    drop_privileges(settings)?;
    restrict_files(Path::new(&settings.store))?;
    restrict_calls()
}

fn drop_privileges(settings: &GateSettings) -> Result<(), Error> {
    if settings.uid == 0 || settings.gid == 0 {
        return Err(Error::Root);
    }
    let (uid, gid) = (Uid::from_raw(settings.uid), Gid::from_raw(settings.gid));
    setgroups(&[]).map_err(Error::User)?;
    for capability in caps::all() {
        if caps::has_cap(None, CapSet::Bounding, capability).map_err(Error::Capabilities)? {
            caps::drop(None, CapSet::Bounding, capability).map_err(Error::Capabilities)?;
        }
    }
    setresgid(gid, gid, gid).map_err(Error::User)?;
    setresuid(uid, uid, uid).map_err(Error::User)?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::new()).map_err(Error::Capabilities)?;
    }
    prctl::set_no_new_privs().map_err(Error::Prctl)?;
    // Not dumpable: no core file, no ptrace, /proc/PID owned by root.
    prctl::set_dumpable(false).map_err(Error::Prctl)?;
    if settings.may_stand_aside {
        // systemd kills what is left of a unit whose main process died. The channel's end is seen in any case.
        return Ok(());
    }
    // Changing the user cleared it. A gate without its warden must not go on.
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Error::Prctl)
}

fn restrict_files(store: &Path) -> Result<(), Error> {
    // Everything that ABI 5 can forbid is forbidden; an older kernel forbids what it knows.
    let all = AccessFs::from_all(ABI::V5);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Truncate;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(Error::Landlock)?;
    let readable = READABLE.iter().map(Path::new).filter(|path| path.exists()).map(|path| (path, read));
    for (path, access) in readable.chain([(store, write)]) {
        let fd =
            PathFd::new(path).map_err(|source| Error::Path { path: path.display().to_string(), source })?;
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(Error::Landlock)?;
    }
    let status = ruleset.restrict_self().map_err(Error::Landlock)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: the gate's file access is bounded by its user only");
    }
    Ok(())
}

/// The system calls that the gate makes: network, its store, memory, threads, time. Everything else fails with
/// EPERM, so that a surprised library reports an error instead of ending the process.
const CALLS: &[i64] = &[
    // Bytes.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_splice,
    libc::SYS_close,
    libc::SYS_shutdown,
    // Sockets (socket() itself is below, by family).
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_pipe2,
    // The store and the roots.
    libc::SYS_openat,
    libc::SYS_open,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_getdents64,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    // Threads and signals (clone is below).
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_tgkill,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_membarrier,
    // Time, chance, limits, identity.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sysinfo,
];

fn restrict_calls() -> Result<(), Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    // Internet sockets only: no Unix socket to a helper, no netlink, no packet, no vsock.
    let family = |family: i32| argument(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()));
    rules.insert(libc::SYS_socket, vec![family(libc::AF_INET)?, family(libc::AF_INET6)?]);
    // The runtime's waker for signals: a pair that is connected to itself reaches nobody.
    rules.insert(libc::SYS_socketpair, vec![family(libc::AF_UNIX)?]);
    // Memory is never writable and executable, nor made executable.
    let exec = u64::from(libc::PROT_EXEC.unsigned_abs());
    rules.insert(libc::SYS_mprotect, vec![argument(2, SeccompCmpOp::MaskedEq(exec), 0)?]);
    rules.insert(libc::SYS_mmap, vec![argument(2, SeccompCmpOp::MaskedEq(exec), 0)?]);
    // Threads only: no new process, no new namespace. clone3's flags lie behind a pointer, so it is answered with
    // ENOSYS below and glibc falls back to clone.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // prctl: names of threads only (PR_SET_VMA for allocators, too).
    let option = |option: i32| argument(0, SeccompCmpOp::Eq, u64::from(option.unsigned_abs()));
    rules.insert(libc::SYS_prctl, vec![option(libc::PR_SET_NAME)?, option(libc::PR_SET_VMA)?]);
    let ioctl = |request: u64| argument(1, SeccompCmpOp::Eq, request);
    rules.insert(libc::SYS_ioctl, vec![ioctl(libc::FIONBIO)?, ioctl(libc::FIONREAD)?]);

    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        ARCH,
    );
    // Both filters see every call and the stricter answer counts: the list lets clone3 through to the other's ENOSYS.
    rules.insert(libc::SYS_clone3, Vec::new());
    let allow = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        ARCH,
    );
    // The list comes last: it does not allow what installing a filter needs.
    for filter in [no_clone3, allow] {
        let program: BpfProgram = filter.map_err(Error::Filter)?.try_into().map_err(Error::Filter)?;
        seccompiler::apply_filter(&program).map_err(Error::Seccomp)?;
    }
    Ok(())
}

/// The list above names x86-64's system calls.
const ARCH: TargetArch = TargetArch::x86_64;

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(Error::Filter)
}
