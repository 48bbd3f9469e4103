//! What the record has of a body in which tokens are followed by their values: the same bytes, with the tokens as they came. One
//! reading makes both.

use std::borrow::Cow;

/// Where values were put back in what was written, and what stands there for the record.
#[derive(Default)]
pub struct Kept(Vec<Place>);

struct Place {
    /// What was written for the caller: its place in the output.
    from: usize,
    end: usize,
    /// What came.
    came: Vec<u8>,
}

impl Kept {
    /// Where this was written, that has come. What follows right behind the last place belongs to it.
    pub fn stood(&mut self, from: usize, end: usize, came: &[u8]) {
        match self.0.last_mut() {
            Some(last) if last.end == from => {
                last.end = end;
                last.came.extend_from_slice(came);
            }
            _ => self.0.push(Place { from, end, came: came.to_vec() }),
        }
    }

    /// The output as the record may have it: all that was written since this was asked last.
    pub fn of<'o>(&mut self, out: &'o [u8]) -> Cow<'o, [u8]> {
        if self.0.is_empty() {
            return Cow::Borrowed(out);
        }
        let (mut kept, mut at) = (Vec::with_capacity(out.len()), 0);
        for place in self.0.drain(..) {
            kept.extend_from_slice(&out[at..place.from]);
            kept.extend_from_slice(&place.came);
            at = place.end;
        }
        kept.extend_from_slice(&out[at..]);
        Cow::Owned(kept)
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        let came: usize = self.0.iter().map(|place| place.came.capacity()).sum();
        self.0.capacity() * size_of::<Place>() + came
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_where_values_were_written() {
        let mut kept = Kept::default();
        assert_eq!(&*kept.of(b"nothing"), b"nothing");
        kept.stood(3, 7, b"T1");
        kept.stood(7, 7, b"-rest");
        kept.stood(9, 9, b"T2");
        assert_eq!(&*kept.of(b"to jane, x"), b"to T1-rest, T2x");
        assert_eq!(&*kept.of(b"after"), b"after");
    }
}
