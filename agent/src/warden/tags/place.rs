//! Ephemeral tags: a process is put into a cgroup of its own, the programs first. `run`: the process waits for the
//! answer before it execs the command. `pid`: the process runs meanwhile, so it is halted, and the sockets that it
//! made before are sealed, since hooks belong to the cgroup in which a socket was made.

use std::time::Duration;

use super::state::{Asker, Entry, Kind};
use super::{CgroupPath, Event, HostKind, Process, TagError, TagName, Tags, directory};
use crate::config::Options;
use crate::warden::destroy;

/// How long a process may take to stand still before it is tagged while it moves.
const HALT: Duration = Duration::from_secs(2);

/// A command was put into a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The tag.
    pub tag: TagName,
    /// The caller was in this tag before, and stays in it.
    pub already: bool,
}

impl Tags {
    /// Puts `peer`, which waits to become a command, into a tag of its own; the tag is in force when this returns. A
    /// peer that is in a tag stays there: leaving one by `sluice run` would be a way out.
    ///
    /// # Errors
    /// [`TagError::Within`] when another tag is asked for than the one the peer is in; [`TagError::Exists`],
    /// [`TagError::Full`] and what the host refuses. The peer must not start its command then.
    pub async fn run_request(
        &self,
        peer: &Process,
        uid: u32,
        name: Option<TagName>,
    ) -> Result<Placed, TagError> {
        let here = peer.cgroup().map_err(|e| TagError::io("the caller", e))?;
        if let Some(tag) = self.tag_of(&here) {
            return match name {
                Some(other) if other != tag => Err(TagError::Within(tag)),
                _ => self.in_force(&tag).map(|()| Placed { tag, already: true }),
            };
        }
        let name = name.unwrap_or_else(default_name);
        let kind = Kind::Run { pid: peer.pid() };
        let entry = self.reserve_freed(name, kind, Asker::User { uid }, Options::default()).await?;
        let entry = self.placed(entry, peer, here).await?;
        Ok(Placed { tag: entry.name, already: false })
    }

    /// Whether a tag that a caller is in takes its connections; tried once more if not. A name on a cgroup is no
    /// promise: its programs may have failed to attach.
    fn in_force(&self, name: &TagName) -> Result<(), TagError> {
        self.settle(name);
        let why = match self.entry(name) {
            Some(Entry { attached: Some(_), trouble: None, .. }) => return Ok(()),
            Some(entry) => entry.trouble.unwrap_or_else(|| "its programs are not attached".into()),
            None => "it has ended".into(),
        };
        Err(TagError::NotTaken { name: name.clone(), why })
    }

    /// Tags a process that runs, with all its threads, and whatever it starts from now on; not the children that it
    /// has. Under systemd it leaves its unit for a scope of its own.
    ///
    /// # Errors
    /// As for [`Tags::run_request`]; [`TagError::Unsuitable`] for the init, kernel threads and the agent itself.
    pub async fn tag_pid(
        &self,
        pid: u32,
        name: Option<TagName>,
        options: Options,
        uid: u32,
    ) -> Result<Entry, TagError> {
        let what = format!("process {pid}");
        let process = Process::open(pid).map_err(|e| match e.raw_os_error() {
            Some(libc::ESRCH) => TagError::NotFound(what.clone()),
            _ => TagError::io(what.clone(), e),
        })?;
        let here = process.cgroup().map_err(|e| TagError::io(what.clone(), e))?;
        let unsuitable = |why| TagError::Unsuitable { what: what.clone(), why };
        if pid == 1 {
            return Err(unsuitable("it is the init"));
        }
        if process.is_kernel_thread() {
            return Err(unsuitable("it is a thread of the kernel"));
        }
        if pid == std::process::id() || (here == self.inner.own && here.0 != "/") {
            return Err(unsuitable("it is the agent"));
        }
        if let Some(tag) = self.tag_of(&here) {
            return Err(TagError::Within(tag));
        }
        let name = match name {
            Some(name) => name,
            None => TagName::parse(&format!("pid-{pid}")).map_err(|_| TagError::NotFound(what.clone()))?,
        };
        let entry = self.reserve_freed(name, Kind::Pid { pid }, Asker::User { uid }, options).await?;
        self.placed(entry, &process, here).await
    }

    async fn placed(&self, entry: Entry, process: &Process, here: CgroupPath) -> Result<Entry, TagError> {
        let name = entry.name.clone();
        match self.place(entry, process, here).await {
            Ok(entry) => {
                self.commit(entry.clone());
                if let Some(cgroup) = entry.cgroup.clone() {
                    self.tell(Event::Taken { tag: name.clone(), cgroup });
                }
                self.settle(&name); // it may have ended meanwhile
                Ok(entry)
            }
            Err(e) => {
                self.undo(&name).await;
                Err(e)
            }
        }
    }

    async fn place(&self, mut entry: Entry, process: &Process, here: CgroupPath) -> Result<Entry, TagError> {
        let halts = matches!(entry.kind, Kind::Pid { .. });
        entry.came_from = Some(here);
        let entry = match self.inner.settings.host {
            HostKind::Plain => self.place_in_own_cgroup(entry, process, halts)?,
            HostKind::Systemd => self.place_in_scope(entry, process, halts).await?,
        };
        if !process.alive().map_err(|e| TagError::io("the process", e))? {
            return Err(TagError::NotFound(format!("process {}", process.pid())));
        }
        if !halts {
            return Ok(entry);
        }
        let sealed = self.seal(entry, process).await;
        let name = sealed.name.clone();
        if let Err(e) = self.let_go(&sealed).await {
            self.trouble(Some(&name), &e);
        }
        Ok(sealed)
    }

    fn place_in_own_cgroup(
        &self,
        mut entry: Entry,
        process: &Process,
        halts: bool,
    ) -> Result<Entry, TagError> {
        let tree = &self.inner.tree;
        let cgroup = CgroupPath(format!("{}/{}", self.inner.settings.base, entry.name));
        let ours = |e| TagError::io(format!("the cgroup {cgroup}"), e);
        entry.cgroup = Some(cgroup.clone());
        self.book(&entry)?;
        let id = tree.create(&cgroup).map_err(ours)?;
        self.attach(&entry, &cgroup)?;
        entry.attached = Some(id);
        if halts {
            // A process that is moved into a halted cgroup halts.
            tree.freeze(&cgroup, true, Duration::ZERO).map_err(ours)?;
        }
        tree.adopt(&cgroup, process.pid()).map_err(ours)?;
        if halts && !tree.freeze(&cgroup, true, HALT).map_err(ours)? {
            entry.notes.push("the process did not stand still while its sockets were sealed".into());
        }
        Ok(entry)
    }

    async fn place_in_scope(
        &self,
        mut entry: Entry,
        process: &Process,
        halts: bool,
    ) -> Result<Entry, TagError> {
        let scope = format!("sluice-{}.scope", entry.name);
        entry.unit = Some(scope.clone());
        self.book(&entry)?;
        let systemd = self.systemd().await?;
        let description = format!("Sluice tag {}", entry.name);
        systemd
            .scope(&scope, &[process.pid()], "sluice.slice", &description, None)
            .await
            .map_err(TagError::Systemd)?;
        let cgroup = process.cgroup().map_err(|e| TagError::io("the process", e))?;
        if cgroup.name() != scope {
            let why = format!("the process is in {cgroup}");
            return Err(TagError::NotTaken { name: entry.name, why });
        }
        if halts && let Err(e) = systemd.freeze(&scope, true).await {
            entry
                .notes
                .push(format!("the process ran while its sockets were sealed: {}", crate::report::Chain(&e)));
        }
        entry.cgroup = Some(cgroup.clone());
        self.book(&entry)?;
        let id = self.inner.tree.id(&cgroup).map_err(|e| TagError::io(format!("the cgroup {cgroup}"), e))?;
        self.attach(&entry, &cgroup)?;
        entry.attached = id;
        if let Some(unit) = entry.came_from.as_ref().filter(|c| halts && c.name().ends_with(".service")) {
            entry
                .notes
                .push(format!("it left {} for {scope}; --unit tags a service with all of it", unit.name()));
        }
        Ok(entry)
    }

    /// Writes down what is about to be made, so that a crash leaves nothing that no file tells of.
    fn book(&self, entry: &Entry) -> Result<(), TagError> {
        self.save(entry)?;
        if let Some(slot) = self.registry().slots.get_mut(&entry.name) {
            slot.entry = entry.clone();
        }
        Ok(())
    }

    pub(super) fn attach(&self, entry: &Entry, cgroup: &CgroupPath) -> Result<(), TagError> {
        let folder = directory(&self.inner, cgroup);
        let attached = self.registry().attach.attach(&entry.name, entry.number, &folder, &entry.options);
        attached.map_err(TagError::Kernel)
    }

    async fn seal(&self, mut entry: Entry, process: &Process) -> Entry {
        let (process, loopback) = (process.clone(), entry.options.loopback);
        let sealed = tokio::task::spawn_blocking(move || destroy::seal(&process, loopback)).await;
        match sealed {
            Ok(Ok(sealed)) => entry.notes.extend(sealed.notes()),
            Ok(Err(e)) => entry.notes.push(format!("its open sockets could not be looked at: {e}")),
            Err(e) => entry.notes.push(format!("its open sockets could not be looked at: {e}")),
        }
        entry
    }

    /// Lets the processes of a tag run that may have been halted. Also called for what a crash left halted.
    pub(super) async fn let_go(&self, entry: &Entry) -> Result<(), TagError> {
        match (self.inner.settings.host, &entry.cgroup, &entry.unit) {
            (HostKind::Plain, Some(cgroup), _) => {
                let freed = self.inner.tree.freeze(cgroup, false, Duration::ZERO);
                freed.map(|_| ()).map_err(|e| TagError::io(format!("the cgroup {cgroup}"), e))
            }
            (HostKind::Systemd, _, Some(scope)) => {
                self.systemd().await?.freeze(scope, false).await.map_err(TagError::Systemd)
            }
            _ => Ok(()),
        }
    }

    /// Takes back whatever a failed placement made. The process goes back where it came from.
    async fn undo(&self, name: &TagName) {
        let entry = self.entry(name);
        if let Some(halted) = entry.as_ref().filter(|e| matches!(e.kind, Kind::Pid { .. })) {
            let _ = self.let_go(halted).await; // fails when it was never made
        }
        if let Err(e) = self.registry().attach.detach(name) {
            self.trouble(Some(name), &e);
        }
        if let Some(Entry { cgroup: Some(cgroup), came_from, .. }) = &entry
            && self.inner.settings.host == HostKind::Plain
            && let Err(e) = self.evacuate(cgroup, came_from.as_ref())
        {
            self.trouble(Some(name), &e);
        }
        self.cancel(name);
    }
}

/// `run-` and eight letters that nobody guesses twice.
fn default_name() -> TagName {
    let random = ulid::Ulid::generate().to_string().to_lowercase();
    let name = format!("run-{}", &random[random.len() - 8..]);
    TagName::parse(&name).expect("letters, digits and a dash")
}
