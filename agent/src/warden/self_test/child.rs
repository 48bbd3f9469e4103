//! The two short-lived processes that try the ways. The child tries each untagged, to see that it works at all, and then has
//! the probe, its own child, try each from inside the tag, while it looks itself at what arrives: to receive through sockets
//! from outside of the tag is refused in it. It says what happens in JSON lines, and goes on when it is told to.

use std::io::{self, BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::place::{self, Receivers, Where};
use super::ways::{ALL, Attempt, Before, Way};
use crate::warden::listen::netns_cookie;

/// How long a text may take over loopback.
const ARRIVAL: Duration = Duration::from_millis(100);

/// How often a way is tried untagged before it is taken for one that does not work here.
const CONTROLS: usize = 4;

/// How long what comes late is waited for, once, at the end.
const LATE: Duration = Duration::from_millis(100);

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The ways cannot be tried here.
    Cannot(String),
    /// Set up, the control run done; put the probe into the tag and say "go".
    Ready {
        /// The probe's process id.
        probe: u32,
        /// The network namespace.
        netns: u64,
        /// For each way: why it does not work even untagged.
        control: Vec<Option<String>>,
    },
    /// A way was tried inside the tag.
    Tried {
        /// The error's number and text.
        error: Option<(i32, String)>,
    },
    /// What has come in from inside the tag: numbers of ways.
    Arrived {
        /// Outside: these got out.
        outside: Vec<usize>,
        /// At the trial's listener or resolver.
        ours: Vec<usize>,
    },
}

/// Runs the child on its standard streams.
///
/// # Errors
/// The other end is gone.
pub fn run() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut receivers, before, no_network) = match set_up() {
        Ok(place) => place,
        Err(error) => return say(&mut output, &Said::Cannot(error.to_string())),
    };
    let control = ALL.iter().enumerate().map(|(at, way)| match (&way.attempt, &no_network) {
        // Outside of a network of our own nothing is ever sent.
        (Attempt::Send(_), Some(why)) => Some(format!("no network namespace of its own can be had: {why}")),
        _ => control(at, way, &before, &mut receivers),
    });
    let control: Vec<Option<String>> = control.collect();
    let netns = netns_cookie(before.datagrams.as_fd())?;
    let mut probe = Probe::start(before)?;
    say(&mut output, &Said::Ready { probe: probe.process.id(), netns, control: control.clone() })?;
    told(&mut input)?;
    let mut arrived = Vec::new();
    for (at, control) in control.iter().enumerate() {
        // What does not work untagged proves nothing; nor may it be tried where there is no place for it.
        let error = match control {
            Some(why) => Some((0, why.clone())),
            None => probe.attempt(at)?,
        };
        arrived.extend(receivers.collect());
        say(&mut output, &Said::Tried { error })?;
        told(&mut input)?;
    }
    let end = Instant::now() + LATE;
    while Instant::now() < end {
        arrived.extend(receivers.wait(end));
    }
    let at = |place: Where| {
        let of = |at: &usize| arrived.iter().any(|(w, said)| *w == place && said.contains(&text('t', *at)));
        (0..ALL.len()).filter(of).collect()
    };
    say(&mut output, &Said::Arrived { outside: at(Where::Outside), ours: at(Where::Ours) })
}

/// The process that goes into the tag. Killed and reaped when dropped.
struct Probe {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a way's system calls came to: the error's number and text.
type Error = Option<(i32, String)>;

impl Probe {
    fn start(before: Before) -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .args(["self-test", "--probe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The only other descriptor that a process is started with.
            .stderr(OwnedFd::from(before.datagrams))
            .spawn()?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { process, input, output: BufReader::new(output) }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn attempt(&mut self, at: usize) -> io::Result<Error> {
        writeln!(self.input, "{at}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails when it has ended
        let _ = self.process.wait();
    }
}

/// Runs the probe on its standard streams; its standard error is a datagram socket from before the tag.
///
/// # Errors
/// The other end is gone.
pub fn probe() -> io::Result<()> {
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let before = Before { datagrams: io::stderr().as_fd().try_clone_to_owned()?.into() };
    for line in input.lines() {
        let at: usize = line?.parse().map_err(io::Error::other)?;
        let way = ALL.get(at).ok_or(io::ErrorKind::InvalidInput)?;
        let error: Error = attempt(way, &before, &text('t', at))
            .err()
            .map(|error| (error.raw_os_error().unwrap_or(0), error.to_string()));
        writeln!(output, "{}", serde_json::to_string(&error)?)?;
        output.flush()?;
    }
    Ok(())
}

/// The receivers, what is made before the tag, and why there is no network of our own, if there is none.
fn set_up() -> io::Result<(Receivers, Before, Option<String>)> {
    let (receivers, no_network) = match place::enter() {
        Ok(()) => {
            // Who may use ping sockets; a host that does not let us set it has those two ways untried.
            let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
            (Receivers::open()?, None)
        }
        Err(error) => (Receivers::none(), Some(error.to_string())),
    };
    Ok((receivers, Before { datagrams: UdpSocket::bind("0.0.0.0:0")? }, no_network))
}

/// What a way carries: no text is part of another.
fn text(run: char, at: usize) -> String {
    format!("<sluice self-test {run} {at}>")
}

fn attempt(way: &Way, before: &Before, text: &str) -> io::Result<()> {
    match way.attempt {
        Attempt::Send(send) => send(before, text.as_bytes()),
        Attempt::Ask(ask) => ask(before),
    }
}

/// Tries a way untagged; `Some`: why it does not work. A fresh IPv6 address is usable some moments later, when a worker of
/// the kernel's has seen to it, so what is sent gets a few tries.
fn control(at: usize, way: &Way, before: &Before, receivers: &mut Receivers) -> Option<String> {
    let mut why = None;
    for _ in 0..CONTROLS {
        why = Some(control_once(at, way, before, receivers)?);
        if matches!(way.attempt, Attempt::Ask(_)) {
            break;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing tells when the kernel's worker is done: this spaces the tries"
        )]
        std::thread::sleep(Duration::from_millis(10));
    }
    why
}

fn control_once(at: usize, way: &Way, before: &Before, receivers: &mut Receivers) -> Option<String> {
    let text = text('c', at);
    if let Err(error) = attempt(way, before, &text) {
        return Some(error.to_string());
    }
    if matches!(way.attempt, Attempt::Ask(_)) {
        return None;
    }
    let end = Instant::now() + ARRIVAL;
    loop {
        if receivers.wait(end).iter().any(|(place, said)| *place == Where::Outside && said.contains(&text)) {
            return None;
        }
        if Instant::now() > end {
            return Some("what was sent did not arrive".to_owned());
        }
    }
}

fn say(output: &mut impl Write, said: &Said) -> io::Result<()> {
    writeln!(output, "{}", serde_json::to_string(said)?)?;
    output.flush()
}

/// Waits for the word to go on; whoever started us being gone is the end.
fn told(input: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    match input.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
