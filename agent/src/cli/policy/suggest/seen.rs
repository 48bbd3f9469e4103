//! What was recorded, sorted by who did what where. Bounded: what does not fit is counted and never made broader.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::tree::{Seen, Tree};
use crate::cli::policy::template;
use crate::config::METHODS;
use crate::policy::llm::Llm;
use crate::policy::past::{Past, What};
use crate::record::read::each::Recorded;
use crate::types::Caller;
use crate::types::action::{Body, Http, KeptBody};

/// Different destinations of callers.
const PLACES: usize = 4096;
/// Nodes of all their trees of paths.
const NODES: usize = 32_768;
/// Nodes of one.
const NODES_EACH: usize = 4096;
/// Requests of one place that no pattern says and that are written out each; and of all.
const ODD: usize = 32;
const ODD_ALL: usize = 512;
/// Bytes of the longest path or method that is.
const ODD_LONGEST: usize = 1024;
/// Different methods at one path, models of one, addresses of one place.
const VALUES: usize = 64;
/// Bytes of the longest name of a model.
const MODEL: usize = 128;
/// Programs that are named in a comment.
const EXES: usize = 4;
/// Paths that are named in a comment.
const EXAMPLES: usize = 2;
/// Bytes of the longest.
const EXAMPLE: usize = 120;

/// Who, where to, and in which protocol: what one rule, or a few, are for. In order, so that the narrower rule stands first:
/// units before what has none, names before addresses, names with addresses before names alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Tag.
    pub tag: String,
    /// Whether there is no unit.
    pub apart: bool,
    /// systemd unit, where its name is one that comes again.
    pub unit: Option<String>,
    /// Where to.
    pub to: To,
    /// Port.
    pub port: u16,
    /// In which words.
    pub protocol: Protocol,
    /// Whether it is not the job alone that names the host, as it is in HTTP without TLS.
    pub proved: bool,
}

/// The other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// By name.
    Host(String),
    /// By address.
    Address(IpAddr),
}

/// Protocols that stand for each other: the two sides choose among them anew each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// WebSocket.
    WebSocket,
    /// gRPC.
    Grpc,
    /// What is not read.
    Tunnel,
}

/// What was done at one place.
#[derive(Debug, Default)]
pub struct Done {
    /// Requests by path, then by method.
    pub tree: Tree<ByMethod>,
    /// Requests that no pattern says, by method and path.
    pub odd: BTreeMap<(String, String), Use>,
    /// Tunnels.
    pub tunnels: Option<Use>,
    /// The addresses that the name stood for, where nothing proves it.
    pub addresses: BTreeSet<IpAddr>,
    /// Programs.
    pub exes: BTreeSet<String>,
    /// Every model.
    models: BTreeSet<Arc<str>>,
}

/// By method.
#[derive(Debug, Default, PartialEq)]
pub struct ByMethod(pub BTreeMap<String, Use>);

/// How often, when, and what for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Use {
    /// How often.
    pub count: u64,
    /// When first and last, as records bear times.
    pub first: String,
    /// See `first`.
    pub last: String,
    /// Some of the paths, without ids.
    pub examples: BTreeSet<String>,
    /// Models that were asked for.
    pub models: BTreeSet<Arc<str>>,
    /// Requests to a model of which the record does not know which.
    pub unknown: u64,
    /// Requests by a model's path that name none.
    pub modelless: u64,
    /// Requests that are none to a model.
    pub other: u64,
    /// Bytes of the longest body of those to a model.
    pub longest: u64,
}

/// What was seen, and what of it is in no rule.
#[derive(Debug, Default)]
pub struct Everything {
    /// By place.
    pub places: BTreeMap<Place, Done>,
    nodes: usize,
    odd: usize,
    /// What is suggested.
    pub taken: u64,
    /// Names that were looked up, which no rule has to allow.
    pub lookups: u64,
    /// What is left out, by why.
    pub left: BTreeMap<&'static str, u64>,
    /// When first and last.
    pub first: String,
    /// See `first`.
    pub last: String,
}

impl Everything {
    /// Counts what is in no rule.
    pub fn leave(&mut self, why: &'static str) {
        *self.left.entry(why).or_default() += 1;
    }

    /// Takes one exchange in.
    pub fn add(&mut self, recorded: &Recorded, past: &Past) {
        if let What::Lookup { .. } = past.what {
            self.lookups += 1;
            return;
        }
        match self.try_add(recorded, past) {
            Ok(()) => {
                self.taken += 1;
                let time = &recorded.summary.time;
                span(&mut self.first, &mut self.last, time, time);
            }
            Err(why) => self.leave(why),
        }
    }

    fn try_add(&mut self, recorded: &Recorded, past: &Past) -> Result<(), &'static str> {
        let (place, http) = match &past.what {
            What::Connect(_) | What::Name(..) | What::Lookup { .. } => {
                return Err("were refused before they asked for anything");
            }
            What::Tunnel(to, host) => {
                let to_host = host.as_ref().map(|host| To::Host(host.to_string()));
                let to_host = to_host.unwrap_or(To::Address(to.ip()));
                (place(&past.caller, to_host, to.port(), Protocol::Tunnel, true), None)
            }
            What::Request { http, .. } => {
                let to = http
                    .host
                    .as_ref()
                    .map_or(To::Address(http.destination.ip()), |host| To::Host(host.to_string()));
                let protocol = match &*http.protocol {
                    "websocket" => Protocol::WebSocket,
                    "grpc" => Protocol::Grpc,
                    _ => Protocol::Http,
                };
                let proved = recorded.verified || http.host.is_none();
                (place(&past.caller, to, http.destination.port(), protocol, proved), Some(http))
            }
        };
        let mut once = Use::once(&recorded.summary.time);
        let request =
            http.map(|http| Request::of(&http.http(), &http.body, past, recorded, &mut once)).transpose()?;
        if self.places.len() >= PLACES && !self.places.contains_key(&place) {
            return Err("go to more destinations than are kept");
        }
        let room = Room { nodes: NODES.saturating_sub(self.nodes), odd: ODD_ALL.saturating_sub(self.odd) };
        let address = http.map(|http| http.destination.ip()).filter(|_| !place.proved);
        let done = self.places.entry(place.clone()).or_default();
        let (nodes, odd) = (done.tree.nodes(), done.odd.len());
        let added = done.add(request, once, &room, address, &past.caller);
        self.nodes = self.nodes + done.tree.nodes() - nodes;
        self.odd = self.odd + done.odd.len() - odd;
        if added.is_err() && done.is_empty() {
            self.places.remove(&place);
        }
        added
    }
}

fn place(caller: &Caller, to: To, port: u16, protocol: Protocol, proved: bool) -> Place {
    // A scope is made anew each time, and so are numbered services.
    let lasting = |unit: &&String| {
        let stem = unit.strip_suffix(".service").unwrap_or("*");
        !template::segment(stem, None).contains('*') && !stem.bytes().all(|b| b.is_ascii_digit())
    };
    let unit = caller.unit.as_ref().filter(lasting).cloned();
    Place { tag: caller.tag.as_str().to_owned(), apart: unit.is_none(), unit, to, port, protocol, proved }
}

/// A request as far as a rule asks for it.
struct Request {
    method: String,
    path: String,
    /// As segments without ids, where a pattern says it.
    segments: Option<Vec<String>>,
}

impl Request {
    fn of(
        http: &Http<'_>,
        body: &KeptBody,
        past: &Past,
        recorded: &Recorded,
        once: &mut Use,
    ) -> Result<Self, &'static str> {
        if past.withheld.path {
            return Err("have a secret in their path, which the record does not have");
        }
        let known = METHODS.contains(&http.method);
        let connects = http.method == "CONNECT" && http.path.is_empty();
        let segments = if connects { Some(Vec::new()) } else { template::segments(http.path) };
        let segments = segments.filter(|_| known).map(|segments| {
            // The name of a method is no id, whatever it looks like.
            if http.protocol == "grpc" {
                http.path.split('/').skip(1).map(str::to_owned).collect()
            } else {
                segments
            }
        });
        once.model(http, body, recorded)?;
        if segments.is_none() && once.other == 0 {
            return Err("are to a model, by a method or path that no pattern says");
        }
        if let Some(segments) = &segments {
            let shown = template::pattern(segments);
            once.examples.insert(shown.chars().take(EXAMPLE).collect());
        }
        Ok(Self { method: http.method.to_owned(), path: http.path.to_owned(), segments })
    }
}

/// What still fits.
struct Room {
    nodes: usize,
    odd: usize,
}

impl Done {
    fn is_empty(&self) -> bool {
        self.tunnels.is_none() && self.odd.is_empty() && self.tree.is_empty()
    }

    fn add(
        &mut self,
        request: Option<Request>,
        mut once: Use,
        room: &Room,
        address: Option<IpAddr>,
        caller: &Caller,
    ) -> Result<(), &'static str> {
        if let Some(address) = address
            && !self.addresses.contains(&address)
            && self.addresses.len() >= VALUES
        {
            return Err("go to more addresses of one name than are kept");
        }
        // Each is held once.
        let models = once.models.iter().map(|model| self.models.get(model).unwrap_or(model).clone());
        once.models = models.collect();
        if self.models.union(&once.models).count() > VALUES {
            return Err("ask for more different models than are kept");
        }
        let models = once.models.clone();
        match request {
            None => self.tunnels.get_or_insert_default().merge(once),
            Some(Request { segments: Some(segments), method, .. }) => {
                let room = room.nodes.min(NODES_EACH.saturating_sub(self.tree.nodes()));
                let seen = self.tree.at(&segments, room).ok_or("have more different paths than are kept")?;
                seen.0.entry(method).or_default().merge(once);
            }
            Some(Request { method, path, .. }) => {
                let key = (method, path);
                let fits =
                    self.odd.len() < ODD && room.odd > 0 && key.0.len().max(key.1.len()) <= ODD_LONGEST;
                if !fits && !self.odd.contains_key(&key) {
                    return Err("have more odd paths or methods than are kept");
                }
                self.odd.entry(key).or_default().merge(once);
            }
        }
        self.addresses.extend(address);
        self.models.extend(models);
        self.exes.extend(caller.exe.as_ref().map(|exe| exe.path.chars().take(EXAMPLE).collect()));
        while self.exes.len() > EXES {
            self.exes.pop_last();
        }
        Ok(())
    }
}

impl Use {
    fn once(time: &str) -> Self {
        Self { count: 1, first: time.to_owned(), last: time.to_owned(), ..Self::default() }
    }

    /// Sees what a request asks of a model.
    fn model(&mut self, http: &Http<'_>, body: &KeptBody, recorded: &Recorded) -> Result<(), &'static str> {
        let read = match body {
            KeptBody::Whole(body) => Llm::of(http, body),
            KeptBody::Unread | KeptBody::Unknowable(_) => {
                // By the head alone: is there a model at all?
                let to_model =
                    Llm::of(&Http { body: Body::Unread, ..*http }, &[]).is_ok_and(|llm| llm.is_some());
                // Where no bodies are kept, no job decided that; one that is too long, or was refused, is the job's doing.
                let kept_none = recorded.up.is_some_and(|up| up.kept == 0 && up.total > 0);
                match to_model {
                    false => self.other += 1,
                    true if kept_none && recorded.summary.error.is_none() => self.unknown += 1,
                    true => return Err("are to a model, and the record has not all of their body"),
                }
                return Ok(());
            }
        };
        match read {
            Ok(None) => self.other += 1,
            Ok(Some(Llm { model: Some(model), .. })) if model.len() <= MODEL => {
                self.models.insert(model.into());
            }
            Ok(Some(Llm { model: Some(_), .. })) => return Err("ask for a model by too long a name"),
            // What fetches has nothing that could name one.
            Ok(Some(_)) if matches!(http.method, "GET" | "HEAD" | "DELETE" | "OPTIONS") => self.other += 1,
            // Files are large, and no model is asked.
            Ok(Some(_)) if http.path.ends_with("/files") => self.other += 1,
            Ok(Some(_)) => self.modelless += 1,
            Err(_) => return Err("are to a model, with a body that cannot be read"),
        }
        if self.other == 0 {
            self.longest = recorded.up.map_or(0, |up| up.total);
        }
        Ok(())
    }
}

impl Seen for ByMethod {
    fn merge(&mut self, other: Self) {
        for (method, one) in other.0 {
            self.0.entry(method).or_default().merge(one);
        }
    }
}

impl Seen for Use {
    fn merge(&mut self, other: Self) {
        span(&mut self.first, &mut self.last, &other.first, &other.last);
        self.count += other.count;
        self.unknown += other.unknown;
        self.modelless += other.modelless;
        self.other += other.other;
        self.longest = self.longest.max(other.longest);
        self.models.extend(other.models);
        self.examples.extend(other.examples);
        while self.examples.len() > EXAMPLES {
            self.examples.pop_last();
        }
    }
}

/// Widens a span of times; an empty one is none.
fn span(first: &mut String, last: &mut String, from: &str, to: &str) {
    if first.is_empty() || from < first.as_str() {
        from.clone_into(first);
    }
    if to > last.as_str() {
        to.clone_into(last);
    }
}
