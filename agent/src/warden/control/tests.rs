//! The control socket against peers that mean no good. Who may ask what is tried with made-up peers; everything else
//! over a real socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::time::Instant;

use time::OffsetDateTime;

use super::*;
use crate::config::{Designation, Loopback, Options};
use crate::control::{ControlError, ProcessStatus, TagState, ask};
use crate::types::TagName;
use crate::warden::tags::{Adopted, Attach, AttachError, HostKind, Settings, TagNumber};

const GROUP: u32 = 4242;
const GATE: u32 = 4243;

struct Nothing;

impl Attach for Nothing {
    fn prepare(&mut self, _: &TagName, _: TagNumber, _: &Options) -> Result<(), AttachError> {
        Ok(())
    }
    fn attach(&mut self, _: &TagName, _: TagNumber, _: &Path, _: &Options) -> Result<(), AttachError> {
        Ok(())
    }
    fn detach(&mut self, _: &TagName) -> Result<(), AttachError> {
        Ok(())
    }
    fn adopt(&mut self) -> Result<Vec<Adopted>, AttachError> {
        Ok(Vec::new())
    }
}

fn status() -> Status {
    Status {
        version: "0".into(),
        mode: "observe".into(),
        warden: ProcessStatus { pid: 1, since: OffsetDateTime::UNIX_EPOCH },
        gate: None,
        gate_restarts: 0,
        sessions: None,
        tags: Vec::new(),
        counters: BTreeMap::new(),
        masked: BTreeMap::new(),
        blocked: BTreeMap::new(),
        layers: Vec::new(),
        self_test: None,
        store: None,
        memory: "locked".to_owned(),
        notes: Vec::new(),
    }
}

async fn desk(runtime: &Path) -> Desk {
    let settings = Settings {
        runtime: runtime.to_owned(),
        bpf: "/nowhere".into(),
        program: "/nowhere".into(),
        base: CgroupPath(format!("/sluice-test-control-{}", std::process::id())),
        host: HostKind::Plain,
    };
    let tags = Tags::open(settings, Box::new(Nothing), Arc::new(|_| {})).await.expect("tags");
    Desk {
        tags,
        tokens: Tokens::default(),
        secrets: Secrets::new(&crate::config::Config::default()),
        notes: Notes::default(),
        status: Box::new(status),
        doctor: Arc::new(Facts::default),
        environment: Box::new(|| vec![("SSL_CERT_FILE".into(), "/run/sluice/bundle.pem".into())]),
        group: Some(GROUP),
        gate_uid: Some(GATE),
    }
}

fn peer(uid: u32, groups: &[u32], cgroup: &str) -> Peer {
    let process = Process::open(std::process::id()).expect("own process");
    Peer { process, uid, groups: groups.to_vec(), cgroup: CgroupPath(cgroup.into()) }
}

fn tag(name: &str) -> TagName {
    TagName::parse(name).expect("name")
}

#[tokio::test]
async fn who_may_ask_what() {
    let dir = tempfile::tempdir().expect("directory");
    let desk = desk(dir.path()).await;
    let place = Designation::Cgroup("/sluice-test-control-tagged".into());
    let intercept =
        crate::config::Intercept { name: tag("in"), designation: place.clone(), options: Options::default() };
    desk.tags.apply_config(&[intercept]).await;
    let requests = [
        ("run", Request::Run { tag: None, identity_token: None }),
        ("tags", Request::Tags),
        ("status", Request::Status),
        ("doctor", Request::Doctor),
        ("tag", Request::Tag { what: Target::Place(place), name: None, loopback: Loopback::Pass }),
        ("untag", Request::Untag { name: tag("in"), force: true }),
        ("taken", Request::Taken { name: tag("in") }),
    ];
    let may = |peer: Peer| {
        let allowed = requests.iter().filter(|(_, request)| desk.may(&peer, request).is_ok());
        allowed.map(|(name, _)| *name).collect::<Vec<_>>()
    };
    assert_eq!(may(peer(0, &[0], "/")), ["run", "tags", "status", "doctor", "tag", "untag", "taken"]);
    assert_eq!(
        may(peer(0, &[0], "/sluice-test-control-tagged/x")),
        ["run", "tags", "status", "doctor", "taken"]
    );
    assert_eq!(may(peer(1000, &[1000, GROUP], "/")), ["run", "tags", "status", "doctor"]);
    assert_eq!(may(peer(1000, &[1000, 27], "/")), [""; 0]);
    assert_eq!(may(peer(GATE, &[GROUP], "/")), [""; 0], "the gate asks nothing");
}

/// A served socket, and a guard that ends the server.
#[expect(clippy::disallowed_methods, reason = "a test has no drain: it aborts the task")]
async fn served(runtime: &Path) -> tokio::task::JoinHandle<()> {
    let server = Server::bind(runtime, None).expect("socket");
    tokio::task::spawn(server.serve(Arc::new(desk(runtime).await)))
}

/// What a peer is told that writes `bytes` and closes its writing side.
async fn told(runtime: &Path, bytes: Vec<u8>) -> String {
    let path = runtime.join(CONTROL_SOCKET);
    let asking = tokio::task::spawn_blocking(move || {
        let mut stream = StdStream::connect(path).expect("connected");
        let _ = stream.write_all(&bytes); // the server may have heard enough before the end
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    });
    asking.await.expect("asked")
}

#[tokio::test]
async fn garbage_is_refused_and_the_next_one_is_answered() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the control socket is root's");
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let server = served(dir.path()).await;
    let mode = fs::metadata(dir.path().join(CONTROL_SOCKET)).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (bytes, want) in [
        (b"\x00\xff\xfe\n".to_vec(), "not understood"),
        (b"{}\n".to_vec(), "not understood"),
        (b"{\"verb\":\"rm\"}\n".to_vec(), "not understood"),
        (b"{\"verb\":\"tags\"}".to_vec(), "cut off"),
        (b"{\"verb\":\"tags\"".repeat(100_000), "cut off"),
        ([b"{\"verb\":".as_slice(), &b"[".repeat(8000), b"\n"].concat(), "not understood"),
        (b"{\"verb\":\"untag\",\"name\":\"../../etc\"}\n".to_vec(), "not understood"),
        (b"{\"verb\":\"untag\",\"name\":\"none\"}\n".to_vec(), "there is no tag none"),
    ] {
        let answer = told(dir.path(), bytes).await;
        assert!(answer.contains("refused") && answer.contains(want), "{answer} has no {want}");
    }
    assert_eq!(told(dir.path(), Vec::new()).await, "");
    assert_eq!(told(dir.path(), b"{\"verb\":\"tags\"}\n".to_vec()).await, "{\"tags\":[]}\n");
    server.abort();
}

#[tokio::test]
async fn slow_peers_keep_nobody_waiting() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the control socket is root's");
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let server = served(dir.path()).await;
    let path = dir.path().join(CONTROL_SOCKET);
    let mut slow: Vec<StdStream> =
        (0..MAX_CONNECTIONS - 1).map(|_| StdStream::connect(&path).expect("connected")).collect();
    for stream in &mut slow {
        stream.write_all(b"{").expect("written");
    }
    let started = Instant::now();
    assert_eq!(told(dir.path(), b"{\"verb\":\"tags\"}\n".to_vec()).await, "{\"tags\":[]}\n");
    assert!(started.elapsed() < PATIENCE / 2, "answered beside the slow ones");
    // They are told, and their places come free.
    let first = slow.remove(0);
    let said = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        (&first).read_to_string(&mut answer).expect("answer");
        answer
    });
    assert!(said.await.expect("read").contains("no request within"));
    server.abort();
}

#[test]
fn a_user_has_a_bounded_number_of_places() {
    let crowd = Arc::new(Crowd::default());
    let places: Vec<_> = (0..MAX_PER_USER).map(|_| crowd.enter(1000).expect("room")).collect();
    assert!(crowd.enter(1000).is_none());
    assert!(crowd.enter(1001).is_some());
    let many: Vec<_> = (MAX_PER_USER..MAX_OF_USERS)
        .map(|n| crowd.enter(100_000 + u32::try_from(n).expect("small")).expect("room"))
        .collect();
    assert!(crowd.enter(1002).is_none(), "many users together neither");
    assert!(crowd.enter(0).is_some());
    drop((places, many));
    assert!(crowd.enter(1000).is_some());
    assert!(crowd.0.lock().expect("crowd").is_empty(), "nothing is kept of those who left");
}

#[tokio::test]
async fn the_asking_side_understands_the_answering_side() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the control socket is root's");
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let server = served(dir.path()).await;
    let runtime = dir.path().to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let status = ask(&runtime, &Request::Status).expect("status");
        assert!(matches!(status, Answer::Status(s) if s.mode == "observe"));
        let none = ask(&runtime, &Request::Untag { name: tag("none"), force: false });
        assert!(matches!(none, Err(ControlError::Refused(r)) if r.what == "there is no tag none"));
        let place = Designation::Cgroup("/sluice-test-control-absent".into());
        let absent =
            ask(&runtime, &Request::Tag { what: Target::Place(place), name: None, loopback: Loopback::Pass });
        assert!(matches!(absent, Err(ControlError::Refused(_))), "{absent:?}");
        let tags = ask(&runtime, &Request::Tags).expect("tags");
        assert!(matches!(tags, Answer::Tags(t) if t.iter().all(|t| t.state == TagState::Taken)));
    });
    asked.await.expect("asked");
    let second = Server::bind(dir.path(), None);
    assert!(second.is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse), "one daemon at a time");
    server.abort();
}
