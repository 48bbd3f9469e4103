//! One body as text: told from its type and its first bytes how it is read, and then rewritten as it passes.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::Masking;
use crate::mask::{Body, Counts, Kind, Plan};

/// What is done to it.
pub(super) enum How {
    /// Values are hidden.
    Hide(Arc<Plan>),
    /// Values are hidden, and tokens followed by theirs.
    Both(Arc<Plan>),
    /// Tokens are followed by theirs.
    Restore,
}

impl How {
    /// The same once more.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Hide(plan) => Self::Hide(Arc::clone(plan)),
            Self::Both(plan) => Self::Both(Arc::clone(plan)),
            Self::Restore => Self::Restore,
        }
    }
}

/// See the module.
pub(super) struct Reader {
    masking: Arc<Masking>,
    how: How,
    content_type: Option<Vec<u8>>,
    /// So many first bytes tell what it is: one side may wait for the other.
    enough: usize,
    first: Vec<u8>,
    body: Option<Body>,
    /// Whether it says what the record may have, too.
    keeps: bool,
    /// What it has told of, where it is counted.
    told: Option<Counts>,
    ended: bool,
}

impl Reader {
    /// Of a body with this head. `counted`: what it hides stands in the summary.
    pub(super) fn new(masking: &Arc<Masking>, how: How, headers: &HeaderMap, counted: bool) -> Self {
        let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().to_vec());
        let enough = Kind::enough(content_type.as_deref());
        let told = counted.then(Counts::default);
        let (masking, first) = (Arc::clone(masking), Vec::new());
        Self { masking, how, content_type, enough, first, body: None, keeps: false, told, ended: false }
    }

    /// Has it say what the record may have, too, where that is hidden by the same plan. Whether it can.
    pub(super) fn keeps(&mut self) -> bool {
        let kind = Kind::of(self.content_type.as_deref(), b"");
        self.keeps = !matches!(kind, Ok(Kind::Grpc | Kind::Protobuf) | Err(_));
        self.keeps
    }

    /// What was appended to `out`, all that is in it, as the record may have it. `None`: that is not known.
    pub(super) fn kept<'o>(&mut self, out: &'o [u8]) -> Option<Cow<'o, [u8]>> {
        self.body.as_mut().filter(|_| self.keeps).map(|body| body.kept(out))
    }

    /// Takes what has come, and appends what may be passed on.
    ///
    /// # Errors
    /// Why it cannot be masked.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(body) = &mut self.body {
            body.push(bytes, out).map_err(|refused| refused.to_string())?;
            self.note();
            return Ok(());
        }
        self.first.extend_from_slice(bytes);
        if self.first.len() < self.enough {
            return Ok(());
        }
        self.begin(false, out)
    }

    /// Takes what comes last: [`Reader::push`] and [`Reader::end`] at once, for less.
    ///
    /// # Errors
    /// As [`Reader::push`].
    pub(super) fn last(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.body.is_none() && !bytes.is_empty() {
            self.first.extend_from_slice(bytes);
            self.ended = true;
            return self.begin(true, out);
        }
        self.push(bytes, out)?;
        self.end(out)
    }

    /// Whether all of it was read.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// It has ended: appends the rest.
    ///
    /// # Errors
    /// As [`Reader::push`].
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        if self.body.is_none() {
            if self.first.is_empty() {
                return Ok(());
            }
            return self.begin(true, out);
        }
        if let Some(body) = &mut self.body {
            body.end(out).map_err(|refused| refused.to_string())?;
        }
        self.note();
        Ok(())
    }

    /// Reads what has come. `last`: it is all.
    fn begin(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let first = std::mem::take(&mut self.first);
        let kind = Kind::of(self.content_type.as_deref(), &first).map_err(|refused| refused.to_string())?;
        let scope = Arc::clone(&self.masking.scope);
        let body = self.body.insert(match &self.how {
            How::Hide(plan) => Body::hiding(Arc::clone(plan), scope, kind),
            How::Both(plan) => Body::both(Arc::clone(plan), scope, kind),
            How::Restore => Body::restoring(scope, kind),
        });
        self.keeps = self.keeps && body.keeps();
        let read = if last { body.last(&first, out) } else { body.push(&first, out) };
        read.map_err(|refused| refused.to_string())?;
        self.note();
        Ok(())
    }

    fn note(&mut self) {
        let (Some(told), Some(body)) = (&mut self.told, &self.body) else { return };
        if body.counts().total() != told.total() {
            self.masking.note(told, body.counts());
            told.clone_from(body.counts());
        }
    }

    /// Takes back what it has counted: it is read again.
    pub(super) fn uncount(&mut self) {
        if let Some(told) = self.told.take() {
            self.masking.note(&told, &Counts::default());
        }
    }
}
