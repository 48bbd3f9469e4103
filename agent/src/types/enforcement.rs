//! How much of what Sluice promises holds for a process: `full`, or `weakened` with the reasons, in words that are stable.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether every way out that Sluice knows is closed to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Nothing known weakens it.
    Full,
    /// At least one [`Weakness`] does.
    Weakened,
}

impl Enforcement {
    /// What a list of weaknesses comes to; `None` (not looked at: a record of an earlier version) to `None`.
    pub fn of(weakened: Option<&[Weakness]>) -> Option<Self> {
        weakened.map(|list| if list.is_empty() { Self::Full } else { Self::Weakened })
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Weakened => "weakened",
        }
    }
}

/// One reason why a caller could get past Sluice. What each means, and its remedy, is `sluice doctor`'s to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weakness {
    /// User id 0 of the host: it owns the cgroup tree, so it can move itself out of its tag.
    Root,
    /// CAP_NET_RAW, and no layer that closes packet sockets.
    CapNetRaw,
    /// CAP_NET_ADMIN over a namespace that leads out: routes, tunnels, address translation.
    CapNetAdmin,
    /// CAP_SYS_ADMIN of the host.
    CapSysAdmin,
    /// CAP_BPF of the host.
    CapBpf,
    /// CAP_SYS_PTRACE of the host: it can make any process send for it.
    CapSysPtrace,
    /// A capability of the host that leads to root: set ids, override file permissions, load modules, raw I/O …
    CapLikeRoot,
    /// It may connect to the socket of docker, podman, containerd or another engine, which starts what it is told to.
    ContainerSocket,
    /// Untagged processes run under its user id: what it may do to them (ptrace, /proc/PID/mem, their files), they do for it.
    SharedUid,
    /// No BPF LSM layer: sockets that come from outside of the tag, vsock and helpers are not seen.
    NoLsm,
    /// A layer of programs on the tag's cgroup that this version has could not be loaded or attached.
    LayerMissing,
    /// The start-up self-test found a way open that should be closed.
    WayOpen,
    /// Its unit has `IPAddressDeny=`: through the gate the job reaches what the filter would have kept from it.
    AddressFilter,
    /// Its tag is no single service: nothing keeps processes from starting in it while the tag is not in force.
    NoStartCheck,
    /// It was gone before it could be looked at.
    Unseen,
    /// A reason that a later version wrote.
    #[serde(other)]
    Unknown,
}

impl Weakness {
    /// Every reason that this version gives, in the order in which they are listed.
    pub const ALL: [Self; 15] = [
        Self::Root,
        Self::CapNetRaw,
        Self::CapNetAdmin,
        Self::CapSysAdmin,
        Self::CapBpf,
        Self::CapSysPtrace,
        Self::CapLikeRoot,
        Self::ContainerSocket,
        Self::SharedUid,
        Self::NoLsm,
        Self::LayerMissing,
        Self::WayOpen,
        Self::AddressFilter,
        Self::NoStartCheck,
        Self::Unseen,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::CapNetRaw => "cap-net-raw",
            Self::CapNetAdmin => "cap-net-admin",
            Self::CapSysAdmin => "cap-sys-admin",
            Self::CapBpf => "cap-bpf",
            Self::CapSysPtrace => "cap-sys-ptrace",
            Self::CapLikeRoot => "cap-like-root",
            Self::ContainerSocket => "container-socket",
            Self::SharedUid => "shared-uid",
            Self::NoLsm => "no-lsm",
            Self::LayerMissing => "layer-missing",
            Self::WayOpen => "way-open",
            Self::AddressFilter => "address-filter",
            Self::NoStartCheck => "no-start-check",
            Self::Unseen => "unseen",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One kernel layer of the containment, as `status` and `doctor` list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// `connect4`, `sock_create`, `skb egress`, `lsm file_receive` … Stable.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// Whether it works.
    #[serde(flatten)]
    pub state: LayerState,
}

impl Layer {
    /// A layer that works.
    pub fn active(name: impl Into<String>, purpose: impl Into<String>) -> Self {
        Self { name: name.into(), purpose: purpose.into(), state: LayerState::Active }
    }

    /// A layer that this host does not have, and why.
    pub fn absent(name: impl Into<String>, purpose: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), purpose: purpose.into(), state: LayerState::Absent { why: why.into() } }
    }

    /// Whether it belongs to the BPF LSM.
    pub fn is_lsm(&self) -> bool {
        self.name.starts_with("lsm ")
    }
}

/// Whether a layer works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LayerState {
    /// Loaded, and attached where there is something to attach it to.
    Active,
    /// Not on this host.
    Absent {
        /// What the kernel said, or what is missing.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_serialised_ones_and_later_ones_are_read() {
        for weakness in Weakness::ALL {
            assert_eq!(serde_json::to_string(&weakness).expect("json"), format!("\"{weakness}\""));
        }
        let read: Vec<Weakness> = serde_json::from_str(r#"["root","from-a-later-version"]"#).expect("read");
        assert_eq!(read, [Weakness::Root, Weakness::Unknown]);
    }

    #[test]
    fn layers_as_json() {
        let text = serde_json::to_string(&Layer::absent("lsm", "closes", "no BTF")).expect("json");
        assert_eq!(text, r#"{"name":"lsm","purpose":"closes","state":"absent","why":"no BTF"}"#);
        assert_eq!(
            serde_json::from_str::<Layer>(&text).expect("layer"),
            Layer::absent("lsm", "closes", "no BTF")
        );
        assert_eq!(
            serde_json::to_string(&Layer::active("connect4", "takes")).expect("json"),
            r#"{"name":"connect4","purpose":"takes","state":"active"}"#
        );
    }
}
