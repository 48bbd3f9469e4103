//! Where in a JSON text we are: which fields go as a whole, and which texts go on from event to event.

use std::sync::{Arc, LazyLock};

use super::{How, Role};
use crate::mask::Plan;
use crate::mask::body::{Joins, mixed};
use crate::mask::text::path::{Action, Paths, Steps};

/// Longest name that is compared; a longer one is no field's but `*`.
const NAME: usize = 256;
/// Longest string that tells which text a piece belongs to.
const TELLS_MOST: usize = 1024;

/// Where texts stand that go on: in the events of OpenAI (chat, completions, responses), Anthropic, Gemini, Mistral and Cohere.
const EVENTS: &[&str] = &[
    "$.choices[*].delta.content",
    "$.choices[*].delta.content[*].text",
    "$.choices[*].delta.reasoning_content",
    "$.choices[*].delta.reasoning",
    "$.choices[*].delta.refusal",
    "$.choices[*].delta.tool_calls[*].function.arguments",
    "$.choices[*].delta.function_call.arguments",
    "$.choices[*].text",
    "$.delta",
    "$.delta.text",
    "$.delta.partial_json",
    "$.delta.thinking",
    "$.delta.message.content.text",
    "$.candidates[*].content.parts[*].text",
    "$.completion",
    "$.message.content",
    "$.response",
];
/// In lines: of Ollama, and those of the above that are served so. More would join what does not belong together.
const LINES: &[&str] = &[
    "$.message.content",
    "$.message.thinking",
    "$.response",
    "$.choices[*].delta.content",
    "$.choices[*].text",
    "$.candidates[*].content.parts[*].text",
];
/// What tells texts apart that stand in the same place.
const TELLS: [&[u8]; 5] = [b"index", b"output_index", b"content_index", b"summary_index", b"item_id"];
/// What tells at the root what an event is of: texts of several kinds stand in one place (`$.delta`).
const KIND: &[u8] = b"type";

static EVENT_PATHS: LazyLock<Paths> = LazyLock::new(|| joined(EVENTS));
static LINE_PATHS: LazyLock<Paths> = LazyLock::new(|| joined(LINES));
static NO_PATHS: LazyLock<Paths> = LazyLock::new(Paths::default);

fn joined(paths: &[&str]) -> Paths {
    let mut all = Paths::default();
    for (at, path) in paths.iter().enumerate() {
        all.add(path, Action::Join(at as u64)).expect("the paths above are paths, and few");
    }
    all
}

/// What is known where an object or list has begun.
#[derive(Default)]
struct Level {
    fields: Steps,
    joins: Steps,
    place: u32,
    /// The sum of what tells texts apart.
    tells: u64,
    /// What the event is of, at the root.
    kind: u64,
    /// How many texts of the event had begun.
    pending: usize,
}

/// Follows the names and places of a JSON text.
pub struct Track {
    pub plan: Option<Arc<Plan>>,
    joins: &'static Paths,
    /// Whether there is anything to be followed.
    pub on: bool,
    levels: Vec<Level>,
    name: Vec<u8>,
    /// What the next value is for, and what may come in it: of fields, of texts that go on.
    action: Option<Action>,
    inside: (Steps, Steps),
    /// What tells texts apart, as far as it has come, and how long that is.
    tells: Option<(u64, usize)>,
    /// Whether that is what the event is of.
    is_kind: bool,
}

impl Track {
    pub fn new(plan: Option<Arc<Plan>>, how: How) -> Self {
        let joins = match how {
            How::Whole => &*NO_PATHS,
            How::Line => &*LINE_PATHS,
            How::Event => &*EVENT_PATHS,
        };
        let on = how != How::Whole || plan.as_ref().is_some_and(|plan| !plan.paths.is_empty());
        let mut track = Self {
            plan,
            joins,
            on,
            levels: Vec::new(),
            name: Vec::new(),
            action: None,
            inside: Default::default(),
            tells: None,
            is_kind: false,
        };
        track.renew();
        track
    }

    /// Another text begins.
    pub fn renew(&mut self) {
        self.levels.clear();
        self.action = None;
        let fields = self.plan.as_ref().map_or_else(Steps::default, |plan| plan.paths.begin());
        self.inside = (fields, self.joins.begin());
        self.tells = None;
    }

    /// A value begins in a list: its place tells what it is for.
    pub fn place(&mut self) {
        let Some(level) = self.levels.last_mut().filter(|_| self.on) else { return };
        let place = level.place;
        level.place += 1;
        let fields = self.plan.as_ref().map(|plan| plan.paths.place_of(&level.fields, place));
        let joins =
            if self.joins.is_empty() { Default::default() } else { self.joins.place_of(&level.joins, place) };
        self.next(fields.unwrap_or_default(), joins);
        self.tells = None;
    }

    /// A field's name has come whole.
    pub fn named(&mut self) {
        let Some(level) = self.levels.last().filter(|_| self.on) else { return };
        let fields = self.plan.as_ref().map(|plan| plan.paths.name_of(&level.fields, &self.name));
        let mut joins = Default::default();
        if !self.joins.is_empty() {
            joins = self.joins.name_of(&level.joins, &self.name);
            let tells = TELLS.iter().position(|tells| **tells == *self.name);
            self.is_kind = self.levels.len() == 1 && self.name == KIND;
            self.tells = tells.map(|which| (which as u64 + 1, 0)).or(self.is_kind.then_some((0, 0)));
        }
        self.next(fields.unwrap_or_default(), joins);
        self.name.clear();
    }

    /// What a path of a field says comes before what one of a text that goes on says.
    fn next(&mut self, fields: (Option<Action>, Steps), joins: (Option<Action>, Steps)) {
        self.action = fields.0.or(joins.0);
        self.inside = (fields.1, joins.1);
    }

    /// The field that the next value is.
    pub fn field(&self) -> Option<usize> {
        match self.action {
            Some(Action::Field(at)) if self.on => Some(at),
            _ => None,
        }
    }

    /// What the string is that begins.
    pub fn role(&self) -> Role {
        match self.action {
            _ if !self.on => Role::Value,
            Some(Action::Field(_)) => Role::Field,
            Some(Action::Join(_)) => Role::Join,
            None if self.tells.is_some() => Role::Tells,
            None => Role::Value,
        }
    }

    /// What is known, where it begins, of the text that goes on.
    pub fn key(&self) -> u64 {
        let path = match self.action {
            Some(Action::Join(path)) => path,
            _ => 0,
        };
        self.levels.iter().fold(path + 1, |key, level| mixed(key, u64::from(level.place)))
    }

    /// The same with what has come of what tells texts apart: most of it comes before them.
    pub fn known(&self) -> u64 {
        self.levels.iter().fold(self.key(), |key, level| mixed(mixed(key, level.tells), level.kind))
    }

    /// Whether the text that goes on is JSON in pieces: the arguments of a tool.
    pub fn holds_json(&self) -> bool {
        let path = match self.action {
            Some(Action::Join(path)) if std::ptr::eq(self.joins, &*EVENT_PATHS) => EVENTS.get(path as usize),
            _ => None,
        };
        path.is_some_and(|path| path.ends_with(".arguments") || path.ends_with(".partial_json"))
    }

    /// An object or list begins.
    pub fn open(&mut self, joins: &Joins) {
        if self.on {
            let ((fields, inner), pending) = (self.inside, joins.pending());
            self.levels.push(Level { fields, joins: inner, pending, ..Level::default() });
        }
    }

    /// It ends: what tells texts apart in it has come.
    pub fn close(&mut self, joins: &mut Joins) {
        if let Some(level) = self.levels.pop() {
            joins.fold(level.pending, level.tells);
        }
    }

    /// The event's texts must be known now: all that is known of them is.
    pub fn fold(&mut self, joins: &mut Joins) {
        for level in self.levels.iter_mut().rev() {
            joins.fold(level.pending, level.tells);
            level.pending = 0;
        }
    }

    /// More of a name, or of what tells texts apart.
    pub fn note(&mut self, role: Role, text: &[u8]) {
        match role {
            Role::Name if self.on && self.name.len() <= NAME => {
                self.name.extend_from_slice(&text[..text.len().min(NAME + 1 - self.name.len())]);
            }
            Role::Tells => {
                if let Some((sum, length)) = &mut self.tells {
                    *sum = text.iter().fold(*sum, |sum, byte| mixed(sum, u64::from(*byte)));
                    *length += text.len();
                }
            }
            _ => {}
        }
    }

    /// What tells texts apart has come; order does not count.
    pub fn told(&mut self) {
        if let (Some((sum, _)), Some(level)) = (self.tells.take(), self.levels.last_mut()) {
            let all = if self.is_kind { &mut level.kind } else { &mut level.tells };
            *all = all.wrapping_add(sum);
        }
    }

    /// Whether what tells texts apart is on its way, and not too long.
    pub fn is_telling(&self) -> bool {
        self.tells.is_some_and(|(_, length)| length <= TELLS_MOST)
    }

    /// Bytes of memory that it has taken.
    pub fn memory(&self) -> usize {
        self.levels.capacity() * size_of::<Level>() + self.name.capacity()
    }
}
