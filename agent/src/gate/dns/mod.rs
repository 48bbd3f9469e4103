//! The resolver: every question that a tagged process has for a name server is answered here, by name servers of the
//! operator's choice. A question's way: read → asker → decide → count → record → ask upstream → remember → reply.
//!
//! Only what was understood travels: upstream goes a question that we wrote, back goes a reply that we wrote. There is no
//! cache: the host's name servers have one.

mod datagrams;
mod names;
mod rate;
mod serve;
mod stream;
mod upstream;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;

use super::share::Shares;
use super::{Services, Warden};
use crate::codec::dns::{self, Answer, BLOCKED, OTHER, Question, Rcode, Unread};
use crate::policy::lookup::{self, Denial, Denied, Lookup};
use crate::record::{Exchange, ExchangeHead, Session};
use crate::report::Chain;
use crate::types::{
    Caller, ClientAddr, Destination, HostName, HostSource, ListenerAddr, LookedUp, NetnsCookie, Verdict,
};
use crate::wire::ToWarden;

pub(super) use names::Names;
pub(super) use serve::answering;
pub(super) use stream::{Error as StreamError, serve as serve_stream};

/// The port of name servers.
pub(super) const PORT: u16 = 53;

/// Questions under way at once. A tag holds as many as are free: half at most.
const UNDER_WAY: usize = 2048;

/// Records of an answer that are written down one by one.
const LINES: usize = 32;

/// What the resolver knows and counts. One for the process.
pub(super) struct Resolver {
    pub names: Names,
    rates: rate::Rates,
    /// The configuration's name servers; empty: the host's.
    configured: Vec<SocketAddr>,
    host: Mutex<Arc<[SocketAddr]>>,
    places: Arc<Semaphore>,
    shares: Shares,
    /// Datagrams whose answer is on its way: their repetitions are dropped.
    answering: Mutex<HashSet<Repetition>>,
    drops: Drops,
}

/// What a repeated question has in common with the first.
type Repetition = (ClientAddr, ListenerAddr, NetnsCookie, Vec<u8>);

/// Datagrams that were not answered, since they were last reported.
#[derive(Default)]
struct Drops {
    /// Nobody in a tag sent it.
    unknown: AtomicU64,
    /// Too many questions are under way.
    crowded: AtomicU64,
    /// No question.
    noise: AtomicU64,
}

/// Who asks, and where it is written down.
pub(super) struct Asker {
    pub caller: Arc<Caller>,
    /// The name server that was asked.
    pub destination: Destination,
    pub session: Arc<Session>,
    /// The caller's network namespace, if it is another than the agent's.
    pub elsewhere: Option<NetnsCookie>,
}

impl Resolver {
    pub fn new(configured: Vec<SocketAddr>, host: Vec<SocketAddr>) -> Self {
        let places = Arc::new(Semaphore::new(UNDER_WAY));
        Self {
            names: Names::default(),
            rates: rate::Rates::default(),
            configured,
            host: Mutex::new(host.into()),
            shares: Shares::of(Arc::clone(&places)),
            places,
            answering: Mutex::default(),
            drops: Drops::default(),
        }
    }

    /// The host's name servers are others now.
    pub fn set_host_servers(&self, servers: Vec<SocketAddr>) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = servers.into();
    }

    /// The addresses of a name that the gate itself has to reach, as the name servers that it asks for everybody say: an
    /// issuer's, which the configuration names. No job's question comes this way.
    ///
    /// # Errors
    /// Why none is known, in words.
    pub async fn own_addresses(&self, name: &HostName, warden: &Warden) -> Result<Vec<IpAddr>, String> {
        let servers = match self.configured.is_empty() {
            true => Arc::clone(&self.host.lock().unwrap_or_else(PoisonError::into_inner)),
            false => self.configured.clone().into(),
        };
        let mut found = Vec::new();
        let mut failed = None;
        for kind in dns::Address::BOTH {
            let Some(question) = Question::for_address(name.as_str(), kind) else { continue };
            match upstream::ask_all(&question, &servers, upstream::From::Home, warden).await {
                Ok(answer) => found.extend(answer.addresses().into_iter().map(|(address, _)| address)),
                Err(error) => failed = Some(Chain(&error).to_string()),
            }
        }
        match (found.is_empty(), failed) {
            (false, _) => Ok(found),
            (true, Some(why)) => Err(why),
            (true, None) => Err("the name has no address".to_owned()),
        }
    }

    /// Tells the warden what was dropped since the last time.
    pub fn report(&self, services: &Services) {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let (unknown, crowded) = (taken(&self.drops.unknown), taken(&self.drops.crowded));
        let noise = taken(&self.drops.noise);
        if unknown + crowded + noise > 0 {
            services.warden.tell(ToWarden::Trouble(format!(
                "datagrams to the resolver were dropped: {unknown} from nobody in a tag, {crowded} beyond {UNDER_WAY} \
                 questions at once or a tag's share of them, {noise} that were no questions"
            )));
        }
    }

    /// Whose word the answers to this asker are: see [`Resolver::servers`].
    fn who_answers(&self, asker: &Asker) -> HostSource {
        match asker.elsewhere {
            Some(_) if self.configured.is_empty() => HostSource::DnsCaller,
            _ => HostSource::Dns,
        }
    }

    /// Who is asked for this asker, and from where.
    fn servers(&self, asker: &Asker) -> (Arc<[SocketAddr]>, upstream::From) {
        match asker.elsewhere {
            _ if !self.configured.is_empty() => (self.configured.as_slice().into(), upstream::From::Home),
            None => {
                let host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
                (Arc::clone(&host), upstream::From::Home)
            }
            Some(netns) => (Arc::new([asker.destination.socket()]), upstream::From::Namespace(netns)),
        }
    }
}

/// Answers one question, recorded. `bound`: the reply's bytes where the question does not say. `None`: no reply is due.
async fn answer(services: &Services, asker: &Asker, bytes: &[u8], over_udp: bool) -> Option<Vec<u8>> {
    let question = match dns::read_question(bytes) {
        Ok(question) => question,
        Err(Unread::Silent(_)) => return None,
        Err(Unread::Answered(reply, rcode, why)) => {
            let head = ExchangeHead {
                host: asker.destination.ip().to_string(),
                host_source: HostSource::Address,
                ..head(String::new(), None, Verdict::Deny)
            };
            asker.session.refused_with(head, Some(rcode.into()), why.to_owned());
            return Some(reply);
        }
    };
    let name = question.name();
    let permit = match permit(services, asker, &question, &name) {
        Ok(permit) => permit,
        Err(denied) => {
            let head = ExchangeHead {
                rule: Some(denied.rule().to_owned()),
                ..head(name, Some(question.kind()), Verdict::Deny)
            };
            let rcode = rcode(services, &denied);
            asker.session.refused_with(head, Some(rcode.into()), denied.to_string());
            return Some(question.error(rcode, Some((BLOCKED, &denied.to_string()))));
        }
    };
    let begun = ExchangeHead {
        rule: Some(permit.rule().to_owned()),
        ..head(name.clone(), Some(question.kind()), Verdict::Allow)
    };
    let recorded = begin(asker, begun.clone(), bytes, permit.durable()).await;
    let exchange = match recorded {
        Ok(exchange) => exchange,
        Err(why) => {
            asker.session.refused_with(
                ExchangeHead { verdict: Verdict::Deny, ..begun },
                Some(Rcode::ServFail.into()),
                why.clone(),
            );
            return Some(question.error(Rcode::ServFail, Some((OTHER, &why))));
        }
    };
    let (servers, from) = services.dns.servers(asker);
    let answered = upstream::resolve(permit, &question, &servers, from, &services.warden).await;
    let bound = if over_udp { question.bound() } else { usize::from(u16::MAX) };
    Some(settle(services, asker, &question, &name, &exchange, answered, bound))
}

/// Policy first, then the counts: a name that is denied counts for nothing.
fn permit(
    services: &Services,
    asker: &Asker,
    question: &Question,
    name: &str,
) -> Result<crate::policy::Permit, Denied> {
    let kind = question.kind();
    let lookup = Lookup { name, longest_label: question.longest_label(), kind: &kind };
    let policy = services.policy.borrow();
    let permit = lookup::decide(&policy, &asker.caller, lookup)?;
    services.dns.rates.count(&policy.lookups, &asker.caller.tag, name, Instant::now())?;
    Ok(permit)
}

/// The head of the record is there when this returns, before anything goes upstream.
async fn begin(
    asker: &Asker,
    head: ExchangeHead<'_>,
    bytes: &[u8],
    durable: bool,
) -> Result<Exchange, String> {
    let exchange = asker.session.exchange(head).map_err(|error| error.to_string())?;
    let mut recorded = exchange.up(bytes);
    if durable && recorded.is_ok() {
        recorded = exchange.durable().await;
    }
    match recorded {
        Ok(()) => Ok(exchange),
        Err(error) => {
            exchange.finish(Some(error.to_string()));
            Err(error.to_string())
        }
    }
}

/// Remembers what was answered, ends the record and writes the reply.
fn settle(
    services: &Services,
    asker: &Asker,
    question: &Question,
    name: &str,
    exchange: &Exchange,
    answered: Result<Answer, upstream::Error>,
    bound: usize,
) -> Vec<u8> {
    let (reply, rcode, answer, error) = match answered {
        Err(error) => {
            let why = Chain(&error).to_string();
            (question.error(Rcode::ServFail, Some((OTHER, &why))), Rcode::ServFail, None, Some(why))
        }
        Ok(answer) => {
            let decided =
                answer.aliases().try_for_each(|to| lookup::decide_alias(&services.policy.borrow(), &to));
            match decided {
                Err(denied) => {
                    exchange.denied(denied.rule());
                    let (rcode, why) = (rcode(services, &denied), denied.to_string());
                    (question.error(rcode, Some((BLOCKED, &why))), rcode, None, Some(why))
                }
                Ok(()) => {
                    remember(services, asker, name, &answer);
                    (question.reply(&answer, bound), answer.rcode(), Some(answer), None)
                }
            }
        }
    };
    let recorded =
        exchange.response(rcode.into(), &lines(answer.as_ref())).and_then(|()| exchange.down(&reply));
    // The lookup is over; what could not be written of it stands in the summary.
    let error = error.or_else(|| recorded.err().map(|error| error.to_string()));
    exchange.finish(error);
    reply
}

fn remember(services: &Services, asker: &Asker, name: &str, answer: &Answer) {
    if let Ok(name) = HostName::parse(name) {
        let (caller, addresses) = (&asker.caller, answer.addresses());
        let found = LookedUp { name, by: services.dns.who_answers(asker) };
        services.dns.names.remember(&caller.tag, caller.pid, &found, &addresses, Instant::now());
    }
}

fn rcode(services: &Services, denied: &Denied) -> Rcode {
    match (denied, services.policy.borrow().lookups.answer) {
        (Denied::Name { .. } | Denied::Alias { .. }, Denial::NxDomain) => Rcode::NXDomain,
        // A name that is asked for too often may well exist.
        _ => Rcode::Refused,
    }
}

/// The answer's records, as the exchange's record bears them.
fn lines(answer: Option<&Answer>) -> HeaderMap {
    let mut lines = HeaderMap::new();
    for line in answer.into_iter().flat_map(Answer::lines).take(LINES) {
        if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
            lines.append("answer", value);
        }
    }
    lines
}

fn head(name: String, kind: Option<String>, verdict: Verdict) -> ExchangeHead<'static> {
    ExchangeHead {
        protocol: "dns",
        host: if name.is_empty() { ".".to_owned() } else { name },
        host_source: HostSource::Request,
        method: kind.map(Cow::Owned),
        path: None,
        headers: Cow::default(),
        rule: None,
        verdict,
        identity: None,
        credential: None,
        caller_keys: Vec::new(),
    }
}
