//! What the daemon holds while it lives: everything that needed privilege to get.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_ebpf::{Counter, Origin};
use nix::unistd::{Gid, Uid, User};

use super::attach::SharedKernel;
use super::ca::{self, CertificateAuthority};
use super::caller::Callers;
use super::enforcement::{Examiner, Host, Judge};
use super::events;
use super::gate_process::{self, GateProcess, Sockets};
use super::journal::{self, Journal};
use super::kernel::{self, Kernel};
use super::listen::{self, Listeners};
use super::namespaces::{self, Namespaces};
use super::notify;
use super::resolver::{HostServers, Resolver};
use super::tags::{self, TagNumber, Tags};
use super::witness::Witness;
use crate::config::Config;
use crate::doctor::process::Proc;
use crate::paths;
use crate::report::Chain;
use crate::trust;
use crate::types::{Caller, ClientAddr, Destination, Layer, ListenerAddr, NetnsCookie};
use crate::wire::{GateSettings, Identity};

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
    /// What the last gate was told at its start.
    told: Option<Told>,
}

/// A gate's settings, and the PEM of the roots to trust besides the system's.
type Told = (GateSettings, Vec<Vec<u8>>);

impl Bound {
    /// Gets everything. `is_there`: the configuration was read and is not what counts where there is none. On failure what was got is given back, but for the pins of an earlier daemon, which stay.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn bind(config: Config, is_there: bool) -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Err(Error::NotRoot);
        }
        let gate_user = gate_user(&config.user)?;
        directory(&config.paths.runtime, 0o755, None)?;
        directory(&config.paths.state, 0o755, None)?;
        directory(&config.paths.state.join(paths::STORE_DIR), 0o750, Some(gate_user))?;

        let ca = CertificateAuthority::open(&config.paths.state.join(paths::CA_DIR)).map_err(Error::Ca)?;
        trust::write_bundle(&config.paths.runtime, ca.certificate_pem()).map_err(Error::Trust)?;
        let journal = Journal::start(journal::socket::PATH.into()).map_err(Error::Journal)?;
        let listeners = listeners()?;
        let resolver = Resolver::kept_or_new().map_err(Error::Listen)?;
        let netns = NetnsCookie(listen::netns_cookie(listeners.v4.as_fd()).map_err(Error::Kept)?);
        let own = own_cgroup();
        let (dns4, dns6) = resolver.ports().map_err(Error::Kept)?;
        let open = agent_ebpf::Config { dns4, dns6, ..listeners.config(own).map_err(Error::Kept)? };
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
        let resolver_ports = (dns4, dns6);
        let namespaces = open_namespaces(&listeners, resolver_ports, &tags, &kernel, &journal)?;
        let host = Host::default();
        host.tell_layers(kernel.lock().layers().iter().map(Layer::from).collect());
        let examiner =
            Examiner::start(Proc::default(), host.clone(), tags.clone()).map_err(Error::Examiner)?;
        let examiner = Arc::new(examiner);
        Ok(Self {
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
            told: None,
        })
    }

    /// Starts a gate with the configuration in force.
    ///
    /// # Errors
    /// [`gate_process::Error`].
    pub async fn start_gate(&mut self) -> Result<GateProcess, gate_process::Error> {
        self.changed_servers();
        let (settings, roots) = self.told.insert(self.gate_settings());
        let elsewhere = self.namespaces.standing();
        let there = || elsewhere.iter();
        let listeners = there().flat_map(|at| at.listeners().map(|socket| (at.cookie, socket)));
        let listeners: Vec<_> =
            self.listeners.sockets().map(|socket| (self.netns, socket)).chain(listeners).collect();
        let resolvers = there().flat_map(|at| at.resolvers().map(|socket| (at.cookie, socket)));
        let resolvers: Vec<_> =
            self.resolver.sockets().map(|socket| (self.netns, socket)).chain(resolvers).collect();
        let sockets = Sockets { listeners: &listeners, resolvers: &resolvers, servers: self.servers.told() };
        let gate = GateProcess::start(settings, roots, sockets).await?;
        self.namespaces.serve_with(gate.mailbox(), &elsewhere);
        Ok(gate)
    }

    /// The network namespaces besides the host's.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The gate's user id.
    pub fn gate_uid(&self) -> u32 {
        self.gate_user.0.as_raw()
    }

    fn gate_settings(&self) -> Told {
        let roots = self.config.tls.extra_roots.iter().filter_map(|path| match fs::read(path) {
            Ok(pem) => Some(pem),
            Err(error) => {
                tracing::error!("extra_roots: {} is left out: {error}", path.display());
                None
            }
        });
        let settings = GateSettings {
            ca: self.ca.certificate_der().to_vec(),
            extra_roots: Vec::new(),
            uid: self.gate_user.0.as_raw(),
            gid: self.gate_user.1.as_raw(),
            mode: self.config.mode,
            store: self.config.paths.state.join(paths::STORE_DIR).to_string_lossy().into_owned(),
            body_limit: self.config.record.body_limit,
            store_bytes: self.config.record.max_bytes,
            durable: self.config.record.durable,
            max_sessions: self.config.limits.sessions,
            name_servers: self.config.dns.upstream.clone(),
            lookups: self.config.dns.lookups.clone(),
        };
        (settings, roots.collect())
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
        if !self.is_still(&origin, client, listener, netns) {
            return None;
        }
        self.describe(&origin, netns)
    }

    /// Who sent a datagram to the resolver; the kernel goes on remembering it. `None`: nobody in a tag.
    pub fn asker(&mut self, client: ClientAddr, listener: ListenerAddr, netns: NetnsCookie) -> Option<Identity> {
        let origin = match self.kernel.lock().asker(netns.0, client.0, listener.0) {
            Ok(origin) => origin?,
            Err(error) => {
                tracing::error!("looking up who asks from {}: {}", client.0, Chain(&error));
                return None;
            }
        };
        self.describe(&origin, netns)
    }

    fn describe(&mut self, origin: &Origin, netns: NetnsCookie) -> Option<Identity> {
        let caller = self.caller(origin, netns)?;
        let netns = (netns != self.netns).then_some(netns);
        Some(Identity { destination: destination(origin), caller, netns })
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
        origin: &Origin,
        client: ClientAddr,
        listener: ListenerAddr,
        netns: NetnsCookie,
    ) -> bool {
        let holds = if netns == self.netns {
            let Some(witness) = &self.witness else { return true };
            witness.holds(client.0, listener.0, origin.cookie)
        } else {
            let Some(namespace) = self.namespaces.find(netns) else { return false };
            namespace.holds(client.0, listener.0, origin.cookie)
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

    /// Takes a new configuration into force. Returns whether the gate that runs was told otherwise (files that the
    /// configuration names count by what is in them), so that it must be started anew.
    pub async fn reconfigure(&mut self, config: Config) -> bool {
        if config.paths != self.config.paths || config.user != self.config.user {
            tracing::warn!("[paths] and user take effect at the next restart");
        }
        self.config = Config { paths: self.config.paths.clone(), user: self.config.user.clone(), ..config };
        guard(&mut self.kernel.lock(), &self.config);
        apply(&self.tags, &self.config).await;
        self.told.as_ref() != Some(&self.gate_settings())
    }
}

/// Those that systemd kept for us, or new ones, which it is asked to keep.
fn listeners() -> Result<Listeners, Error> {
    let kept = notify::kept().map_err(Error::Kept)?;
    let ours = kept.into_iter().filter(|(name, _)| name == KEPT_NAME).map(|(_, socket)| socket);
    if let Some(listeners) = Listeners::from_kept(ours.collect()).map_err(Error::Kept)? {
        return Ok(listeners);
    }
    let listeners = Listeners::open().map_err(Error::Listen)?;
    for socket in listeners.sockets() {
        notify::keep(KEPT_NAME, socket);
    }
    Ok(listeners)
}

fn witness(listeners: &Listeners, journal: &Journal) -> Option<Witness> {
    let opened = Witness::open(&listeners.v4);
    if let Err(error) = &opened {
        let text = format!(
            "the kernel cannot tell who holds a connection ({error}; load tcp_diag and restart): another process \
             on this host could be taken for a tagged one"
        );
        tracing::error!("{text}");
        journal.send(journal::Event::Trouble(text));
    }
    opened.ok()
}

/// Has the kernel programs know of the host's network namespace only: the last daemon's listeners in others went with it.
fn only_namespace(kernel: &mut Kernel, host: NetnsCookie) -> Result<(), kernel::Error> {
    for stale in kernel.namespaces()?.into_iter().filter(|netns| *netns != host.0) {
        kernel.remove_namespace(stale)?;
    }
    kernel.add_namespace(host.0)
}

/// Looks after the namespaces of the tags' processes; those that live already have their listeners when this returns.
fn open_namespaces(
    listeners: &Listeners,
    resolver_ports: (u16, u16),
    tags: &Tags,
    kernel: &SharedKernel,
    journal: &Journal,
) -> Result<Arc<Namespaces>, Error> {
    let (places, members, journal) = (tags.clone(), tags.clone(), journal.clone());
    let surroundings = namespaces::Surroundings {
        ports: listeners.ports().map_err(Error::Kept)?,
        resolver_ports,
        known: Box::new(kernel.clone()),
        places: Box::new(move || places.places()),
        tag_of: Box::new(move |thread| members.tag_of(&tags::of_process(thread).ok()?)),
        trouble: Box::new(move |text| {
            tracing::error!("{text}");
            journal.send(journal::Event::Trouble(text));
        }),
    };
    let namespaces = Arc::new(Namespaces::start(surroundings).map_err(Error::Namespaces)?);
    let (finds, tags) = (Arc::clone(&namespaces), tags.clone());
    let on_event = move |event: &agent_ebpf::Event| {
        if kernel::way(event) == Some(Counter::NewNamespace)
            && let Some(tag) = tags.resolve(TagNumber(event.tag))
        {
            finds.appeared(&tag, event.pid, NetnsCookie(event.netns));
            if event.suppressed > 0 {
                finds.search();
            }
        }
    };
    events::start(kernel.clone(), on_event).map_err(Error::Namespaces)?;
    namespaces.resume();
    Ok(namespaces)
}

/// Name of the listeners in systemd's descriptor store.
const KEPT_NAME: &str = "sluice-listener";

async fn open_tags(
    config: &Config,
    is_there: bool,
    kernel: &SharedKernel,
    journal: &Journal,
) -> Result<Tags, Error> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/sluice"));
    let told = journal.clone();
    let tell = move |event| told.send(of_tag(event));
    let settings = tags::Settings::new(&config.paths, program);
    let tags = Tags::open(settings, Box::new(kernel.clone()), Arc::new(tell))
        .await
        .map_err(Error::Tags)?;
    if is_there || !tags.list().iter().any(|tag| tag.configured) {
        apply(&tags, config).await;
    } else {
        // Not let go: whoever can make the configuration vanish must not free what it names.
        let text = "the configuration is gone: the tags that it named stay in force".to_owned();
        tracing::error!("{text}");
        journal.send(journal::Event::Trouble(text));
    }
    Ok(tags)
}

/// What happened to a tag, as the journal says it.
fn of_tag(event: tags::Event) -> journal::Event {
    use journal::Event::{TagAdded, TagRemoved, Trouble};
    match event {
        tags::Event::Taken { tag, cgroup } => TagAdded { tag, what: format!("takes {}", cgroup.0) },
        tags::Event::Resumed { tag } => TagAdded { tag, what: "taken over from the last daemon".to_owned() },
        tags::Event::Waiting { tag } => {
            TagRemoved { tag, why: "its cgroup is gone; the tag waits for the next".to_owned() }
        }
        tags::Event::Ended { tag, why } => TagRemoved { tag, why: why.to_owned() },
        tags::Event::Trouble { tag: Some(tag), what } => Trouble(format!("tag {tag}: {what}")),
        tags::Event::Trouble { tag: None, what } => Trouble(what),
    }
}

/// Puts the LSM layer to work, or says why it cannot be: everything else is there without it.
fn guard(kernel: &mut Kernel, config: &Config) {
    if let Err(absent) = kernel.guard(&config.denied_sockets) {
        tracing::warn!("no LSM layer: {}", Chain(&absent));
    }
}

/// A tag that cannot be made now is tried again by the tags themselves; the journal has it from them.
async fn apply(tags: &Tags, config: &Config) {
    for (tag, error) in tags.apply_config(&config.intercepts).await {
        tracing::error!("tag {tag}: {}", Chain(&error));
    }
}

/// A configuration under which the kernel programs refuse every connection.
fn refusing(open: agent_ebpf::Config) -> agent_ebpf::Config {
    agent_ebpf::Config { port4: 0, count6: 0, dns4: 0, dns6: 0, ..open }
}

fn gate_user(name: &str) -> Result<(Uid, Gid), Error> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) | Err(_) => Err(Error::NoUser(name.to_owned())),
    }
}

/// Makes a directory, or brings an old one into shape. One that is right already is left alone: under systemd the
/// warden lacks the capabilities to give files away, and tmpfiles.d has made them.
fn directory(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<(), Error> {
    let make = || {
        fs::create_dir_all(path)?;
        let is = fs::metadata(path)?;
        if let Some((uid, gid)) = owner
            && (is.uid(), is.gid()) != (uid.as_raw(), gid.as_raw())
        {
            chown(path, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        if is.mode() & 0o7777 != mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    make().map_err(|source| Error::Directory { path: path.to_owned(), source })
}

fn destination(origin: &Origin) -> Destination {
    Destination::new(IpAddr::V6(Ipv6Addr::from(origin.address)), origin.port)
}

/// The id of the agent's own cgroup, whose connections the kernel programs leave alone; 0, nobody's, when it cannot be
/// told.
fn own_cgroup() -> u64 {
    let find = || -> io::Result<Option<u64>> {
        let tree = tags::Tree::find()?;
        let own = tags::of_process(std::process::id())?;
        Ok(tree.id(&own)?.map(|id| id.0))
    };
    match find() {
        Ok(id) => id.unwrap_or(0),
        Err(error) => {
            tracing::warn!("the agent's own cgroup cannot be told: {error}");
            0
        }
    }
}
