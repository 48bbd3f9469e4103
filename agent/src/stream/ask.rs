//! One question over HTTP/1.1 and its answer, held whole: what the gate asks on its own behalf.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::report::Chain;

/// Octets of an answer's head.
const HEAD_MAX: usize = 16 * 1024;

/// Asks, and reads an answer of at most so many bytes. The connection ends with it.
///
/// # Errors
/// Why there is no answer, in a sentence that has nothing of the question's or the answer's body.
pub async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Once>,
    most: usize,
) -> Result<Response<Zeroizing<Vec<u8>>>, String> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Chain(&error).to_string())?;
    let mut exchange = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(|error| Chain(&error).to_string())?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, whole(body, most).await?))
    });
    // Both ends of one conversation in one task: it ends with it.
    let ended = tokio::select! {
        biased;
        replied = &mut exchange => return replied,
        ended = connection => ended,
    };
    // A server that answers and closes at once (gunicorn does) ends the connection before its answer was looked at; what
    // came of it is kept for us, and what did not is an error there.
    match (exchange.await, ended) {
        (Err(_), Err(error)) => Err(Chain(&error).to_string()),
        (replied, _) => replied,
    }
}

async fn whole(mut body: Incoming, most: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let too_long = || format!("its answer is longer than {most} bytes");
    let told =
        usize::try_from(body.size_hint().lower()).ok().filter(|told| *told <= most).ok_or_else(too_long)?;
    // Never moved by growing, where a copy would stay behind: what is not told of is taken for the most.
    let room = if body.size_hint().exact().is_some() { told } else { most };
    let mut read = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| format!("its answer broke off: {}", Chain(&error)))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > most {
                return Err(too_long());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

/// A body that is there.
pub struct Once(Option<Bytes>);

impl Once {
    /// Of these bytes.
    pub fn of(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
