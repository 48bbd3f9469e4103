//! Whose task is this: the tag of its cgroup, or of the nearest one above that is tagged.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};

use agent_ebpf::lsm::{LsmVerdict, TAGGED_DEPTH};

use crate::kernel::{Pointer, member, offsets};
use crate::maps::{LSM_STATE, LSM_VERDICTS, TAGGED};

/// How far up from another task's cgroup its tag is looked for. One that lies deeper below its tag counts as outside.
const CLIMB: i32 = 32;

/// No tag.
pub const NONE: u32 = 0;

/// The current task's tag. Costs an array look-up while nobody is tagged, and a hash look-up more for an untagged task
/// when somebody is.
#[inline(always)]
pub fn current() -> u32 {
    let Some(state) = LSM_STATE.get(0) else { return NONE };
    // SAFETY: the map's entry, which the warden may change meanwhile.
    let (generation, tagged) =
        unsafe { ((&raw const state.generation).read_volatile(), (&raw const state.tagged).read_volatile()) };
    if tagged == 0 {
        return NONE;
    }
    // SAFETY: helper on the current task.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if let Some(known) = LSM_VERDICTS.get_ptr(cgroup) {
        // SAFETY: an entry that may be replaced meanwhile: its memory stays until this returns, and a generation that
        // does not fit its tag is one that has passed.
        unsafe {
            if (*known).generation == generation {
                return (*known).tag;
            }
        }
    }
    let tag = innermost();
    let verdict = LsmVerdict { generation, tag, zero: 0 };
    let _found_out_again_next_time = LSM_VERDICTS.insert(cgroup, verdict, 0);
    tag
}

/// From the top down, so that the depth of what the task's user made below the tag does not matter.
#[inline(always)]
fn innermost() -> u32 {
    let mut tag = NONE;
    let mut level = 1; // 0 is the root, which is never tagged.
    while level <= TAGGED_DEPTH {
        // SAFETY: helper on the current task.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        if let Some(found) = TAGGED.get_ptr(id) {
            // SAFETY: an entry of the map; its memory stays until this returns.
            tag = unsafe { *found };
        }
        level += 1;
    }
    tag
}

/// Another task's tag; none if it cannot be read.
#[inline(always)]
pub fn of(task: Pointer) -> u32 {
    let layout = offsets();
    let Some(set) = member::<Pointer>(task, layout.task_cgroups) else { return NONE };
    let Some(mut cgroup) = member::<Pointer>(set, layout.css_set_cgroup) else { return NONE };
    let mut climbed = 0;
    while climbed < CLIMB {
        let Some(node) = member::<Pointer>(cgroup, layout.cgroup_kn) else { return NONE };
        let Some(id) = member::<u64>(node, layout.kn_id) else { return NONE };
        if let Some(found) = TAGGED.get_ptr(id) {
            // SAFETY: an entry of the map; its memory stays until this returns.
            return unsafe { *found };
        }
        let Some(parent) = member::<Pointer>(cgroup, layout.cgroup_parent) else { return NONE };
        cgroup = parent;
        climbed += 1;
    }
    NONE
}
