//! Why a tag cannot be made or ended, and what to do about it.

use std::io;

use super::attach::AttachError;
use super::systemd::SystemdError;
use super::{CgroupPath, MAX_TAGS, MAX_TAGS_PER_USER};
use crate::config::BadDesignation;
use crate::types::TagName;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The name is in use.
    #[error("the tag {0} is there already")]
    Exists(TagName),
    /// The caller is in another tag.
    #[error("the caller is in the tag {0}, and a tagged process cannot leave its tag")]
    Within(TagName),
    /// The name belongs to the configuration.
    #[error("the tag {0} comes from the configuration")]
    Configured(TagName),
    /// Being made or ended by another request.
    #[error("the tag {0} is being changed by another request")]
    Busy(TagName),
    /// No such tag.
    #[error("there is no tag {0}")]
    NoSuch(TagName),
    /// [`MAX_TAGS`].
    #[error("there are {MAX_TAGS} tags, and no more are possible")]
    Full,
    /// [`MAX_TAGS_PER_USER`].
    #[error("this user has {MAX_TAGS_PER_USER} tags, and no more are possible")]
    FullForUser,
    /// Processes run in it.
    #[error("{processes} processes run in {name}")]
    Live {
        /// The tag.
        name: TagName,
        /// How many.
        processes: usize,
    },
    /// The place is tagged under another name.
    #[error("{cgroup} is tagged already, as {by}")]
    Taken {
        /// The cgroup.
        cgroup: CgroupPath,
        /// The other tag.
        by: TagName,
    },
    /// The designation is none.
    #[error("{}", .0.what)]
    Bad(BadDesignation),
    /// Must not be tagged.
    #[error("{what} cannot be tagged: {why}")]
    Unsuitable {
        /// What.
        what: String,
        /// Why.
        why: &'static str,
    },
    /// Not on this host.
    #[error("{0} is not there")]
    NotFound(String),
    /// A unit, slice or user on a host without systemd.
    #[error("{0} needs systemd, which is not this host's init")]
    NeedsSystemd(String),
    /// A unit whose cgroup is not taken.
    #[error("the tag {name} is not in force here: {why}")]
    NotTaken {
        /// The tag.
        name: TagName,
        /// Why.
        why: String,
    },
    /// systemd.
    #[error("systemd did not do it")]
    Systemd(#[source] SystemdError),
    /// The kernel.
    #[error(transparent)]
    Kernel(AttachError),
    /// A file.
    #[error("{what} cannot be used")]
    Io {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl TagError {
    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// What the user can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Exists(_) => "take another name, or `sluice untag` the one that is there".into(),
            Self::Within(_) => "leave --tag out: the command runs in the tag that the caller is in".into(),
            Self::Configured(name) => {
                format!("change the [[intercept]] {name} and `systemctl reload sluice`")
            }
            Self::Busy(_) => "try again".into(),
            Self::NoSuch(_) | Self::NotTaken { .. } => "`sluice tags` lists what there is".into(),
            Self::Full | Self::FullForUser => {
                "`sluice untag` some, or tag a slice that holds many jobs".into()
            }
            Self::Live { .. } => "end them, or say --force to let them go on untaken".into(),
            Self::Taken { by, .. } => format!("use {by}, or `sluice untag {by}` first"),
            Self::Bad(bad) => bad.remedy.clone(),
            Self::Unsuitable { .. } => "tag the job's own unit, slice or cgroup".into(),
            Self::NotFound(_) => "check the name: `systemctl list-units`, `systemd-cgls`, `ps`".into(),
            Self::NeedsSystemd(_) => "tag a cgroup (--cgroup), or start the job with `sluice run`".into(),
            Self::Systemd(_) => "look at `journalctl -b -u init.scope` and `systemctl status`".into(),
            Self::Kernel(_) | Self::Io { .. } => {
                "look at `journalctl -u sluice`; `sluice doctor` checks the host".into()
            }
        }
    }
}
