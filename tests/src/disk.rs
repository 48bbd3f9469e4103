//! A disk of a test's own, that loses its power and fails when the test says so: a block device (a loop device) whose bytes
//! are in this process, behind a file system of one file that talks to the kernel itself (`/dev/fuse`). Every write and
//! every flush is kept in order. What a power cut leaves is made of them: all that a flush was answered for, and of what
//! came since a part in any order, torn at sectors ([`Cuts`]). Needs root, `/dev/fuse`, loop devices and `mkfs.ext4`.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

mod cut;
mod serve;

pub use cut::Cuts;

/// What reached the disk, and when (nanoseconds of `CLOCK_MONOTONIC`).
#[derive(Debug)]
pub enum Event {
    /// Bytes for a place. They may stay in the disk's own memory.
    Write {
        /// When it came.
        at: u64,
        /// Where to.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Everything before is kept for good when this is answered.
    Flush {
        /// When it came.
        at: u64,
    },
}

impl Event {
    /// When it came.
    pub fn at(&self) -> u64 {
        let (Self::Write { at, .. } | Self::Flush { at }) = self;
        *at
    }
}

/// How the disk does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Well.
    Well,
    /// Every write fails with EIO.
    FailsWrites,
    /// Every write to one of these blocks of 4 KiB does.
    FailsWritesTo(BTreeSet<u64>),
}

impl Mood {
    fn fails(&self, range: &Range<usize>) -> bool {
        match self {
            Self::Well => false,
            Self::FailsWrites => true,
            Self::FailsWritesTo(blocks) => {
                let (first, last) = (range.start / BLOCK, range.end.div_ceil(BLOCK));
                blocks.range(first as u64..last as u64).next().is_some()
            }
        }
    }
}

/// Bytes of a block of the file system.
const BLOCK: usize = 4096;

struct State {
    bytes: Vec<u8>,
    events: Vec<Event>,
    mood: Mood,
}

/// See the module. Mounted while it lives.
pub struct Disk {
    state: Arc<Mutex<State>>,
    place: PathBuf,
    served: PathBuf,
    server: Option<JoinHandle<()>>,
    _around: TempDir,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
}

/// Does something in a mount namespace of its own: what is mounted there, nobody else sees, and it goes with the thread and
/// what it started.
///
/// # Errors
/// Without the right to.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace (needs root)")?;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("a private namespace")?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A new ext4 of so many MiB, with what else mkfs.ext4 is told.
///
/// # Errors
/// mkfs.ext4 fails, or is not there.
pub fn ext4(mebibytes: usize, options: &[&str]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len((mebibytes << 20) as u64)?;
    let made = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
        .args(options)
        .arg(file.path())
        .output()
        .context("mkfs.ext4 (apt-get install e2fsprogs)")?;
    ensure!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
    Ok(std::fs::read(file.path())?)
}

impl Disk {
    /// One with these bytes, an ext4, mounted with these options.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mounted(bytes: Vec<u8>, options: &str) -> Result<Self> {
        let around = tempfile::tempdir()?;
        let (place, served) = (around.path().join("disk"), around.path().join("served"));
        std::fs::create_dir(&place)?;
        File::create(&served)?;
        let state = Arc::new(Mutex::new(State { bytes, events: Vec::new(), mood: Mood::Well }));
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse").context("/dev/fuse")?;
        let data = format!("fd={},rootmode=100600,user_id=0,group_id=0", fuse.as_raw_fd());
        mount(Some("sluice-disk"), &served, Some("fuse"), MsFlags::empty(), Some(data.as_str()))
            .context("a file system of this process")?;
        let own = Arc::clone(&state);
        let server = std::thread::spawn(move || serve::serve(fuse, &own));
        let disk = Self { state, place, served, server: Some(server), _around: around };
        let backing = OpenOptions::new().read(true).write(true).open(&disk.served)?;
        let device = attach(&backing.into())?;
        mount(Some(&device.path), &disk.place, Some("ext4"), MsFlags::empty(), Some(options))
            .context("mounting the disk")?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// How it does from now on.
    pub fn set(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }

    /// Unmounts the file system, and mounts it again.
    ///
    /// # Errors
    /// Somebody holds it.
    pub fn remount(&self, options: &str) -> Result<()> {
        umount2(&self.place, MntFlags::empty()).context("unmounting")?;
        let backing = OpenOptions::new().read(true).write(true).open(&self.served)?;
        let device = attach(&backing.into())?;
        mount(Some(&device.path), &self.place, Some("ext4"), MsFlags::empty(), Some(options))
            .context("mounting the disk again")
    }

    /// The blocks of a file that lies on it: for [`Mood::FailsWritesTo`].
    ///
    /// # Errors
    /// What the file system says.
    #[expect(unsafe_code, reason = "where a file lies is told by ioctl")]
    pub fn blocks_of(path: &Path) -> Result<BTreeSet<u64>> {
        const FIBMAP: libc::Ioctl = 1;
        let file = File::open(path)?;
        let mut blocks = BTreeSet::new();
        for index in 0..file.metadata()?.len().div_ceil(BLOCK as u64) {
            let mut block = i32::try_from(index)?;
            // SAFETY: an int for the number that lives until the call is over.
            let asked = unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP, &raw mut block) };
            Errno::result(asked).context("FIBMAP")?;
            // 0: nothing is allocated there.
            blocks.extend(u64::try_from(block).ok().filter(|block| *block > 0));
        }
        Ok(blocks)
    }

    /// What has reached it since the last call.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut locked(&self.state).events)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The file system may be busy with what a failing test left; the server ends when both are gone.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        let _ = umount2(&self.served, MntFlags::MNT_DETACH);
        if let Some(server) = self.server.take()
            && !std::thread::panicking()
        {
            let _ = server.join();
        }
    }
}

/// A file system in memory, mounted while it lives: what a cut left, to look at.
pub struct Left {
    place: PathBuf,
    _around: TempDir,
}

impl Left {
    /// Mounts it, which has the journal replayed.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mounted(bytes: &[u8]) -> Result<Self> {
        let around = tempfile::tempdir()?;
        let place = around.path().join("left");
        std::fs::create_dir(&place)?;
        let memory = memfd_create(c"left", MFdFlags::MFD_CLOEXEC)?;
        File::from(memory.try_clone()?).write_all(bytes)?;
        let device = attach(&memory)?;
        mount(Some(&device.path), &place, Some("ext4"), MsFlags::empty(), None::<&str>)
            .context("mounting what was left")?;
        Ok(Self { place, _around: around })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// Has the machine of this mount namespace another boot.
///
/// # Errors
/// Nothing can be mounted.
pub fn boot_anew(dir: &Path, id: u64) -> Result<()> {
    let file = dir.join(format!("boot-{id}"));
    std::fs::write(&file, format!("{id:08x}-0000-4000-8000-{id:012x}\n"))?;
    mount(Some(&file), "/proc/sys/kernel/random/boot_id", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("another boot id")
}

/// A loop device over a file; it goes when nobody uses it any more.
struct Device {
    path: PathBuf,
    _open: File,
}

/// `struct loop_info64` and `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    before: [u64; 5],
    number: u32,
    encrypt: [u32; 2],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const AUTOCLEAR: u32 = 4;

#[expect(unsafe_code, reason = "loop devices are made by ioctl")]
fn attach(backing: &OwnedFd) -> Result<Device> {
    let control =
        OpenOptions::new().read(true).write(true).open("/dev/loop-control").context("loop devices")?;
    // Another test may take the one that is free now.
    for _ in 0..64 {
        // SAFETY: no pointers.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if !path.exists() {
            let device = makedev(7, number.unsigned_abs().into());
            mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
        }
        let open = OpenOptions::new().read(true).write(true).open(&path)?;
        let config = LoopConfig {
            fd: backing.as_raw_fd().unsigned_abs(),
            block_size: 512,
            before: [0; 5],
            number: 0,
            encrypt: [0; 2],
            flags: AUTOCLEAR,
            names: [0; 160],
            init: [0; 2],
            reserved: [0; 8],
        };
        // SAFETY: the structure is the one that the kernel reads, and lives until the call is over.
        let done = unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match Errno::result(done) {
            Ok(_) => return Ok(Device { path, _open: open }),
            Err(Errno::EBUSY) => {}
            Err(error) => return Err(error).context("a loop device"),
        }
    }
    anyhow::bail!("every loop device is taken")
}
