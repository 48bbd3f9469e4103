//! What a power cut leaves of what reached a disk.

use super::Event;

/// Bytes that a disk writes as a whole.
const SECTOR: usize = 512;

/// The cuts of one life of a disk, from early to late.
pub struct Cuts<'a> {
    /// What is kept for good.
    kept: Vec<u8>,
    events: &'a [Event],
    /// Those before are in `kept`.
    next: usize,
}

impl<'a> Cuts<'a> {
    /// Of a disk that had these bytes before these events.
    pub fn new(bytes: Vec<u8>, events: &'a [Event]) -> Self {
        Self { kept: bytes, events, next: 0 }
    }

    /// What is on the disk when the power goes just before the event of this index (or behind the last): what was flushed,
    /// and of the writes since each whole, torn at sectors or not at all, in any order. Gives the time of the cut too.
    /// `below(n)`: a random number below n. Indices must not go back.
    pub fn at(&mut self, index: usize, mut below: impl FnMut(u64) -> u64) -> (Vec<u8>, u64) {
        let before = &self.events[..index];
        let flushed = before.iter().rposition(|event| matches!(event, Event::Flush { .. })).unwrap_or(0);
        for event in self.events.get(self.next..flushed).unwrap_or_default() {
            if let Event::Write { offset, bytes, .. } = event {
                put(&mut self.kept, *offset as usize, bytes);
            }
        }
        self.next = self.next.max(flushed);
        let mut image = self.kept.clone();
        let mut since: Vec<_> = before[self.next..]
            .iter()
            .filter_map(|event| match event {
                Event::Write { offset, bytes, .. } => Some((*offset as usize, bytes)),
                Event::Flush { .. } => None,
            })
            .collect();
        // How much was lucky differs from cut to cut: nearly nothing, nearly all.
        let luck = below(101);
        for at in (1..since.len()).rev() {
            since.swap(at, below(at as u64 + 1) as usize);
        }
        for (offset, bytes) in since {
            if below(8) == 0 {
                for (at, sector) in bytes.chunks(SECTOR).enumerate() {
                    if below(100) < luck {
                        put(&mut image, offset + at * SECTOR, sector);
                    }
                }
            } else if below(100) < luck {
                put(&mut image, offset, bytes);
            }
        }
        let time = self.events.get(index).or(self.events.last()).map_or(0, Event::at);
        (image, time)
    }
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_stays_and_the_rest_may() {
        let write = |at: u64, byte: u8| Event::Write { at, offset: 512 * at, bytes: vec![byte; 512] };
        let events = [write(0, 1), Event::Flush { at: 1 }, write(2, 3), write(3, 4)];
        let mut state = 1_u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..400 {
            let (image, time) = Cuts::new(vec![0; 4096], &events).at(4, &mut below);
            assert_eq!((image[0], time), (1, 3));
            seen.insert((image[1024], image[1536]));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 4), (3, 0), (3, 4)]);
        // Before the flush was answered nothing is certain.
        let images = (0..100).map(|_| Cuts::new(vec![0; 4096], &events).at(1, &mut below).0[0]);
        assert_eq!(images.collect::<std::collections::BTreeSet<_>>().len(), 2);
    }
}
