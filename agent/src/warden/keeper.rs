//! `sluice keep`: what is left of a warden that was restarted. It keeps the last gate while that drains beside the next
//! one: signs its leaves, sends its entries to the journal, and ends it when its time is over. It is the old binary, so the
//! two understand each other whatever the new one speaks.
//!
//! Not here: whose a connection is, sockets in other network namespaces. The gate has asked for all of that before it
//! stood aside; what it asks of it later (a name server's socket, for a caller in another namespace) is refused.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ca::{self, CertificateAuthority};
use super::journal::{self, Event, Journal};
use crate::report::Chain;
use crate::wire::{self, Channel, Signed, ToGate, ToWarden};

/// What it is told by the warden that starts it.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Directory of the CA.
    pub ca: PathBuf,
    /// The gate's process id.
    pub gate: i32,
    /// How long the gate may take.
    pub within: Duration,
}

/// Why the gate could not be kept. It ends itself when it hears.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA's key.
    #[error("the CA cannot be opened")]
    Ca(#[source] ca::Error),
    /// The journal's thread, or the runtime.
    #[error("the keeper's runtime failed")]
    Io(#[source] io::Error),
    /// The conversation with the gate.
    #[error("the gate cannot be understood")]
    Channel(#[source] wire::Error),
}

/// Keeps the gate on the other end of `channel` until it ends.
///
/// # Errors
/// [`Error`].
pub fn run(channel: OwnedFd, charge: &Charge) -> Result<(), Error> {
    let ca = CertificateAuthority::open(&charge.ca).map_err(Error::Ca)?;
    let journal = Journal::start(journal::socket::PATH.into()).map_err(Error::Io)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Io)?;
    let kept = runtime.block_on(async {
        let channel = Channel::new(channel).map_err(Error::Io)?;
        let kept = tokio::time::timeout(charge.within, keep(&channel, &ca, &journal)).await;
        kept.unwrap_or_else(|_| {
            journal
                .send(Event::Trouble("the last gate did not end within its drain time: killed".to_owned()));
            // While its end of the channel is open the number is still its own.
            kill(Pid::from_raw(charge.gate), Signal::SIGKILL).map_err(|errno| Error::Io(errno.into()))
        })
    });
    journal.close();
    kept
}

async fn keep(channel: &Channel, ca: &CertificateAuthority, journal: &Journal) -> Result<(), Error> {
    while let Some((message, _)) = channel.receive::<ToWarden>().await.map_err(Error::Channel)? {
        let Some(answer) = answer(message, ca, journal) else { continue };
        if let Err(error) = channel.send(&answer, None).await {
            tracing::debug!("answering the gate: {}", Chain(&error));
        }
    }
    Ok(())
}

fn answer(message: ToWarden, ca: &CertificateAuthority, journal: &Journal) -> Option<ToGate> {
    match message {
        ToWarden::SignLeaf { call, request } => {
            let leaf = ca.sign(&request).map_err(|refusal| Chain(&refusal).to_string());
            return Some(ToGate::Leaf { call, leaf });
        }
        ToWarden::Identify { call, .. } | ToWarden::Asker { call, .. } => {
            return Some(ToGate::Identified { call, identity: None });
        }
        ToWarden::Socket { call, .. } => {
            let refused = Some("the agent is being restarted".to_owned());
            return Some(ToGate::Socket { call, refused });
        }
        ToWarden::Secret { call, .. } => {
            let answer = Err("the agent is being restarted".to_owned());
            return Some(ToGate::Secret { call, answer });
        }
        ToWarden::Sign { call, .. } => return Some(ToGate::Checkpoint { call, signed: Ok(Signed::NotNow) }),
        ToWarden::Journal(summary) => journal.send(Event::Exchange(summary)),
        ToWarden::JournalFold { example, more } => journal.send(Event::Fold { example, more }),
        ToWarden::Trouble(text) => journal.send(Event::Trouble(text)),
        ToWarden::Store { refusing: Some(why), .. } => {
            journal.send(Event::Trouble(format!("the last gate's store takes no records: {why}")));
        }
        ToWarden::Ready
        | ToWarden::Alive
        | ToWarden::Sessions(_)
        | ToWarden::Masked(_)
        | ToWarden::Store { refusing: None, .. }
        | ToWarden::Forgotten { .. }
        | ToWarden::Aside { .. }
        | ToWarden::Fetched { .. }
        | ToWarden::Tested { .. }
        | ToWarden::Noted { .. }
        | ToWarden::Drained => {}
    }
    None
}
