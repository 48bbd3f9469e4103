//! An answer's body as it comes from the upstream, after what was read of it ahead: an answer that was put aside, for a
//! second try that then failed, is given as it was.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

/// What was read of a body, and the rest of it.
pub(super) struct Came<B> {
    read: VecDeque<Frame<Bytes>>,
    /// `None` once it is over.
    rest: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin> Came<B> {
    pub(super) fn new(body: B) -> Self {
        Self { read: VecDeque::new(), rest: Some(body) }
    }

    /// Reads to the end, up to `most` bytes or so and for `within`; says whether it got there. What was read is kept.
    pub(super) async fn read(&mut self, most: usize, within: Duration) -> bool {
        let reading = async {
            let mut length = 0;
            while let Some(rest) = &mut self.rest {
                if length > most {
                    return false;
                }
                match poll_fn(|cx| Pin::new(&mut *rest).poll_frame(cx)).await {
                    Some(Ok(frame)) => {
                        length += frame.data_ref().map_or(0, Bytes::len);
                        self.read.push_back(frame);
                    }
                    // It says so again to whoever reads on.
                    Some(Err(_)) => return false,
                    None => self.rest = None,
                }
            }
            true
        };
        timeout(within, reading).await.unwrap_or(false)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Came<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.read.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self.read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read);
        }
        hint.set_lower(rest.lower() + read);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of a body, and whether it goes on for ever.
    struct Pieces(Vec<&'static str>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match (self.0.is_empty(), self.1) {
                (false, _) => Poll::Ready(Some(Ok(Frame::data(self.0.remove(0).into())))),
                (true, true) => Poll::Pending,
                (true, false) => Poll::Ready(None),
            }
        }
    }

    async fn next(came: &mut Came<Pieces>) -> Option<Bytes> {
        let frame = poll_fn(|cx| Pin::new(&mut *came).poll_frame(cx)).await?;
        frame.expect("no error").into_data().ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_ahead_is_given_and_what_follows() {
        let second = Duration::from_secs(1);
        for (most, endless, ends) in [(100, false, true), (3, false, false), (100, true, false)] {
            let mut came = Came::new(Pieces(vec!["abcd", "efgh"], endless));
            assert_eq!(came.read(most, second).await, ends, "{most} {endless}");
            assert_eq!(next(&mut came).await.as_deref(), Some(&b"abcd"[..]));
            assert_eq!(next(&mut came).await.as_deref(), Some(&b"efgh"[..]));
            if !endless {
                assert!(next(&mut came).await.is_none());
            }
        }
    }
}
