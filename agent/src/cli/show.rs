//! `sluice show`: one session or exchange whole. Everything in it was written by a caller or a server, so nothing of it
//! reaches the terminal as a control character, and a body's lines are indented so that they cannot pose as ours.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::DaemonAt;
use super::filter::default_store;
use super::identity::Reading;
use super::sessions::{damaged, unreadable};
use super::table::{self, Look};
use crate::look::item::Item;
use crate::look::plain;
use crate::record::TlsFacts;
use crate::record::payload::{SessionBegin, Tls};
use crate::record::read::unseal::Access;
use crate::record::read::whole::{self, NotFound, Session, Which};
use crate::record::visible::{Keep, visible};
use crate::types::Caller;

mod bodies;
mod exchange;
mod json;

pub(super) use exchange::exchange_text;
pub(super) use exchange::{Bodies, How};
use json::as_json;
pub(super) use json::exchange_json;

/// Exchanges of a session that are shown at once.
const EXCHANGES: u32 = 100;
/// Bytes of bodies that are shown at once.
const BODIES: usize = 64 << 20;
/// Shows a session with its exchanges, or one exchange.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice show 01JZ8Q4T9V          a session, by the beginning of its id
  sluice show 01JZ8Q4T9V/3        its third exchange
  sluice show 01JZ8Q4T9V/3 --raw  its bodies as they were recorded
  sluice show 01JZ8Q4T9V/3 --json | jq -r .exchanges[0].response.body.text")]
pub struct ShowArgs {
    /// The session's id or its beginning, and /N for one exchange
    #[arg(value_name = "ID[/N]", value_parser = id)]
    id: (String, Option<u32>),
    /// One JSON object; bodies as text where they are text, else in Base64
    #[arg(long)]
    json: bool,
    /// Without bodies
    #[arg(long)]
    headers_only: bool,
    /// Bodies as they were recorded: coded, on one line, streams in pieces
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

/// Reads `ID` or `ID/N`.
///
/// # Errors
/// What may be written.
pub(super) fn id(text: &str) -> Result<(String, Option<u32>), String> {
    let (id, number) = match text.split_once('/') {
        Some((id, number)) => {
            let number = number.parse().ok().filter(|n| *n > 0);
            (id, Some(number.ok_or_else(|| format!("{text:?}: an exchange is a number from 1 after the /"))?))
        }
        None => (text, None),
    };
    let good = (1..=26).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if good {
        Ok((id.to_owned(), number))
    } else {
        Err(format!("{text:?} is no session id: see `sluice sessions`"))
    }
}

impl ShowArgs {
    /// Prints it.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn run(self, daemon: &DaemonAt) -> anyhow::Result<ExitCode> {
        if !self.headers_only {
            let number = self.id.1.map(|number| format!("/{number}")).unwrap_or_default();
            self.reading.record(daemon, &self.store, format!("show {}{number}", self.id.0));
        }
        let which = self.id.1.map_or(Which::First(EXCHANGES), Which::One);
        let budget = if self.headers_only { 0 } else { BODIES };
        let access = if self.headers_only { Access::none() } else { self.reading.access(&self.store)? };
        let mut session = match whole::read(&self.store, &self.id.0, which, budget, &access) {
            Ok(session) => session,
            Err(error) => return Ok(not_found(&error)),
        };
        if let Some(number) = self.id.1
            && session.exchanges.is_empty()
        {
            let had = format!("the session has no exchange {number}; it has {}", session.more);
            return Ok(failed(&had, "sluice show ID shows them all"));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let mut damage = Vec::new();
        let printed = if self.json {
            damage.clone_from(&session.damage);
            plain::write(&mut out, &as_json(&session, self.headers_only)).and_then(|()| writeln!(out))
        } else {
            let bodies = match (self.headers_only, self.raw) {
                (true, _) => Bodies::Left,
                (false, true) => Bodies::Raw,
                (false, false) => Bodies::Pretty,
            };
            damage = std::mem::take(&mut session.damage);
            as_text(&mut out, session, How { bodies, colour: Look::of_stdout().colour })
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if !table::nobody_reads(&error) => Err(anyhow::Error::new(error).context("stdout")),
            _ => Ok(damaged(&damage)),
        }
    }
}

/// Says on stderr why a session is not shown.
pub(super) fn not_found(error: &NotFound) -> ExitCode {
    match error {
        NotFound::Unreadable(error) => unreadable(error),
        NotFound::None(_) => failed(&error.to_string(), "sluice sessions lists those that are"),
        NotFound::Several { .. } => failed(&error.to_string(), "give more of the id"),
    }
}

pub(super) fn failed(what: &str, remedy: &str) -> ExitCode {
    eprintln!("sluice: {what}\n  {remedy}");
    ExitCode::FAILURE
}

fn line(text: &str) -> std::borrow::Cow<'_, str> {
    visible(text, Keep::Nothing)
}

fn as_text(out: &mut impl Write, session: Session, how: How) -> io::Result<()> {
    session_text(out, "-", session.begin.as_ref(), session.tls.as_ref())?;
    match (&session.end, session.interrupted) {
        (Some(end), _) => {
            let error = end.error.as_deref().map(|e| format!(": {}", line(e))).unwrap_or_default();
            writeln!(
                out,
                "ended     {} after {}, {} exchange(s){error}",
                end.time,
                table::duration(end.duration_us),
                end.exchanges
            )?;
        }
        (None, Some(why)) => writeln!(out, "ended     {why}")?,
        (None, None) => writeln!(out, "ended     not yet")?,
    }
    let more = session.more;
    let items = Item::of_session(session);
    for item in &items {
        writeln!(out)?;
        exchange_text(out, item, how)?;
    }
    if more > 0 && items.len() > 1 {
        writeln!(out, "\n{more} more exchange(s): name one with /N")?;
    }
    Ok(())
}

/// Who, where to, and the TLS legs.
pub(super) fn session_text(
    out: &mut impl Write,
    id: &str,
    begin: Option<&SessionBegin<Caller>>,
    tls: Option<&Tls<'static>>,
) -> io::Result<()> {
    match begin {
        Some(begin) => begin_text(out, begin)?,
        None => writeln!(out, "session   {} its begin is no more in the store", line(id))?,
    }
    tls.map_or(Ok(()), |tls| tls_text(out, &tls.facts))
}

/// One exchange, wherever it was read from.
pub(super) fn item_text(out: &mut impl Write, item: &Item) -> io::Result<()> {
    exchange_text(out, item, How { bodies: Bodies::Pretty, colour: false })
}

fn begin_text(out: &mut impl Write, begin: &SessionBegin<Caller>) -> io::Result<()> {
    let caller = &begin.caller;
    let exe = caller.exe.as_ref().map_or(caller.comm.as_str(), |exe| exe.path.as_str());
    let user = caller.user.as_ref().map(|user| format!(" ({})", line(user))).unwrap_or_default();
    writeln!(out, "session   {} begun {}", line(&begin.session), line(&begin.time))?;
    writeln!(out, "caller    {} pid {} uid {}{user} tag {}", line(exe), caller.pid, caller.uid, caller.tag)?;
    writeln!(out, "in        {} unit {}", line(&caller.cgroup), line(caller.unit.as_deref().unwrap_or("-")))?;
    if let Some(id) = &caller.container {
        let runtime = line(caller.container_runtime.as_deref().unwrap_or("-"));
        let image = line(caller.image.as_deref().unwrap_or("-"));
        writeln!(out, "container {} by {runtime} image {image}", line(id))?;
    }
    if let Some(inode) = caller.netns {
        writeln!(out, "network   its own namespace, net:[{inode}]; dialled from there")?;
    }
    match caller.weakened.as_deref() {
        None => {}
        Some([]) => writeln!(out, "enforced  full")?,
        Some(reasons) => {
            let reasons: Vec<_> = reasons.iter().map(|r| r.as_str()).collect();
            writeln!(out, "enforced  weakened: {} (sluice doctor explains)", reasons.join(", "))?;
        }
    }
    writeln!(out, "to        {} from {}", begin.destination, begin.client)
}

fn tls_text(out: &mut impl Write, facts: &TlsFacts) -> io::Result<()> {
    writeln!(
        out,
        "tls       verified for {}, asked for {}",
        line(&facts.verified_name),
        line(facts.sni.as_deref().unwrap_or("-"))
    )?;
    for (name, leg) in [("client", &facts.client), ("upstream", &facts.upstream)] {
        let resumed = if leg.resumed { " resumed" } else { "" };
        let alpn = leg.alpn.as_deref().unwrap_or("-");
        writeln!(
            out,
            "  {name:<8} {} {} {} alpn {}{resumed}",
            line(&leg.version),
            line(&leg.suite),
            line(&leg.group),
            line(alpn)
        )?;
    }
    writeln!(out, "  leaf    {} upstream, SHA-256", line(&facts.upstream_leaf_sha256))?;
    writeln!(out, "  issued  {}", line(&facts.issued_leaf_sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(id("01JZ/3"), Ok(("01JZ".to_owned(), Some(3))));
        for bad in ["", "/1", "01/0", "01/x", "0_1", &"0".repeat(27)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
