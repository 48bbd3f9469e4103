//! A TCP socket of the line.
//!
//! Small writes wait for the end of the worker's turn (see [`turn`]), as if the kernel had taken them: a failure shows
//! at the next use, as it does there. At most [`HELD`] bytes wait; what is larger goes out at once, after what waits.
//! Whatever goes out, what is [`Ahead`] of it comes first.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::turn::{self, Ahead, Due};

/// Bytes of a socket that wait at most.
const HELD: usize = 16 * 1024;

/// A socket that somebody else may look at while its bytes flow: see `broken` in the gate's session.
pub struct Socket(Arc<Out>);

/// The writing half, which the end of a turn finds.
struct Out {
    io: Arc<TcpStream>,
    ahead: Arc<dyn Ahead>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// It is on the list of the turn.
    listed: bool,
    /// The kernel did not take all of it: its writer must come back, and is woken for that.
    stuck: bool,
    failed: Option<io::Error>,
    writer: Option<Waker>,
}

impl Socket {
    /// `io`, to be read and written here only; `ahead` is passed before each write.
    pub fn new(io: Arc<TcpStream>, ahead: Arc<dyn Ahead>) -> Self {
        Self(Arc::new(Out { io, ahead, waiting: Mutex::default() }))
    }

    /// Ready when nothing waits that the kernel has refused once.
    fn poll_unstuck(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = waiting.failed.take() {
            return Poll::Ready(Err(error));
        }
        if waiting.stuck { self.poll_out(waiting, cx) } else { Poll::Ready(Ok(())) }
    }

    /// Who only reads drives on what is stuck, too: nobody may be left to flush it.
    fn unstick(&self, cx: &mut Context<'_>) {
        let mut waiting = self.0.waiting();
        if waiting.stuck
            && let Poll::Ready(Err(error)) = self.poll_out(&mut waiting, cx)
        {
            waiting.fail(error);
        }
    }

    /// Ready when nothing waits any more.
    fn poll_out(&self, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.0.write(waiting) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.io.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Waiting {
    /// Nothing more leaves; whoever writes next is told.
    fn fail(&mut self, error: io::Error) {
        self.bytes = Vec::new();
        self.stuck = false;
        self.failed = Some(error);
    }
}

impl Out {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every holder leaves the value whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits; the error is "would block" when some of it stays.
    fn write(&self, waiting: &mut Waiting) -> io::Result<()> {
        if waiting.bytes.is_empty() {
            return Ok(());
        }
        self.ahead.pass()?;
        let mut written = 0;
        let result = loop {
            if written == waiting.bytes.len() {
                break Ok(());
            }
            match self.io.try_write(&waiting.bytes[written..]) {
                Ok(n) => written += n,
                Err(error) => break Err(error),
            }
        };
        waiting.stuck = result.is_err();
        if result.is_ok() {
            // An idle connection holds no buffer.
            waiting.bytes = Vec::new();
        } else {
            waiting.bytes.drain(..written);
        }
        result
    }
}

impl Due for Out {
    fn end(&self) {
        let mut waiting = self.waiting();
        waiting.listed = false;
        let Err(error) = self.write(&mut waiting) else { return };
        if error.kind() != io::ErrorKind::WouldBlock {
            waiting.fail(error);
        }
        let writer = waiting.writer.take();
        drop(waiting);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Its owner has said all: what the kernel does not take now, it would not have taken before either.
        let _ = self.0.write(&mut self.0.waiting());
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        turn::look();
        self.unstick(cx);
        let io = &self.0.io;
        loop {
            ready!(io.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let mut got = None;
            // Less than there was room for: the socket is empty. Said as "would block", it is believed without asking the
            // kernel once more; what arrives meanwhile is a new event (epoll is edge-triggered here).
            let read = io.try_io(Interest::READABLE, || {
                let n = rustix::net::recv(&**io, &mut *room, RecvFlags::empty())?.0;
                got = Some(n);
                if n > 0 && n < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (got, read) {
                (Some(n), _) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.waiting();
        self.poll_unstuck(&mut waiting, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.waiting();
        ready!(self.poll_unstuck(&mut waiting, cx))?;
        ready!(self.poll_out(&mut waiting, cx))?;
        Poll::Ready(rustix::net::shutdown(&*self.0.io, rustix::net::Shutdown::Write).map_err(Into::into))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        turn::look();
        let mut waiting = self.0.waiting();
        ready!(self.poll_unstuck(&mut waiting, cx))?;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if waiting.bytes.len() + length <= HELD && (waiting.listed || turn::wait(&self.0)) {
            waiting.listed = true;
            bufs.iter().for_each(|buf| waiting.bytes.extend_from_slice(buf));
            if !waiting.writer.as_ref().is_some_and(|writer| writer.will_wake(cx.waker())) {
                waiting.writer = Some(cx.waker().clone());
            }
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_out(&mut waiting, cx))?;
        self.0.ahead.pass()?;
        loop {
            ready!(self.0.io.poll_write_ready(cx))?;
            match self.0.io.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts, and fails where `limit` is reached.
    struct Counted {
        passes: AtomicU32,
        limit: u32,
    }

    impl Ahead for Counted {
        fn pass(&self) -> io::Result<()> {
            let before = self.passes.fetch_add(1, Ordering::SeqCst);
            if before < self.limit { Ok(()) } else { Err(io::Error::other("not recorded")) }
        }
    }

    /// A socket on a thread whose turns end, and its peer, which does not wait.
    #[expect(clippy::disallowed_methods, reason = "a test's own connection over loopback")]
    async fn pair(limit: u32) -> (Socket, std::net::TcpStream, Arc<Counted>) {
        turn::end();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
        let io = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connects");
        let peer = listener.accept().expect("accepted").0;
        peer.set_nonblocking(true).expect("nonblocking");
        let ahead = Arc::new(Counted { passes: AtomicU32::new(0), limit });
        (Socket::new(Arc::new(io), Arc::clone(&ahead) as Arc<dyn Ahead>), peer, ahead)
    }

    fn nothing(peer: &mut std::net::TcpStream) {
        let read = peer.read(&mut [0; 64]);
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    }

    fn exactly(peer: &mut std::net::TcpStream, length: usize) -> Vec<u8> {
        peer.set_nonblocking(false).expect("blocking");
        let mut bytes = vec![0; length];
        peer.read_exact(&mut bytes).expect("all of it");
        peer.set_nonblocking(true).expect("nonblocking");
        bytes
    }

    #[tokio::test]
    async fn what_is_written_leaves_at_the_end_of_the_turn() {
        let (mut socket, mut peer, ahead) = pair(u32::MAX).await;
        socket.write_all(b"one ").await.expect("taken");
        socket.write_all(b"two").await.expect("taken");
        socket.flush().await.expect("nothing is stuck");
        nothing(&mut peer);
        assert_eq!(ahead.passes.load(Ordering::SeqCst), 0);
        turn::end();
        assert_eq!(exactly(&mut peer, 7), b"one two");
        assert_eq!(ahead.passes.load(Ordering::SeqCst), 1, "before it left");
        turn::end();
        nothing(&mut peer);
    }

    #[tokio::test]
    async fn nothing_leaves_that_what_is_ahead_of_it_does_not_let_pass() {
        let (mut socket, mut peer, _) = pair(1).await;
        socket.write_all(b"recorded").await.expect("taken");
        turn::end();
        assert_eq!(exactly(&mut peer, 8), b"recorded");
        socket.write_all(b"not recorded").await.expect("taken");
        turn::end();
        nothing(&mut peer);
        assert_eq!(socket.flush().await.expect_err("failed").to_string(), "not recorded");
        let large = vec![7; HELD + 1];
        assert!(socket.write(&large).await.is_err());
        drop(socket);
        assert_eq!(peer.read(&mut [0; 64]).expect("closed"), 0);
    }

    #[tokio::test]
    async fn a_large_write_leaves_at_once_behind_what_waits() {
        let (mut socket, mut peer, ahead) = pair(u32::MAX).await;
        socket.write_all(b"small").await.expect("taken");
        let large = vec![b'L'; HELD + 1];
        socket.write_all(&large).await.expect("written");
        assert_eq!(exactly(&mut peer, 5 + large.len()), [b"small", &large[..]].concat());
        assert_eq!(ahead.passes.load(Ordering::SeqCst), 2);
        socket.write_all(b"last words").await.expect("taken");
        drop(socket);
        assert_eq!(exactly(&mut peer, 10), b"last words", "a socket that goes says them");
    }

    #[tokio::test]
    async fn a_shutdown_comes_behind_what_waits() {
        let (mut socket, mut peer, _) = pair(u32::MAX).await;
        socket.write_all(b"bye").await.expect("taken");
        socket.shutdown().await.expect("shut");
        assert_eq!(exactly(&mut peer, 3), b"bye");
        assert_eq!(peer.read(&mut [0; 1]).expect("end"), 0);
    }

    #[tokio::test]
    async fn a_reader_who_is_slow_gets_every_byte_in_order() {
        let (mut socket, mut peer, _) = pair(u32::MAX).await;
        let total = 8_usize << 20;
        let reader = std::thread::spawn(move || exactly(&mut peer, total));
        let mut sent = 0;
        while sent < total {
            let chunk: Vec<u8> = (sent..total.min(sent + 1000)).map(|at| (at % 251) as u8).collect();
            socket.write_all(&chunk).await.expect("taken");
            socket.flush().await.expect("flushed");
            sent += chunk.len();
            if sent % 7 == 0 {
                turn::end();
            }
        }
        socket.shutdown().await.expect("shut");
        let got = reader.join().expect("reader");
        assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }

    #[tokio::test]
    async fn what_is_stuck_goes_on_for_one_who_only_reads() {
        let (mut socket, mut peer, _) = pair(u32::MAX).await;
        let mut sent = 0_usize;
        // Full: the kernel takes nothing more, and what is taken last waits.
        while !socket.0.waiting().stuck {
            socket.write_all(&[7; 4096]).await.expect("taken");
            sent += 4096;
            turn::end();
        }
        let reader = std::thread::spawn(move || exactly(&mut peer, sent).len());
        let mut byte = [0; 1];
        let reading = socket.read(&mut byte);
        let read = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
        assert_eq!(read.expect("the peer closes when it has all").expect("closed"), 0);
        assert_eq!(reader.join().expect("reader"), sent);
    }
}
