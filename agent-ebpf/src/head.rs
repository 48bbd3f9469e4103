//! A packet's head: what is read of it, and the few bytes that tell most packets apart.

use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;

use agent_ebpf::Counter;

use crate::address::MAPPED;
use crate::connect::LOOPBACK_INTERFACE;

/// As the context has it: two bytes in network byte order.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// IPv6 header and the first 16 bytes of what it carries.
const HEAD: usize = 56;
/// IPv4 header and UDP's. What a shorter IPv6 packet lacks is read as zero.
const SHORTEST: u32 = 28;

/// The head of a packet. Words in network byte order, IPv4 as v4-mapped; ports in host byte order.
pub struct Packet {
    pub source: [u32; 4],
    pub target: [u32; 4],
    pub source_port: u16,
    pub target_port: u16,
    pub protocol: u8,
    /// TCP's.
    flags: u8,
}

impl Packet {
    /// The first packet of a connection.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }
}

/// What cannot be read: neither plain TCP nor plain UDP.
pub struct Unreadable(pub Counter);

/// A packet's head. IPv4 options and IPv6 extension headers are not followed: no hook of ours lets a socket have any.
#[inline(always)]
pub fn read(ctx: &SkBuffContext) -> Result<Packet, Unreadable> {
    let skb = ctx.skb.skb;
    let mut head = [0_u8; HEAD];
    // SAFETY: fields of the context, read whole; the helper fills a buffer on the stack.
    unsafe {
        let length = (&raw const (*skb).len).read_volatile();
        let v4 = (&raw const (*skb).protocol).read_volatile() == ETH_P_IP;
        if length < SHORTEST {
            return Err(Unreadable(Counter::Egress));
        }
        let shown = if length > HEAD as u32 { HEAD as u32 } else { length };
        let got = bpf_skb_load_bytes(skb.cast(), 0, head.as_mut_ptr().cast(), shown);
        if got != 0 {
            return Err(Unreadable(Counter::Egress));
        }
        if v4 {
            if head[0] != 0x45 {
                return Err(Unreadable(Counter::SourceRoute));
            }
            if head[6] & 0x1f != 0 || head[7] != 0 {
                return Err(Unreadable(Counter::Egress)); // The middle of a datagram: whole ones come by here.
            }
        }
        let at = |offset: usize| head.as_ptr().add(offset).cast::<u32>().read_unaligned();
        let port = |offset: usize| u16::from_be_bytes([head[offset], head[offset + 1]]);
        let packet = if v4 {
            Packet {
                source: [0, 0, MAPPED, at(12)],
                target: [0, 0, MAPPED, at(16)],
                source_port: port(20),
                target_port: port(22),
                protocol: head[9],
                flags: head[33],
            }
        } else {
            Packet {
                source: [at(8), at(12), at(16), at(20)],
                target: [at(24), at(28), at(32), at(36)],
                source_port: port(40),
                target_port: port(42),
                protocol: head[6],
                flags: head[53],
            }
        };
        Ok(packet)
    }
}

/// Whether this is a packet of a TCP connection to loopback that was let begin: nearly all of what a tag sends. Says the
/// same as `packet::judge` does, from the packet itself and without a call; a packet that does not show its head here goes
/// there.
#[inline(always)]
pub fn is_under_way(ctx: &SkBuffContext) -> bool {
    let skb = ctx.skb.skb;
    // SAFETY: fields of the context, read whole; the packet, read within its end.
    unsafe {
        let data = (&raw const (*skb).data).read_volatile() as usize;
        let end = (&raw const (*skb).data_end).read_volatile() as usize;
        if !is_by_loopback(ctx) || data + 40 > end {
            return false;
        }
        let head = data as *const u8;
        let byte = |offset: usize| head.add(offset).read_volatile();
        let word = |offset: usize| head.add(offset).cast::<u32>().read_volatile();
        if (&raw const (*skb).protocol).read_volatile() == ETH_P_IP {
            let whole = byte(6) & 0x1f == 0 && byte(7) == 0;
            return byte(0) == 0x45
                && byte(9) == TCP
                && byte(16) == 127
                && whole
                && byte(33) & (SYN | ACK) != SYN;
        }
        data + 60 <= end
            && byte(6) == TCP
            && word(24) == 0
            && word(28) == 0
            && word(32) == 0
            && word(36) == 1_u32.to_be()
            && byte(53) & (SYN | ACK) != SYN
    }
}

/// Whether the packet goes or comes by the loopback device.
#[inline(always)]
pub fn is_by_loopback(ctx: &SkBuffContext) -> bool {
    // SAFETY: a field of the context, read whole.
    unsafe { (&raw const (*ctx.skb.skb).ifindex).read_volatile() == LOOPBACK_INTERFACE }
}
