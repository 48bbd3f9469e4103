//! What the command line and the daemon say to each other: one JSON object a line over `RUNTIME_DIR/control.sock`, one request and
//! one answer a connection. Here are the words and the asking side; who may ask what is `warden::control`'s to judge.

mod credential;
mod erase;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::{Designation, Loopback};
use crate::doctor::Facts;
use crate::paths::CONTROL_SOCKET;
use crate::types::issuer::TOKEN_MAX;
use crate::types::{CredentialName, Layer, SelfTest, TagName, Token};

pub use credential::{CredentialState, CredentialStatus, Tested};
pub use erase::Erase;

/// A request's line is at most this long, its newline included.
pub const MAX_REQUEST: usize = 8 * 1024 + TOKEN_MAX;

/// An answer's line is at most this long: 256 tags with all their words are about 400 KiB.
pub const MAX_ANSWER: u64 = 4 * 1024 * 1024;

/// How long the asking side waits: systemd jobs are awaited by the daemon, each at most 20 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Put the asking process into a tag: it becomes a command next.
    Run {
        /// The tag's name; a random one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<TagName>,
        /// A token that may prove who stands behind all that runs in the tag.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity_token: Option<Token>,
    },
    /// Tag a unit, slice, cgroup, user or process.
    Tag {
        /// What.
        what: Target,
        /// The tag's name; derived from `what` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<TagName>,
        /// Whether loopback destinations are taken.
        #[serde(default)]
        loopback: Loopback,
    },
    /// End a tag.
    Untag {
        /// The tag.
        name: TagName,
        /// Even while processes of a run live in it.
        #[serde(default)]
        force: bool,
    },
    /// Is the cgroup of the asking process, a tagged unit's, taken? Asked by the unit's drop-in.
    Taken {
        /// The unit's tag.
        name: TagName,
    },
    /// List the tags.
    Tags,
    /// How the daemon is.
    Status,
    /// What takes root to know of what weakens the enforcement.
    Doctor,
    /// Record that bodies of the store are read now.
    Read {
        /// Directory of the store.
        store: PathBuf,
        /// Which bodies, in words of the command line.
        what: String,
    },
    /// Destroy keys of bodies.
    Erase(Erase),
    /// List the credentials: never a value.
    Credentials,
    /// Fetch a credential and try its hosts.
    TestCredential {
        /// Which.
        name: CredentialName,
    },
}

/// What a tag is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A process that runs.
    Pid(u32),
    /// A place in the cgroup tree.
    #[serde(untagged)]
    Place(Designation),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `Run`: go ahead.
    Run {
        /// The tag.
        tag: TagName,
        /// The caller was in this tag before.
        already: bool,
        /// Variables to set for the command: the trust environment.
        environment: BTreeMap<String, String>,
    },
    /// To `Tag`: in force, or waiting for its processes.
    Tag(Box<TagStatus>),
    /// To `Untag`, `Taken` and `Read`: done, yes.
    Done,
    /// To `Erase`: the numbers of the keys.
    Erased(Vec<u64>),
    /// To `Tags`.
    Tags(Vec<TagStatus>),
    /// To `Status`.
    Status(Box<Status>),
    /// To `Doctor`.
    Doctor(Box<Facts>),
    /// To `Credentials`.
    Credentials(Vec<CredentialStatus>),
    /// To `TestCredential`.
    Tested(Result<Tested, String>),
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// How a tag was made. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagKind {
    /// A command that `sluice run` started.
    Run,
    /// A process tagged while it ran.
    Pid,
    /// A systemd service or scope.
    Unit,
    /// A systemd slice.
    Slice,
    /// A cgroup.
    Cgroup,
    /// A user's slice.
    User,
    /// Programs of an earlier daemon that nothing else is known of.
    Found,
}

impl TagKind {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Pid => "pid",
            Self::Unit => "unit",
            Self::Slice => "slice",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Found => "found",
        }
    }
}

/// Whether a tag is in force. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagState {
    /// The programs are attached.
    Taken,
    /// Nobody is there to be taken; the programs are attached when somebody comes.
    Waiting,
    /// Should be in force and is not: see `trouble`.
    Failed,
}

impl TagState {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }
}

/// One tag, as `sluice tags --json` prints it: field names are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagStatus {
    /// Name.
    pub name: TagName,
    /// Number in the kernel programs.
    pub number: u32,
    /// How it was made.
    pub kind: TagKind,
    /// Of what: a unit, a path, a user, a pid.
    pub target: String,
    /// Whether it is in force.
    pub state: TagState,
    /// Its cgroup from the v2 root, where it is or will be.
    pub cgroup: Option<String>,
    /// The systemd unit that belongs to it.
    pub unit: Option<String>,
    /// Processes in it, counted to 10,000.
    pub processes: usize,
    /// What happens to loopback destinations.
    pub loopback: Loopback,
    /// Whether the configuration names it.
    pub configured: bool,
    /// Who asked for it, if a user did.
    pub uid: Option<u32>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Why it is not in force.
    pub trouble: Option<String>,
    /// What else there is to know, such as sockets that were left open.
    pub notes: Vec<String>,
}

/// One of the daemon's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Process id.
    pub pid: u32,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// The store as the gate reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes that it takes, where they could be counted.
    pub bytes: Option<u64>,
    /// Why nothing can be recorded, so that new exchanges are refused; `None`: all is well.
    pub trouble: Option<String>,
}

/// `sluice status --json`: field names are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the binary that runs.
    pub version: String,
    /// `observe`.
    pub mode: String,
    /// The privileged process.
    pub warden: ProcessStatus,
    /// The process that reads the network; `None` while it is being restarted.
    pub gate: Option<ProcessStatus>,
    /// How often the gate had to be restarted.
    pub gate_restarts: u64,
    /// Sessions under way, a second ago at most; `None` while there is no gate.
    pub sessions: Option<u64>,
    /// The tags.
    pub tags: Vec<TagStatus>,
    /// Counters by name: those of the kernel programs and our own.
    pub counters: BTreeMap<String, u64>,
    /// Attempts that were blocked since the maps were made (the last boot, mostly), by way: those counters that count refusals.
    pub blocked: BTreeMap<String, u64>,
    /// Values that were masked since the daemon started, by detector or field, a second ago at most.
    pub masked: BTreeMap<String, u64>,
    /// The kernel layers, each with its state.
    pub layers: Vec<Layer>,
    /// What the start-up self-test found; `null` while it runs.
    pub self_test: Option<SelfTest>,
    /// The store.
    pub store: Option<StoreStatus>,
    /// Whether the memory of both processes can reach swap, and what keeps it from that.
    pub memory: String,
    /// What on this host weakens the enforcement, or needs attention.
    pub notes: Vec<String>,
}

/// Asking failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("the daemon is not running")]
    NotRunning,
    /// The socket is not open to this user.
    #[error("no permission to talk to the daemon")]
    NotAllowed,
    /// The daemon's no.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection broke, or no answer came in time.
    #[error("the daemon did not answer")]
    Broken(#[source] io::Error),
    /// The answer is of another kind than the question: another version runs.
    #[error("the daemon's answer is not understood")]
    Strange,
}

impl ControlError {
    /// What the user can do.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotRunning => "start it: `systemctl start sluice`".into(),
            Self::NotAllowed => {
                "ask root to `usermod --append --groups sluice USER`, and log in again".into()
            }
            Self::Refused(refusal) => refusal.remedy.clone(),
            Self::Broken(_) => "look at `systemctl status sluice` and `journalctl -u sluice`".into(),
            Self::Strange => "another version may run: `systemctl restart sluice`".into(),
        }
    }
}

/// Asks the daemon one thing and waits for the answer.
///
/// # Errors
/// [`ControlError`]; a refusal is one.
pub fn ask(runtime: &Path, request: &Request) -> Result<Answer, ControlError> {
    let stream = UnixStream::connect(runtime.join(CONTROL_SOCKET)).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning,
        io::ErrorKind::PermissionDenied => ControlError::NotAllowed,
        _ => ControlError::Broken(e),
    })?;
    match exchange(&stream, request).map_err(ControlError::Broken)? {
        Answer::Refused(refusal) => Err(ControlError::Refused(refusal)),
        answer => Ok(answer),
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // The daemon may refuse and close before it has read: then its answer counts, not the broken pipe.
    let written = stream.write_all(&line);
    let mut answer = String::new();
    BufReader::new(stream).take(MAX_ANSWER).read_line(&mut answer)?;
    if answer.is_empty() {
        written?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_they_go_over_the_wire() {
        let name = TagName::parse("ci").expect("name");
        for (request, wire) in [
            (Request::Run { tag: None, identity_token: None }, r#"{"verb":"run"}"#),
            (Request::Tags, r#"{"verb":"tags"}"#),
            (
                Request::Tag { what: Target::Pid(7), name: Some(name.clone()), loopback: Loopback::Take },
                r#"{"verb":"tag","what":{"pid":7},"name":"ci","loopback":"take"}"#,
            ),
            (
                Request::Tag {
                    what: Target::Place(Designation::Unit("a.service".into())),
                    name: None,
                    loopback: Loopback::Pass,
                },
                r#"{"verb":"tag","what":{"unit":"a.service"},"loopback":"pass"}"#,
            ),
            (Request::Untag { name, force: false }, r#"{"verb":"untag","name":"ci","force":false}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).expect("json"), wire);
            assert_eq!(serde_json::from_str::<Request>(wire).expect("request"), request);
        }
        assert!(serde_json::from_str::<Request>(r#"{"verb":"untag","name":"../x"}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"verb":"run","uid":0}"#).is_err());
    }

    #[test]
    fn nobody_listens() {
        let dir = tempfile::tempdir().expect("directory");
        assert!(matches!(ask(dir.path(), &Request::Tags), Err(ControlError::NotRunning)));
    }
}
