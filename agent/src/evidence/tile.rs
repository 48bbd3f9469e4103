//! Tiles (C2SP tlog-tiles v1): the hashes of a tree in files of up to 256, so that any root or proof is made from few of them.
//! Tile `(level, index)` holds the perfect subtrees of tree level 8 · `level` from `index` · 256 on, 32 bytes each.

use std::fmt;

use super::tree::{Frontier, Hash, Head, node as above};

/// Tree levels that a tile spans.
const HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub const WIDTH: usize = 256;
/// Bytes of a hash.
pub const HASH: usize = 32;

/// Which tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Tile level: 0 holds leaves.
    pub level: u8,
    /// Which of that level.
    pub index: u64,
    /// Hashes in it: 1 to 256.
    pub width: usize,
}

/// Its path below the tree's directory: `0/x001/234`, `0/000.p/17`.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.level)?;
        let digits = self.index.to_string();
        let padded = format!("{:0>width$}", digits, width = digits.len().next_multiple_of(3));
        let groups = padded.len() / 3;
        for group in 0..groups {
            let (mark, end) = if group + 1 < groups { ("x", "/") } else { ("", "") };
            write!(f, "{mark}{}{end}", &padded[3 * group..3 * group + 3])?;
        }
        if self.width < WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// A tile with its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Which.
    pub at: At,
    /// As many as it is wide.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// As it lies in its file.
    pub fn bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// Reads the content of a file; `None` when it is not of this width.
    pub fn read(at: At, bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<HASH>();
        let good = rest.is_empty() && hashes.len() == at.width && (1..=WIDTH).contains(&at.width);
        good.then(|| Self { at, hashes: hashes.iter().copied().map(Hash).collect() })
    }
}

/// A tree that grows, and its tiles: is fed leaf hashes, gives each tile as it fills, and keeps only those that are not
/// full, at most 255 hashes a level.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    frontier: Frontier,
    /// By tile level; the tile that is not full.
    open: Vec<Vec<Hash>>,
}

impl Collector {
    /// A tree of `size` leaves as it stood, from its tiles that were not full, by level (those with nothing in them empty);
    /// `None` when they are not those of such a tree. Nothing is proven by it.
    pub fn standing(size: u64, mut open: Vec<Vec<Hash>>) -> Option<Self> {
        let width = |level: usize| shifted(size, 8 * level as u32) % WIDTH as u64;
        let levels = (u64::BITS - size.leading_zeros()).div_ceil(u32::from(HEIGHT)) as usize;
        open.resize(open.len().max(levels), Vec::new());
        if !open.iter().enumerate().all(|(level, tile)| tile.len() as u64 == width(level)) {
            return None;
        }
        let mut edge = Vec::new();
        for tile in open.iter().rev() {
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(1 << rest.len().ilog2());
                edge.push(perfect(part.to_vec())?);
                rest = behind;
            }
        }
        Some(Self { frontier: Frontier::of(size, edge)?, open })
    }

    /// Adds a leaf, and gives each tile that is full with it.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile)) {
        let (size, open) = (self.frontier.size(), &mut self.open);
        self.frontier.push_with(leaf, |level, _, hash| {
            if level % HEIGHT != 0 {
                return;
            }
            let level = level / HEIGHT;
            if usize::from(level) == open.len() {
                open.push(Vec::with_capacity(WIDTH));
            }
            let tile = &mut open[usize::from(level)];
            tile.push(hash);
            if tile.len() == WIDTH {
                let at = At { level, index: size >> (HEIGHT * (level + 1)), width: WIDTH };
                full(Tile { at, hashes: std::mem::replace(tile, Vec::with_capacity(WIDTH)) });
            }
        });
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        self.frontier.head()
    }

    /// The tiles that are not full, those with nothing in them left out.
    pub fn partial(&self) -> impl Iterator<Item = Tile> + '_ {
        self.open.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(|(level, hashes)| {
            let at = self.last(level as u8);
            Tile { at: At { width: hashes.len(), ..at }, hashes: hashes.clone() }
        })
    }

    fn last(&self, level: u8) -> At {
        At { level, index: shifted(self.size(), u32::from(HEIGHT) * (u32::from(level) + 1)), width: 0 }
    }

    /// A perfect subtree, for proofs: from what is kept here or the full tiles that `tile` gives.
    pub fn subtree(&self, level: u8, index: u64, tile: impl FnMut(At) -> Option<Tile>) -> Option<Hash> {
        let mut tile = tile;
        subtree(self.size(), level, index, |at| {
            if at.width < WIDTH {
                let hashes = self.open.get(usize::from(at.level))?.clone();
                return Some(Tile { at, hashes });
            }
            tile(at)
        })
    }
}

/// A perfect subtree `(level, index)` of a tree of `size` leaves, read from its tiles: `tile` is asked for one of them, of
/// which it must give all hashes. `None` when the tree does not have it or `tile` does not.
pub fn subtree(size: u64, level: u8, index: u64, tile: impl FnOnce(At) -> Option<Tile>) -> Option<Hash> {
    let (of, within) = (level / HEIGHT, u32::from(level % HEIGHT));
    // What the tree has on the tile's level: `first` to `first + count` must be below.
    let there = shifted(size, u32::from(of) * u32::from(HEIGHT));
    let (first, count) = (index.checked_mul(1 << within)?, 1 << within);
    if first.checked_add(count)? > there {
        return None;
    }
    let at = first / WIDTH as u64;
    let width = (there - at * WIDTH as u64).min(WIDTH as u64) as usize;
    let tile = tile(At { level: of, index: at, width })?;
    let start = (first % WIDTH as u64) as usize;
    perfect(tile.hashes.get(start..start + count as usize)?.to_vec())
}

/// The root over so many hashes as a perfect tree has.
fn perfect(mut hashes: Vec<Hash>) -> Option<Hash> {
    while hashes.len() > 1 {
        hashes = hashes.chunks_exact(2).map(|pair| above(&pair[0], &pair[1])).collect();
    }
    hashes.first().copied()
}

fn shifted(n: u64, by: u32) -> u64 {
    n.checked_shr(by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::evidence::tree::{self, leaf};

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |level, index, width| At { level, index, width }.to_string();
        assert_eq!(path(0, 0, WIDTH), "0/000");
        assert_eq!(path(1, 255, WIDTH), "1/255");
        assert_eq!(path(0, 1_234_067, WIDTH), "0/x001/x234/067");
        assert_eq!(path(3, 1000, 17), "3/x001/000.p/17");
        assert_eq!(path(7, 999, 1), "7/999.p/1");
    }

    #[test]
    fn a_tree_goes_on_from_its_edge() {
        let mut whole = Collector::default();
        for n in 0..70_000_u32 {
            // Around where tiles fill, and some others.
            if n % 256 < 2 || n % 997 == 0 || n > 65_500 && n < 65_600 {
                let open = whole.open.clone();
                let stands = Collector::standing(n.into(), open.clone()).expect("an edge");
                assert_eq!((stands.head(), &stands.open), (whole.head(), &whole.open), "{n}");
                assert!(Collector::standing(u64::from(n) + 1, open).is_none());
            }
            whole.push(leaf(&n.to_le_bytes()), |_| {});
        }
    }

    #[test]
    fn proofs_come_from_tiles() {
        let mut collector = Collector::default();
        let (mut files, mut whole) = (HashMap::new(), HashMap::new());
        let mut frontier = Frontier::default();
        for n in 0..70_000_u32 {
            let hash = leaf(&n.to_le_bytes());
            frontier.push_with(hash, |level, index, hash| {
                whole.insert((level, index), hash);
            });
            collector.push(hash, |tile| {
                let (path, bytes) = (tile.at.to_string(), tile.bytes());
                assert_eq!(Tile::read(tile.at, &bytes).as_ref(), Some(&tile));
                assert_eq!(Tile::read(tile.at, &bytes[1..]), None);
                assert!(files.insert(path, bytes).is_none());
            });
        }
        assert_eq!(collector.head(), frontier.head());
        assert_eq!(files.len(), 70_000 / 256 + 1);
        let read = |at: At| Tile::read(at, files.get(&at.to_string())?);
        let kept = |level, index| collector.subtree(level, index, read);
        for ((level, index), hash) in &whole {
            assert_eq!(kept(*level, *index), Some(*hash), "{level} {index}");
        }
        for (level, index) in [(0, 70_000), (16, 1), (17, 0), (63, 0), (200, 0), (0, u64::MAX), (7, u64::MAX)]
        {
            assert_eq!(kept(level, index), None);
        }
        // The partial tiles go into files at the end, and all is read from those.
        let mut files = files.clone();
        files.extend(collector.partial().map(|tile| (tile.at.to_string(), tile.bytes())));
        assert!(
            files.contains_key("0/273.p/112")
                && files.contains_key("1/001.p/17")
                && files.contains_key("2/000.p/1")
        );
        let read = |at: At| Tile::read(at, files.get(&at.to_string())?);
        let head = collector.head();
        for index in [0, 255, 256, 65_535, 65_536, 69_999] {
            let proof =
                tree::inclusion(index, head.size, |l, i| subtree(head.size, l, i, read)).expect("proof");
            let leaf = leaf(&(index as u32).to_le_bytes());
            assert_eq!(tree::verify_inclusion(index, leaf, &head, &proof), Ok(()));
        }
        assert_eq!(tree::root(head.size, |l, i| subtree(head.size, l, i, read)), Some(head.root));
    }

    #[test]
    fn a_tree_of_exactly_full_tiles_has_no_empty_partial_one() {
        let mut collector = Collector::default();
        assert_eq!(collector.partial().count(), 0);
        let mut full = 0;
        for n in 0..65_536_u32 {
            collector.push(leaf(&n.to_le_bytes()), |_| full += 1);
        }
        let partial: Vec<_> = collector.partial().map(|tile| tile.at.to_string()).collect();
        assert_eq!((full, partial), (257, vec!["2/000.p/1".to_owned()]));
    }
}
