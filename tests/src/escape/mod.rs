//! The ways out of a tag that the escape suite tries, each with its row of the design's table and what shall become of
//! it. The program `sluice-escape` walks them, `tests/escapes` judges.
//!
//! Data only: what a way does stands in `bin/sluice-escape`.

mod ways;

pub use self::ways::WAYS;

/// What closes a way. A way is closed when the first of its layers that the host has refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// connect4/6 leads to the listener, or refuses.
    Connect,
    /// sendmsg4/6.
    Sendmsg,
    /// sock_create's list of what jobs need.
    Create,
    /// The guard of socket options.
    Setsockopt,
    /// bind4/6.
    Bind,
    /// skb egress and ingress, the last net.
    Skb,
    /// BPF LSM; not on every host.
    Lsm,
    /// The agent itself: `sluice run`, the gate, the control socket.
    Agent,
    /// Linux, for whoever lacks the right.
    Kernel,
}

/// What shall become of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes through the gate and is in the record.
    Taken,
    /// It goes through the gate, or nothing arrives: the kernel's memory decides.
    Either,
    /// Nothing arrives.
    Closed(&'static [Layer]),
    /// It leads out, and `status` or the documentation says so; the text says why it is left.
    Open(&'static str),
}

/// How the attacker comes into the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// By `sluice run`, with nothing from before.
    Run,
    /// By `sluice run`, with a socket of this kind open.
    Kept(&'static str),
    /// Runs already, and is put into a tagged cgroup by root, as container runtimes do.
    Moved,
    /// Runs already, and is tagged by `sluice tag --pid`.
    Pid,
}

/// How it is known that a way leads out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The marker is in a frame at the far end that the agent did not send.
    Marker,
    /// The kernel's report of a multicast group that stands for the marker.
    Group,
    /// A packet from port 7010's peer: no bytes of ours are needed.
    Word,
}

/// One way.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// As `sluice-escape` knows it.
    pub name: &'static str,
    /// Row of escapes.md.
    pub row: u8,
    /// What it does.
    pub text: &'static str,
    /// It needs a right that only root has; for 65534 the kernel closes it.
    pub right: bool,
    /// How the attacker comes in.
    pub entry: Entry,
    /// See [`Proof`].
    pub proof: Proof,
    /// What shall become of it.
    pub fate: Fate,
    /// The same for root, where that differs.
    pub root: Option<Fate>,
    /// It changes the space, so it comes last.
    pub last: bool,
    /// There is no such thing without the agent, so there is no positive control.
    pub alone: bool,
}

impl Way {
    /// What shall become of it for a user, on a host with BPF LSM.
    pub fn fate_of(&self, uid: u32) -> Fate {
        match self.root {
            Some(fate) if uid == 0 => fate,
            _ if self.right && uid != 0 => Fate::Closed(&[Layer::Kernel]),
            _ => self.fate,
        }
    }

    /// Whether it changes the space if it goes as it shall. If it goes otherwise, that is seen.
    pub fn changes_space(&self, uid: u32) -> bool {
        self.last && !matches!(self.fate_of(uid), Fate::Closed([Layer::Kernel, ..]))
    }

    /// The same on a host that may lack it: what nothing else closes is open there, and `status` says so.
    pub fn fate_on(&self, uid: u32, lsm: bool) -> Fate {
        match self.fate_of(uid) {
            Fate::Closed([Layer::Lsm]) if !lsm => {
                Fate::Open("this host has no BPF LSM, and nothing else closes it")
            }
            fate => fate,
        }
    }

    const fn new(row: u8, name: &'static str, text: &'static str, fate: Fate) -> Self {
        Self {
            name,
            row,
            text,
            right: false,
            entry: Entry::Run,
            proof: Proof::Marker,
            fate,
            root: None,
            last: false,
            alone: false,
        }
    }

    const fn right(mut self) -> Self {
        self.right = true;
        self
    }

    const fn enter(mut self, entry: Entry) -> Self {
        self.entry = entry;
        self
    }

    const fn proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    const fn root(mut self, fate: Fate) -> Self {
        self.root = Some(fate);
        self
    }

    const fn last(mut self) -> Self {
        self.last = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// The multicast group that stands for a marker: 239.x.y.z by its last three bytes.
pub fn group4(marker: &str) -> [u8; 4] {
    match marker.as_bytes() {
        [.., a, b, c] => [239, *a, *b, *c],
        _ => [239, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_rows_are_the_tables() {
        let mut names: Vec<_> = WAYS.iter().map(|w| w.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WAYS.len());
        assert!(WAYS.iter().all(|w| (1..=33).contains(&w.row)));
        for row in 1..=33 {
            // Full maps (25) are the kernel tests' own; the rest has at least one way.
            assert!(row == 25 || WAYS.iter().any(|w| w.row == row), "row {row}");
        }
    }

    #[test]
    fn every_open_way_says_why() {
        for way in WAYS {
            for uid in [0, 65534] {
                if let Fate::Open(why) = way.fate_of(uid) {
                    assert!(why.len() > 20, "{}", way.name);
                }
            }
        }
    }
}
