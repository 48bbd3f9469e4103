//! JSON as it passes, of whatever length, in a few hundred octets of memory: what it says of usage, and how much text it has.
//! No validator: what is no JSON gives nothing, or nonsense that [`Usage`] bounds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2;

use super::Usage;

/// Lists and objects inside one another; what is deeper is not looked at any more.
const DEPTH: usize = 128;
/// The longest name that matters is shorter.
const NAME: usize = 40;
/// An object that tells usage.
const USAGE: usize = 16 << 10;
/// Octets in base64 that hold a message of their own.
const BLOB: usize = 256 << 10;

/// What a member is, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    /// Tells usage.
    Usage,
    /// May have a member that tells usage.
    Shell,
    /// What the model has written.
    Text,
    /// A message in base64 (Amazon Bedrock).
    Blob,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b"usage" | b"usageMetadata" | b"amazon-bedrock-invocationMetrics" => Self::Usage,
            b"response" | b"message" | b"metadata" => Self::Shell,
            b"content" | b"text" | b"delta" | b"arguments" | b"partial_json" | b"thinking" | b"reasoning"
            | b"reasoning_content" | b"refusal" | b"output_text" | b"outputText" | b"completion"
            | b"generation" | b"input_json" | b"transcript" => Self::Text,
            b"bytes" => Self::Blob,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    List,
    /// With the name of the member that it is at.
    Object(Name),
}

/// Where in a text the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Counted,
    Blob,
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Scan {
    open: Vec<Open>,
    /// The next text is a member's name.
    at_name: bool,
    text: Option<Text>,
    /// The octet before was a backslash.
    escaped: bool,
    name: Vec<u8>,
    /// An object that tells usage, and how deep it stands.
    told: Option<(usize, Vec<u8>)>,
    blob: Vec<u8>,
    lost: bool,
    usage: Usage,
    written: u64,
}

impl Scan {
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Octets that the model has written, names and frames not counted.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// A message of its own begins.
    pub fn reset(&mut self) {
        let Self { usage, written, .. } = *self;
        let (open, name) = (std::mem::take(&mut self.open), std::mem::take(&mut self.name));
        *self = Self { open, name, usage, written, ..Self::default() };
        self.open.clear();
        self.name.clear();
    }

    /// Takes the message in base64 that the last one held, if it did.
    pub fn take_blob(&mut self) -> Option<Vec<u8>> {
        let blob = std::mem::take(&mut self.blob);
        STANDARD.decode(blob).ok().filter(|message| !message.is_empty())
    }

    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            let taken = match self.text {
                Some(text) => self.in_text(text, bytes),
                None => {
                    self.outside(bytes[0]);
                    1
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn in_text(&mut self, text: Text, bytes: &[u8]) -> usize {
        let (taken, ends) = match (self.escaped, memchr2(b'"', b'\\', bytes)) {
            (true, _) => {
                self.escaped = false;
                (1, false)
            }
            (false, Some(at)) => {
                self.escaped = bytes[at] == b'\\';
                (at + 1, bytes[at] == b'"')
            }
            (false, None) => (bytes.len(), false),
        };
        let inside = &bytes[..taken - usize::from(ends)];
        match text {
            Text::Name if self.name.len() <= NAME => {
                self.name.extend_from_slice(&inside[..inside.len().min(NAME + 1)]);
            }
            Text::Counted => self.written = self.written.saturating_add(inside.len() as u64),
            Text::Blob if self.blob.len() + inside.len() <= BLOB => self.blob.extend_from_slice(inside),
            Text::Blob => self.lost = true,
            Text::Name | Text::Other => {}
        }
        self.keep(&bytes[..taken]);
        if ends {
            self.text = None;
            if text == Text::Name
                && let Some(Open::Object(name)) = self.open.last_mut()
            {
                *name = Name::of(&self.name);
            }
        }
        taken
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.text = Some(match self.open.last() {
                    Some(Open::Object(_)) if self.at_name => {
                        self.name.clear();
                        Text::Name
                    }
                    _ => match self.member() {
                        Name::Text => Text::Counted,
                        Name::Blob if self.open.len() == 1 => Text::Blob,
                        _ => Text::Other,
                    },
                });
            }
            b'{' | b'[' => {
                if self.open.len() == DEPTH {
                    self.lost = true;
                    return;
                }
                if byte == b'{' && self.told.is_none() && self.tells() {
                    self.told = Some((self.open.len(), Vec::new()));
                }
                self.open.push(if byte == b'{' { Open::Object(Name::Other) } else { Open::List });
                self.at_name = byte == b'{';
            }
            b'}' | b']' => {
                self.open.pop();
                self.at_name = false;
            }
            b':' => self.at_name = false,
            b',' => self.at_name = matches!(self.open.last(), Some(Open::Object(_))),
            _ => {}
        }
        self.keep(&[byte]);
        if let Some((depth, told)) = &self.told
            && self.open.len() == *depth
        {
            self.usage.told(told);
            self.told = None;
        }
    }

    /// The innermost member that it is in.
    fn member(&self) -> Name {
        let object = |open: &Open| match open {
            Open::Object(name) => Some(*name),
            Open::List => None,
        };
        self.open.iter().rev().find_map(object).unwrap_or_default()
    }

    /// Whether an object that begins here tells usage: a member of the message, or of one that it is wrapped in.
    fn tells(&self) -> bool {
        let mut names = self.open.iter().skip_while(|open| **open == Open::List);
        match (names.next(), names.next(), names.next()) {
            (Some(Open::Object(Name::Usage)), None, _) => true,
            (Some(Open::Object(Name::Shell)), Some(Open::Object(Name::Usage)), None) => true,
            _ => false,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some((_, told)) = &mut self.told {
            if told.len() + bytes.len() > USAGE {
                self.told = None;
            } else {
                told.extend_from_slice(bytes);
            }
        }
    }
}
