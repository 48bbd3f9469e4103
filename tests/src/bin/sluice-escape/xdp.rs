//! AF_XDP: frames straight to the device, past everything that looks at sockets' packets.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use libc::SOCK_RAW;
use nix::errno::Errno;

use crate::job::{Job, Said};
use crate::mapped::Mapped;
use crate::sys::{self, Done};

/// A queue that stays somebody's is refused after this.
const PATIENCE: Duration = Duration::from_secs(2);
const SOL_XDP: i32 = 283;
const AF_XDP: i32 = 44;
const FRAME: u32 = 4096;
const FRAMES: u32 = 16;

/// One frame in a memory of 16, by the transmit ring in copy mode (Documentation/networking/af_xdp.rst).
pub fn send(job: &Job) -> Done<Said> {
    let fd = sys::socket(AF_XDP, SOCK_RAW, 0)?;
    let memory = Mapped::new(-1, (FRAME * FRAMES) as usize, 0)?;
    // xdp_umem_reg: address, length, chunk size, headroom, flags.
    let mut register = memory.address().to_ne_bytes().to_vec();
    register.extend(u64::from(FRAME * FRAMES).to_ne_bytes());
    register.extend(FRAME.to_ne_bytes());
    register.extend([0; 12]);
    sys::setsockopt(&fd, "XDP_UMEM_REG", SOL_XDP, 4, register)?;
    for (step, option) in [("XDP_UMEM_FILL_RING", 5), ("XDP_UMEM_COMPLETION_RING", 6), ("XDP_TX_RING", 3)] {
        sys::set(&fd, step, SOL_XDP, option, FRAMES as i32)?;
    }
    // xdp_mmap_offsets: rx, tx, fill, completion, each producer, consumer, desc, flags.
    let mut offsets = [0_u8; 128];
    sys::getsockopt(&fd, "XDP_MMAP_OFFSETS", SOL_XDP, 1, &mut offsets)?;
    let offset = |n: usize| {
        let bytes = offsets.get(8 * n..8 * n + 8).and_then(|b| b.try_into().ok()).unwrap_or_default();
        u64::from_ne_bytes(bytes) as usize
    };
    let (producer, descriptors) = (offset(4), offset(6));
    let ring = Mapped::new(fd.as_raw_fd(), descriptors + 16 * FRAMES as usize, 0x8000_0000)?;
    // sockaddr_xdp: family, flags XDP_COPY, link, queue, shared memory.
    let mut address = (AF_XDP as u16).to_ne_bytes().to_vec();
    address.extend(2_u16.to_ne_bytes());
    address.extend(job.index()?.to_ne_bytes());
    address.extend([0; 8]);
    // The kernel lets go of the queue a moment after the last walk's socket was closed.
    let deadline = Instant::now() + PATIENCE;
    while let Err(stop) = sys::bind(&fd, &address) {
        if stop.errno != Errno::EBUSY || Instant::now() > deadline {
            return Err(stop);
        }
        std::thread::yield_now();
    }
    let frame = crate::kinds::frame(job);
    memory.write(0, &frame);
    let descriptor = [&0_u64.to_ne_bytes()[..], &(frame.len() as u32).to_ne_bytes(), &[0; 4]].concat();
    ring.write(descriptors, &descriptor);
    ring.write(producer, &(ring.read_u32(producer) + 1).to_ne_bytes());
    sys::send(&fd, &[], libc::MSG_DONTWAIT)?;
    Ok(Said::Sent)
}
