//! Ways by the memory and the descriptors of another process of the same user (row 27).

use std::io::Write as _;

use crate::job::{Job, Said, ask};
use crate::sys::{self, Done};

const SENT: Done<Said> = Ok(Said::Sent);

fn padded(job: &Job) -> Vec<u8> {
    let mut text = job.marker.clone().into_bytes();
    text.resize(16, 0);
    text
}

pub fn ptrace(job: &Job) -> Done<Said> {
    sys::ptrace_write(job.helper.pid, job.helper.buffer, &padded(job))?;
    ask("seen")?;
    SENT
}

pub fn process_memory(job: &Job) -> Done<Said> {
    use std::os::unix::fs::FileExt as _;
    let path = format!("/proc/{}/mem", job.helper.pid);
    let file = sys::io("open mem", std::fs::File::options().write(true).open(path))?;
    sys::io("write mem", file.write_all_at(&padded(job), job.helper.buffer as u64))?;
    ask("seen")?;
    SENT
}

pub fn vm_writev(job: &Job) -> Done<Said> {
    sys::process_vm_writev(job.helper.pid, job.helper.buffer, &padded(job))?;
    ask("seen")?;
    SENT
}

/// The helper's own pipe, opened anew by way of /proc.
pub fn process_pipe(job: &Job) -> Done<Said> {
    let path = format!("/proc/{}/fd/{}", job.helper.pid, job.helper.pipe);
    let mut file = sys::io("open fd", std::fs::File::options().write(true).open(path))?;
    sys::io("write", writeln!(file, "say {}", job.marker))?;
    ask("seen")?;
    SENT
}
