//! The ring in which the programs tell what the warden must know at once: blocked attempts, and network namespaces that
//! have no listener. Only one reader at a time: what one has read, no other sees.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use agent_ebpf::{Counter, Event};
use aya::maps::{MapData, RingBuf};

/// Reads the ring.
pub struct Events(Mutex<RingBuf<MapData>>);

impl Events {
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self(Mutex::new(ring))
    }

    /// The oldest event that nobody has read.
    pub fn next(&self) -> Option<Event> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // What is no event was written by another version of the programs: left out.
            if let Some(event) = parse(&ring.next()?) {
                return Some(event);
            }
        }
    }

    /// Calls `with` on the ring's descriptor: readable while there is something to read.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        with(self.0.lock().unwrap_or_else(PoisonError::into_inner).as_fd())
    }
}

/// Takes the fields of [`Event`] in their order.
fn parse(bytes: &[u8]) -> Option<Event> {
    let mut fields = Fields(bytes.get(..size_of::<Event>())?);
    let event = Event {
        at: u64::from_ne_bytes(fields.take()?),
        netns: u64::from_ne_bytes(fields.take()?),
        cgroup: u64::from_ne_bytes(fields.take()?),
        address: fields.take()?,
        port: u16::from_ne_bytes(fields.take()?),
        family: u16::from_ne_bytes(fields.take()?),
        protocol: u16::from_ne_bytes(fields.take()?),
        kind: u16::from_ne_bytes(fields.take()?),
        way: u32::from_ne_bytes(fields.take()?),
        tag: u32::from_ne_bytes(fields.take()?),
        tgid: u32::from_ne_bytes(fields.take()?),
        pid: u32::from_ne_bytes(fields.take()?),
        uid: u32::from_ne_bytes(fields.take()?),
        gid: u32::from_ne_bytes(fields.take()?),
        suppressed: u32::from_ne_bytes(fields.take()?),
        detail: u32::from_ne_bytes(fields.take()?),
        comm: fields.take()?,
    };
    fields.0.is_empty().then_some(event)
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

/// The way that an event names; `None` for a number that this version does not know.
pub fn way(event: &Event) -> Option<Counter> {
    Counter::ALL.get(event.way as usize).copied()
}

/// Where an event wanted to go; `None`: nowhere yet.
pub fn address(event: &Event) -> Option<SocketAddr> {
    let ip = IpAddr::V6(Ipv6Addr::from(event.address)).to_canonical();
    (event.port != 0 || !ip.is_unspecified()).then(|| SocketAddr::new(ip, event.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_field_by_field() {
        let bytes: Vec<u8> = (0..96).collect();
        let event = parse(&bytes).expect("whole");
        assert_eq!(event.at, u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(event.address[15], 39);
        assert_eq!(event.comm[15], 95, "the last byte");
        assert!(parse(&bytes[..95]).is_none());
    }

    #[test]
    fn counters_stand_at_their_numbers() {
        for (number, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, number);
        }
    }
}
