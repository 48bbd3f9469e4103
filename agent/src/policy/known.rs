//! What is known: yes, no, "not yet"; and why not, where it never will be.

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It does.
    Yes,
    /// It does not, whatever becomes known later.
    No,
    /// It depends on what is not known yet.
    NotYet,
    /// It cannot be judged, and why: what it looks at is there, and cannot be read.
    Cannot(String),
}

impl Known {
    /// Yes or no.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    /// Yes or no; what is missing is no.
    pub(super) fn from(found: Result<bool, Fault>) -> Self {
        match found {
            Ok(holds) => Self::of(holds),
            Err(Fault::Missing) => Self::No,
            Err(Fault::NotYet) => Self::NotYet,
            Err(Fault::Cannot(why)) => Self::Cannot(why),
        }
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The request has none.
    Missing,
    /// It is not known yet.
    NotYet,
    /// It is there, and cannot be read or worked with.
    Cannot(String),
}

impl Fault {
    /// Of two, the one that decides: while something may yet become known, that; and rather what cannot be read than what
    /// is not there.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotYet, _) | (_, Self::NotYet) => Self::NotYet,
            (cannot @ Self::Cannot(_), _) | (_, cannot) => cannot,
        }
    }
}
