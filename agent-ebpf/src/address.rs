//! Addresses as the hooks of connect(), sendmsg() and bind() see them, and what kind each is.

use aya_ebpf::bindings::bpf_sock_addr;

use agent_ebpf::{Config, PORTS6};

/// `::ffff:0:0/96`, third word, network byte order.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// A socket address as the context has it: four words in network byte order (IPv4 as v4-mapped), port in network byte
/// order in the low half.
pub struct Dialled {
    pub words: [u32; 4],
    pub port: u32,
    pub family: u16,
}

impl Dialled {
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        is_v4(&self.words)
    }

    /// Whether it is this address and port, network byte order.
    #[inline(always)]
    pub fn is(&self, words: &[u32; 4], port: u32) -> bool {
        // Word by word: comparing arrays is a call to memcmp().
        port == self.port
            && words[0] == self.words[0]
            && words[1] == self.words[1]
            && words[2] == self.words[2]
            && words[3] == self.words[3]
    }

    /// Host byte order.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        u16::from_be(self.port as u16)
    }
}

/// Whether four words are a v4-mapped address.
#[inline(always)]
pub fn is_v4(words: &[u32; 4]) -> bool {
    words[0] == 0 && words[1] == 0 && words[2] == MAPPED
}

/// 127/8, `::1`, and the unspecified addresses, which Linux takes for loopback.
#[inline(always)]
pub fn is_loopback(words: &[u32; 4]) -> bool {
    if is_v4(words) {
        let v4 = u32::from_be(words[3]);
        v4 >> 24 == 127 || v4 == 0
    } else {
        words[0] == 0 && words[1] == 0 && words[2] == 0 && u32::from_be(words[3]) <= 1
    }
}

/// Where clouds keep their machines' credentials: EC2, GCP, Azure and most others; ECS and EKS; Azure's wire server;
/// Alibaba; Oracle; Scaleway; and the IPv6 ones of EC2, EKS, GCP and Scaleway.
#[inline(always)]
pub fn is_metadata(words: &[u32; 4]) -> bool {
    if is_v4(words) {
        let v4 = u32::from_be(words[3]);
        return v4 == 0xa9fe_a9fe // 169.254.169.254
            || v4 == 0xa9fe_aa02 // 169.254.170.2
            || v4 == 0xa9fe_aa17 // 169.254.170.23
            || v4 == 0xa9fe_2a2a // 169.254.42.42
            || v4 == 0xa83f_8110 // 168.63.129.16
            || v4 == 0x6464_64c8 // 100.100.100.200
            || v4 == 0xc000_00c0; // 192.0.0.192
    }
    let (first, second) = (u32::from_be(words[0]), u32::from_be(words[1]));
    let (third, fourth) = (u32::from_be(words[2]), u32::from_be(words[3]));
    (first == 0xfd00_0ec2 && second == 0 && third == 0 && (fourth == 0x254 || fourth == 0x23))
        || (first == 0xfd20_00ce && second == 0 && third == 0 && fourth == 0x254)
        || (first == 0xfd00_0042 && second == 0 && third == 0 && fourth == 0x42)
}

/// Whether a TCP port (host byte order) is one that our listeners have for this family.
#[inline(always)]
pub fn is_listeners(config: &Config, v4: bool, port: u16) -> bool {
    if v4 {
        return port != 0 && port == config.port4;
    }
    let mut i = 0;
    while i < PORTS6 {
        if port != 0 && port == config.ports6[i] {
            return true;
        }
        i += 1;
    }
    false
}

/// Whether a UDP port (host byte order) is the one that our resolver has for this family.
#[inline(always)]
pub fn is_resolvers(config: &Config, v4: bool, port: u16) -> bool {
    port != 0 && port == if v4 { config.dns4 } else { config.dns6 }
}

/// Reads `user_ip4` as v4-mapped.
#[inline(always)]
pub fn address4(sa: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: a field of the context, read whole (a narrowed read would be refused by older verifiers).
    [0, 0, MAPPED, unsafe { (&raw const (*sa).user_ip4).read_volatile() }]
}

/// Reads `user_ip6`.
#[inline(always)]
pub fn address6(sa: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: fields of the context, read whole.
    unsafe {
        [
            (&raw const (*sa).user_ip6[0]).read_volatile(),
            (&raw const (*sa).user_ip6[1]).read_volatile(),
            (&raw const (*sa).user_ip6[2]).read_volatile(),
            (&raw const (*sa).user_ip6[3]).read_volatile(),
        ]
    }
}

/// Reads `user_port`.
#[inline(always)]
pub fn port(sa: *mut bpf_sock_addr) -> u32 {
    // SAFETY: a field of the context, read whole.
    unsafe { (&raw const (*sa).user_port).read_volatile() }
}

/// Writes `user_ip4` and `user_port`.
#[inline(always)]
pub fn write4(sa: *mut bpf_sock_addr, words: &[u32; 4], port: u32) {
    // SAFETY: fields that the hooks may write.
    unsafe {
        (&raw mut (*sa).user_ip4).write_volatile(words[3]);
        (&raw mut (*sa).user_port).write_volatile(port);
    }
}

/// Writes `user_ip6` and `user_port`.
#[inline(always)]
pub fn write6(sa: *mut bpf_sock_addr, words: &[u32; 4], port: u32) {
    // SAFETY: fields that the hooks may write.
    unsafe {
        (&raw mut (*sa).user_ip6[0]).write_volatile(words[0]);
        (&raw mut (*sa).user_ip6[1]).write_volatile(words[1]);
        (&raw mut (*sa).user_ip6[2]).write_volatile(words[2]);
        (&raw mut (*sa).user_ip6[3]).write_volatile(words[3]);
        (&raw mut (*sa).user_port).write_volatile(port);
    }
}
