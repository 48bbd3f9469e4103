//! Bodies for people, by their types. Every line is indented, so that none can pose as ours, and made visible, so that none
//! drives the terminal.

use std::io::{self, Write};

use super::exchange::{Bodies, How};
use super::line;
use crate::look::body::{self, Body};
use crate::look::item::Item;
use crate::look::llm::{Conversation, Part, Turn};
use crate::look::messages::both_ways;
use crate::look::{pretty, sse};
use crate::record::Direction;
use crate::record::visible::{Keep, visible};

/// Bytes of a binary body that are shown in hex.
const HEX: usize = 64;
/// Columns of a role, the gap behind it included.
const ROLE: usize = 11;

/// The request's.
pub fn request(
    out: &mut impl Write,
    item: &Item,
    conversation: Option<&Conversation>,
    how: How,
) -> io::Result<()> {
    let body = Body::of(&item.exchange, Direction::Up);
    match conversation {
        Some(conversation) => asked(out, conversation, how)?,
        None => shown(out, item, &body, how)?,
    }
    cut(out, &body, how)
}

/// The answer's; a WebSocket's messages stand here, both ways.
pub fn answer(
    out: &mut impl Write,
    item: &Item,
    conversation: Option<&Conversation>,
    how: How,
) -> io::Result<()> {
    let body = Body::of(&item.exchange, Direction::Down);
    match conversation.and_then(|conversation| conversation.answer.as_ref()) {
        Some(answer) => {
            answer.turns.iter().try_for_each(|one| turn(out, one, how))?;
            let tokens = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
            let (input, output) = (tokens(answer.input_tokens), tokens(answer.output_tokens));
            let finish = line(&answer.finish.join(", ")).into_owned();
            writeln!(out, "  (ended: {finish}; tokens: {input} in, {output} out)")?;
        }
        None if item.is_websocket() && how.bodies == Bodies::Pretty => messages(out, item, how)?,
        None => shown(out, item, &body, how)?,
    }
    cut(out, &body, how)
}

/// What is not here of it.
fn cut(out: &mut impl Write, body: &Body<'_>, how: How) -> io::Result<()> {
    let (here, kept, total) = (body.bytes.len() as u64, body.kept.kept, body.kept.total);
    if how.bodies == Bodies::Left {
        return if total > 0 { writeln!(out, "  ({total} bytes)") } else { Ok(()) };
    }
    if kept < total {
        writeln!(out, "  (the first {kept} of {total} bytes were kept)")?;
    }
    if let Some(why) = body.unread() {
        writeln!(out, "  ({why})")?;
    }
    let hidden = body.hidden.map_or(0, |(_, bytes)| bytes);
    if here + hidden < kept {
        let missing = kept - here - hidden;
        writeln!(
            out,
            "  ({missing} bytes are not shown: it is too much at once, name one exchange with /N)"
        )?;
    }
    Ok(())
}

fn shown(out: &mut impl Write, item: &Item, body: &Body<'_>, how: How) -> io::Result<()> {
    if body.bytes.is_empty() {
        return Ok(());
    }
    match how.bodies {
        Bodies::Left => Ok(()),
        Bodies::Raw => plain(out, body.bytes, body.coding()),
        // Its bytes are frames: the messages stand with the answer.
        Bodies::Pretty if item.is_websocket() => Ok(()),
        Bodies::Pretty => by_type(out, body, how),
    }
}

fn by_type(out: &mut impl Write, body: &Body<'_>, how: How) -> io::Result<()> {
    let decoded = body.decoded();
    let still_coded = if decoded.coding.is_none() { body.coding() } else { None };
    match body::text(&decoded.bytes) {
        Some(text) if body.is_events() => {
            sse::all(text.as_bytes()).iter().try_for_each(|event| self::event(out, event, how))?
        }
        Some(text) if body.media() == "application/x-www-form-urlencoded" => {
            indented(out, &pretty::form(text))?
        }
        Some(text) => {
            match pretty::json(text, how.colour).filter(|_| body.is_json() || body.media().is_empty()) {
                Some(json) => indented(out, &json)?,
                None => plain(out, &decoded.bytes, still_coded)?,
            }
        }
        None => plain(out, &decoded.bytes, still_coded)?,
    }
    if let Some(coding) = decoded.coding {
        writeln!(
            out,
            "  ({} undone: {} bytes were {})",
            line(coding),
            body.bytes.len(),
            decoded.bytes.len()
        )?;
    }
    decoded.trouble.map_or(Ok(()), |trouble| writeln!(out, "  ({})", line(&trouble)))
}

/// Text of which nothing drives a terminal any more.
fn indented(out: &mut impl Write, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|row| writeln!(out, "  {row}"))
}

/// As it is: text line by line, else the head of its bytes.
fn plain(out: &mut impl Write, bytes: &[u8], coding: Option<&str>) -> io::Result<()> {
    if let Some(text) = body::text(bytes) {
        return indented(out, &visible(text, Keep::Lines));
    }
    let coding = coding.map(|coding| format!(" in {}", line(coding))).unwrap_or_default();
    writeln!(out, "  ({} bytes{coding}, no text)", bytes.len())?;
    for (at, row) in bytes[..bytes.len().min(HEX)].chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            row.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
        writeln!(out, "  {:08x}  {:<47}  {text}", at * 16, hex.join(" "))?;
    }
    if bytes.len() > HEX { writeln!(out, "  …") } else { Ok(()) }
}

fn event(out: &mut impl Write, event: &sse::Event, how: How) -> io::Result<()> {
    let name = if event.name.is_empty() { "message" } else { &event.name };
    let id = event.id.as_ref().map(|id| format!(" (id {})", line(id))).unwrap_or_default();
    writeln!(out, "  event {}{id}", line(name))?;
    said(out, &event.data, 4, how)
}

/// Words of many lines: JSON as such, other text as it is.
fn said(out: &mut impl Write, text: &str, indent: usize, how: How) -> io::Result<()> {
    let json = if text.starts_with(['{', '[']) { pretty::json(text, how.colour) } else { None };
    let text = json.map_or_else(|| visible(text, Keep::Lines), Into::into);
    text.lines().try_for_each(|row| writeln!(out, "{:indent$}{row}", ""))
}

fn messages(out: &mut impl Write, item: &Item, how: How) -> io::Result<()> {
    for timed in both_ways(item) {
        let (mark, message) = (if timed.down { '<' } else { '>' }, &timed.message);
        match body::text(&message.data).filter(|_| message.opcode != 2) {
            Some(text) => {
                writeln!(out, "  {mark} {}", message.kind())?;
                said(out, text, 4, how)?;
            }
            None => {
                writeln!(out, "  {mark} {} of {} bytes", message.kind(), message.data.len())?;
                if message.opcode != 8 {
                    plain(out, &message.data, None)?;
                }
            }
        }
        if message.cut {
            writeln!(out, "    (longer than is shown)")?;
        }
    }
    Ok(())
}

fn asked(out: &mut impl Write, conversation: &Conversation, how: How) -> io::Result<()> {
    let model = line(conversation.model.as_deref().unwrap_or("-")).into_owned();
    let streamed = if conversation.streamed { ", streamed" } else { "" };
    writeln!(out, "  {}, model {model}{streamed}", conversation.api.as_str())?;
    if !conversation.tools.is_empty() {
        writeln!(out, "  {:ROLE$}{}", "tools", line(&conversation.tools.join(", ")))?;
    }
    conversation.asked.iter().try_for_each(|one| turn(out, one, how))
}

/// One turn: its role once, and everything of it behind that column.
fn turn(out: &mut impl Write, turn: &Turn, how: How) -> io::Result<()> {
    let role = line(&turn.role).into_owned();
    if turn.parts.is_empty() {
        return writeln!(out, "  {role:ROLE$}(nothing)");
    }
    for part in &turn.parts {
        let (what, text) = match part {
            Part::Text { content } => (String::new(), content.as_str()),
            Part::Reasoning { content } => ("thinks".to_owned(), content.as_str()),
            Part::ToolCall { id, name, arguments } => {
                (format!("calls {} ({})", line(name), line(id)), arguments.as_str())
            }
            Part::ToolCallResponse { id, response } => (format!("answers ({})", line(id)), response.as_str()),
            Part::Other { kind } => (format!("({})", line(kind)), ""),
        };
        let mut text_out = Vec::new();
        said(&mut text_out, text, ROLE + 2, how)?;
        if what.is_empty() {
            // The first line stands beside the role.
            write!(out, "  {role:ROLE$}")?;
            let first = text_out.get(ROLE + 2..).unwrap_or(b"\n");
            out.write_all(first)?;
        } else {
            writeln!(out, "  {role:ROLE$}{what}")?;
            out.write_all(&text_out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::exchange::exchange_text;
    use super::super::json::exchange_json;
    use super::*;
    use crate::record::headers::Stored;
    use crate::record::payload::Response;
    use crate::record::read::list;
    use crate::record::read::whole::Exchange;
    use serde_json::Value;

    fn item(media: &str, down: &[u8]) -> Item {
        let headers = [("x\x1b", "a\x1b]0;owned\x07"), ("content-type", media)];
        let response = Response {
            session: "01J".into(),
            exchange: 1,
            time: "2026-01-02T03:04:05.000006Z".to_owned(),
            status: 200,
            headers: headers.map(|(n, v)| (n.to_owned(), Stored::Text(v.to_owned().into()))).into(),
            headers_cut: 2,
        };
        let exchange = Exchange { responses: vec![response], down: down.to_vec(), ..Exchange::default() };
        Item { session: None, tls: None, exchange, summary: list::summary_without_session("01J", 1) }
    }

    fn text(media: &str, down: &[u8], bodies: Bodies) -> String {
        let mut out = Vec::new();
        exchange_text(&mut out, &item(media, down), How { bodies, colour: false }).expect("a Vec takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_server_cannot_drive_the_terminal_or_pose_as_us() {
        let evil = "one\r\n< 500\x1b[2J\u{202e}\ntwo\u{9b}31m";
        let json = serde_json::to_string(&serde_json::json!({"a": evil, evil: [evil]})).expect("JSON");
        for bodies in [Bodies::Pretty, Bodies::Raw, Bodies::Left] {
            for media in [
                "",
                "text/plain",
                "application/json",
                "text/event-stream",
                "application/x-www-form-urlencoded",
            ] {
                for body in
                    [evil, &json, &format!("event: {evil}\ndata: {evil}\ndata: {json}\nid: {evil}\n\n")]
                {
                    let shown = text(media, body.as_bytes(), bodies);
                    assert!(!shown.contains(['\x1b', '\x07', '\u{202e}', '\u{9b}', '\r']), "{shown:?}");
                    assert!(!shown.contains("\n< 500"), "{shown}");
                }
            }
        }
        let shown = text("text/plain", evil.as_bytes(), Bodies::Pretty);
        assert!(shown.contains("\n  < 500\\x1b[2J\\u{202e}\n  two\\u{9b}31m\n"), "{shown}");
        assert!(shown.contains("< x\\x1b: a\\x1b]0;owned\\x07\n"), "{shown}");
        assert!(shown.contains("< … 2 more header(s) were not kept\n"), "{shown}");
    }

    #[test]
    fn turns_stay_behind_their_column() {
        let part = |content: &str| Part::Text { content: content.to_owned() };
        let call = Part::ToolCall {
            id: "i".to_owned(),
            name: "n\x1b".to_owned(),
            arguments: "{\"a\":1}".to_owned(),
        };
        let one = Turn { role: "user\n".to_owned(), parts: vec![part("hi\n> GET /\x1b[2J"), call, part("")] };
        let mut out = Vec::new();
        turn(&mut out, &one, How { bodies: Bodies::Pretty, colour: false }).expect("a Vec takes all");
        let want = "  user\\n     hi\n             > GET /\\x1b[2J\n  user\\n     calls n\\x1b (i)\n             {\n               \"a\": 1\n             }\n  user\\n     \n";
        assert_eq!(String::from_utf8(out).expect("text"), want);
    }

    #[test]
    fn by_types() {
        let pretty = |media: &str, body: &[u8]| text(media, body, Bodies::Pretty);
        assert!(
            pretty("application/json; charset=utf-8", b"{\"a\":1}").contains("\n  {\n    \"a\": 1\n  }\n")
        );
        assert!(text("application/json", b"{\"a\":1}", Bodies::Raw).contains("\n  {\"a\":1}\n"));
        assert!(pretty("application/json", b"{\"a\":").contains("\n  {\"a\":\n"), "what is no JSON stays");
        assert!(
            pretty("text/event-stream", b"event: x\ndata: {\"a\":1}\n\ndata: end")
                .contains("\n  event x\n    {\n      \"a\": 1\n    }\n  event message\n    end\n")
        );
        let binary = pretty("image/png", &[0x89, b'P', b'N', b'G', 0, 1]);
        assert!(binary.contains("  (6 bytes, no text)\n  00000000  89 50 4e 47 00 01"), "{binary}");
        assert!(binary.contains("  .PNG..\n"), "{binary}");
        assert!(pretty("", &"bü".as_bytes()[..2]).contains("\n  b\n"));
    }

    #[test]
    fn json_loses_nothing() {
        let down = |bytes: &[u8], heads| {
            exchange_json(1, &item("", bytes).exchange, heads)["response"]["body"].clone()
        };
        assert_eq!(down(&"bü".as_bytes()[..2], false)["base64"], "YsM=");
        assert_eq!(down(b"hi", false)["text"], "hi");
        assert_eq!(down(b"hi", true)["text"], Value::Null);
    }
}
