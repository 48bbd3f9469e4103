//! Tests of the journal writer against a socket of our own.

use std::collections::BTreeSet;
use std::io::{IoSliceMut, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::entry::{self, Entry};
use super::*;
use crate::types::Verdict;

type Fields = Vec<(String, String)>;

fn summary() -> Summary {
    serde_json::from_str(
        r#"{"session":"01J","exchange":2,"time":"2026-01-02T03:04:05.000006Z","duration_us":1240000,"tag":"ci",
        "unit":"job.service","cgroup":"/system.slice/job.service","pid":4194304,"start_time":5,"exe":null,"uid":7,"user":null,
        "identity":null,"groups":["a","b"],"enforcement":"weakened","weakened":["root","no-lsm"],"protocol":"h2","host":"api.openai.com","address":"192.0.2.7:443",
        "method":"POST","path":"/v1/responses","status":200,"rule":"openai-chat","verdict":"allow","credential":null,
        "masked":{"email":3},"bytes_up":1,"bytes_down":2,"error":null}"#,
    )
    .expect("summary")
}

/// Reads entries as journald does.
struct Fake {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        Self { socket, path, _dir: dir }
    }

    fn entry(&self) -> Fields {
        let mut buffer = vec![0; 1 << 20];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let (n, memfd) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let got = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .expect("entry");
            let memfd = got.cmsgs().expect("cmsgs").find_map(|c| match c {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
            (got.bytes, memfd)
        };
        match memfd {
            None => parse(&buffer[..n]),
            Some(fd) => {
                let link = format!("/proc/self/fd/{fd}");
                let mut file = std::fs::File::open(&link).expect("memfd");
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).expect("read");
                let mut writing = std::fs::OpenOptions::new().write(true).open(&link).expect("memfd");
                assert!(writing.write_all(b"x").is_err(), "the memfd must be sealed");
                nix::unistd::close(fd).expect("close");
                parse(&bytes)
            }
        }
    }
}

fn parse(mut bytes: &[u8]) -> Fields {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n').expect("line");
        let line = std::str::from_utf8(&bytes[..end]).expect("text");
        bytes = &bytes[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.push((name.to_owned(), value.to_owned()));
        } else {
            let (length, rest) = bytes.split_at(8);
            let length = u64::from_le_bytes(length.try_into().expect("eight")) as usize;
            fields.push((line.to_owned(), String::from_utf8(rest[..length].to_vec()).expect("text")));
            assert_eq!(rest[length], b'\n');
            bytes = &rest[length + 1..];
        }
    }
    fields
}

fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

#[test]
fn an_exchange_is_one_entry_with_every_field() {
    let fake = Fake::new();
    let journal = Journal::start(fake.path.clone()).expect("starts");
    journal.send(Event::Exchange(Box::new(summary())));
    let fields = fake.entry();
    for (name, want) in [
        ("MESSAGE", "POST api.openai.com/v1/responses 200 1.24s rule=openai-chat masked=3"),
        ("MESSAGE_ID", entry::EXCHANGE),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "sluice"),
        ("OBJECT_SYSTEMD_UNIT", "job.service"),
        ("SLUICE_SESSION", "01J"),
        ("SLUICE_STATUS", "200"),
        ("SLUICE_MASKED", r#"{"email":3}"#),
        ("SLUICE_VERDICT", "allow"),
        ("SLUICE_GROUPS", "a"),
        ("SLUICE_ENFORCEMENT", "weakened"),
        ("SLUICE_WEAKENED", "root"),
    ] {
        assert_eq!(value(&fields, name), Some(want), "{name}");
    }
    assert_eq!(value(&fields, "OBJECT_PID"), None, "that process is gone");
    assert_eq!(value(&fields, "SLUICE_ERROR"), None, "absent facts have no field");
    assert_eq!(fields.iter().filter(|(n, _)| n == "SLUICE_GROUPS").count(), 2);
    assert!(
        fields
            .iter()
            .all(|(n, _)| n.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
    );
    journal.close();
}

#[test]
fn values_cannot_add_fields_and_messages_are_one_line() {
    let fake = Fake::new();
    let journal = Journal::start(fake.path.clone()).expect("starts");
    let mut s = summary();
    s.path = Some("/a\nPRIORITY=0\nX=\u{1b}[2J".to_owned());
    s.verdict = Verdict::Deny;
    journal.send(Event::Exchange(Box::new(s.clone())));
    let fields = fake.entry();
    assert_eq!(value(&fields, "SLUICE_PATH"), s.path.as_deref());
    assert_eq!(fields.iter().filter(|(n, _)| n == "PRIORITY").count(), 1);
    assert_eq!(value(&fields, "PRIORITY"), Some("4"));
    assert_eq!(value(&fields, "MESSAGE_ID"), Some(entry::REFUSAL));
    let message = value(&fields, "MESSAGE").expect("message");
    assert!(message.contains("/a\\nPRIORITY=0\\nX=\\x1b[2J"), "{message}");
    journal.close();
}

#[test]
fn a_large_entry_goes_by_memfd() {
    let fake = Fake::new();
    let journal = Journal::start(fake.path.clone()).expect("starts");
    let what = "x".repeat(17 << 20);
    journal.send(Event::Trouble(what.clone()));
    let fields = fake.entry();
    assert_eq!(value(&fields, "SLUICE_ERROR").map(str::len), Some(what.len()));
    assert_eq!(value(&fields, "PRIORITY"), Some("3"));
    journal.close();
}

#[test]
fn a_living_process_is_named_by_its_pid() {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let start: u64 =
        stat.rsplit(')').next().expect("fields").split_whitespace().nth(19).expect("22").parse().expect("n");
    let me = std::process::id();
    assert!(entry::lives(me, start) && !entry::lives(me, start + 1) && !entry::lives(4_194_305, start));
    let s = Summary { pid: me, start_time: Some(start), ..summary() };
    let fields = parse(&Entry::of(&Event::Exchange(Box::new(s)), entry::lives).encode());
    assert_eq!(value(&fields, "OBJECT_PID"), Some(me.to_string().as_str()));
    assert_eq!(value(&fields, "OBJECT_SYSTEMD_UNIT"), None);
}

#[test]
fn a_fold_says_how_many_it_stands_for() {
    let fold = Event::Fold { example: Box::new(summary()), more: 41 };
    let fields = parse(&Entry::of(&fold, entry::lives).encode());
    assert_eq!(value(&fields, "MESSAGE_ID"), Some(entry::FOLD));
    assert_eq!(value(&fields, "SLUICE_FOLDED"), Some("42"));
    assert!(value(&fields, "MESSAGE").expect("message").ends_with("(and 41 more of this kind)"));
}

/// Stands in for stderr.
struct Lines(mpsc::Sender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn without_a_journal_the_lines_go_to_stderr_and_a_journal_that_comes_is_used() {
    let fake = Fake::new();
    let path = fake.path.with_file_name("later");
    let (to, lines) = mpsc::channel();
    let journal = Journal::start_with(path.clone(), Lines(to)).expect("starts");
    journal.send(Event::Trouble("no journal".to_owned()));
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        text.extend(lines.recv_timeout(Duration::from_secs(10)).expect("a line"));
    }
    assert_eq!(text, b"<3>no journal\n");
    let fake = Fake { socket: UnixDatagram::bind(&path).expect("bind"), path, _dir: fake._dir };
    journal.send(Event::Started);
    assert_eq!(value(&fake.entry(), "MESSAGE_ID"), Some(entry::STARTED));
    // journald restarted: the same path, another socket.
    std::fs::remove_file(&fake.path).expect("remove");
    let fake = Fake { socket: UnixDatagram::bind(&fake.path).expect("bind"), ..fake };
    journal.send(Event::Stopped);
    assert_eq!(value(&fake.entry(), "MESSAGE_ID"), Some(entry::STOPPED));
    journal.close();
}

fn blocked(pid: u32) -> Blocked {
    let exe = crate::types::Exe { path: "/usr/bin/curl\nX".to_owned(), device: 1, inode: 2, sha256: None };
    Blocked {
        way: way::of(agent_ebpf::Counter::Udp).expect("told"),
        caller: Caller {
            start_time: Some(5),
            uid: 7,
            gid: 7,
            comm: "curl".to_owned(),
            exe: (pid != 0).then_some(exe),
            cgroup: "/system.slice/job.service".to_owned(),
            unit: Some("job.service".to_owned()),
            ..Caller::unknown(TagName::parse("ci").expect("name"), pid)
        },
        address: "203.0.113.10:4000".parse().ok(),
        protocol: "udp".to_owned(),
        netns: 9,
        more: 3,
    }
}

#[test]
fn a_blocked_attempt_says_who_which_way_and_what_to_do() {
    let of = |pid, lives| parse(&Entry::of(&Event::Blocked(Box::new(blocked(pid))), |_, _| lives).encode());
    let fields = of(77, true);
    let message = value(&fields, "MESSAGE").expect("a message");
    assert!(message.starts_with("blocked in tag ci: udp 203.0.113.10:4000 by /usr/bin/curl"), "{message}");
    assert!(!message.contains('\n') && message.contains("(77) of job.service: "), "{message}");
    assert!(
        message.ends_with("remedy: add udp = [\"203.0.113.10:4000\"] (and 3 more of this kind)"),
        "{message}"
    );
    for (name, expected) in [
        ("MESSAGE_ID", entry::BLOCKED),
        ("PRIORITY", "4"),
        ("OBJECT_PID", "77"),
        ("SLUICE_WAY", "udp"),
        ("SLUICE_TAG", "ci"),
        ("SLUICE_PID", "77"),
        ("SLUICE_UID", "7"),
        ("SLUICE_EXE", "/usr/bin/curl\nX"),
        ("SLUICE_ADDRESS", "203.0.113.10:4000"),
        ("SLUICE_FOLDED", "4"),
        ("SLUICE_NETNS", "9"),
    ] {
        assert_eq!(value(&fields, name), Some(expected), "{name}");
    }
    let gone = of(77, false);
    assert_eq!(
        (value(&gone, "OBJECT_PID"), value(&gone, "OBJECT_SYSTEMD_UNIT")),
        (None, Some("job.service"))
    );
    let nobody = of(0, false);
    assert!(value(&nobody, "MESSAGE").expect("a message").contains("by somebody of job.service"));
    assert_eq!(
        (value(&nobody, "SLUICE_PID"), value(&nobody, "SLUICE_UID")),
        (None, None),
        "root is not accused"
    );
}

#[test]
fn a_full_queue_counts_and_never_blocks() {
    let mut queue = Queue::default();
    for _ in 0..QUEUE + 10 {
        queue.push(Event::Exchange(Box::new(summary())));
    }
    queue.push(Event::Fold { example: Box::new(summary()), more: 4 });
    queue.push(Event::Trouble("still".to_owned()));
    assert_eq!((queue.events.len(), queue.lost), (QUEUE + 1, 15));
    let fields = parse(&Entry::of(&Event::Lost(15), entry::lives).encode());
    assert_eq!(value(&fields, "SLUICE_FOLDED"), Some("15"));
}

#[test]
fn the_catalog_explains_every_message_and_no_other() {
    let catalog = include_str!("../../../../systemd/sluice.catalog");
    let listed: BTreeSet<&str> = catalog.lines().filter_map(|l| l.strip_prefix("-- ")).collect();
    assert_eq!(listed, BTreeSet::from(entry::IDS));
    for part in catalog.split("\n-- ").skip(1) {
        let (head, text) = part.split_once("\n\n").expect("a blank line after the head");
        assert!(head.contains("\nSubject: ") && head.contains("\nDefined-By: Sluice"), "{head}");
        assert!(text.trim().len() > 40, "{head}");
        for field in text.split('@').skip(1).step_by(2) {
            let known = field.strip_prefix("SLUICE_").map(str::to_ascii_lowercase);
            let of_summary = serde_json::to_value(summary()).expect("json");
            let of_blocked =
                ["folded", "way", "remedy", "key_kind", "key_last4", "size", "log", "checkpoint"];
            assert!(
                known.is_some_and(|k| of_blocked.contains(&&*k) || of_summary.get(&k).is_some()),
                "{field}"
            );
        }
    }
}
