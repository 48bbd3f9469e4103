//! Checkpoints (C2SP tlog-checkpoint v1): the text that is signed for a tree. Ours:
//!
//! ```text
//! sluice/<store's ULID>/<log's ULID>
//! <size>
//! <root, base64>
//! time <RFC 3339 in UTC with microseconds>
//! ```
//!
//! The fourth line is an extension line in the words of the format, so every reader of checkpoints reads these. More may
//! follow.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use super::tree::{Hash, Head};

/// What our time line begins with.
const TIME: &str = "time ";

/// A tree of which store and log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The store.
    pub store: Ulid,
    /// The log.
    pub log: Ulid,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sluice/{}/{}", self.store, self.log)
    }
}

/// A text that is no checkpoint of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first line.
    #[error("the first line of a checkpoint must be sluice/STORE/LOG")]
    Origin,
    /// The second.
    #[error("the second line of a checkpoint must be the tree's size")]
    Size,
    /// The third.
    #[error("the third line of a checkpoint must be the tree's root, in base64")]
    Root,
    /// The fourth.
    #[error("the fourth line of a checkpoint must be its time")]
    Time,
    /// The rest.
    #[error("a checkpoint must be lines, none of them empty, each ended by a newline")]
    Lines,
}

/// A checkpoint's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of what.
    pub origin: Origin,
    /// Size and root.
    pub tree: Head,
    /// When it was signed, by the signer's clock: RFC 3339 in UTC with microseconds, 27 characters, so that times sort as text.
    pub time: String,
    /// Further lines, without newlines, none empty.
    pub more: Vec<String>,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, tree, time, more } = self;
        write!(f, "{origin}\n{}\n{}\n{TIME}{time}\n", tree.size, tree.root)?;
        more.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let text = text.strip_suffix('\n').ok_or(Malformed::Lines)?;
        let mut lines = text.split('\n');
        let origin =
            lines.next().and_then(|line| line.strip_prefix("sluice/")).and_then(|line| line.split_once('/'));
        let (store, log) = origin.ok_or(Malformed::Origin)?;
        let (Some(store), Some(log)) = (ulid(store), ulid(log)) else { return Err(Malformed::Origin) };
        let size = lines.next().and_then(number).ok_or(Malformed::Size)?;
        let root: Hash = lines.next().and_then(|line| line.parse().ok()).ok_or(Malformed::Root)?;
        let time = lines.next().and_then(|line| line.strip_prefix(TIME)).filter(|time| is_time(time));
        let time = time.ok_or(Malformed::Time)?.to_owned();
        let more: Vec<_> = lines.map(str::to_owned).collect();
        if more.iter().any(String::is_empty) {
            return Err(Malformed::Lines);
        }
        Ok(Self { origin: Origin { store, log }, tree: Head { size, root }, time, more })
    }
}

/// A ULID in its one form: 26 digits, upper case.
pub fn ulid(text: &str) -> Option<Ulid> {
    text.parse::<Ulid>().ok().filter(|id| id.to_string() == text)
}

/// A decimal number in its one form: no sign, no zero before it.
pub fn number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|n| n.to_string() == text)
}

/// Whether this is a time as records and notes bear it.
pub fn is_time(text: &str) -> bool {
    let form = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    text.len() == 27 && time::PrimitiveDateTime::parse(text, form).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::tree::leaf;

    #[test]
    fn checkpoints_come_back_and_only_in_one_form() {
        let origin = Origin { store: Ulid::from_parts(1, 2), log: Ulid::from_parts(3, 4) };
        let checkpoint = Checkpoint {
            origin,
            tree: Head { size: 17, root: leaf(b"") },
            time: "2026-11-23T01:02:03.000004Z".to_owned(),
            more: vec!["x y".to_owned()],
        };
        let text = checkpoint.to_string();
        assert_eq!(
            text,
            "sluice/00000000010000000000000002/00000000030000000000000004\n17\n\
             bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\ntime 2026-11-23T01:02:03.000004Z\nx y\n"
        );
        assert_eq!(text.parse(), Ok(checkpoint));
        for (from, to, why) in [
            ("17", "017", Malformed::Size),
            ("17", "+17", Malformed::Size),
            ("17", "18446744073709551616", Malformed::Size),
            ("sluice", "slice", Malformed::Origin),
            ("00000000010000000000000002", "0000000001000000000000000o", Malformed::Origin),
            ("/00000000030000000000000004", "", Malformed::Origin),
            ("oB0=", "oB1=", Malformed::Root),
            ("oB0=", "oB0", Malformed::Root),
            ("T01", "T25", Malformed::Time),
            (".000004Z", "Z", Malformed::Time),
            ("time ", "", Malformed::Time),
            ("x y\n", "\n", Malformed::Lines),
            ("x y\n", "x y", Malformed::Lines),
        ] {
            assert_eq!(text.replacen(from, to, 1).parse::<Checkpoint>(), Err(why), "{to:?} for {from:?}");
        }
    }
}
