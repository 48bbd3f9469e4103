//! Three answers: yes, no, and "that is not known yet".

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It does.
    Yes,
    /// It does not, whatever becomes known later.
    No,
    /// It depends on what is not known yet.
    NotYet,
}

impl Known {
    /// Yes or no.
    pub fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
