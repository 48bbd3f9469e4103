//! Rare events, by aya-log: at most one a second for each kind, CPU and tag, so that a job that provokes them cannot flood
//! the log. The counters stay complete. The warden puts words to the numbers: a message costs the verifier more than all
//! the rest, so there is one for all kinds, and one place in each program that sends it.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_log_ebpf::warn;

use agent_ebpf::Counter;

use crate::maps::{LAST_EVENT, count, tag};

const PAUSE_NS: u64 = 1_000_000_000;

/// Counts a refusal and tells of it, if this kind was quiet for a second.
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
    warn!(ctx, "{} {}", tag(), why as u32);
}
