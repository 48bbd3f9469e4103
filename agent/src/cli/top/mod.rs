//! `sluice top`: what goes on, live in a terminal. It shows what `status`, the store and /proc say; it changes nothing.
//!
//! One thread gathers, this one draws and reads keys, so that a large store never holds up a key. The terminal is put back
//! at `q`, at an error, at a panic and at the signals that end a process.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use super::filter::default_store;
use super::identity::Reading;
use super::show::{self, Bodies, How};
use super::table::Look;
use super::{DaemonAt, Failure};
use crate::look::item::Item;
use crate::record::read::whole::{self, Which};

mod draw;
mod gather;
mod state;

use state::{Asked, State};

/// How long a key is waited for before what has come meanwhile is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of bodies of the exchange that is looked at.
const BODIES: usize = 4 << 20;
/// Lines of it that can be scrolled through.
const LINES: usize = 20_000;

/// A live view of tagged processes, exchanges, rates and verdicts, in a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice top
  sluice top --store /mnt/copy       a store that no daemon writes

Keys: 1 2 3 or Tab for exchanges, tags, processes; arrows or j k, PgUp PgDn; Enter for one exchange whole, or for the
exchanges of a tag; Esc back; space halts; q ends.")]
pub struct TopArgs {
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

impl TopArgs {
    /// Shows it until it is ended.
    ///
    /// # Errors
    /// stdin or stdout is no terminal, or the terminal broke.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            let why = "it needs a terminal".to_owned();
            let remedy = "sluice status and sluice sessions print what is now".to_owned();
            return Err(Failure { why, remedy, code: 2 }.into());
        }
        self.reading.record(daemon, &self.store, "top".to_owned());
        let ended = endings()?;
        let gathered = gather::begin(daemon.clone(), self.store.clone());
        let mut terminal = ratatui::try_init()?;
        let shown = self.show(&mut terminal, &gathered, &ended);
        // What is shown meanwhile is no more of use; what broke it comes first.
        let restored = ratatui::try_restore();
        shown?;
        restored?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(
        &self,
        terminal: &mut DefaultTerminal,
        gathered: &Receiver<gather::Now>,
        ended: &Receiver<()>,
    ) -> io::Result<()> {
        let mut state = State::new(Look::of_stdout().colour);
        loop {
            match gathered.try_recv() {
                Ok(now) => state.take(now),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("the gathering thread ended"));
                }
            }
            terminal.draw(|frame| draw::draw(frame, &mut state))?;
            if !matches!(ended.try_recv(), Err(TryRecvError::Empty)) {
                return Ok(());
            }
            if !event::poll(TICK)? {
                continue;
            }
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match state.key(key) {
                Asked::Nothing => {}
                Asked::End => return Ok(()),
                Asked::Exchange(id, number) => {
                    state.detail(format!("{id}/{number}"), self.exchange(&id, number));
                }
            }
        }
    }

    /// One exchange as `sluice show` has it, line by line.
    fn exchange(&self, id: &str, number: u32) -> Vec<String> {
        let access = match self.reading.access(&self.store) {
            Ok(access) => access,
            Err(failure) => return vec![failure.to_string()],
        };
        let session = match whole::read(&self.store, id, Which::One(number), BODIES, &access) {
            Ok(session) => session,
            Err(error) => return vec![error.to_string()],
        };
        let mut out = Vec::new();
        let (begin, tls) = (session.begin.clone(), session.tls.clone());
        let how = How { bodies: Bodies::Pretty, colour: false };
        // Writing into memory does not fail.
        let _ = show::session_text(&mut out, id, begin.as_ref(), tls.as_ref());
        for item in Item::of_session(session) {
            let _ = show::exchange_text(&mut out, &item, how);
        }
        String::from_utf8_lossy(&out).lines().take(LINES).map(str::to_owned).collect()
    }
}

/// Says when a signal asks to end: then the terminal is put back first.
fn endings() -> io::Result<Receiver<()>> {
    let (said, ended) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let signals = {
        let _entered = runtime.enter();
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()]
            .into_iter()
            .map(signal)
            .collect::<io::Result<Vec<_>>>()?
    };
    std::thread::spawn(move || {
        let waits = signals.into_iter().map(|mut signal| Box::pin(async move { signal.recv().await }));
        runtime.block_on(futures_util::future::select_all(waits));
        // Nobody listens when it is over anyway.
        let _ = said.send(());
    });
    Ok(ended)
}
