//! How each of the parts that [`super::Bound`] holds is got.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid, User};

use super::Error;
use crate::config::{Config, Sink};
use crate::paths;
use crate::report::Chain;
use crate::types::{Layer, NetnsCookie};
use crate::warden::attach::SharedKernel;
use crate::warden::enforcement::Host;
use crate::warden::journal::{self, Journal};
use crate::warden::kernel::{self, Kernel};
use crate::warden::listen::Listeners;
use crate::warden::namespaces::{self, Namespaces};
use crate::warden::notary::Notary;
use crate::warden::notify;
use crate::warden::tags::{self, Tags};
use crate::warden::witness::Witness;

/// Those that systemd kept for us, or new ones, which it is asked to keep.
pub(super) fn listeners() -> Result<Listeners, Error> {
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

/// What is known of the host, its kernel layers first.
pub(super) fn host(kernel: &SharedKernel) -> Host {
    let host = Host::default();
    host.tell_layers(kernel.lock().layers().iter().map(Layer::from).collect());
    host
}

pub(super) fn witness(listeners: &Listeners, journal: &Journal) -> Option<Witness> {
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
pub(super) fn only_namespace(kernel: &mut Kernel, host: NetnsCookie) -> Result<(), kernel::Error> {
    for stale in kernel.namespaces()?.into_iter().filter(|netns| *netns != host.0) {
        kernel.remove_namespace(stale)?;
    }
    kernel.add_namespace(host.0)
}

/// Looks after the namespaces of the tags' processes; those that live already have their listeners when this returns.
pub(super) fn open_namespaces(
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
    namespaces.resume();
    Ok(namespaces)
}

/// Name of the listeners in systemd's descriptor store.
const KEPT_NAME: &str = "sluice-listener";

pub(super) async fn open_tags(
    config: &Config,
    is_there: bool,
    kernel: &SharedKernel,
    journal: &Journal,
) -> Result<Tags, Error> {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/sluice"));
    let told = journal.clone();
    let tell = move |event| told.send(of_tag(event));
    let settings = tags::Settings::new(&config.paths, program);
    let tags = Tags::open(settings, Box::new(kernel.clone()), Arc::new(tell)).await.map_err(Error::Tags)?;
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

/// Puts the LSM layer to work, or says why it cannot be: everything else is there without it.
pub(super) fn guard(kernel: &mut Kernel, config: &Config) {
    if let Err(absent) = kernel.guard(&config.denied_sockets) {
        tracing::warn!("no LSM layer: {}", Chain(&absent));
    }
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

/// A configuration under which the kernel programs refuse every connection.
pub(super) fn refusing(open: agent_ebpf::Config) -> agent_ebpf::Config {
    agent_ebpf::Config { port4: 0, count6: 0, dns4: 0, dns6: 0, ..open }
}

pub(super) fn gate_user(name: &str) -> Result<(Uid, Gid), Error> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok((user.uid, user.gid)),
        Ok(None) | Err(_) => Err(Error::NoUser(name.to_owned())),
    }
}

/// Makes a directory, or brings an old one into shape. One that is right already is left alone: under systemd the
/// warden lacks the capabilities to give files away, and tmpfiles.d has made them.
pub(super) fn directory(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<(), Error> {
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

/// The id of the agent's own cgroup, whose connections the kernel programs leave alone; 0, nobody's, when it cannot be
/// told.
pub(super) fn own_cgroup() -> u64 {
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

/// A tag that cannot be made now is tried again by the tags themselves; the journal has it from them.
pub(super) async fn apply(tags: &Tags, config: &Config) {
    for (tag, error) in tags.apply_config(&config.intercepts).await {
        tracing::error!("tag {tag}: {}", Chain(&error));
    }
}

/// Makes the directories; gives the gate's user.
pub(super) fn directories(config: &Config) -> Result<(Uid, Gid), Error> {
    let gate_user = gate_user(&config.user)?;
    directory(&config.paths.runtime, 0o755, None)?;
    directory(&config.paths.state, 0o755, None)?;
    directory(&config.paths.state.join(paths::STORE_DIR), 0o750, Some(gate_user))?;
    Ok(gate_user)
}

/// Who signs checkpoints, and the files that they are added to.
pub(super) fn notary(config: &Config, journal: &Journal) -> io::Result<Notary> {
    let file = |sink: &Sink| match sink {
        Sink::File(path) => Some(path.clone()),
        Sink::Https(_) => None,
    };
    let files = config.audit.checkpoints_to.iter().filter_map(file).collect();
    Notary::start(&config.paths.state.join(paths::AUDIT_DIR), journal, files)
}
