//! Who is calling.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_comm,
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
};

use agent_ebpf::{Config, Origin};

/// The agent's cgroup is looked for down to this depth below the root.
pub const DEPTH: i32 = 12;

/// Whether the calling task runs in the agent's cgroup or below it.
#[inline(always)]
pub fn is_agent(config: &Config) -> bool {
    if config.agent_cgroup == 0 {
        return false;
    }
    // SAFETY: helpers on the current task.
    unsafe {
        if bpf_get_current_cgroup_id() == config.agent_cgroup {
            return true;
        }
        let mut level = 1; // 0 is the root, above everybody.
        while level <= DEPTH {
            let id = bpf_get_current_ancestor_cgroup_id(level);
            if id == config.agent_cgroup {
                return true;
            }
            if id == 0 {
                return false;
            }
            level += 1;
        }
    }
    false
}

/// Writes down who calls.
///
/// # Safety
/// `origin` is valid for writes.
#[inline(always)]
pub unsafe fn sign(origin: *mut Origin) {
    // SAFETY: helpers on the current task; the caller's word for the pointer.
    unsafe {
        (*origin).cgroup = bpf_get_current_cgroup_id();
        let task = bpf_get_current_pid_tgid();
        (*origin).tgid = (task >> 32) as u32;
        (*origin).pid = task as u32;
        let user = bpf_get_current_uid_gid();
        (*origin).uid = user as u32;
        (*origin).gid = (user >> 32) as u32;
        bpf_get_current_comm((&raw mut (*origin).comm).cast(), 16);
    }
}
