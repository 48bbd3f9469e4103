//! Paths with what was seen at each, as a tree of segments. Where more than [`SIBLINGS`] different segments stand in one
//! position, they become one `*`, and what is below them is one. The result does not depend on the order of the paths.

use std::collections::BTreeMap;

/// So many different segments stand in one position, and each is written out; with one more they are `*`.
pub const SIBLINGS: usize = 8;

const STAR: &str = "*";

/// What is seen at paths: `merge` must not depend on the order.
pub trait Seen: Default {
    /// Adds what was seen at another path, which now is the same.
    fn merge(&mut self, other: Self);
}

/// See the module.
#[derive(Debug)]
pub struct Tree<S> {
    root: Node<S>,
    nodes: usize,
}

#[derive(Debug)]
struct Node<S> {
    below: BTreeMap<String, Node<S>>,
    /// There were more than [`SIBLINGS`]: everything goes to `*`.
    merged: bool,
    seen: Option<S>,
}

impl<S> Default for Tree<S> {
    fn default() -> Self {
        Self { root: Node::default(), nodes: 0 }
    }
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Self { below: BTreeMap::new(), merged: false, seen: None }
    }
}

impl<S: Seen> Tree<S> {
    /// What was seen at a path, to add to. `None`: it would take more than `room` nodes beside those that are there.
    pub fn at(&mut self, path: &[String], room: usize) -> Option<&mut S> {
        if self.root.missing(path) > room {
            return None;
        }
        self.nodes = self.nodes.saturating_add_signed(self.root.make(path));
        self.root.find(path).map(|node| node.seen.get_or_insert_default())
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.nodes == 0 && self.root.seen.is_none()
    }

    /// Each path that something was seen at, in order.
    pub fn paths(&self) -> Vec<(Vec<String>, &S)> {
        let mut all = Vec::new();
        self.root.gather(&mut Vec::new(), &mut all);
        all
    }
}

impl<S: Seen> Node<S> {
    /// How many nodes this path would add.
    fn missing(&self, path: &[String]) -> usize {
        let Some((first, rest)) = path.split_first() else { return 0 };
        self.child(first).map_or(path.len(), |child| child.missing(rest))
    }

    fn child(&self, segment: &str) -> Option<&Self> {
        self.below.get(if self.merged { STAR } else { segment })
    }

    fn find(&mut self, path: &[String]) -> Option<&mut Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        self.below.get_mut(if self.merged { STAR } else { first.as_str() })?.find(rest)
    }

    /// Adds a path; gives by how many there are more nodes then.
    fn make(&mut self, path: &[String]) -> isize {
        let Some((first, rest)) = path.split_first() else { return 0 };
        let key = if self.merged { STAR } else { first };
        let new = isize::from(!self.below.contains_key(key));
        let below = self.below.entry(key.to_owned()).or_default().make(rest);
        new + below + if self.below.len() > SIBLINGS { self.one() } else { 0 }
    }

    /// Makes one of all below, unless they are; gives the change in nodes.
    fn one(&mut self) -> isize {
        if std::mem::replace(&mut self.merged, true) {
            return 0;
        }
        let mut one = Self::default();
        let all = std::mem::take(&mut self.below);
        if all.is_empty() {
            return 0;
        }
        let mut change = 1;
        for node in all.into_values() {
            change += one.absorb(node) - 1;
        }
        self.below.insert(STAR.to_owned(), one);
        change
    }

    /// Takes in another; gives the change in nodes below the two.
    fn absorb(&mut self, other: Self) -> isize {
        if let Some(seen) = other.seen {
            self.seen.get_or_insert_default().merge(seen);
        }
        let mut change = if other.merged { self.one() } else { 0 };
        for (key, node) in other.below {
            let key = if self.merged { STAR.to_owned() } else { key };
            match self.below.get_mut(&key) {
                Some(same) => change += same.absorb(node) - 1,
                None => drop(self.below.insert(key, node)),
            }
        }
        change + if self.below.len() > SIBLINGS { self.one() } else { 0 }
    }

    fn gather<'t>(&'t self, path: &mut Vec<String>, all: &mut Vec<(Vec<String>, &'t S)>) {
        if let Some(seen) = &self.seen {
            all.push((path.clone(), seen));
        }
        for (segment, node) in &self.below {
            path.push(segment.clone());
            node.gather(path, all);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::policy::template::{pattern, segments, tests::Dice};
    use crate::policy::pattern::Glob;

    #[derive(Debug, Default, PartialEq)]
    struct Count(u64);

    impl Seen for Count {
        fn merge(&mut self, other: Self) {
            self.0 += other.0;
        }
    }

    fn tree(paths: &[String]) -> Tree<Count> {
        let mut tree: Tree<Count> = Tree::default();
        for path in paths {
            tree.at(&segments(path).expect("plain"), usize::MAX).expect("room").0 += 1;
        }
        tree
    }

    fn listed(tree: &Tree<Count>) -> Vec<(String, u64)> {
        tree.paths().into_iter().map(|(path, count)| (pattern(&path), count.0)).collect()
    }

    #[test]
    fn nine_siblings_are_a_star_and_eight_are_not() {
        let paths = |n: usize| (0..n).map(|at| format!("/repos/r{at}/x")).collect::<Vec<_>>();
        assert_eq!(listed(&tree(&paths(8))).len(), 8);
        assert_eq!(listed(&tree(&paths(9))), [("/repos/*/x".to_owned(), 9)]);
    }

    #[test]
    fn whatever_the_order_every_path_is_matched_and_counted_once() {
        let mut dice = Dice(7);
        for round in 0..300 {
            let word = |dice: &mut Dice| {
                ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k1234", ""][dice.roll(12)]
            };
            let mut paths: Vec<String> = (0..dice.roll(80) + 1)
                .map(|_| (0..=dice.roll(4)).map(|_| format!("/{}", word(&mut dice))).collect())
                .collect();
            let one = tree(&paths);
            let globs: Vec<Glob> =
                listed(&one).iter().map(|(text, _)| Glob::parse(text).expect("a pattern")).collect();
            for path in &paths {
                assert!(globs.iter().any(|glob| glob.matches(path)), "round {round}: {path}");
            }
            assert_eq!(listed(&one).iter().map(|(_, count)| count).sum::<u64>(), paths.len() as u64);
            (1..paths.len()).rev().for_each(|at| paths.swap(at, dice.roll(at + 1)));
            let other = tree(&paths);
            assert_eq!(listed(&one), listed(&other), "round {round}");
            assert_eq!((one.nodes(), other.nodes()), (one.root.count(), one.root.count()), "round {round}");
        }
    }

    #[test]
    fn room_is_kept() {
        let mut tree: Tree<Count> = Tree::default();
        let path = |text: &str| segments(text).expect("plain");
        assert!(tree.at(&path("/a/b/c"), 3).is_some() && tree.at(&path("/a/b/d/e"), 1).is_none());
        assert!(tree.at(&path("/a/b/d"), 1).is_some() && tree.at(&path("/a/b/d"), 0).is_some());
        assert_eq!(tree.nodes(), 4);
    }

    impl<S> Node<S> {
        fn count(&self) -> usize {
            self.below.values().map(|node| 1 + node.count()).sum()
        }
    }
}
