//! What the daemon holds while it lives: everything that needed privilege to get.

mod change;
mod follow;
mod parts;
mod settings;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use agent_ebpf::Origin;
use nix::unistd::{Gid, Uid};

use super::attach::SharedKernel;
use super::audit;
use super::ca::{self, CertificateAuthority};
use super::caller::Callers;
use super::enforcement::{Examiner, Host, Judge};
use super::gate_process::{self, GateProcess, Sockets};
use super::journal::{self, Journal};
use super::kernel::{self, Kernel};
use super::listen::{self, Listeners};
use super::namespaces::Namespaces;
use super::notary::Notary;
use super::notes::Notes;
use super::notify;
use super::resolver::{HostServers, Resolver};
use super::secrets::Secrets;
use super::tags::{self, TagNumber, Tags};
use super::tokens::{Places, Tokens};
use super::witness::{Question, Witness};
use crate::config::Config;
use crate::doctor::process::Proc;
use crate::paths;
use crate::policy::rule::Source;
use crate::report::Chain;
use crate::trust;
use crate::types::{Caller, ClientAddr, Destination, ListenerAddr, NetnsCookie, Recipient};
use crate::wire::rules;
use crate::wire::{GateSettings, Identity};

pub use change::Change;

use parts::{
    directories, guard, host, listeners, notary, only_namespace, open_namespaces, open_tags, own_cgroup,
    refusing, witness,
};

/// Why the daemon could not bind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not started as root.
    #[error("the daemon must be started as root: it loads kernel programs")]
    NotRoot,
    /// The gate's user does not exist.
    #[error(
        "there is no user {0:?} for the gate: make one with `systemd-sysusers`, or set `user` in sluice.toml"
    )]
    NoUser(String),
    /// A directory could not be made.
    #[error("{path} cannot be made")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's identity.
    #[error("the host has no identity to read bodies with")]
    Audit(#[source] audit::Error),
    /// The CA.
    #[error("the CA cannot be opened")]
    Ca(#[source] ca::Error),
    /// The listeners.
    #[error("the listeners cannot be made")]
    Listen(#[source] listen::Error),
    /// What systemd kept for us.
    #[error("the sockets of the last daemon cannot be taken over")]
    Kept(#[source] io::Error),
    /// The kernel programs and maps.
    #[error("the kernel part cannot be set up")]
    Kernel(#[source] kernel::Error),
    /// The tags.
    #[error("the tags cannot be set up")]
    Tags(#[source] tags::TagError),
    /// The journal's writer.
    #[error("the journal's writer cannot be started")]
    Journal(#[source] io::Error),
    /// What signs checkpoints.
    #[error("the threads that sign checkpoints and keep them cannot be started")]
    Checkpoints(#[source] io::Error),
    /// The threads for other network namespaces.
    #[error("other network namespaces cannot be watched")]
    Namespaces(#[source] io::Error),
    /// What looks at callers.
    #[error("the thread that looks at callers cannot be started")]
    Examiner(#[source] io::Error),
    /// The trust bundle.
    #[error("the trust bundle cannot be written")]
    Trust(#[source] trust::Error),
}

/// See the module.
pub struct Bound {
    /// What is in force.
    pub config: Config,
    /// Signs leaves.
    pub ca: CertificateAuthority,
    /// Signs checkpoints.
    pub signer: Notary,
    /// Writes the journal.
    pub journal: Journal,
    /// The tags.
    pub tags: Tags,
    /// The kernel programs.
    pub kernel: SharedKernel,
    /// What this host weakens for everybody.
    pub host: Host,
    /// Looks at tagged processes.
    pub examiner: Arc<Examiner>,
    callers: Callers,
    judge: Judge,
    listeners: Listeners,
    resolver: Resolver,
    servers: HostServers,
    /// `None`: this kernel cannot tell, and a four-tuple is believed alone.
    witness: Option<Witness>,
    /// What the kernel programs are told while a gate serves.
    open: agent_ebpf::Config,
    /// The host's network namespace, where `listeners` are.
    netns: NetnsCookie,
    /// The others.
    namespaces: Arc<Namespaces>,
    gate_user: (Uid, Gid),
    /// Where tokens of callers are found.
    pub tokens: Tokens,
    /// Reads secrets.
    pub secrets: Secrets,
    /// Has the gate record what is done with the store.
    pub notes: Notes,
    places: Places,
    recipients: Vec<Recipient>,
    /// What the last gate was told at its start.
    told: Option<Told>,
}

/// A gate's settings, and the PEM of the roots to trust besides the system's; then the rules.
type Told = ((GateSettings, Vec<Vec<u8>>), Source);

impl Bound {
    /// Gets everything. `is_there`: the configuration was read and is not what counts where there is none. On failure what was got is given back, but for the pins of an earlier daemon, which stay.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn bind(config: Config, is_there: bool) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Err(Error::NotRoot);
        }
        let gate_user = directories(&config)?;
        let ca = CertificateAuthority::open(&config.paths.state.join(paths::CA_DIR)).map_err(Error::Ca)?;
        trust::write_bundle(&config.paths.runtime, ca.certificate_pem()).map_err(Error::Trust)?;
        let journal = Journal::start(journal::socket::PATH.into()).map_err(Error::Journal)?;
        let listeners = listeners()?;
        let resolver = Resolver::kept_or_new().map_err(Error::Listen)?;
        let netns = NetnsCookie(listen::netns_cookie(listeners.v4.as_fd()).map_err(Error::Kept)?);
        let (dns4, dns6) = resolver.ports().map_err(Error::Kept)?;
        let open = agent_ebpf::Config { dns4, dns6, ..listeners.config(own_cgroup()).map_err(Error::Kept)? };
        // Led to the listeners from now on: connections wait in their backlog for the gate, as those of the tags that are
        // in force already do since the last one went. If none comes, they are refused (`supervise`).
        let mut kernel = Kernel::open(&config.paths.bpf, open).map_err(Error::Kernel)?;
        only_namespace(&mut kernel, netns).map_err(Error::Kernel)?;
        guard(&mut kernel, &config);
        let kernel = SharedKernel::new(kernel);
        let tags = match open_tags(&config, is_there, &kernel, &journal).await {
            Ok(tags) => tags,
            Err(error) => {
                if let Err(error) = kernel.lock().configure(refusing(open)) {
                    tracing::error!("telling the kernel programs to refuse: {}", Chain(&error));
                }
                return Err(error);
            }
        };
        let namespaces = open_namespaces(&listeners, (dns4, dns6), &tags, &kernel, &journal)?;
        let host = host(&kernel);
        let examiner = Examiner::start(Proc::default(), host.clone(), tags.clone());
        let examiner = examiner.map(Arc::new).map_err(Error::Examiner)?;
        Ok(Self {
            places: Places::of(&config.issuers),
            secrets: Secrets::new(&config),
            notes: Notes::default(),
            recipients: audit::recipients(&config).map_err(Error::Audit)?,
            signer: notary(&config, &journal).map_err(Error::Checkpoints)?,
            config,
            ca,
            witness: witness(&listeners, &journal),
            journal,
            tags,
            kernel,
            host,
            judge: Judge::new(examiner.clone()),
            examiner,
            callers: Callers::default(),
            listeners,
            resolver,
            servers: HostServers::default(),
            open,
            netns,
            namespaces,
            gate_user,
            tokens: Tokens::default(),
            told: None,
        })
    }

    /// Starts a gate with the configuration in force.
    ///
    /// # Errors
    /// [`gate_process::Error`].
    pub async fn start_gate(&mut self) -> Result<GateProcess, gate_process::Error> {
        self.changed_servers();
        let rules = rules::pieces(&self.config.policy).map_err(gate_process::Error::Rules)?;
        let told = (self.gate_settings(), self.config.policy.clone());
        let ((settings, roots), _) = self.told.insert(told);
        let elsewhere = self.namespaces.standing();
        let there = || elsewhere.iter();
        let listeners = there().flat_map(|at| at.listeners().map(|socket| (at.cookie, socket)));
        let listeners: Vec<_> =
            self.listeners.sockets().map(|socket| (self.netns, socket)).chain(listeners).collect();
        let resolvers = there().flat_map(|at| at.resolvers().map(|socket| (at.cookie, socket)));
        let resolvers: Vec<_> =
            self.resolver.sockets().map(|socket| (self.netns, socket)).chain(resolvers).collect();
        let sockets = Sockets { listeners: &listeners, resolvers: &resolvers, servers: self.servers.told() };
        let gate = GateProcess::start(settings, rules, roots, sockets).await?;
        self.namespaces.serve_with(gate.mailbox(), &elsewhere);
        Ok(gate)
    }

    /// The network namespaces besides the host's.
    pub fn namespaces(&self) -> &Arc<Namespaces> {
        &self.namespaces
    }

    /// The gate's user id.
    pub fn gate_uid(&self) -> u32 {
        self.gate_user.0.as_raw()
    }

    /// Whether the gate may outlive this daemon: where systemd looks after what is left of a unit.
    pub fn may_stand_aside(&self) -> bool {
        notify::is_supervised()
    }

    /// Leads tagged connections to the listeners: the gate is there.
    pub fn open_for_connections(&self) {
        self.configure(self.open);
    }

    /// Has the kernel refuse tagged connections: no gate is coming soon.
    pub fn refuse_connections(&self) {
        self.configure(refusing(self.open));
    }

    fn configure(&self, config: agent_ebpf::Config) {
        if let Err(error) = self.kernel.lock().configure(config) {
            tracing::error!("telling the kernel programs where the listeners are: {}", Chain(&error));
        }
    }

    /// Whose connection this is; consumes the kernel's memory of it. `None`: nobody's that we know.
    pub fn identify(
        &mut self,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> Option<Identity> {
        let origin = match self.kernel.lock().lookup(netns.0, client.0, listener.0) {
            Ok(origin) => origin?,
            Err(error) => {
                tracing::error!("looking up {}: {}", client.0, Chain(&error));
                return None;
            }
        };
        if !self.is_still(Witness::holds, &origin, client, listener, netns) {
            return None;
        }
        self.describe(&origin, netns)
    }

    /// Who sent a datagram to the resolver; the kernel goes on remembering it. `None`: nobody in a tag.
    pub fn asker(
        &mut self,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> Option<Identity> {
        let origin = match self.kernel.lock().asker(netns.0, client.0, listener.0) {
            Ok(origin) => origin?,
            Err(error) => {
                tracing::error!("looking up who asks from {}: {}", client.0, Chain(&error));
                return None;
            }
        };
        // The memory outlives the socket, and its port may be another's by now.
        if !self.is_still(Witness::sent, &origin, client, listener, netns) {
            return None;
        }
        self.describe(&origin, netns)
    }

    fn describe(&mut self, origin: &Origin, netns: NetnsCookie) -> Option<Identity> {
        let caller = self.caller(origin, netns)?;
        let netns = (netns != self.netns).then_some(netns);
        Some(Identity {
            destination: destination(origin),
            caller,
            netns,
            tokens_follow: false,
            program_follows: false,
        })
    }

    /// Who a remembered caller is, and what weakens the enforcement for it. `None`: its tag is over.
    fn caller(&mut self, origin: &Origin, netns: NetnsCookie) -> Option<Caller> {
        let tag = self.tags.resolve(TagNumber(origin.tag))?;
        let entry = self.tags.entry(&tag);
        let cgroup = entry.as_ref().and_then(|entry| entry.cgroup.as_ref()).map_or("", |c| c.0.as_str());
        let inode = self.namespaces.find(netns).map(|namespace| namespace.inode);
        let mut caller = self.callers.describe(origin, tag, cgroup, inode);
        caller.weakened = Some(self.judge.weakened(&caller, entry.as_ref()));
        Some(caller)
    }

    /// The host's name servers, if they are others than the gate was told last.
    pub fn changed_servers(&mut self) -> Option<Vec<SocketAddr>> {
        self.servers.changed()
    }

    /// Writes the bundle for tagged processes anew when the system's roots have changed.
    pub fn refresh_bundle(&self) {
        let (runtime, ca) = (&self.config.paths.runtime, self.ca.certificate_pem());
        let refreshed = trust::is_stale(runtime, ca).and_then(|stale| match stale {
            true => trust::write_bundle(runtime, ca).map(drop),
            false => Ok(()),
        });
        if let Err(error) = refreshed {
            tracing::error!("the trust bundle stays as it is: {}", Chain(&error));
        }
    }

    /// Whether the socket at the other end is the one that was remembered, and not another's that came to its tuple.
    fn is_still(
        &self,
        ask: Question,
        origin: &Origin,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> bool {
        let holds = if netns == self.netns {
            let Some(witness) = &self.witness else { return true };
            ask(witness, client.0, listener.0, origin.cookie)
        } else {
            let Some(namespace) = self.namespaces.find(netns) else { return false };
            namespace.holds(ask, client.0, listener.0, origin.cookie)
        };
        holds.unwrap_or_else(|error| {
            tracing::error!("asking whose {} is: {error}", client.0);
            false
        })
    }

    /// Forgets connections that were never asked for.
    pub fn sweep(&self) {
        if let Err(error) = self.kernel.lock().sweep() {
            tracing::error!("sweeping the kernel's memory: {}", Chain(&error));
        }
    }
}

fn destination(origin: &Origin) -> Destination {
    Destination::new(IpAddr::V6(Ipv6Addr::from(origin.address)), origin.port)
}
