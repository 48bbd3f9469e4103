//! Packets that nobody sent: Ethernet, IPv4 or IPv6 and TCP around plaintext, with sequence numbers and checksums that hold.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Payload of a segment: what fits into Ethernet's 1500 bytes over IPv6 too.
pub const SEGMENT: usize = 1440;

const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const TCP: u8 = 6;

/// Both ends of a TCP connection, as the one who writes its packets knows them.
pub struct Stream {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence numbers, `[client's, server's]`.
    next: [u32; 2],
}

impl Stream {
    /// Between these, before its handshake; sequence numbers begin by `seed`. Where one address is of IPv4 and the other of
    /// IPv6, both are written as IPv6 (v4-mapped).
    pub fn new(client: SocketAddr, server: SocketAddr, seed: u64) -> Self {
        let mixed = client.is_ipv4() != server.is_ipv4();
        let six = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) if mixed => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            _ => address,
        };
        // invariant: the halves of a u64 are u32s.
        Self { client: six(client), server: six(server), next: [seed as u32, (seed >> 32) as u32] }
    }

    /// SYN, SYN and ACK, ACK.
    pub fn handshake(&mut self) -> Vec<Vec<u8>> {
        let syn = self.packet(false, SYN, &[]);
        self.next[0] = self.next[0].wrapping_add(1);
        let answer = self.packet(true, SYN | ACK, &[]);
        self.next[1] = self.next[1].wrapping_add(1);
        vec![syn, answer, self.packet(false, ACK, &[])]
    }

    /// `bytes` one way, in segments, and the other side's acknowledgement.
    pub fn data(&mut self, down: bool, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = Vec::with_capacity(bytes.len() / SEGMENT + 2);
        let mut pieces = bytes.chunks(SEGMENT).peekable();
        while let Some(piece) = pieces.next() {
            let push = if pieces.peek().is_none() { PSH } else { 0 };
            packets.push(self.packet(down, ACK | push, piece));
            let next = &mut self.next[usize::from(down)];
            // invariant: a piece is at most SEGMENT long.
            *next = next.wrapping_add(piece.len() as u32);
        }
        packets.push(self.packet(!down, ACK, &[]));
        packets
    }

    /// Both ends close.
    pub fn close(&mut self) -> Vec<Vec<u8>> {
        let first = self.packet(false, FIN | ACK, &[]);
        self.next[0] = self.next[0].wrapping_add(1);
        let second = self.packet(true, FIN | ACK, &[]);
        self.next[1] = self.next[1].wrapping_add(1);
        vec![first, second, self.packet(false, ACK, &[])]
    }

    fn packet(&self, down: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = if down { (self.server, self.client) } else { (self.client, self.server) };
        let (own, other) = (self.next[usize::from(down)], self.next[usize::from(!down)]);
        let mut tcp = Vec::with_capacity(24 + payload.len());
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(own.to_be_bytes());
        tcp.extend(if flags & ACK == 0 { 0 } else { other }.to_be_bytes());
        // A SYN says its maximum segment size (RFC 9293 §3.2).
        let option: &[u8] = if flags & SYN == 0 { &[] } else { &[2, 4, (SEGMENT >> 8) as u8, SEGMENT as u8] };
        tcp.extend([((20 + option.len()) as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(option);
        tcp.extend(payload);
        let sum = checksum(&[&pseudo(from.ip(), to.ip(), tcp.len()), &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        [ethernet(down, from.is_ipv4()), ip(from.ip(), to.ip(), tcp.len()), tcp].concat()
    }
}

/// Locally administered addresses: 02:…:01 is the client, 02:…:02 the server.
fn ethernet(down: bool, v4: bool) -> Vec<u8> {
    let (from, to) = if down { (2, 1) } else { (1, 2) };
    let kind: [u8; 2] = if v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from][..], &kind].concat()
}

fn ip(from: IpAddr, to: IpAddr, payload: usize) -> Vec<u8> {
    // invariant: a payload is at most SEGMENT and a head.
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = (20 + payload) as u16;
            let mut head = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            head.extend(from.octets());
            head.extend(to.octets());
            let sum = checksum(&[&head]);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            head
        }
        (from, to) => {
            let length = payload as u16;
            let mut head = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, TCP, 64];
            head.extend(six(from).octets());
            head.extend(six(to).octets());
            head
        }
    }
}

fn six(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// What TCP's checksum takes in before the segment (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo(from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [&from.octets()[..], &to.octets(), &[0, TCP], &(length as u16).to_be_bytes()].concat()
        }
        (from, to) => {
            [&six(from).octets()[..], &six(to).octets(), &(length as u32).to_be_bytes(), &[0, 0, 0, TCP]]
                .concat()
        }
    }
}

/// The Internet checksum (RFC 1071) over these, each of which but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_hold_and_numbers_go_on() {
        // The example of RFC 1071 §3: the sum is ddf2.
        assert_eq!(!checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), 0xddf2);
        for (client, server) in [
            ("10.0.0.1:4000", "203.0.113.10:443"),
            ("[fd00::1]:4000", "[2001:db8::1]:80"),
            ("10.0.0.1:1", "[::2]:2"),
        ] {
            let (client, server) = (client.parse().expect("address"), server.parse().expect("address"));
            let mut stream = Stream::new(client, server, u64::MAX - 5);
            let mut packets = stream.handshake();
            packets.extend(stream.data(false, &[b'x'; 3001]));
            packets.extend(stream.close());
            assert_eq!(packets.len(), 3 + 4 + 3);
            for packet in &packets {
                let (head, v4) = if packet[12] == 8 { (20, true) } else { (40, false) };
                let (ip, tcp) = packet[14..].split_at(head);
                if v4 {
                    assert_eq!(checksum(&[ip]), 0);
                }
                let address = |at: usize| match v4 {
                    true => IpAddr::from(<[u8; 4]>::try_from(&ip[12 + at * 4..16 + at * 4]).expect("4")),
                    false => IpAddr::from(<[u8; 16]>::try_from(&ip[8 + at * 16..24 + at * 16]).expect("16")),
                };
                assert_eq!(checksum(&[&pseudo(address(0), address(1), tcp.len()), tcp]), 0);
            }
        }
    }
}
