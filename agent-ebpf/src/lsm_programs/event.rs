//! What the warden is told of a refusal: the tag and the calling task.

use agent_ebpf::Counter;

use crate::maps::{LSM_PACE, count};
use crate::told::{Pace, begin, send, sign};

pub use crate::told::About;

/// The hook fails with EPERM.
pub const REFUSE: i32 = -1;
/// The hook has nothing to object.
pub const PASS: i32 = 0;

/// Counts and tells; the answer of the hook.
#[inline(always)]
pub fn refuse(why: Counter, tag: u32, about: &About) -> i32 {
    count(why);
    tell(why, tag, about);
    REFUSE
}

#[inline(always)]
fn tell(why: Counter, tag: u32, about: &About) {
    let key = u64::from(tag) << 32 | u64::from(why as u32);
    let pace = match LSM_PACE.get_ptr_mut(key) {
        Some(pace) => pace,
        None => {
            let _no_room = LSM_PACE.insert(key, Pace { since: 0, sent: 0, suppressed: 0 }, 0);
            let Some(pace) = LSM_PACE.get_ptr_mut(key) else { return };
            pace
        }
    };
    // SAFETY: this CPU's own slot; room in the ring, given once.
    unsafe {
        let Some(event) = begin(pace, why, about) else { return };
        (*event).tag = tag;
        sign(event);
        send(event);
    }
}
