//! One log: its tree grows with each record that is read, and is held against every tree that is said of it.

use std::path::PathBuf;

use ulid::Ulid;

use super::clock::Window;
use super::files::{self, OnDisk};
use super::report::{Finding, Report, What};
use super::signed::{By, Mark};
use crate::evidence::tile::{At, Collector, Tile, WIDTH};
use crate::evidence::tree::Hash;

/// Records since the last tree that holds whose place is remembered, so that one that is changed can be named. The gate
/// writes far fewer between two checkpoints.
const REMEMBERED: usize = 1 << 20;

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Segment.
    pub segment: u64,
    /// Offset.
    pub offset: u64,
}

/// Records that only another log binds.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// By the word of this log's record.
    pub by: (Ulid, u64),
    /// So many of those that are here.
    pub count: u64,
    /// Up to this size.
    pub size: u64,
}

/// A record since the last tree that holds.
#[derive(Clone, Copy, Debug)]
struct Since {
    leaf: Hash,
    /// `None`: the record is missing, and the hash is a tile's word.
    place: Option<Place>,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    /// Its id.
    pub id: Ulid,
    /// Sequence number of its leaf 0.
    pub first: u64,
    /// The segment of its last record so far.
    pub last_segment: u64,
    /// Where that record ends.
    pub end: u64,
    /// Records that were read.
    pub present: u64,
    /// Of them: proven.
    pub proven: u64,
    /// Of them: under no signature, but in what these logs say of this one.
    pub late: Vec<Late>,
    /// Leaves of the largest signed tree that holds.
    pub signed: u64,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// A stop was recorded, and nothing since.
    pub stopped: bool,
    /// The boot of the machine that it began in, and the time of its last record that bears one.
    pub boot: Option<String>,
    pub newest: Option<String>,
    /// Asked for with every record; there may be thousands of marks.
    promised: u64,
    size: u64,
    changed: u64,
    /// Records that were read since the tree last held, and are not known to be changed.
    here: u64,
    /// When its records may have been written, by the keys that signed it.
    pub window: Window,
    dir: PathBuf,
    tree: Collector,
    /// By size; those before `next` are done with.
    marks: Vec<Mark>,
    next: usize,
    /// The tree as it was when it last held, and what came since.
    good: Collector,
    since: Vec<Since>,
    forgot: bool,
    suspects: Vec<At>,
    read: Option<Tile>,
    /// From this leaf on nothing can be proven.
    lost: Option<u64>,
}

impl Log {
    /// An empty one, with what is said of it.
    pub fn new(id: Ulid, first: u64, dir: PathBuf, mut marks: Vec<Mark>, window: Window) -> Self {
        // A tree without leaves says nothing. Of one size, those that are signed decide first.
        marks.retain(|mark| mark.tree.size > 0);
        marks.sort_by_key(|mark| (mark.tree.size, !mark.by.is_signed()));
        let promised = marks.iter().rfind(|mark| mark.by.is_signed()).map_or(0, |mark| mark.tree.size);
        Self {
            id,
            first,
            last_segment: 0,
            end: 0,
            present: 0,
            proven: 0,
            late: Vec::new(),
            signed: 0,
            checkpoints: 0,
            stopped: false,
            boot: None,
            newest: None,
            window,
            promised,
            size: 0,
            changed: 0,
            here: 0,
            dir,
            tree: Collector::default(),
            marks,
            next: 0,
            good: Collector::default(),
            since: Vec::new(),
            forgot: false,
            suspects: Vec::new(),
            read: None,
            lost: None,
        }
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over them; `None` when some hash of it is unknown.
    pub fn head(&self) -> Option<crate::evidence::tree::Head> {
        self.lost.is_none().then(|| self.tree.head())
    }

    /// The size of the largest tree that is signed, whether it holds or not.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Begins at leaf `size` with this tree, which is to be proven with what follows; without one nothing is.
    pub fn stand(&mut self, size: u64, tree: Option<Collector>) {
        self.size = size;
        match tree {
            Some(tree) => (self.good, self.tree) = (tree.clone(), tree),
            None => self.lost = Some(size),
        }
        // What was said of a smaller one is not looked at.
        self.next = self.marks.partition_point(|mark| mark.tree.size <= size);
    }

    /// Whether records were read that no signature covers yet, and one may.
    pub fn is_open(&self) -> bool {
        self.here > 0 && self.lost.is_none() && self.next < self.marks.len()
    }

    /// Goes on with the next record, which is not one of those that are judged.
    pub fn beyond(&mut self, sequence: u64, leaf: Hash, report: &mut Report) {
        if sequence == self.first + self.size {
            self.add(Since { leaf, place: None }, report);
        }
    }

    /// Adds a record.
    pub fn push(&mut self, leaf: Hash, place: Place, report: &mut Report) {
        self.present += 1;
        self.last_segment = place.segment;
        self.add(Since { leaf, place: Some(place) }, report);
    }

    /// Goes on to leaf `to`, taking the word of tiles for those between, until a signed tree proves them. Gives how many
    /// of them no tile knows.
    pub fn skip(&mut self, to: u64, report: &mut Report) -> u64 {
        while self.size < to && self.lost.is_none() {
            match self.on_disk(self.size) {
                Some(leaf) => self.add(Since { leaf, place: None }, report),
                None => self.lost = Some(self.size),
            }
        }
        let unknown = to.saturating_sub(self.size);
        // The tree is of no more use; only which leaf is the next still counts.
        self.size = self.size.max(to);
        unknown
    }

    fn on_disk(&mut self, index: u64) -> Option<Hash> {
        let at = index / WIDTH as u64;
        let within = (index % WIDTH as u64) as usize;
        if self.read.as_ref().is_none_or(|tile| tile.at.index != at || tile.at.width <= within) {
            self.read = files::leaf(&self.dir, index);
        }
        self.read.as_ref()?.hashes.get(within).copied()
    }

    fn add(&mut self, since: Since, report: &mut Report) {
        self.size += 1;
        if self.lost.is_some() {
            return;
        }
        let Self { tree, dir, suspects, .. } = self;
        tree.push(since.leaf, |tile| {
            if !matches!(files::tile(dir, tile.at), OnDisk::Missing) && !same(dir, &tile) {
                suspects.push(tile.at);
            }
        });
        self.here += u64::from(since.place.is_some());
        if self.next < self.marks.len() && self.since.len() < REMEMBERED {
            self.since.push(since);
        } else {
            self.forgot = true;
        }
        while self.marks.get(self.next).is_some_and(|mark| mark.tree.size <= self.size) && self.lost.is_none()
        {
            let mark = self.marks[self.next].clone();
            self.next += 1;
            self.check(&mark, report);
        }
    }

    /// Holds the tree against one that is said of it.
    fn check(&mut self, mark: &Mark, report: &mut Report) {
        if self.tree.head() == mark.tree {
            self.holds(&mark.by, report);
            return;
        }
        // The same size held with another root a moment ago: not the records are to blame.
        if self.good.size() == mark.tree.size {
            let text = format!(
                "{} says another tree of {} leaves than the one that is proven",
                mark.by, mark.tree.size
            );
            report.add(Finding::bad(What::Log, text).log(self.id));
        } else if self.find_changed(mark, report) {
            self.holds(&mark.by, report);
        } else {
            self.lose(mark, report);
        }
    }

    fn holds(&mut self, by: &By, report: &mut Report) {
        let here = std::mem::take(&mut self.here);
        match by {
            By::Log(log) => {
                if here > 0 {
                    self.late.push(Late { by: (*log, 0), count: here, size: self.size });
                }
            }
            By::Checkpoint(_) => self.checkpoints += 1,
            By::Pin(_) | By::Known(_) => {}
        }
        if by.is_signed() {
            self.signed = self.size();
            self.proven += here + self.late.drain(..).map(|late| late.count).sum::<u64>();
        }
        for at in self.suspects.drain(..) {
            let path = format!("logs/{}/tile/{at}", self.id);
            let text = format!("{path} is not the hashes of the records, which are as signed");
            report.add(
                Finding::bad(What::Tile, text)
                    .log(self.id)
                    .so("proofs made from it do not hold; the records do".to_owned()),
            );
        }
        self.good.clone_from(&self.tree);
        self.since.clear();
        self.forgot = false;
    }

    /// The tree is not the one that was signed. Tells which records are to blame, if the tiles still have the hashes of
    /// what was signed.
    fn find_changed(&mut self, mark: &Mark, report: &mut Report) -> bool {
        if self.forgot {
            return false;
        }
        let mut tree = self.good.clone();
        let mut signed = Vec::with_capacity(self.since.len());
        for since in self.since.clone() {
            let leaf = self.on_disk(tree.size()).unwrap_or(since.leaf);
            signed.push(leaf);
            tree.push(leaf, |_| {});
        }
        if tree.head() != mark.tree {
            return false;
        }
        let first = self.good.size();
        for (index, (since, leaf)) in self.since.iter_mut().zip(signed).enumerate() {
            if since.leaf != leaf
                && let Some(place) = since.place.take()
            {
                let sequence = self.first + first + index as u64;
                self.changed += 1;
                self.here -= 1;
                let text = format!("record {sequence} is not the one that was signed ({})", mark.by);
                let finding =
                    Finding::bad(What::Changed, text).at(place.segment, place.offset).record(sequence);
                let so =
                    "its content is worth nothing; the tiles still prove the records around it".to_owned();
                report.add(finding.log(self.id).so(so));
            }
        }
        self.tree = tree;
        self.suspects.clear();
        true
    }

    fn lose(&mut self, mark: &Mark, report: &mut Report) {
        let (from, to) = (self.good.size(), mark.tree.size);
        let (first, last) = (self.first + from, self.first + to - 1);
        let text =
            format!("one of the records {first} to {last} is not the one that was signed ({})", mark.by);
        let finding = match self.since.iter().find_map(|since| since.place) {
            Some(place) => Finding::bad(What::Changed, text).at(place.segment, place.offset),
            None => Finding::bad(What::Changed, text),
        };
        let so = format!("nothing in log {} from record {first} on is proven", self.id);
        report.add(finding.record(first).log(self.id).so(so));
        self.lost = Some(from);
        self.suspects.clear();
    }

    /// Everything was read. Compares the tiles at the edge, and counts what is proven.
    pub fn finish(&mut self, report: &mut Report) {
        if self.lost.is_none() {
            for tile in self.tree.partial() {
                if !matches!(files::tile(&self.dir, tile.at), OnDisk::Missing) && !same(&self.dir, &tile) {
                    self.suspects.push(tile.at);
                }
            }
            for at in self.suspects.drain(..) {
                let text = format!("logs/{}/tile/{at} is not the hashes of the records", self.id);
                report.add(Finding::bad(What::Tile, text).log(self.id));
            }
        }
    }

    /// Records that were read and are under nothing.
    pub fn unsigned(&self) -> u64 {
        self.present - self.proven - self.changed - self.late.iter().map(|late| late.count).sum::<u64>()
    }
}

fn same(dir: &std::path::Path, tile: &Tile) -> bool {
    matches!(files::tile(dir, tile.at), OnDisk::Tile(on_disk) if on_disk == *tile)
}
