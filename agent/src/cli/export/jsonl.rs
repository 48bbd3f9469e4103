//! JSON lines: one exchange a line, with all that is recorded of it. `docs/export.md` has the fields.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Exporter, Said};
use crate::cli::show::exchange_json;
use crate::look::body::put;
use crate::look::item::Item;
use crate::look::llm::Conversation;
use crate::look::messages::{Timed, both_ways};
use crate::look::plain;
use crate::record::payload::stamp;
use time::OffsetDateTime;

/// See the module.
pub struct JsonLines;

impl Exporter for JsonLines {
    fn add(&mut self, out: &mut dyn Write, item: &Item) -> io::Result<Said> {
        let mut line = exchange_json(item.summary.exchange, &item.exchange, false);
        line["summary"] = json!(item.summary);
        line["session"] = json!(item.session);
        line["tls"] = json!(item.tls);
        if item.is_websocket() {
            line["websocket"] = both_ways(item).into_iter().map(message).collect();
        }
        if let Some(conversation) = Conversation::of(&item.exchange) {
            line["conversation"] = json!(conversation);
        }
        plain::write(out, &line)?;
        out.write_all(b"\n")?;
        Ok(Said::Yes)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn message(timed: Timed) -> Value {
    let time = OffsetDateTime::from_unix_timestamp_nanos(timed.at).map(stamp).ok();
    let direction = if timed.down { "down" } else { "up" };
    let mut value = json!({"direction": direction, "time": time, "kind": timed.message.kind(),
        "opcode": timed.message.opcode, "cut": timed.message.cut});
    put(&mut value, &timed.message.data);
    value
}
