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
    warn!(ctx, "tag {}: {}", TAG.load(), words(why));
}

#[inline(always)]
fn words(why: Counter) -> &'static str {
    match why {
        Counter::MapFull => "connection refused: no room to remember it",
        Counter::BoundDevice => "connection refused: its socket is bound to a network device",
        Counter::NoListener => "connection refused: there is no listener to lead it to",
        Counter::OwnListener => "connection refused: it dialled a listener of ours",
        Counter::Protocol => "connection refused: its stream socket speaks neither TCP nor MPTCP",
        Counter::Taken | Counter::Loopback | Counter::Agent => "connection refused",
    }
}
