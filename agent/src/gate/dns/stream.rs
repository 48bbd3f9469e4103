//! Questions over TCP (RFC 7766): a connection to a name server that we answer ourselves instead of dialling.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Asker, Services, answer};
use crate::codec::dns::{self, MAX_QUESTION, OTHER, Rcode};

/// A connection without a question under way is closed after so long (RFC 7766 §6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long the rest of a question may take, and a client to read a reply.
const WITHIN: Duration = Duration::from_secs(10);
/// Questions under way on one connection; beyond it the next is not read.
const AT_ONCE: usize = 16;

/// Why a connection ended but by the client's closing.
#[derive(Debug, thiserror::Error)]
pub(in crate::gate) enum Error {
    #[error("reading a question")]
    Read(#[source] io::Error),
    #[error("sending a reply")]
    Send(#[source] io::Error),
    #[error("a question of {0} bytes")]
    TooLong(u16),
    #[error("what came is no question")]
    Noise,
    #[error("the client does not read its replies")]
    Stuck,
}

/// Answers the questions of one connection, each when its answer is there, until the client closes, says nothing for a
/// while, or the drain begins.
pub(in crate::gate) async fn serve(
    client: Arc<TcpStream>,
    asker: &Asker,
    services: &Services,
) -> Result<(), Error> {
    let mut client = crate::stream::Socket::new(client, Arc::new(services.store.clone()));
    let mut under_way = FuturesUnordered::new();
    let mut question = Reading::default();
    loop {
        let idle = under_way.is_empty();
        tokio::select! {
            Some(reply) = under_way.next() => send(&mut client, reply).await?,
            read = question.read(&mut client), if under_way.len() < AT_ONCE => match read? {
                Some(bytes) => under_way.push(place_and_answer(services, asker, bytes)),
                None => break,
            },
            () = services.drain.begun(), if idle => return Ok(()),
            () = tokio::time::sleep(IDLE), if idle => return Ok(()),
        }
    }
    // Half-closed: what was asked is still answered.
    while let Some(reply) = under_way.next().await {
        send(&mut client, reply).await?;
    }
    timeout(WITHIN, client.shutdown()).await.map_err(|_| Error::Stuck)?.map_err(Error::Send)
}

async fn place_and_answer(services: &Services, asker: &Asker, bytes: Vec<u8>) -> Option<Vec<u8>> {
    // Over TCP a question waits for its place.
    let _place = services.dns.places.acquire().await.ok()?;
    let Some(_share) = services.dns.shares.enter(&asker.caller.tag) else {
        let question = dns::read_question(&bytes).ok()?;
        return Some(
            question.error(Rcode::ServFail, Some((OTHER, "the tag asks too many questions at once"))),
        );
    };
    answer(services, asker, &bytes, false).await
}

/// A question that arrives piece by piece: what was read survives the cancelling of the read.
#[derive(Default)]
struct Reading(Vec<u8>);

impl Reading {
    /// `None`: the client closed between questions.
    async fn read(&mut self, client: &mut crate::stream::Socket) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let wanted = match self.0[..] {
                [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => 2,
            };
            if wanted > 2 + MAX_QUESTION {
                return Err(Error::TooLong(u16::try_from(wanted - 2).unwrap_or(u16::MAX)));
            }
            if wanted > 2 && self.0.len() == wanted {
                return Ok(Some(std::mem::take(&mut self.0).split_off(2)));
            }
            if wanted == 2 && self.0.len() == 2 {
                return Err(Error::Noise);
            }
            let begun = !self.0.is_empty();
            let mut room = vec![0; wanted - self.0.len()];
            let read = client.read(&mut room);
            let n = if begun {
                timeout(WITHIN, read).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
            } else {
                read.await
            };
            match n.map_err(Error::Read)? {
                0 if begun => return Err(Error::Read(io::ErrorKind::UnexpectedEof.into())),
                0 => return Ok(None),
                n => self.0.extend_from_slice(&room[..n]),
            }
        }
    }
}

async fn send(client: &mut crate::stream::Socket, reply: Option<Vec<u8>>) -> Result<(), Error> {
    let reply = reply.ok_or(Error::Noise)?;
    let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&reply);
    let sending = async {
        client.write_all(&framed).await?;
        client.flush().await
    };
    timeout(WITHIN, sending).await.map_err(|_| Error::Stuck)?.map_err(Error::Send)
}
