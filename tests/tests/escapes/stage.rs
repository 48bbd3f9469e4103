//! What the attempts stand on: a world whose outside is at the far end of a veth, a program there that answers, an
//! untagged helper for each user, a second network namespace, and the capture.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_tests::capture::{Capture, Frame};
use sluice_tests::harness::{Options, World};
use sluice_tests::host::{Namespace, run};
use sluice_tests::netns::{AGENT_V4, AGENT_V6, OTHERS_V4, OTHERS_V6, Place};
use sluice_tests::process::{PATIENCE, eventually, in_guest};

pub const FAR4: &str = "203.0.113.1";
/// Its link address.
const FAR_LINK: &str = "02:00:5e:00:00:01";
pub const FAR6: &str = "2001:db8::1";
/// The second namespace's own address.
pub const OTHER4: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 2);
/// The same for IPv6.
pub const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 2);
pub const PORT: &str = "7000";
/// The cgroup whose processes are tagged, and the one that processes are moved into.
pub const JOB: &str = "job";
const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-escape");
/// Frames that are kept; more would show that something floods.
const FRAMES: usize = 100_000;

/// A program that answers line by line.
pub struct Talker {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Talker {
    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that answers");
        let says = BufReader::new(child.stdout.take().expect("piped"));
        let hears = child.stdin.take().expect("piped");
        Self { child, says, hears }
    }

    /// Its next line; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("text");
        line.trim().to_owned()
    }

    pub fn tell(&mut self, line: &str) {
        // It may have ended meanwhile, which its next line tells.
        let _ = writeln!(self.hears, "{line}").and_then(|()| self.hears.flush());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See the module. The order of fields is the order in which they end.
pub struct Stage {
    pub far: Talker,
    helpers: Vec<(u32, Vec<String>, Talker)>,
    other: Talker,
    _namespace: Namespace,
    frames: Arc<Mutex<Vec<Frame>>>,
    _capture: Capture,
    pub world: World,
    sentinels: u32,
    /// Whether the agent has its LSM layer here.
    pub has_lsm: bool,
    common: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        load_modules();
        let dns = format!("[dns]\nupstream = [\"{FAR4}\"]\n");
        let config = format!("[[intercept]]\nname = \"{JOB}\"\ncgroup = \"/{JOB}\"\n{dns}");
        let options = Options { place: Place::Far, config, no_roots: true, ..Options::default() };
        let world = World::with(options).expect("world");
        let space = world.space();
        std::fs::create_dir_all(space.cgroup().join(JOB)).expect("cgroup");
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        let capture = Capture::start(&space.outside(), move |frame| {
            let mut seen = seen.lock().expect("no panic while it is held");
            assert!(seen.len() < FRAMES, "the far end is flooded");
            seen.push(frame.clone());
            false
        });
        let namespace = Namespace::new("escape", &[]);
        // Its word comes from inside: before it, its process is still where we are.
        let mut inside = namespace.command(None, "sh");
        let mut other = Talker::start(inside.args(["-c", "echo ready; exec sleep infinity"]));
        assert_eq!(other.line(), "ready");
        let mut stage = Self {
            far: Talker::start(Command::new("true").arg("-")),
            helpers: Vec::new(),
            other,
            _namespace: namespace,
            frames,
            _capture: capture.expect("capture"),
            sentinels: 0,
            has_lsm: false,
            common: Vec::new(),
            world,
        };
        stage.has_lsm = stage.find_lsm();
        stage.prepare();
        stage
    }

    fn outside(&self, program: &str) -> Command {
        let mut command = self.world.space().command("", "nsenter").expect("command");
        command.arg(format!("--net={}", self.world.space().outside().display())).arg(program);
        command
    }

    fn prepare(&mut self) {
        let space = self.world.space();
        let dir = space.dir().join("escape");
        std::fs::create_dir(&dir).expect("directory");
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("mode");
        let pid = self.other.pid().to_string();
        run(self
            .outside("ip")
            .args(["link", "add", "far2", "type", "veth", "peer", "name", "near2", "netns", &pid]));
        let far = "
            ip link set far address 02:00:5e:00:00:01
            ip addr add 169.254.169.254/32 dev far; ip addr add 100.100.100.200/32 dev far
            ip -6 addr add fd00:ec2::254/128 dev far nodad; ip -6 addr add fe80::1/64 dev far nodad
            ip link set far2 addrgenmode none; ip link set far2 up
            for key in all far; do
                echo 1 > /proc/sys/net/ipv4/conf/$key/accept_source_route
                echo 1 > /proc/sys/net/ipv6/conf/$key/accept_source_route
                [ ! -e /proc/sys/net/ipv6/conf/$key/seg6_enabled ] || echo 1 > /proc/sys/net/ipv6/conf/$key/seg6_enabled
            done
            ip addr add 198.18.3.1/24 dev far2; ip -6 addr add 2001:db8:3::1/64 dev far2 nodad
            echo 0x603 > /proc/sys/net/ipv4/tcp_fastopen; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter";
        run(self.outside("sh").args(["-ec", far]));
        // Its own source address for IPv6, too; Fast Open without a cookie; ping sockets for everybody, as systemd has it.
        let near = "
            ip -6 addr add fe80::2/64 dev near nodad
            ip -6 route replace 2001:db8::/64 dev near src 2001:db8::fd metric 1
            ip -6 route replace default via 2001:db8::1 dev near src 2001:db8::fd metric 1
            echo 0x605 > /proc/sys/net/ipv4/tcp_fastopen; echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range";
        run(space.command("", "sh").expect("command").args(["-ec", near]));
        let other = "
            ip link set near2 addrgenmode none; ip link set near2 up; ip link set lo up
            ip addr add 198.18.3.2/24 dev near2; ip -6 addr add 2001:db8:3::2/64 dev near2 nodad
            ip route add default via 198.18.3.1; ip -6 route add default via 2001:db8:3::1";
        run(self._namespace.command(None, "sh").args(["-ec", other]));
        self.common = self.options(&dir);
        let far = |name: &str| name.to_owned();
        let mut command = self.outside(PROGRAM);
        command.arg("far").args(["--to4", FAR4, "--to6", FAR6, "--port", PORT, "--device"]).arg(far("far"));
        self.far = Talker::start(&mut command);
        assert_eq!(self.far.line(), "ready");
        for uid in crate::USERS {
            let mut command = self.world.space().command("untagged", PROGRAM).expect("command");
            command.arg("helper").args(&self.common).args(["--uid", &uid.to_string()]);
            let mut helper = Talker::start(&mut command);
            let facts: serde_json::Value = serde_json::from_str(&helper.line()).expect("the helper's facts");
            let pairs = [
                ("helper", "pid"),
                ("buffer", "buffer"),
                ("tcp", "tcp"),
                ("udp", "udp"),
                ("pipe", "pipe"),
                ("tcp-port", "tcp_port"),
                ("udp-port", "udp_port"),
            ];
            let words =
                pairs.into_iter().flat_map(|(option, fact)| [format!("--{option}"), facts[fact].to_string()]);
            self.helpers.push((uid, words.collect(), helper));
        }
    }

    /// Options that all attempts have.
    fn options(&self, dir: &std::path::Path) -> Vec<String> {
        let space = self.world.space();
        // Everything below the space's cgroup is seen from its root in there.
        let mount = space.cgroup().parent().expect("a mount point").display().to_string();
        let options: [(&str, String); 16] = [
            ("to4", FAR4.into()),
            ("to6", FAR6.into()),
            ("port", PORT.into()),
            ("device", "near".into()),
            ("link", FAR_LINK.into()),
            ("own4", OTHERS_V4.to_string()),
            ("own6", OTHERS_V6.to_string()),
            ("agent4", AGENT_V4.to_string()),
            ("listeners", self.listeners()),
            ("dir", dir.display().to_string()),
            ("untagged", format!("{mount}/untagged")),
            ("agent-cgroup", format!("{mount}/{}", sluice_tests::daemon::CGROUP)),
            ("sluice", sluice_tests::binary::sluice_binary().expect("sluice").display().to_string()),
            ("runtime", space.dir().join("runtime").display().to_string()),
            ("bpf", space.dir().join("bpf").display().to_string()),
            ("namespace", format!("/proc/{}/ns/net", self.other.pid())),
        ];
        let all = options.into_iter().flat_map(|(key, value)| [format!("--{key}"), value]);
        all.chain(["--tag".to_owned(), JOB.to_owned()]).collect()
    }

    /// The agent's listeners: what listens on privileged ports of loopback or of everything.
    fn listeners(&self) -> String {
        let Some(pid) = (!self.world.is_direct()).then(|| self.world.daemon().warden_pid().expect("warden"))
        else {
            return String::new();
        };
        let mut found = Vec::new();
        for (file, host) in [("tcp", "127.83.0.1"), ("tcp6", "[::1]")] {
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).expect("net/tcp");
            for row in text.lines().skip(1) {
                let words: Vec<&str> = row.split_whitespace().collect();
                let port = words[1].rsplit(':').next().and_then(|p| u16::from_str_radix(p, 16).ok());
                if let (Some(port @ 600..=1013), "0A") = (port, words[3]) {
                    found.push(format!("{host}:{port}"));
                }
            }
        }
        assert!(!found.is_empty(), "the agent has no listener");
        found.join(",")
    }

    /// The program with a way's name and all options, in a cgroup of the space.
    pub fn program(&self, cgroup: &str, words: &[&str], uid: u32, marker: &str) -> Command {
        let space = self.world.space();
        let mut command = if cgroup == JOB {
            // Into the tag last: a tagged process may not look at the space's holder.
            let mount = space.cgroup().parent().expect("a mount point").display().to_string();
            let mut command = space.command("untagged", "sh").expect("command");
            command.args([
                "-c",
                r#"echo $$ > "$0" && exec "$@""#,
                &format!("{mount}/{JOB}/cgroup.procs"),
                PROGRAM,
            ]);
            command
        } else {
            space.command(cgroup, PROGRAM).expect("command")
        };
        if let Some(guest) = std::env::var_os("SLUICE_VM") {
            command.env("SLUICE_VM", guest);
        }
        command.args(words).args(self.arguments(uid, marker));
        command
    }

    pub fn arguments(&self, uid: u32, marker: &str) -> Vec<String> {
        let helper = self.helpers.iter().find(|h| h.0 == uid).map(|h| h.1.clone()).unwrap_or_default();
        let own = ["--uid".to_owned(), uid.to_string(), "--marker".to_owned(), marker.to_owned()];
        self.common.iter().cloned().chain(helper).chain(own).collect()
    }

    pub fn path() -> &'static str {
        PROGRAM
    }

    fn find_lsm(&self) -> bool {
        if self.world.is_direct() {
            return false;
        }
        // bpffs is mounted inside the space only.
        let pid = self.world.daemon().warden_pid().expect("the daemon has just been started");
        let pins = format!("/proc/{pid}/root{}/bpf/sluice/lsm", self.world.space().dir().display());
        let links = std::fs::read_dir(pins).into_iter().flatten().filter_map(Result::ok);
        links.filter(|entry| entry.file_name().to_string_lossy().starts_with("link_")).count() > 0
    }

    /// Has the far end do something.
    pub fn far_does(&mut self, line: &str) {
        self.far.tell(line);
        assert_eq!(self.far.line(), "done", "the far end at {line:?}");
    }

    /// Where markers are left for somebody to read later.
    pub fn later(&self) -> PathBuf {
        self.world.space().dir().join("escape/later")
    }

    /// Frames so far of which `wanted` says so.
    pub fn frames(&self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let frames = self.frames.lock().expect("no panic while it is held");
        frames.iter().filter(|frame| wanted(frame)).cloned().collect()
    }

    /// Frames so far.
    pub fn count(&self) -> usize {
        self.frames.lock().expect("no panic while it is held").len()
    }

    /// Whether a marker came, from whomever, within a time: in one of the frames behind the first `known`.
    pub fn comes(&self, known: usize, bytes: &[u8], patience: Duration) -> bool {
        let mut known = known;
        let came = || {
            let frames = self.frames.lock().expect("no panic while it is held");
            let came = frames[known..].iter().any(|frame| frame.contains(bytes));
            known = frames.len();
            Ok(came.then_some(()))
        };
        eventually(patience, came).expect("no error").is_some()
    }

    /// Sends something of our own along the same link, and waits for it: whatever was sent before is there then.
    pub fn sync(&mut self) {
        self.sentinels += 1;
        let sentinel = format!("sentinel-{}", self.sentinels);
        let known = self.count();
        // By the helper, which runs already.
        let fifo = self.world.space().dir().join("escape/fifo-0");
        std::fs::write(fifo, format!("say {sentinel}\n")).expect("sentinel");
        assert!(self.comes(known, sentinel.as_bytes(), PATIENCE), "{sentinel} does not arrive");
    }

    /// Waits for what TCP sends again: a SYN after one second and after three.
    pub fn settle(&mut self) {
        std::thread::sleep(Duration::from_millis(3500));
        self.sync();
    }

    /// Whether a frame is the agent's.
    pub fn is_agents(frame: &Frame) -> bool {
        frame.packet().is_some_and(|p| {
            p.source == std::net::IpAddr::from(AGENT_V4) || p.source == std::net::IpAddr::from(AGENT_V6)
        })
    }
}

/// Protocols that a distribution's kernel has as modules, some of which it does not load by itself. In the virtual
/// machine only: a host's kernel is not ours.
fn load_modules() {
    if !in_guest() {
        return;
    }
    for module in [
        "tcp_diag",
        "sctp",
        "dccp_ipv4",
        "l2tp_ip",
        "l2tp_ppp",
        "pppoe",
        "rxrpc",
        "rds_tcp",
        "smc",
        "tls",
        "vsock_loopback",
        "tipc",
        "can",
        "can_raw",
        "tun",
        "veth",
    ] {
        // What is not there is seen by its way's positive control.
        let loaded = Command::new("/run/vm/busybox").args(["modprobe", module]).output();
        if !loaded.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("no module {module}: {loaded:?}");
        }
    }
}
