//! What can go wrong on the kernel side, in words.

use std::io;
use std::path::PathBuf;

use crate::types::TagName;

/// Why the kernel part cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation on bpffs or the cgroup tree.
    #[error("{what} {path}")]
    Io {
        /// Verb.
        what: &'static str,
        /// Object.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The object did not load.
    #[error("cannot load the kernel object")]
    Load(#[source] aya::EbpfError),
    /// One program did not load.
    #[error("the kernel refuses program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Cause.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// One program did not attach.
    #[error("cannot attach program {program}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A pin could not be made.
    #[error("cannot pin {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        source: aya::pin::PinError,
    },
    /// A link could not be pinned.
    #[error("cannot pin {path}")]
    PinLink {
        /// Where.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Cause.
        #[source]
        source: aya::maps::MapError,
    },
    /// The kernel object has no such part: object and warden do not belong together.
    #[error("the kernel object lacks {0}")]
    Missing(&'static str),
    /// Not a directory of cgroup v2.
    #[error("{0} is not a cgroup (v2)")]
    NotACgroup(PathBuf),
    /// The root cgroup holds the whole host.
    #[error("{0} is the root cgroup: tagging it would take the whole host")]
    RootCgroup(PathBuf),
    /// The agent's own connections are never taken, so nothing below its cgroup would be.
    #[error("{0} is the agent's own cgroup or below it: its connections would not be taken")]
    InsideAgent(PathBuf),
    /// A name bears another number, or a number another name.
    #[error("tag {name}: number {number} does not fit what the kernel has ({other})")]
    Number {
        /// The tag asked for.
        name: TagName,
        /// The number asked for.
        number: u32,
        /// What stands against it.
        other: String,
    },
    /// No such tag here.
    #[error("tag {0} is not in the kernel")]
    NoSuchTag(TagName),
    /// The LSM programs look for tagged cgroups down to a certain depth.
    #[error("a cgroup {depth} levels below the root is too deep to be tagged: {most} at most")]
    TooDeep {
        /// How deep it lies.
        depth: usize,
        /// How deep it may lie.
        most: usize,
    },
    /// The deny list of Unix sockets is too long.
    #[error("{left_out} Unix sockets too many are denied")]
    Rules {
        /// How many rules are too many.
        left_out: usize,
    },
}
