//! How fast a tag may ask the resolver, which all tags share: a job that floods it must not cost the others their names.
//!
//! A bucket in one word, as the time up to which the tag's questions are accounted for ("generic cell rate algorithm",
//! ITU-T I.371): each takes a turn of [`QUESTION_NS`], and one is refused while the tag is ahead of the clock by a burst. All
//! CPUs add to it. Two that look at once may both pass: no more questions too many than there are CPUs.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::programs::SkBuffContext;

use agent_ebpf::{DNS_A_SECOND, DNS_BURST};

use crate::maps::DNS_PACE;

/// The turn of one question.
const QUESTION_NS: u64 = 1_000_000_000 / DNS_A_SECOND as u64;
const BURST_NS: u64 = QUESTION_NS * DNS_BURST as u64;
/// A question has hardly more octets with its headers; a longer datagram takes a turn for each such piece, since it takes up
/// as much of the resolver's queue.
const PIECE: u32 = 512;

/// Takes the turns of a datagram to the resolver; false: the tag has none left.
#[inline(always)]
pub fn may_ask(ctx: &SkBuffContext) -> bool {
    // An array of one: the lookup cannot miss.
    let Some(bucket) = DNS_PACE.get_ptr_mut(0) else { return false };
    // SAFETY: fields of the context, read whole; a helper without arguments; the map's aligned word, which is
    // read and written in one piece.
    unsafe {
        let skb = ctx.skb.skb;
        // UDP_SEGMENT: one packet up to here, many datagrams from here on.
        let datagrams = (&raw const (*skb).gso_segs).read_volatile();
        let turns = u64::from(1 + (&raw const (*skb).len).read_volatile() / PIECE + datagrams);
        let now = bpf_ktime_get_boot_ns();
        let until = bucket.read_volatile();
        if until < now {
            // Idle for long enough that all is given back.
            bucket.write_volatile(now);
        } else if until - now > BURST_NS {
            return false;
        }
        // The one atomic operation that every kernel and the target's oldest instructions have.
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(bucket, turns * QUESTION_NS);
    }
    true
}
