//! The gate: the process that touches the bytes. It begins as root for as long as it takes to become the unprivileged
//! user, enters its sandbox before it reads a byte from any network, and ends when the warden does.

mod accept;
mod credentials;
mod dns;
mod errand;
mod evidence;
mod identify;
mod later;
mod link;
mod notes;
pub mod sandbox;
mod session;
mod share;
mod told;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::credential::Keeper;
use crate::drain::{Drain, Drained};
use crate::engine::masking::Tags;
use crate::identity::{self, Identities};
use crate::limit::Limits;
use crate::policy::rule::Source;
use crate::policy::{self, InForce, Policy};
use crate::record::fold::Folding;
use crate::record::{self, Store};
use crate::report::Chain;
use crate::tls::{self, Tls};
use crate::turn;
use crate::types::{CredentialName, Issuer};
use crate::wire::{self, Channel, GateSettings, ToWarden};

pub use link::{Order, Warden};

/// Why the gate could not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The conversation with the warden failed.
    #[error("the warden cannot be understood")]
    Channel(#[source] wire::Error),
    /// The warden ended, or said things in another order than agreed.
    #[error("the warden ended the conversation before the gate could start")]
    Abandoned,
    /// The sandbox could not be entered.
    #[error("the sandbox cannot be entered")]
    Sandbox(#[source] sandbox::Error),
    /// The store could not be opened.
    #[error("the store cannot be opened")]
    Store(#[source] record::Error),
    /// TLS could not be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] tls::Error),
    /// A rule cannot be compiled.
    #[error("the policy cannot be compiled: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policy(Vec<policy::BadCondition>),
    /// The rules were not understood.
    #[error("the rules cannot be understood")]
    Rules(#[source] wire::rules::Unfit),
    /// The runtime or a socket failed.
    #[error("the gate's runtime failed")]
    Io(#[source] std::io::Error),
}

/// What every session needs. One for the process.
pub(crate) struct Services {
    pub policy: InForce,
    pub limits: Arc<Limits>,
    pub store: Store,
    pub tls: Arc<Tls>,
    pub warden: Warden,
    pub drain: Drain,
    /// Connections and questions that the warden has yet to be asked about.
    settling: TaskTracker,
    /// What stands for values that masks hide from the other side, for all connections of a tag.
    tokens: Arc<Tags>,
    /// One permit a session; at the bound, connections wait in the listeners' backlog.
    pub sessions: Arc<Semaphore>,
    /// How many of them each tag holds.
    shares: share::Shares,
    /// Answers questions to name servers.
    dns: Arc<dns::Resolver>,
    /// Verifies who stands behind callers.
    identities: Arc<Identities>,
    /// Keeps credentials.
    credentials: Arc<Keeper>,
}

/// Runs the gate on its end of the channel until the warden ends it.
///
/// # Errors
/// [`Error`], before the first connection is accepted.
pub fn run(channel: OwnedFd) -> Result<(), Error> {
    let told = told::hear(&channel)?;
    sandbox::enter(&told.settings).map_err(Error::Sandbox)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().on_thread_park(turn::end).build().map_err(Error::Io)?;
    runtime.block_on(serve(channel, told))
}

async fn serve(channel: OwnedFd, told: told::Told) -> Result<(), Error> {
    let told::Told { settings, rules, listeners, resolvers, servers } = told;
    let (warden, orders) = Warden::start(Channel::new(channel).map_err(Error::Io)?);
    let telling = warden.clone();
    let folding = Folding::new(move |message| telling.tell(message));
    let store = open_store(&settings, &folding)?;
    let (tls, omitted) = Tls::new(&tls_settings(&settings), signer(warden.clone())).map_err(Error::Tls)?;
    for root in omitted {
        tracing::warn!("not trusted upstream: {root}");
    }
    let (policies, in_force) = watch::channel(Arc::new(compile(rules, &settings)?));
    let sessions = Arc::new(Semaphore::new(settings.max_sessions as usize));
    let dns = dns::Resolver::new(settings.name_servers.clone(), servers);
    let (tls, dns) = (Arc::new(tls), Arc::new(dns));
    let credentials = credentials::keeper(in_force.clone(), &tls, &dns, &warden);
    let unseen = Arc::clone(&credentials);
    let errands = evidence::Errands { tls: Arc::clone(&tls), dns: Arc::clone(&dns), warden: warden.clone() };
    evidence::keep(&store, &settings.checkpoints_to, errands);
    store.keep_unseen(Arc::new(move |caller| unseen.veil(&caller.tag)));
    let services = Arc::new(Services {
        identities: identities(&settings.issuers, &tls, &dns, &warden),
        credentials,
        policy: in_force,
        limits: limits(&settings, &warden),
        store: store.clone(),
        tls,
        warden: warden.clone(),
        drain: Drain::default(),
        settling: TaskTracker::new(),
        tokens: Arc::default(),
        shares: share::Shares::of(Arc::clone(&sessions)),
        sessions,
        dns,
    });
    #[expect(clippy::disallowed_methods, reason = "lives as long as the gate, not as a session")]
    tokio::spawn(report(Arc::clone(&services), folding.clone()));
    let mut serving = accept::Listeners::new(Arc::clone(&services));
    for (netns, listener) in listeners {
        serving.serve(netns, listener).map_err(Error::Io)?;
    }
    for (netns, resolver) in resolvers {
        serving.answer(netns, resolver).map_err(Error::Io)?;
    }
    crate::memory::give_back();
    warden.tell(ToWarden::Ready);

    // `None` is the warden's end: what runs is cut, since nobody could say who calls any more.
    let rules = Rules { policies, settings };
    let ending = follow(orders, &mut serving, &rules, &services).await;
    let in_order = ending.is_some();
    if let Some(ending) = ending {
        drain(ending, serving, &services).await;
    }
    end(&services, &folding, in_order).await;
    Ok(())
}

/// Closes what is open. `in_order`: the warden is there.
async fn end(services: &Services, folding: &Folding, in_order: bool) {
    let (store, warden) = (&services.store, &services.warden);
    services.limits.close();
    store.close();
    if in_order {
        evidence::seal(store).await;
    }
    folding.flush();
    if in_order {
        // Nothing that must be kept waits for it: the warden's patience may end here.
        services.credentials.close(GIVE_BACK).await;
    }
    warden.drained().await;
}

/// How the gate is to end.
struct Ending {
    grace: Duration,
    /// The next gate begins meanwhile.
    aside: bool,
}

/// Lets end what is under way, unless the warden is gone meanwhile.
async fn drain(Ending { grace, aside }: Ending, serving: accept::Listeners, services: &Services) {
    let settled = async {
        if aside {
            settle(serving, services).await;
        }
    };
    tokio::select! {
        (outcome, ()) = async { tokio::join!(services.drain.run(grace), settled) } => if let Drained::Cut(cut) = outcome {
            tracing::warn!(cut, "the drain time ran out: sessions were cut");
        },
        () = services.warden.gone() => {}
    }
}

/// Says that the next gate may begin, as soon as nothing is accepted any more and no question is left that only the warden
/// which runs now can answer.
async fn settle(serving: accept::Listeners, services: &Services) {
    serving.closed().await;
    services.settling.close();
    services.settling.wait().await;
    services.warden.aside(None).await;
}

/// Does what the warden says until it says to end; gives the time for it. The receiver goes then, so that nothing that
/// is answered during the drain waits behind an order.
async fn follow(
    mut orders: mpsc::Receiver<Order>,
    serving: &mut accept::Listeners,
    rules: &Rules,
    services: &Arc<Services>,
) -> Option<Ending> {
    loop {
        match orders.recv().await? {
            Order::Drain(grace) => return Some(Ending { grace, aside: false }),
            Order::StandAside(grace) => match services.store.stand_aside() {
                Ok(()) => {
                    services.limits.stand_aside(Path::new(&rules.settings.store));
                    return Some(Ending { grace, aside: true });
                }
                Err(why) => services.warden.aside(Some(why)).await,
            },
            Order::Listen(netns, listener) => {
                if let Err(error) = serving.serve(netns, listener) {
                    tracing::error!("a listener in another network namespace cannot be served: {error}");
                }
            }
            Order::Answer(netns, resolver) => {
                if let Err(error) = serving.answer(netns, resolver) {
                    tracing::error!("a resolver in another network namespace cannot be served: {error}");
                }
            }
            Order::Forget(netns) => serving.forget(netns),
            Order::SecretChanged(name) => services.credentials.changed(&name),
            Order::TestCredential(call, name) => test(call, name, Arc::clone(services)),
            Order::Note(call, note) => notes::begin(call, note, services),
            Order::Servers(servers) => services.dns.set_host_servers(servers),
            Order::Policy(source) => match compile(*source, &rules.settings) {
                Ok(policy) => {
                    rules.policies.send_replace(Arc::new(policy));
                    services.credentials.rules_changed();
                }
                // The warden has tried them before: this is a defect.
                Err(error) => {
                    let why = format!("the old rules stay in force: {}", Chain(&error));
                    services.warden.tell(ToWarden::Trouble(why));
                }
            },
        }
    }
}

/// Tests a credential beside all else.
fn test(call: u64, name: CredentialName, services: Arc<Services>) {
    #[expect(clippy::disallowed_methods, reason = "bounded by its deadlines, and no session's own")]
    tokio::spawn(async move {
        let outcome = credentials::test(&services, &name).await;
        services.warden.tell(ToWarden::Tested { call, outcome });
    });
}

/// Where rules that come later go, and what holds beside them.
struct Rules {
    policies: watch::Sender<Arc<Policy>>,
    settings: GateSettings,
}

/// The rules, ready. The warden has tried them before.
fn compile(rules: Source, settings: &GateSettings) -> Result<Policy, Error> {
    let mut policy = Policy::compile(rules).map_err(Error::Policy)?;
    policy.durable = settings.durable;
    policy.lookups = settings.lookups.clone();
    Ok(policy)
}

fn open_store(settings: &GateSettings, folding: &Folding) -> Result<Store, Error> {
    let store = record::Settings {
        body_limit: settings.body_limit,
        max_bytes: settings.store_bytes,
        max_age: settings.store_age.map(Duration::from_secs),
        recipients: settings.recipients.clone(),
        ..record::Settings::new(&settings.store)
    };
    Store::open(store, folding.sink()).map_err(Error::Store)
}

fn tls_settings(settings: &GateSettings) -> tls::Settings {
    tls::Settings {
        ca: settings.ca.clone(),
        system_roots: true,
        extra_roots: settings.extra_roots.clone(),
        deadlines: tls::Deadlines::default(),
    }
}

/// Each second: what was folded goes to the journal, and how many sessions there are to the warden. At once: what
/// happens to the store.
async fn report(services: Arc<Services>, folding: Folding) {
    let warden = &services.warden;
    let mut health = services.store.health();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut dropped = tokio::time::interval(Duration::from_secs(10));
    let (mut said, mut masked) = (0, 0);
    loop {
        tokio::select! {
            _ = second.tick() => {
                folding.flush();
                let sessions = u32::try_from(services.drain.running()).unwrap_or(u32::MAX);
                if std::mem::replace(&mut said, sessions) != sessions {
                    warden.tell(ToWarden::Sessions(sessions));
                }
                if let Some(counts) = services.tokens.tally.beyond(masked) {
                    masked = counts.values().sum();
                    warden.tell(ToWarden::Masked(counts));
                }
            }
            _ = dropped.tick() => {
                services.dns.report(&services);
                services.credentials.tend();
            }
            changed = health.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = health.borrow_and_update().clone();
                warden.tell(ToWarden::Store { refusing: now.refusing, last: now.last });
            }
        }
    }
}

/// What limits count, kept beside the records.
fn limits(settings: &GateSettings, warden: &Warden) -> Arc<Limits> {
    let warden = warden.clone();
    let tell = move |text| {
        tracing::warn!("{text}");
        warden.tell(ToWarden::Trouble(text));
    };
    Limits::open(Path::new(&settings.store), Box::new(tell))
}

/// The issuers, whose keys are fetched from now on.
fn identities(
    issuers: &[Issuer],
    tls: &Arc<Tls>,
    dns: &Arc<dns::Resolver>,
    warden: &Warden,
) -> Arc<Identities> {
    let fetch = errand::fetch(Arc::clone(tls), Arc::clone(dns), warden.clone());
    let tell: identity::Tell = {
        let warden = warden.clone();
        Arc::new(move |text| {
            tracing::warn!("{text}");
            warden.tell(ToWarden::Trouble(text));
        })
    };
    Arc::new(Identities::new(issuers.to_vec(), &fetch, &tell))
}

/// Signing as `tls` wants it, done by the warden.
fn signer(warden: Warden) -> tls::Sign {
    Arc::new(move |request| -> BoxFuture<'static, Result<Vec<u8>, String>> {
        let warden = warden.clone();
        Box::pin(async move { warden.sign(request).await })
    })
}

/// How long providers may take at the end to take back what they gave.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How long the warden may take to answer before the connection is refused.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
