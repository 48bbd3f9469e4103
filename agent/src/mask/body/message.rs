//! Messages of protocol buffers, alone or behind their lengths as gRPC has them. A message is held whole: its length is written before
//! what may change it.

use zeroize::Zeroize as _;

use super::Env;
use super::logical::Logical;
use crate::mask::Refused;
use crate::mask::text::{Hide, rewritten};

/// Longest message, in bytes.
pub const LONGEST: usize = 24 * 1024;
/// What stands before a message of gRPC: whether it is compressed, and its length.
const HEAD: usize = 5;

/// What has come of a message.
pub struct Messages {
    held: Vec<u8>,
    text: Logical,
    /// Whether lengths stand before messages.
    framed: bool,
}

impl Messages {
    pub fn new(framed: bool) -> Self {
        Self { held: Vec::new(), text: Logical::default(), framed }
    }

    /// Takes what has come, and writes the messages that are whole.
    pub fn push(&mut self, bytes: &[u8], env: &mut Env<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let want = self.missing()?.min(rest.len());
            let (now, later) = rest.split_at(want);
            if self.held.capacity() < self.held.len() + now.len() {
                self.held.reserve_exact(now.len());
            }
            self.held.extend_from_slice(now);
            rest = later;
            if self.framed && self.missing()? == 0 {
                self.framed(env, out)?;
            }
        }
        Ok(())
    }

    /// Nothing more comes.
    pub fn end(&mut self, env: &mut Env<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.framed && !self.held.is_empty() {
            return Err(Refused::Form { kind: "gRPC", at: 0, what: "it ends in the middle of a message" });
        }
        if !self.framed {
            let new = self.rewritten(0, env)?;
            out.extend_from_slice(new.as_deref().unwrap_or(&self.held));
        }
        self.held.zeroize();
        Ok(())
    }

    /// How many bytes are to come before anything can be said.
    fn missing(&self) -> Result<usize, Refused> {
        let whole = match (&self.held[..], self.framed) {
            (_, false) => LONGEST + 1,
            ([_, a, b, c, d, ..], true) => HEAD.saturating_add(u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => HEAD,
        };
        if self.held.len() > LONGEST || (self.framed && whole > LONGEST + HEAD) {
            return Err(Refused::TooLong { what: "a message of protocol buffers", most: LONGEST });
        }
        Ok(whole - self.held.len())
    }

    fn framed(&mut self, env: &mut Env<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.held[0] != 0 {
            return Err(Refused::Unread("a compressed message of gRPC; send identity".into()));
        }
        match self.rewritten(HEAD, env)? {
            Some(new) => {
                out.push(0);
                out.extend_from_slice(&(new.len() as u32).to_be_bytes());
                out.extend_from_slice(&new);
            }
            None => out.extend_from_slice(&self.held),
        }
        self.held.zeroize();
        Ok(())
    }

    fn rewritten(&mut self, from: usize, env: &mut Env<'_>) -> Result<Option<Vec<u8>>, Refused> {
        let mut texts = Texts { text: &mut self.text, env };
        rewritten(&self.held[from..], &mut texts).map_err(|_| Refused::Form {
            kind: "message of protocol buffers",
            at: 0,
            what: "its fields cannot be told apart",
        })
    }

    /// How many bytes wait.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.held.capacity() + self.text.memory()
    }
}

/// The texts of a message, one at a time.
struct Texts<'a, 'e> {
    text: &'a mut Logical,
    env: &'a mut Env<'e>,
}

impl Hide for Texts<'_, '_> {
    fn finds(&mut self, text: &[u8]) -> usize {
        self.text.finds(text, self.env)
    }

    fn hides(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        self.text.whole(text, self.env)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}
