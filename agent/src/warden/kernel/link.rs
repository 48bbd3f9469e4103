//! Programs, links and their pins by the bare system call: aya 0.14 gives out no links of setsockopt programs that could be
//! pinned, replaces no program in a pinned link, and looks at a program by its number only, which wants CAP_SYS_ADMIN.

#![expect(unsafe_code, reason = "bpf(2) has no wrapper that covers this")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// Heads of `union bpf_attr`; the kernel takes what is missing for zero.
#[repr(C)]
struct Create {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct Detach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

#[repr(C)]
struct InfoOf {
    object: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
}

/// The head of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
}

/// A program's number, as long as it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(u32);

/// What a program does, as a number: a hash over its instructions, made by the kernel, in which maps do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

/// A loaded program, or a map: whatever was pinned.
#[derive(Debug)]
pub struct Object(OwnedFd);

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Object {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Object {
    /// Opens what is pinned at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attr = Pin { path: path.as_ptr() as u64, object: 0, flags: 0 };
        // The path ends in NUL and outlives the call.
        open(BPF_OBJ_GET, &attr).map(Self)
    }

    /// Pins it: it stays as long as the pin is there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }
}

fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Pin { path: path.as_ptr() as u64, object: number(object), flags: 0 };
    // The path ends in NUL and outlives the call.
    call(BPF_OBJ_PIN, &attr).map(drop)
}

/// What a program is known by.
pub fn program(program: BorrowedFd<'_>) -> io::Result<(ProgramId, Fingerprint)> {
    let mut info = ProgramInfo::default();
    ask(program, &mut info)?;
    Ok((ProgramId(info.id), Fingerprint(info.tag)))
}

/// Takes a program off a cgroup to which somebody else attached it without a link, as systemd does. `false`: it was not
/// there.
pub fn detach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<bool> {
    let attr = Detach { target: number(cgroup), program: number(program), attach_type, flags: 0 };
    match call(BPF_PROG_DETACH, &attr) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A program at work on a cgroup, until this is dropped and no pin holds it.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches `program` to `cgroup`, beside what others have there: links always stand beside others (Linux 5.7).
    pub fn create(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Self> {
        let attr = Create { program: number(program), target: number(cgroup), attach_type, flags: 0 };
        open(BPF_LINK_CREATE, &attr).map(Self)
    }

    /// Opens a pinned one.
    pub fn open(path: &Path) -> io::Result<Self> {
        Object::open(path).map(|object| Self(object.0))
    }

    /// The program that is at work.
    pub fn program(&self) -> io::Result<ProgramId> {
        let mut info = LinkInfo::default();
        ask(self.0.as_fd(), &mut info)?;
        Ok(ProgramId(info.program))
    }

    /// Puts another program of the same type in the place of the one at work: every call of the hook runs the old one or
    /// the new one, none runs both or neither (Linux 5.7).
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let attr =
            Update { link: number(self.0.as_fd()), program: number(program), flags: 0, old_program: 0 };
        call(BPF_LINK_UPDATE, &attr).map(drop)
    }

    /// Pins it: it stays attached as long as the pin is there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }
}

fn ask<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let length = size_of::<T>() as u32;
    call(BPF_OBJ_GET_INFO_BY_FD, &InfoOf { object: number(object), length, info: &raw mut *info as u64 })
        .map(drop)
}

/// A command that gives a descriptor.
fn open<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: a new descriptor (close-on-exec), owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a whole struct of integers, of which the kernel reads as many bytes as it has; the addresses in it
    // are those of the callers' strings and structs above, which outlive the call and have the size that is said.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    i32::try_from(done).ok().filter(|done| *done >= 0).ok_or_else(io::Error::last_os_error)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
