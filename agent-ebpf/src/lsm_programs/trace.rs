//! ptrace(), /proc/PID/mem, process_vm_writev(), pidfd_getfd() and their like: a tagged task's hands stay off processes
//! outside of its tag, since through one of them it could act without being seen. Reading (/proc/PID/environ, …/fd)
//! is refused too: what lies in …/fd may be a pipe into a shell.

use agent_ebpf::Counter;

use crate::event::{About, PASS, REFUSE, refuse};
use crate::kernel::{Pointer, member, offsets};
use crate::maps::count;
use crate::tags;

/// `PTRACE_MODE_NOAUDIT`: asked in passing, as `ps` does for every process. Refused without a word.
const NOAUDIT: u32 = 4;

/// Access to `task`, a `struct task_struct *` of another process.
#[inline(always)]
pub fn accessed(task: Pointer, mode: u32) -> i32 {
    let tag = tags::current();
    if tag == tags::NONE || tags::of(task) == tag {
        return PASS;
    }
    if mode & NOAUDIT != 0 {
        count(Counter::Ptrace);
        return REFUSE;
    }
    let detail = member::<u32>(task, offsets().task_tgid).unwrap_or(0);
    refuse(Counter::Ptrace, tag, &About { detail, ..About::NOTHING })
}
