//! What was recorded, sorted by who did what where. Bounded: what does not fit is counted and never made broader.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::tree::{Seen, Tree};
use crate::cli::policy::template;
use crate::config::METHODS;
use crate::policy::llm::Llm;
use crate::policy::past::{Past, Real, What};
use crate::policy::readings::others;
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
/// units before what has none, one name before two, names before addresses.
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
}

/// The other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// By name, which TLS or the host's name servers vouch for.
    Host(String),
    /// By the name that the job gave and the one that the host's name servers know: either is asked for.
    Hosts(String, String),
    /// By address: nobody but the job gave a name, or none was given.
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
    /// Requests that no pattern says.
    pub odd: BTreeMap<Lines, Use>,
    /// Tunnels.
    pub tunnels: Option<Use>,
    /// Programs.
    pub exes: BTreeSet<String>,
    /// Every model.
    models: BTreeSet<Arc<str>>,
}

/// A request line in every way in which servers read it: methods and paths.
pub type Lines = (BTreeSet<String>, BTreeSet<String>);

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
                let host = host.as_ref().map(|host| To::Host(host.to_string()));
                (place(&past.caller, host.unwrap_or(To::Address(to.ip())), to.port(), Protocol::Tunnel), None)
            }
            What::Request { http, real, .. } => {
                let to = match (&http.host, real) {
                    (_, Real::Unknown) => return Err("went without TLS to nobody knows whom"),
                    (Some(host), Real::Name(Some(real))) if host == real => To::Host(host.to_string()),
                    (Some(host), Real::Name(Some(real))) => {
                        let (one, other) = (host.to_string(), real.to_string());
                        To::Hosts(one.clone().min(other.clone()), one.max(other))
                    }
                    (None, _) | (_, Real::Name(None)) => To::Address(http.destination.ip()),
                };
                let protocol = match &*http.protocol {
                    "websocket" => Protocol::WebSocket,
                    "grpc" => Protocol::Grpc,
                    _ => Protocol::Http,
                };
                (place(&past.caller, to, http.destination.port(), protocol), Some(http))
            }
        };
        let mut once = Use::once(&recorded.summary.time);
        let mut request = None;
        if let Some(http) = http {
            once.model(&http.http(), &http.body, recorded)?;
            request = Some(Request::of(past, &http.http(), &mut once)?);
        }
        if self.places.len() >= PLACES && !self.places.contains_key(&place) {
            return Err("go to more destinations than are kept");
        }
        let room = Room { nodes: NODES.saturating_sub(self.nodes), odd: ODD_ALL.saturating_sub(self.odd) };
        let done = self.places.entry(place.clone()).or_default();
        let (nodes, odd) = (done.tree.nodes(), done.odd.len());
        let added = done.add(request, once, &room, &past.caller);
        self.nodes = self.nodes + done.tree.nodes() - nodes;
        self.odd = self.odd + done.odd.len() - odd;
        if added.is_err() && done.is_empty() {
            self.places.remove(&place);
        }
        added
    }
}

fn place(caller: &Caller, to: To, port: u16, protocol: Protocol) -> Place {
    // A scope is made anew each time, and so are numbered services.
    let lasting = |unit: &&String| {
        let stem = unit.strip_suffix(".service").unwrap_or("*");
        !template::segment(stem, None).contains('*') && !stem.bytes().all(|b| b.is_ascii_digit())
    };
    let unit = caller.unit.as_ref().filter(lasting).cloned();
    Place { tag: caller.tag.as_str().to_owned(), apart: unit.is_none(), unit, to, port, protocol }
}

/// A request as far as a rule asks for it.
enum Request {
    /// A method, and each way in which servers read the path: segments without ids.
    Plain(String, Vec<Vec<String>>),
    /// One that no pattern says.
    Odd(Lines),
}

impl Request {
    fn of(past: &Past, http: &Http<'_>, once: &mut Use) -> Result<Self, &'static str> {
        if past.withheld.path {
            return Err("have a secret in their path, which the record does not have");
        }
        let others = others(http).map_err(|_| "servers would read in too many ways: no rule allows them")?;
        let paths: BTreeSet<String> = [http.path]
            .into_iter()
            .chain(others.iter().map(|other| &*other.path))
            .map(str::to_owned)
            .collect();
        let methods: BTreeSet<String> = [http.method]
            .into_iter()
            .chain(others.iter().map(|other| &*other.method))
            .map(str::to_owned)
            .collect();
        let known = methods.len() == 1 && METHODS.contains(&http.method);
        let connects = http.method == "CONNECT" && http.path.is_empty();
        let segments = |path: &String| match template::segments(path) {
            // The name of a method is no id, whatever it looks like.
            Some(_) if http.protocol == "grpc" => Some(path.split('/').skip(1).map(str::to_owned).collect()),
            segments => segments,
        };
        let plain: Option<Vec<Vec<String>>> =
            if connects { Some(vec![Vec::new()]) } else { paths.iter().map(segments).collect() };
        match plain.filter(|_| known) {
            Some(all) => {
                let shown = template::segments(http.path).map(|segments| template::pattern(&segments));
                once.examples.extend(shown.map(|shown| shown.chars().take(EXAMPLE).collect()));
                Ok(Self::Plain(http.method.to_owned(), all))
            }
            None if once.other == 0 => Err("are to a model, by a method or path that no pattern says"),
            None => Ok(Self::Odd((methods, paths))),
        }
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
        caller: &Caller,
    ) -> Result<(), &'static str> {
        // Each is held once.
        let models = once.models.iter().map(|model| self.models.get(model).unwrap_or(model).clone());
        once.models = models.collect();
        if self.models.union(&once.models).count() > VALUES {
            return Err("ask for more different models than are kept");
        }
        let models = once.models.clone();
        match request {
            None => self.tunnels.get_or_insert_default().merge(once),
            Some(Request::Plain(method, paths)) => self.take(&method, &paths, once, room)?,
            Some(Request::Odd(lines)) => {
                let bytes: usize = lines.0.iter().chain(&lines.1).map(String::len).sum();
                let fits = self.odd.len() < ODD && room.odd > 0 && bytes <= ODD_LONGEST;
                if !fits && !self.odd.contains_key(&lines) {
                    return Err("have more odd paths or methods than are kept");
                }
                self.odd.entry(lines).or_default().merge(once);
            }
        }
        self.models.extend(models);
        self.exes.extend(caller.exe.as_ref().map(|exe| exe.path.chars().take(EXAMPLE).collect()));
        while self.exes.len() > EXES {
            self.exes.pop_last();
        }
        Ok(())
    }
}

impl Done {
    /// Every way in which a path is read, in the one rule: else no rule would allow it.
    fn take(
        &mut self,
        method: &str,
        paths: &[Vec<String>],
        once: Use,
        room: &Room,
    ) -> Result<(), &'static str> {
        let room = room.nodes.min(NODES_EACH.saturating_sub(self.tree.nodes()));
        if paths.len() > 1 && paths.iter().map(Vec::len).sum::<usize>() > room {
            return Err(FULL);
        }
        let read = Use { count: 0, examples: BTreeSet::new(), ..once.clone() };
        let mut once = Some(once);
        for path in paths {
            let seen = self.tree.at(path, room).ok_or(FULL)?;
            seen.0.entry(method.to_owned()).or_default().merge(once.take().unwrap_or_else(|| read.clone()));
        }
        Ok(())
    }
}

const FULL: &str = "have more different paths than are kept";

impl Use {
    fn once(time: &str) -> Self {
        Self { count: 1, first: time.to_owned(), last: time.to_owned(), ..Self::default() }
    }

    /// Sees what a request asks of a model.
    fn model(&mut self, http: &Http<'_>, body: &KeptBody, recorded: &Recorded) -> Result<(), &'static str> {
        // A model that a WebSocket is for stands in its query, which is free.
        if http.protocol == "websocket" {
            self.other += 1;
            return Ok(());
        }
        let read = match body {
            KeptBody::Whole(body) => Llm::of(http, body),
            _ => {
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
