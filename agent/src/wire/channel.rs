//! The socket pair itself: whole messages, one file descriptor at most beside each.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use zeroize::{Zeroize as _, Zeroizing};

use super::MAX;

/// Why a message did not pass. `Io` and `Decode` end the conversation; what cannot be said (`Encode`, `TooLong`) was not
/// sent, and the rest goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("the warden-gate channel failed")]
    Io(#[source] io::Error),
    /// What came is no message of ours.
    #[error("a warden-gate message cannot be read")]
    Decode(#[source] postcard::Error),
    /// What was to be sent cannot be written down.
    #[error("a warden-gate message cannot be encoded")]
    Encode(#[source] postcard::Error),
    /// A message was longer than [`MAX`].
    #[error("a warden-gate message of {0} bytes is longer than {MAX}")]
    TooLong(usize),
}

/// A connected pair of ends, close-on-exec. Both outlive neither process: when one ends, the other reads an end.
///
/// # Errors
/// What `socketpair` says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// One end, for use under tokio. Messages are whole, so any number of tasks may send at once; one receives.
pub struct Channel {
    // A sequenced-packet socket in a datagram's clothes: tokio has no type for it and only send and receive are used.
    socket: UnixDatagram,
}

impl Channel {
    /// Takes an end. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be registered.
    pub fn new(end: OwnedFd) -> io::Result<Self> {
        let socket = StdDatagram::from(end);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixDatagram::from_std(socket)? })
    }

    /// The end that it was made of.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends one message, with `fd` beside it if given. Waits while the other side is behind (bound: the socket's
    /// buffer).
    ///
    /// # Errors
    /// [`Error`]; a peer that is gone is `Io` with `EPIPE`.
    pub async fn send<T: Serialize>(&self, message: &T, fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let bytes = Zeroizing::new(encode(message)?);
        loop {
            self.socket.writable().await.map_err(Error::Io)?;
            match self.socket.try_io(Interest::WRITABLE, || write(self.socket.as_fd(), &bytes, fd)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map_err(Error::Io),
            }
        }
    }

    /// Receives the next message; `None` when the other side is gone.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>, Error> {
        let mut buffer = vec![0; MAX];
        loop {
            self.socket.readable().await.map_err(Error::Io)?;
            match self.socket.try_io(Interest::READABLE, || read(self.socket.as_fd(), &mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return decode(&mut buffer, other.map_err(Error::Io)?),
            }
        }
    }
}

/// Receives the next message on a blocking socket: for the gate before its runtime and its sandbox exist.
///
/// # Errors
/// [`Error`].
pub fn receive_blocking<T: DeserializeOwned>(
    end: BorrowedFd<'_>,
) -> Result<Option<(T, Option<OwnedFd>)>, Error> {
    let mut buffer = vec![0; MAX];
    let got = read(end, &mut buffer).map_err(Error::Io)?;
    decode(&mut buffer, got)
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    // Measured first: a buffer that grows leaves copies of a secret behind.
    let length = postcard::experimental::serialized_size(message).map_err(Error::Encode)?;
    if length > MAX {
        return Err(Error::TooLong(length));
    }
    let mut bytes = vec![0; length];
    postcard::to_slice(message, &mut bytes).map_err(Error::Encode)?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(
    buffer: &mut [u8],
    (length, fd): (usize, Option<OwnedFd>),
) -> Result<Option<(T, Option<OwnedFd>)>, Error> {
    // No message of ours is empty: zero bytes is the end of the stream.
    if length == 0 {
        return Ok(None);
    }
    let decoded = postcard::from_bytes(&buffer[..length]).map_err(Error::Decode);
    // It may have held a secret.
    buffer[..length].zeroize();
    Ok(Some((decoded?, fd)))
}

fn write(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            received = fds.last(); // space for one: any other was closed by the kernel
        }
    }
    Ok((got.bytes, received))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::super::{ToGate, ToWarden};
    use super::*;
    use crate::types::NetnsCookie;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_whole_and_in_order() {
        let (a, b) = pair().expect("socket pair");
        let (a, b) = (Channel::new(a).expect("channel"), Channel::new(b).expect("channel"));
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "through the socket").expect("write");
        let handle = File::open(file.path()).expect("open");

        a.send(&ToGate::Listener { netns: NetnsCookie(1) }, Some(handle.as_fd())).await.expect("send");
        a.send(&ToGate::Drain { grace_ms: 7 }, None).await.expect("send");
        let (message, fd) = b.receive::<ToGate>().await.expect("receive").expect("a message");
        assert!(matches!(message, ToGate::Listener { netns: NetnsCookie(1) }));
        let mut text = String::new();
        File::from(fd.expect("a descriptor")).read_to_string(&mut text).expect("read");
        assert_eq!(text, "through the socket");
        let (message, fd) = b.receive::<ToGate>().await.expect("receive").expect("a message");
        assert!(matches!(message, ToGate::Drain { grace_ms: 7 }) && fd.is_none());

        b.send(&ToWarden::Trouble("x".repeat(MAX)), None).await.expect_err("too long to send");
        drop(b);
        assert!(a.receive::<ToWarden>().await.expect("end").is_none());
    }
}
