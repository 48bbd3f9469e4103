//! One exchange for people: heads as they were, bodies as is asked.

use std::io::{self, Write};

use super::bodies;
use super::line;
use crate::cli::table;
use crate::look::item::Item;
use crate::look::llm::Conversation;
use crate::record::Direction;
use crate::record::headers::Stored;

/// What is done with bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    /// They are left out.
    Left,
    /// As recorded.
    Raw,
    /// By their types.
    Pretty,
}

/// How an exchange is shown.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Its bodies.
    pub bodies: Bodies,
    /// Colours are wanted.
    pub colour: bool,
}

/// All of an exchange.
pub fn exchange_text(out: &mut impl Write, item: &Item, how: How) -> io::Result<()> {
    let exchange = &item.exchange;
    let number = item.summary.exchange;
    let summary = exchange.end.as_ref().map(|end| &end.summary);
    let took = summary.and_then(|s| s.duration_us).map_or("no end is recorded".to_owned(), table::duration);
    match &exchange.head {
        Some(head) => {
            let rule = line(head.rule.as_deref().unwrap_or("-")).into_owned();
            let (time, verdict) = (line(&head.time), head.verdict.as_str());
            writeln!(out, "exchange  {number} at {time}, {took}, {verdict} by rule {rule}")?;
            let method = line(head.method.as_deref().unwrap_or(&head.protocol));
            let path = line(head.path.as_deref().unwrap_or_default());
            writeln!(out, "> {method} {}{path}  ({})", line(&head.host), line(&head.protocol))?;
            headers_text(out, '>', &head.headers, head.headers_cut)?;
        }
        None => writeln!(out, "exchange  {number}, {took}; its head is no more in the store")?,
    }
    let conversation = if how.bodies == Bodies::Pretty { Conversation::of(exchange) } else { None };
    bodies::request(out, item, conversation.as_ref(), how)?;
    trailers_text(out, item, Direction::Up)?;
    for response in &exchange.responses {
        writeln!(out, "< {}  at {}", response.status, line(&response.time))?;
        headers_text(out, '<', &response.headers, response.headers_cut)?;
    }
    bodies::answer(out, item, conversation.as_ref(), how)?;
    trailers_text(out, item, Direction::Down)?;
    match item.summary.error.as_deref() {
        Some(error) => writeln!(out, "error     {}", line(error)),
        None => Ok(()),
    }
}

fn headers_text(
    out: &mut impl Write,
    mark: char,
    headers: &[(String, Stored<'static>)],
    cut: usize,
) -> io::Result<()> {
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

fn trailers_text(out: &mut impl Write, item: &Item, direction: Direction) -> io::Result<()> {
    let mark = if direction == Direction::Up { '>' } else { '<' };
    for trailers in item.exchange.trailers.iter().filter(|t| t.direction == direction) {
        writeln!(out, "{mark} (trailers)")?;
        headers_text(out, mark, &trailers.headers, trailers.headers_cut)?;
    }
    Ok(())
}
