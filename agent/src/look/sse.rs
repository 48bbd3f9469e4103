//! Server-sent events (WHATWG HTML §9.2.6), read as they come: bytes in, whole events out.

/// Bytes of an event, or of one line, that are kept: what is longer is cut there.
const LONGEST: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty where none is said (then it is `message`).
    pub name: String,
    /// Its data: lines joined by line feeds.
    pub data: String,
    /// Its id, where it says one.
    pub id: Option<String>,
}

/// Reads a stream.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    event: Event,
    any: bool,
    /// The byte before ended a line with a carriage return.
    returned: bool,
    begun: bool,
}

impl Events {
    /// Some more bytes: the events that are whole with them.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut out = Vec::new();
        for byte in bytes {
            let after = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if after => {}
                b'\n' | b'\r' => out.extend(self.end_line()),
                _ if self.line.len() < LONGEST => self.line.push(*byte),
                _ => {}
            }
        }
        out
    }

    /// What was begun and not ended: clients let it go, who looks wants to see it.
    pub fn rest(mut self) -> Option<Event> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.any.then_some(self.event)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = if std::mem::replace(&mut self.begun, true) {
            &line
        } else {
            line.trim_start_matches('\u{feff}')
        };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.any).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" if self.event.data.len() + value.len() <= LONGEST => {
                if self.any {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.any = true;
            }
            // Comments (an empty field) and what is not known.
            _ => {}
        }
        None
    }
}

/// All events of a body, the unfinished last one with them.
pub fn all(bytes: &[u8]) -> Vec<Event> {
    let mut events = Events::default();
    let mut all = events.push(bytes);
    all.extend(events.rest());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_the_bytes_are_cut() {
        let stream = "\u{feff}: hello\r\nevent: a\r\ndata: one\r\ndata:two\r\n\r\nid: 7\rdata: {\"x\":1}\r\rdata\n\nnonsense\n\ndata: half";
        let event = |name: &str, data: &str, id: Option<&str>| Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: id.map(str::to_owned),
        };
        let want = [
            event("a", "one\ntwo", None),
            event("", "{\"x\":1}", Some("7")),
            event("", "", None),
            event("", "half", None),
        ];
        assert_eq!(all(stream.as_bytes()), want);
        for size in 1..9 {
            let mut events = Events::default();
            let mut got: Vec<Event> = stream.as_bytes().chunks(size).flat_map(|c| events.push(c)).collect();
            got.extend(events.rest());
            assert_eq!(got, want, "{size}");
        }
    }
}
