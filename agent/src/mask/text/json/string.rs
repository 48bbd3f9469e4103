//! The strings of a JSON text.

use super::inner::Inner;
use super::{Json, Role, State, wrong};
use crate::mask::Refused;
use crate::mask::body::{ESC, Feed, Spell, Stood};
use crate::mask::text::unit::{json_escape_length, json_plain, json_says};
use crate::mask::text::{Sign, behind_escape};

impl Json {
    /// The quote that begins a string is behind us.
    pub(super) fn open_string(&mut self, feed: &mut Feed<'_, '_>, role: Role) {
        self.state = State::String(role);
        self.inner = Inner::new(false);
        match role {
            Role::Field => self.swap(feed, Stood::Text(Spell::Json)),
            Role::Join => {
                self.inner = self.inners.begin(self.track.known(), self.track.holds_json());
                feed.join(self.track.key());
            }
            Role::Name | Role::Value | Role::Tells => {}
        }
    }

    /// Reads on in a string; whether it has ended: its quote is next.
    pub(super) fn string(
        &mut self,
        feed: &mut Feed<'_, '_>,
        upto: usize,
        role: Role,
    ) -> Result<bool, Refused> {
        if role == Role::Join {
            match self.inner.behind(feed.rest(upto)) {
                None => return Ok(false),
                Some(0) => {}
                Some(length) => feed.behind(length, self.inner.spell()),
            }
        }
        loop {
            let rest = feed.rest(upto);
            let plain = json_plain(rest);
            if plain > 0 {
                self.track.note(role, &rest[..plain]);
                feed.plain(plain, self.inner.spell());
                self.inner.note(&rest[..plain]);
            }
            match rest.get(plain) {
                None => return Ok(false),
                Some(b'"') => return Ok(true),
                Some(_) => match self.escape(&rest[plain..], role) {
                    Err(()) => return Err(wrong(feed, "an escape that is none")),
                    Ok(None) => return Ok(false),
                    Ok(Some((length, says, count))) => {
                        let behind = &rest[plain + length..];
                        let colour = says[..count] == *ESC && role != Role::Field;
                        match if colour { behind_escape(length, behind) } else { Sign::None } {
                            Sign::Says(length) => feed.colour(length, self.inner.spell()),
                            Sign::Open => return Ok(false),
                            Sign::None => {
                                self.track.note(role, &says[..count]);
                                feed.unit(length, &says[..count], self.inner.spell());
                            }
                        }
                    }
                },
            }
        }
    }

    /// The escape that begins there. A value that goes as a whole is read as it stands.
    fn escape(&mut self, rest: &[u8], role: Role) -> Result<Option<(usize, [u8; 4], usize)>, ()> {
        if role != Role::Field {
            return self.inner.escape(rest);
        }
        let length = json_escape_length(rest)?;
        Ok(length.map(|length| {
            let (says, count) = json_says(&rest[..length]);
            (length, says, count)
        }))
    }
}
