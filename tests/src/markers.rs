//! Jobs that try to get a marker out in every plain way for as long as they live (`clients/markers.py`), and what of a
//! capture is a stranger's.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::capture::{Frame, Packet};
use crate::client;
use crate::harness::{World, address};
use crate::netns::{AGENT_V4, AGENT_V6};
use crate::process::{PATIENCE, eventually};

/// What no frame may bear that does not come from the agent.
pub const MARKER: &str = "marker-7f3a9c51d2";

/// A job that tries, and how many answers it got.
#[derive(Debug)]
pub struct Job {
    child: Child,
    answered: PathBuf,
}

impl Job {
    /// Starts one by `command`, which runs python3; `name` is its own in the world.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(world: &World, name: &str, mut command: Command) -> Result<Self> {
        let answered = world.space().dir().join(format!("answered-{name}"));
        command.arg(client::program("markers.py")).arg(MARKER).arg(&answered).arg("www.example.test");
        command.args(["six.example.test", "nobody.example.test"].map(|host| address(host).to_string()));
        Ok(Self { child: command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?, answered })
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        fs::metadata(&self.answered).map_or(0, |file| file.len())
    }

    /// Waits for `more` answers than there are now.
    ///
    /// # Errors
    /// They do not come.
    pub fn goes_on(&self, more: u64) -> Result<()> {
        let had = self.answers();
        let came = eventually(PATIENCE, || Ok((self.answers() >= had + more).then_some(())))?;
        came.with_context(|| format!("{} answers more, {more} were wanted", self.answers() - had))
    }

    /// Lets it end.
    ///
    /// # Errors
    /// It ended badly or not at all.
    pub fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        match eventually(PATIENCE, || Ok(self.child.try_wait()?))? {
            Some(status) => ensure!(status.success(), "the job ended with {status}"),
            None => bail!("the job does not end"),
        }
        Ok(())
    }
}

/// Not from the agent, and not the link's own business.
pub fn is_stranger(frame: &Frame) -> bool {
    let from_agent =
        |packet: Packet| [IpAddr::from(AGENT_V4), IpAddr::from(AGENT_V6)].contains(&packet.source);
    !frame.is_neighbourly() && !frame.packet().is_some_and(from_agent)
}
