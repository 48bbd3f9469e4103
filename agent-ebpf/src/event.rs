//! Rare events in words, by aya-log: at most one a second for each kind, CPU and tag, so that a job that provokes them
//! cannot flood the log. The counters stay complete.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_log_ebpf::warn;

use agent_ebpf::Counter;

use crate::maps::{LAST_EVENT, TAG, count};

const PAUSE_NS: u64 = 1_000_000_000;

/// Counts a refusal and says why, if this kind was quiet for a second.
#[inline(always)]
pub fn refused<C: EbpfContext>(ctx: &C, why: Counter) {
    count(why);
    let Some(last) = LAST_EVENT.get_ptr_mut(why as u32) else { return };
    // SAFETY: helper without arguments, and this CPU's own slot.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if *last != 0 && now.wrapping_sub(*last) < PAUSE_NS {
            return;
        }
        *last = now;
    }
    // One message for all kinds: each call of the macro is some hundred instructions in every program.
    warn!(ctx, "tag {}: connection refused, counter {}", TAG.load(), why as u32);
}
