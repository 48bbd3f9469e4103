//! The control socket's answering side: who asks (by the kernel's word), whether they may, within which bounds.
//!
//! | request | who |
//! |---|---|
//! | run, tags, status, doctor, credentials | root and members of the group `sluice` |
//! | tag, untag, test-credential, erase | root, outside of every tag |
//! | taken | root (systemd, by a unit's drop-in) |
//! | read | root, who is about to read bodies |
//!
//! The socket's mode keeps others out, and each request is judged by the peer's credentials all the same. The gate's
//! user is refused everything: what reads the network has no business here.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::notes::Notes;
use super::secrets::Secrets;
use super::tags::{Asker, CgroupPath, Entry, Kind, Process, TagError, Tags};
use super::tokens::Tokens;
use crate::config::Options;
use crate::control::{Answer, Erase, MAX_REQUEST, Refusal, Request, Status, Target};
use crate::doctor::Facts;
use crate::paths::CONTROL_SOCKET;
use crate::types::note::{Note, Noted};
use crate::types::{TagName, Token};

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Connections at once of one user who is not root, so that one user cannot keep the others waiting.
const MAX_PER_USER: usize = 16;

/// Connections at once of all users who are not root: root finds room whoever else is there, since one account may
/// have many user ids (subuid(5)).
const MAX_OF_USERS: usize = 48;

/// How long a peer may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The process, held so that its number cannot change its meaning.
    pub process: Process,
    /// Effective user id when it connected.
    pub uid: u32,
    /// Effective group id when it connected, then its supplementary groups.
    pub groups: Vec<u32>,
    /// Its cgroup.
    pub cgroup: CgroupPath,
}

/// What the control socket needs to know of the rest of the daemon.
pub struct Desk {
    /// The tags.
    pub tags: Tags,
    /// Keeps the tokens of `run`.
    pub tokens: Tokens,
    /// The daemon's state, tags and all.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// What the doctor asks for. May take a while: it looks at every tagged process.
    pub doctor: Arc<dyn Fn() -> Facts + Send + Sync>,
    /// Lists and tests credentials.
    pub secrets: Secrets,
    /// Has the gate record what is done with the store.
    pub notes: Notes,
    /// The trust environment for commands (`trust::environment`).
    pub environment: Box<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// Group whose members may run commands and look; `None`: root alone.
    pub group: Option<u32>,
    /// The gate's user: refused.
    pub gate_uid: Option<u32>,
}

/// The listening socket. Removes its file when dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens on `runtime/control.sock`, open to root and to `group`. A file of an earlier daemon is replaced.
    ///
    /// # Errors
    /// When another daemon answers on it, or the file cannot be made.
    pub fn bind(runtime: &Path, group: Option<u32>) -> io::Result<Self> {
        let path = runtime.join(CONTROL_SOCKET);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another daemon answers on the control socket",
            ));
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // Bound under another name and renamed when it is dressed: nobody meets it with the wrong mode.
        let bare = runtime.join(format!("{CONTROL_SOCKET}.new"));
        let _ = fs::remove_file(&bare);
        let listener = UnixListener::bind(&bare)?;
        if group.is_some() {
            // Needs CAP_CHOWN, or the group among our own (`SupplementaryGroups=` in the unit).
            std::os::unix::fs::chown(&bare, None, group)?;
        }
        fs::set_permissions(&bare, fs::Permissions::from_mode(if group.is_some() { 0o660 } else { 0o600 }))?;
        fs::rename(&bare, &path)?;
        Ok(Self { listener, path })
    }

    /// Answers until the future is dropped. Requests run beside each other, so that one that waits for systemd keeps
    /// nobody else waiting; dropping the future cuts those under way.
    pub async fn serve(self, desk: Arc<Desk>) {
        let crowd = Arc::new(Crowd::default());
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if tasks.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        tasks.spawn(serve_one(stream, desk.clone(), crowd.clone()));
                    }
                    // Out of descriptors: the ones in use come free as requests end.
                    Err(_) => {
                        let _ = tokio::time::timeout(PATIENCE, tasks.join_next()).await;
                    }
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// How many connections each user has.
#[derive(Default)]
struct Crowd(Mutex<HashMap<u32, usize>>);

struct Place {
    crowd: Arc<Crowd>,
    uid: u32,
}

impl Crowd {
    fn enter(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.iter().filter(|(user, _)| **user != 0).map(|(_, count)| count).sum();
        let count = users.get(&uid).copied().unwrap_or(0);
        if uid != 0 && (count >= MAX_PER_USER || all >= MAX_OF_USERS) {
            return None;
        }
        users.insert(uid, count + 1);
        Some(Place { crowd: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = users.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

async fn serve_one(stream: UnixStream, desk: Arc<Desk>, crowd: Arc<Crowd>) {
    let peer = peer_of(&stream);
    let uid = peer.as_ref().map_or(u32::MAX, |p| p.uid);
    let (reader, mut writer) = stream.into_split();
    let answer = match (peer, crowd.enter(uid)) {
        (Err(e), _) => refuse(format!("the peer cannot be identified: {e}"), "try again"),
        (_, None) => refuse("too many requests at once by users who are not root", "wait for their answers"),
        (Ok(peer), Some(_place)) => match read_request(reader).await {
            Ok(Some(request)) => desk.answer(&peer, request).await,
            Ok(None) => return, // left without a word
            Err(refusal) => Answer::Refused(refusal),
        },
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    let _ = tokio::time::timeout(PATIENCE, writer.write_all(&line)).await;
}

async fn read_request(reader: impl tokio::io::AsyncRead + Unpin) -> Result<Option<Request>, Refusal> {
    let no = |what: String| Refusal { what, remedy: "one JSON object on one line is expected".into() };
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST as u64));
    match tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await {
        Err(_) => return Err(no(format!("no request within {PATIENCE:?}"))),
        Ok(Err(e)) => return Err(no(format!("the request cannot be read: {e}"))),
        Ok(Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
    }
    if line.pop() != Some(b'\n') {
        return Err(no(format!("the request is cut off, or longer than {MAX_REQUEST} bytes")));
    }
    serde_json::from_slice(&line).map(Some).map_err(|e| no(format!("the request is not understood: {e}")))
}

/// Who is at the other end, by the kernel's word.
fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = getsockopt(&stream.as_fd(), sockopt::PeerCredentials)?;
    let pid = u32::try_from(credentials.pid()).map_err(io::Error::other)?;
    // Kernels before 6.5 have no SO_PEERPIDFD. Then the number could have come to mean another process since the peer
    // connected; it must at least belong to the same user.
    let process = match getsockopt(&stream.as_fd(), sockopt::PeerPidfd) {
        Ok(pidfd) => Process::held(pid, pidfd),
        Err(_) => {
            let process = Process::open(pid)?;
            use std::os::unix::fs::MetadataExt as _;
            if fs::metadata(format!("/proc/{pid}"))?.uid() != credentials.uid() {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            process
        }
    };
    let mut groups = vec![credentials.gid()];
    groups.extend(process.groups()?);
    let cgroup = process.cgroup()?;
    Ok(Peer { process, uid: credentials.uid(), groups, cgroup })
}

fn refuse(what: impl Into<String>, remedy: impl Into<String>) -> Answer {
    Answer::Refused(Refusal { what: what.into(), remedy: remedy.into() })
}

fn note(peer: &Peer, what: Noted) -> Note {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(peer.uid)).ok().flatten();
    Note { uid: peer.uid, user: user.map(|user| user.name), what }
}

impl From<TagError> for Answer {
    fn from(error: TagError) -> Self {
        refuse(crate::report::Chain(&error).to_string(), error.remedy())
    }
}

impl Desk {
    /// Judges and answers one request.
    pub async fn answer(&self, peer: &Peer, request: Request) -> Answer {
        if let Err(refusal) = self.may(peer, &request) {
            return Answer::Refused(refusal);
        }
        match request {
            Request::Run { tag, identity_token } => self.run(peer, tag, identity_token).await,
            Request::Tag { what, name, loopback } => {
                let options = Options::with_loopback(loopback);
                let made = match what {
                    Target::Pid(pid) => self.tags.tag_pid(pid, name, options, peer.uid).await,
                    Target::Place(designation) => self.tags.tag(designation, name, options, peer.uid).await,
                };
                match made {
                    Ok(entry) => Answer::Tag(Box::new(self.tags.describe(entry))),
                    Err(e) => e.into(),
                }
            }
            Request::Untag { name, force } => {
                self.tags.untag(&name, force).await.map_or_else(Into::into, |()| Answer::Done)
            }
            Request::Taken { name } => {
                self.tags.taken(&name, &peer.cgroup).map_or_else(Into::into, |()| Answer::Done)
            }
            Request::Tags => Answer::Tags(self.tags.list()),
            Request::Status => Answer::Status(Box::new((self.status)())),
            Request::Credentials => Answer::Credentials(self.secrets.list()),
            Request::Read { store, what } => self.read(peer, &store, what).await,
            Request::Erase(Erase { before, segments, why }) => {
                let erased = self.notes.note(note(peer, Noted::Erase { before, segments, why })).await;
                erased.map_or_else(|why| refuse(why, "look at `journalctl -u sluice`"), Answer::Erased)
            }
            Request::TestCredential { name } => Answer::Tested(self.secrets.test(&name).await),
            Request::Doctor => {
                let doctor = self.doctor.clone();
                match tokio::task::spawn_blocking(move || doctor()).await {
                    Ok(facts) => Answer::Doctor(Box::new(facts)),
                    Err(error) => Answer::Refused(Refusal {
                        what: format!("the tagged processes cannot be looked at: {error}"),
                        remedy: "look at `journalctl -u sluice`".into(),
                    }),
                }
            }
        }
    }

    async fn read(&self, peer: &Peer, store: &Path, what: String) -> Answer {
        let ours = (self.status)().store.map(|ours| ours.path);
        let same = ours.is_some_and(|ours| fs::canonicalize(ours).ok() == fs::canonicalize(store).ok());
        if !same {
            return refuse("this is not the store that the daemon writes", "name its runtime directory");
        }
        tracing::info!(uid = peer.uid, what, "bodies are read");
        let noted = self.notes.note(note(peer, Noted::Read(what))).await;
        noted.map_or_else(|why| refuse(why, "look at `journalctl -u sluice`"), |_| Answer::Done)
    }

    async fn run(&self, peer: &Peer, tag: Option<TagName>, token: Option<Token>) -> Answer {
        match self.tags.run_request(&peer.process, peer.uid, tag).await {
            Ok(placed) => {
                if let Some(token) = token
                    && let Err(refusal) = self.hold(peer, &placed.tag, token)
                {
                    return Answer::Refused(refusal);
                }
                let environment: BTreeMap<_, _> = (self.environment)().into_iter().collect();
                Answer::Run { tag: placed.tag, already: placed.already, environment }
            }
            Err(e) => e.into(),
        }
    }

    /// Keeps a token for a whole tag: only for one that `sluice run` made, and for its maker. In a tag of the configuration
    /// other jobs run beside the caller, whose identity it is not.
    fn hold(&self, peer: &Peer, tag: &TagName, token: Token) -> Result<(), Refusal> {
        let owns = |entry: &Entry| {
            matches!(entry.kind, Kind::Run { .. }) && entry.asker == Asker::User { uid: peer.uid }
        };
        if !self.tags.entry(tag).is_some_and(|entry| owns(&entry)) {
            return Err(Refusal {
                what: format!("the tag {tag} was not made by `sluice run` of this user, and others may be in it"),
                remedy: "give the job its token by its environment or a file (token_env, token_file of [[issuer]])".into(),
            });
        }
        let held = self.tokens.hold(&self.tags, tag, token);
        held.map_err(|why| Refusal {
            what: format!("the token cannot be kept: {why}"),
            remedy: "try again".into(),
        })
    }

    fn may(&self, peer: &Peer, request: &Request) -> Result<(), Refusal> {
        let no = |what: &str, remedy: &str| Err(Refusal { what: what.into(), remedy: remedy.into() });
        if peer.uid != 0 && self.gate_uid == Some(peer.uid) {
            return no("the gate's user may not ask anything here", "use another account");
        }
        let member = self.group.is_some_and(|g| peer.groups.contains(&g));
        match request {
            Request::Run { .. }
            | Request::Tags
            | Request::Status
            | Request::Doctor
            | Request::Credentials
                if peer.uid == 0 || member =>
            {
                Ok(())
            }
            Request::Run { .. }
            | Request::Tags
            | Request::Status
            | Request::Doctor
            | Request::Credentials => no(
                "only root and members of the group sluice may ask this",
                "ask root to be put into the group",
            ),
            Request::Taken { .. } | Request::Read { .. } if peer.uid == 0 => Ok(()),
            Request::Tag { .. }
            | Request::Untag { .. }
            | Request::TestCredential { .. }
            | Request::Erase(_)
                if peer.uid == 0 =>
            {
                match self.tags.tag_of(&peer.cgroup) {
                    // A tagged process must not change what is tagged, root or not.
                    Some(tag) => no(
                        &format!("the caller is in the tag {tag}, and a tagged process cannot ask this"),
                        "ask from outside of it",
                    ),
                    None => Ok(()),
                }
            }
            Request::Taken { .. } | Request::Tag { .. } | Request::Untag { .. } => {
                no("only root may change tags", "use sudo")
            }
            Request::Read { .. } => no("only root reads bodies", "use sudo"),
            Request::Erase(_) => no("only root may destroy keys", "use sudo"),
            // It has tokens minted and commands run.
            Request::TestCredential { .. } => no("only root may test credentials", "use sudo"),
        }
    }
}

#[cfg(test)]
mod tests;
