//! The kernel's other side of a file system whose root is one regular file (`linux/fuse.h`, protocol 7.31). Requests are
//! answered one after another: what is answered before a flush comes is before it.

use super::*;

const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const FORGETS: [u32; 2] = [2, 42];

/// Bytes of a request's head.
const HEAD: usize = 40;
/// Most bytes in one write.
const MOST: usize = 128 << 10;
/// Writes may be larger than a page.
const BIG_WRITES: u32 = 1 << 5;

/// Answers until the file system is unmounted.
pub(super) fn serve(mut fuse: File, state: &Mutex<State>) {
    let mut request = vec![0; MOST + 4096];
    loop {
        let length = match fuse.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            // A request that was withdrawn.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(_) => return,
        };
        let request = &request[..length];
        let (code, unique) = (u32_at(request, 4), u64_at(request, 8));
        if FORGETS.contains(&code) {
            continue;
        }
        let answer = answered(code, &request[HEAD..], state);
        let (error, body) = answer.map_or_else(|errno| (-(errno as i32), Vec::new()), |body| (0, body));
        let mut reply = (16 + body.len() as u32).to_le_bytes().to_vec();
        reply.extend_from_slice(&error.to_le_bytes());
        reply.extend_from_slice(&unique.to_le_bytes());
        reply.extend_from_slice(&body);
        // One that was withdrawn wants no answer.
        let _ = fuse.write(&reply);
    }
}

fn answered(code: u32, body: &[u8], state: &Mutex<State>) -> Result<Vec<u8>, Errno> {
    match code {
        INIT => {
            let mut out = vec![0; 64];
            for (at, value) in [(0, 7), (4, 31), (8, u32_at(body, 8)), (12, BIG_WRITES), (20, MOST as u32)] {
                out[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            // Requests in the background, and from how many on there is a jam.
            out[16..20].copy_from_slice(&[16, 0, 12, 0]);
            Ok(out)
        }
        GETATTR => {
            let size = locked(state).bytes.len() as u64;
            let mut out = vec![0; 104];
            out[0..8].copy_from_slice(&3600_u64.to_le_bytes());
            for (at, value) in [(16, 1), (24, size), (32, size / 512)] {
                out[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            for (at, value) in [(76, libc::S_IFREG | 0o600), (80, 1), (96, 4096)] {
                out[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            Ok(out)
        }
        OPEN => Ok(vec![0; 16]),
        READ => {
            let range = range(body, &locked(state).bytes);
            Ok(locked(state).bytes[range].to_vec())
        }
        WRITE => written(body, state),
        FSYNC => {
            let mut state = locked(state);
            state.events.push(Event::Flush { at: now() });
            Ok(Vec::new())
        }
        FLUSH | RELEASE => Ok(Vec::new()),
        _ => Err(Errno::ENOSYS),
    }
}

fn written(body: &[u8], state: &Mutex<State>) -> Result<Vec<u8>, Errno> {
    let mut state = locked(state);
    let range = range(body, &state.bytes);
    let bytes = body[40..40 + range.len()].to_vec();
    if state.mood.fails(&range) {
        return Err(Errno::EIO);
    }
    let (offset, length) = (range.start as u64, range.len() as u32);
    state.bytes[range].copy_from_slice(&bytes);
    state.events.push(Event::Write { at: now(), offset, bytes });
    let mut out = length.to_le_bytes().to_vec();
    out.resize(8, 0);
    Ok(out)
}

/// The bytes that a read or write is of.
fn range(body: &[u8], bytes: &[u8]) -> Range<usize> {
    let start = (u64_at(body, 8) as usize).min(bytes.len());
    start..(start + u32_at(body, 16) as usize).min(bytes.len())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
