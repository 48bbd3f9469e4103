//! Names and numbers of things, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A session's id: a ULID, so that ids sort by the time at which the session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub ulid::Ulid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network namespace as the kernel numbers it (`SO_NETNS_COOKIE`, Linux 5.14). Never given to another within a boot,
/// which its inode number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsCookie(pub u64);

/// An exchange's place in its session, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeNumber(pub u32);

impl fmt::Display for ExchangeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tag's name: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit. It becomes a cgroup's and a file's
/// name, so nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagName(String);

/// A text that cannot name a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a tag: 1 to 64 of a-z A-Z 0-9 . _ -, a letter or digit first")]
pub struct NotATagName(pub String);

impl TagName {
    /// Reads a tag's name.
    ///
    /// # Errors
    /// [`NotATagName`] outside the grammar above.
    pub fn parse(text: &str) -> Result<Self, NotATagName> {
        let good = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(NotATagName(text.chars().take(100).collect())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TagName {
    type Error = NotATagName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TagName> for String {
    fn from(name: TagName) -> Self {
        name.0
    }
}

impl fmt::Display for TagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_names() {
        for good in ["ci", "gitlab-runner.service", "a", "9x", &"x".repeat(64)] {
            assert!(TagName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "a b", "é", &"x".repeat(65)] {
            assert!(TagName::parse(bad).is_err(), "{bad}");
        }
    }
}
