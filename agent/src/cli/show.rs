//! `sluice show`: one session or exchange whole. Everything in it was written by a caller or a server, so nothing of it
//! reaches the terminal as a control character, and a body's lines are indented so that they cannot pose as ours.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::filter::default_store;
use super::identity::Reading;
use super::sessions::{damaged, unreadable};
use super::table;
use crate::record::headers::Stored;
use crate::record::payload::{Kept, SessionBegin};
use crate::record::read::unseal::{Access, Hidden};
use crate::record::read::whole::{self, Exchange, Headers, NotFound, Session, Which};
use crate::record::visible::{Keep, visible};
use crate::record::{Direction, TlsFacts};
use crate::types::Caller;

mod body;

use body::{Body, as_json};

/// Exchanges of a session that are shown at once.
const EXCHANGES: u32 = 100;
/// Bytes of bodies that are shown at once.
const BODIES: usize = 64 << 20;
/// Bytes of a binary body that are shown in hex.
const HEX: usize = 32;

/// Shows a session with its exchanges, or one exchange.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sluice show 01JZ8Q4T9V          a session, by the beginning of its id
  sluice show 01JZ8Q4T9V/3        its third exchange
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
    /// The store, or a copy of one
    #[arg(long, value_name = "DIR", default_value_os_t = default_store())]
    store: PathBuf,
    #[command(flatten)]
    reading: Reading,
}

fn id(text: &str) -> Result<(String, Option<u32>), String> {
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
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let which = self.id.1.map_or(Which::First(EXCHANGES), Which::One);
        let budget = if self.headers_only { 0 } else { BODIES };
        let access = if self.headers_only { Access::none() } else { self.reading.access(&self.store)? };
        let session = match whole::read(&self.store, &self.id.0, which, budget, &access) {
            Ok(session) => session,
            Err(NotFound::Unreadable(error)) => return Ok(unreadable(&error)),
            Err(error @ NotFound::None(_)) => {
                return Ok(failed(&error.to_string(), "sluice sessions lists those that are"));
            }
            Err(error @ NotFound::Several { .. }) => {
                return Ok(failed(&error.to_string(), "give more of the id"));
            }
        };
        if let Some(number) = self.id.1
            && session.exchanges.is_empty()
        {
            let had = format!("the session has no exchange {number}; it has {}", session.more);
            return Ok(failed(&had, "sluice show ID shows them all"));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        let printed = if self.json {
            writeln!(out, "{}", as_json(&session, self.headers_only))
        } else {
            as_text(&mut out, &session, self.headers_only)
        };
        match printed.and_then(|()| out.flush()) {
            Err(error) if !table::nobody_reads(&error) => Err(anyhow::Error::new(error).context("stdout")),
            _ => Ok(damaged(&session.damage)),
        }
    }
}

fn failed(what: &str, remedy: &str) -> ExitCode {
    eprintln!("sluice: {what}\n  {remedy}");
    ExitCode::FAILURE
}

fn line(text: &str) -> std::borrow::Cow<'_, str> {
    visible(text, Keep::Nothing)
}

fn as_text(out: &mut impl Write, session: &Session, headers_only: bool) -> io::Result<()> {
    match &session.begin {
        Some(begin) => begin_text(out, begin)?,
        None => writeln!(out, "session   its begin is no more in the store")?,
    }
    if let Some(tls) = &session.tls {
        tls_text(out, &tls.facts)?;
    }
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
    for (number, exchange) in &session.exchanges {
        writeln!(out)?;
        exchange_text(out, *number, exchange, headers_only)?;
    }
    if session.more > 0 && session.exchanges.len() > 1 {
        writeln!(out, "\n{} more exchange(s): name one with /N", session.more)?;
    }
    Ok(())
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

fn exchange_text(
    out: &mut impl Write,
    number: u32,
    exchange: &Exchange,
    headers_only: bool,
) -> io::Result<()> {
    let summary = exchange.end.as_ref().map(|end| &end.summary);
    let took = summary.and_then(|s| s.duration_us).map_or("no end is recorded".to_owned(), table::duration);
    match &exchange.head {
        Some(head) => {
            let rule = line(head.rule.as_deref().unwrap_or("-")).into_owned();
            writeln!(
                out,
                "exchange  {number} at {}, {took}, {} by rule {rule}",
                line(&head.time),
                head.verdict.as_str()
            )?;
            let method = head.method.as_deref().unwrap_or(&head.protocol);
            let path = head.path.as_deref().unwrap_or_default();
            writeln!(
                out,
                "> {} {}{}  ({})",
                line(method),
                line(&head.host),
                line(path),
                line(&head.protocol)
            )?;
            headers_text(out, '>', &head.headers, head.headers_cut)?;
        }
        None => writeln!(out, "exchange  {number}, {took}; its head is no more in the store")?,
    }
    body_text(out, exchange, Direction::Up, headers_only)?;
    for response in &exchange.responses {
        writeln!(out, "< {}  at {}", response.status, line(&response.time))?;
        headers_text(out, '<', &response.headers, response.headers_cut)?;
    }
    body_text(out, exchange, Direction::Down, headers_only)?;
    if let Some(error) = summary.and_then(|s| s.error.as_deref()) {
        writeln!(out, "error     {}", line(error))?;
    }
    Ok(())
}

fn headers_text(out: &mut impl Write, mark: char, headers: &Headers, cut: usize) -> io::Result<()> {
    for (name, value) in headers {
        match value {
            Stored::Text(text) => writeln!(out, "{mark} {}: {}", line(name), line(text))?,
            Stored::Raw { base64 } => {
                writeln!(out, "{mark} {}: (no text, in Base64) {}", line(name), line(base64))?
            }
        }
    }
    if cut > 0 {
        writeln!(out, "{mark} … {cut} more header(s) were not kept")?;
    }
    Ok(())
}

/// A body and its trailers.
fn body_text(
    out: &mut impl Write,
    exchange: &Exchange,
    direction: Direction,
    headers_only: bool,
) -> io::Result<()> {
    let body = Body::of(exchange, direction);
    if !headers_only && body.kept.total > 0 {
        let hidden = body.hidden.map_or(0, |(_, bytes)| bytes);
        match body.text() {
            _ if hidden > 0 && body.bytes.is_empty() => {}
            Some(text) => {
                for row in visible(text, Keep::Lines).lines() {
                    writeln!(out, "  {row}")?;
                }
            }
            None => {
                let hex: Vec<String> = body.bytes.iter().take(HEX).map(|b| format!("{b:02x}")).collect();
                let coding = body.coding.map(|c| format!(" in {}", line(c))).unwrap_or_default();
                writeln!(out, "  ({} bytes{coding}, no text: {} …)", body.bytes.len(), hex.join(" "))?;
            }
        }
        let (shown, Kept { kept, total }) = (body.bytes.len() as u64, body.kept);
        if kept < total {
            writeln!(out, "  (the first {kept} of {total} bytes were kept)")?;
        }
        if let Some((why, bytes)) = body.hidden {
            writeln!(out, "  (body {})", not_shown(why, bytes))?;
        }
        if shown + hidden < kept {
            writeln!(
                out,
                "  ({} bytes are not shown: it is too much at once, name one exchange with /N)",
                kept - shown - hidden
            )?;
        }
    } else if body.kept.total > 0 {
        writeln!(out, "  ({} bytes)", body.kept.total)?;
    }
    let mark = if direction == Direction::Up { '>' } else { '<' };
    for trailers in exchange.trailers.iter().filter(|t| t.direction == direction) {
        writeln!(out, "{mark} (trailers)")?;
        headers_text(out, mark, &trailers.headers, trailers.headers_cut)?;
    }
    Ok(())
}

fn not_shown(why: Hidden, bytes: u64) -> String {
    let bytes = thousands(bytes);
    match why {
        Hidden::Sealed => format!("sealed: {bytes} bytes; give --identity FILE"),
        Hidden::Erased => format!("erased: {bytes} bytes; their key was destroyed"),
        Hidden::Deleted => format!("deleted: {bytes} bytes went with an old segment"),
        Hidden::Damaged => format!("damaged: {bytes} bytes are not what was written, or cannot be read"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::body::exchange_json;
    use super::*;
    use crate::record::payload::Response;
    use serde_json::Value;

    fn exchange(down: &[u8]) -> Exchange {
        let response = Response {
            session: "01J".into(),
            exchange: 1,
            time: "2026-01-02T03:04:05.000006Z".to_owned(),
            status: 200,
            headers: vec![("x\x1b".to_owned(), Stored::Text("a\x1b]0;owned\x07".into()))],
            headers_cut: 2,
        };
        Exchange { responses: vec![response], down: down.to_vec(), ..Exchange::default() }
    }

    fn text(down: &[u8]) -> String {
        let mut out = Vec::new();
        exchange_text(&mut out, 1, &exchange(down), false).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_server_cannot_drive_the_terminal_or_pose_as_us() {
        let shown = text("one\r\n< 500\x1b[2J\u{202e}\ntwo".as_bytes());
        assert!(!shown.contains(['\x1b', '\x07', '\u{202e}', '\r']), "{shown:?}");
        assert!(shown.contains("\n  < 500\\x1b[2J\\u{202e}\n  two\n"), "{shown}");
        assert!(
            shown.contains("< x\\x1b: a\\x1b]0;owned\\x07\n< … 2 more header(s) were not kept\n"),
            "{shown}"
        );
    }

    #[test]
    fn binary_is_summarised_and_text_cut_in_a_character_stays_text() {
        assert!(text(&[0x1f, 0x8b, 0, 1]).contains("  (4 bytes, no text: 1f 8b 00 01 …)"));
        assert!(text(&"bü".as_bytes()[..2]).contains("\n  b\n"));
        let value = exchange_json(1, &exchange(&"bü".as_bytes()[..2]), false);
        assert_eq!(value["response"]["body"]["base64"], "YsM=");
        assert_eq!(exchange_json(1, &exchange(b"hi"), false)["response"]["body"]["text"], "hi");
        assert_eq!(exchange_json(1, &exchange(b"hi"), true)["response"]["body"]["text"], Value::Null);
    }

    #[test]
    fn ids() {
        assert_eq!(id("01JZ/3"), Ok(("01JZ".to_owned(), Some(3))));
        for bad in ["", "/1", "01/0", "01/x", "0_1", &"0".repeat(27)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
