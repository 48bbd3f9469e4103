//! `cargo xtask bench`: direct against through Sluice, in one run on this machine, five rounds, medians.
//!
//! The same client runs both ways: `wrk`, `h2load`, `curl`, or this program's own generator (`bench load …`), started
//! plainly or with `sluice run`. nginx, or the tests' SSE server, is upstream, in a network namespace of its own. The
//! agent has processor 0 for itself, client and upstream share processor 1, so 1.00 would mean that the agent is not the
//! bottleneck. Recording is on. haproxy stands in the same place for comparison; `--only KEYS` runs some parts only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::binary::{profile_dir, workspace};
use sluice_tests::daemon::{cpu_ns, rss_kib};
use sluice_tests::far::{self, Far};
use sluice_tests::harness::{Options, World};
use sluice_tests::load::credentials::{Case, per_second};
use sluice_tests::load::goals::{Rounds, Side};
use sluice_tests::load::machine::{machine, pin, pin_all_threads};
use sluice_tests::load::{self, after, duration_us, float, good, spread};
use sluice_tests::process::{eventually, run};
use sluice_tests::upstream::Behaviour;
use sluice_tests::upstream::haproxy::{self, Haproxy};
use sluice_tests::upstream::nginx::{BULK, FULL_PORT, Nginx, PORT};

/// Longest time for a setting.
const PATIENCE: Duration = Duration::from_secs(120);
/// The agent's processor, and everybody else's.
const AGENT_CORE: usize = 0;
const OTHER_CORE: usize = 1;
/// The server's name, and the name under which haproxy stands before it.
const HOST: &str = "www.example.test";
const PEER_HOST: &str = "a.cold.example.test";
/// Where events come from.
const SSE_PORT: u16 = 443;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "load"
    {
        return load::main(rest);
    }
    let rounds = number(&arguments, "--rounds", 5)?;
    let seconds = number(&arguments, "--seconds", 2)?;
    let only = arguments.iter().position(|a| a == "--only").and_then(|at| arguments.get(at + 1));
    let only: Vec<String> = only.map(|o| o.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let sides: &[Side] = match arguments.iter().any(|a| a == "--direct") {
        true => &[Side::Direct],
        false => &Side::ALL,
    };
    if cfg!(debug_assertions) {
        eprintln!(
            "bench: this is a debug build: its figures say nothing (cargo xtask bench builds a release)"
        );
    }
    let mut bench = Bench::start(seconds, sides, only)?;
    for round in 1..=rounds {
        for side in sides {
            eprintln!("round {round} of {rounds}, {}", side.text());
            bench.round(round, *side)?;
        }
    }
    bench.memory()?;
    println!("{}", bench.rounds.table());
    let path = profile_dir()?.parent().context("target")?.join("bench.json");
    let mut report = bench.rounds.json();
    report["machine"] = machine();
    fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    let said = match bench.rounds.missed() {
        (0, 0) => "every goal met".to_owned(),
        (0, starred) => {
            format!("every goal met, {starred} of them (*) only as this machine moves haproxy's figures")
        }
        (missed, starred) => {
            format!("{missed} goals NOT met; * {starred} only as this machine moves haproxy's figures")
        }
    };
    println!("{said} (median of {rounds} rounds); all numbers: {}", path.display());
    Ok(())
}

fn number(arguments: &[String], name: &str, default: u64) -> Result<u64> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(default) };
    arguments.get(at + 1).and_then(|v| v.parse().ok()).with_context(|| format!("{name} needs a number"))
}

/// One part of a round: the round's number, and whom it measures.
type Part = fn(&mut Bench, u64, Side) -> Result<()>;

struct Bench {
    // Dropped in this order: the servers live in the world.
    _nginx: Nginx,
    peer: Option<Haproxy>,
    _far: Far,
    world: World,
    seconds: u64,
    rounds: Rounds,
    pinned: bool,
    only: Vec<String>,
}

impl Bench {
    fn start(seconds: u64, sides: &[Side], only: Vec<String>) -> Result<Self> {
        let pinned = std::thread::available_parallelism()?.get() > 1;
        if !pinned {
            eprintln!("bench: one processor only: agent, client and upstream share it");
        }
        // The agent inherits the processor and sizes its thread pool by it.
        pin(pinned, AGENT_CORE)?;
        let direct = !sides.contains(&Side::Through);
        let world = World::with(Options { direct, ..Options::default() })?;
        pin_all_threads(pinned, OTHER_CORE)?;
        let mut ports = world.untagged("sysctl")?;
        run(ports.args(["-q", "-w", "net.ipv4.ip_local_port_range=1024 65000"]), PATIENCE)?;
        let far = Far::make(world.space())?;
        world.space().point(HOST, far::ADDRESS)?;
        world.space().point(PEER_HOST, haproxy::ADDRESS)?;
        world.serve_on(far.listen(SSE_PORT)?, Behaviour::Https(world.good_tls()?))?;
        let nginx = Nginx::start(&world, &far, pinned.then_some(OTHER_CORE))?;
        let ports = [PORT, FULL_PORT, SSE_PORT];
        let core = pinned.then_some(AGENT_CORE);
        let peer = sides.contains(&Side::Peer).then(|| Haproxy::start(&world, far::ADDRESS, &ports, core));
        let peer = peer.transpose()?;
        Ok(Self { _nginx: nginx, peer, _far: far, world, seconds, rounds: Rounds::default(), pinned, only })
    }

    /// A client, started plainly or in a tag, on its processor.
    fn client(&self, side: Side, program: &str) -> Result<Command> {
        let mut command = match side {
            Side::Through => self.world.job("bench", "taskset"),
            Side::Direct | Side::Peer => self.world.untagged("taskset"),
        }?;
        command.args([
            "-c",
            &if self.pinned { OTHER_CORE.to_string() } else { "0-1023".to_owned() },
            program,
        ]);
        Ok(command)
    }

    fn url(&self, side: Side, port: u16, path: &str) -> String {
        format!("https://{}:{port}{path}", if side == Side::Peer { PEER_HOST } else { HOST })
    }

    fn generate(&self, side: Side, scenario: &str, port: u16, rest: &[&str]) -> Result<Value> {
        let own = std::env::current_exe()?;
        let mut command = self.client(side, own.to_str().context("a path in UTF-8")?)?;
        let address = if side == Side::Peer { haproxy::ADDRESS } else { far::ADDRESS };
        let target = SocketAddr::new(address, port).to_string();
        command.args(["load", scenario, &target, HOST]).args(rest);
        Ok(serde_json::from_str(&good(&mut command)?.stdout)?)
    }

    fn wanted(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == part)
    }

    fn round(&mut self, round: u64, side: Side) -> Result<()> {
        let parts: [(&str, Part); 11] = [
            ("h1_1", |b, _, side| b.wrk(side, 1)),
            ("h1", |b, _, side| b.wrk(side, 32)),
            ("h2", |b, _, side| b.h2load(side)),
            ("new", |b, _, side| b.new_connections(side)),
            ("bulk", |b, _, side| b.bulk(side)),
            ("first", Self::first_bytes),
            ("sse", |b, _, side| b.events(side)),
            ("policy", |b, _, side| b.rules(side)),
            ("credentials", |b, round, side| b.cases(round, side, &Case::CREDENTIALS)),
            ("mask", Self::masks),
            ("connect", |b, _, side| {
                let connect = b.generate(side, "connect", PORT, &["2000"])?;
                b.spread(side, "connect", &connect["connect_us"])
            }),
        ];
        for (name, part) in parts {
            if self.wanted(name) {
                part(self, round, side)?;
            }
        }
        Ok(())
    }

    /// Requests/s without rules and, right after, with a hundred that are all asked; the first stand as "direct".
    fn rules(&mut self, side: Side) -> Result<()> {
        if side != Side::Through {
            return Ok(());
        }
        let url = self.url(side, PORT, load::rules::MARKER);
        for (of, rules) in [(Side::Direct, String::new()), (Side::Through, load::rules::hundred(HOST))] {
            load::rules::put(&self.world, &rules, &url)?;
            let mut command = self.client(side, "wrk")?;
            command.args(["-t1", "-c32", &format!("-d{}s", self.seconds)]).arg(self.url(side, PORT, "/1k"));
            self.rounds.add(of, "policy_rps_32", per_second(&good(&mut command)?.stdout)?);
        }
        load::rules::put(&self.world, "", &url)
    }

    /// Requests/s, and delays of events, under a rule without masks ("direct") and with all detectors.
    fn masks(&mut self, round: u64, side: Side) -> Result<()> {
        for of in [Side::Direct, Side::Through].into_iter().filter(|_| side == Side::Through) {
            Case::Masked.put(&self.world, HOST, of == Side::Through)?;
            let sse = self.generate(side, "sse", SSE_PORT, &["300", "3"])?;
            self.spread(of, "mask_sse_delay", &sse["delay_us"])?;
        }
        self.cases(round, side, &[Case::Masked])
    }

    /// Requests/s that bear nothing of ours ("direct") and that bear a credential; which is first changes from round to round.
    fn cases(&mut self, round: u64, side: Side, cases: &[Case]) -> Result<()> {
        let mut sides = [Side::Direct, Side::Through];
        sides.rotate_left((round % 2) as usize);
        let cases = cases.iter().filter(|_| side == Side::Through);
        for (case, of) in cases.flat_map(|case| sides.map(|of| (*case, of))) {
            case.put(&self.world, HOST, of == Side::Through)?;
            let mut command = self.client(side, "wrk")?;
            command.args(case.wrk(self.world.space().dir())?).arg(format!("-d{}s", self.seconds));
            command.arg(self.url(side, PORT, case.path()));
            self.rounds.add(of, case.key(), per_second(&good(&mut command)?.stdout)?);
        }
        if side == Side::Through { Case::clear(&self.world, HOST) } else { Ok(()) }
    }

    fn first_bytes(&mut self, round: u64, side: Side) -> Result<()> {
        let warm = self.generate(side, "warm", PORT, &["200"])?;
        self.spread(side, "warm_first_byte", &warm["first_byte_us"])?;
        let cold = self.generate(side, "cold", PORT, &["100", &format!("r{round}{side:?}")])?;
        self.spread(side, "cold_first_byte", &cold["first_byte_us"])
    }

    /// Delays of events: as a job in Python sees them, and as a client does that does nothing else.
    fn events(&mut self, side: Side) -> Result<()> {
        let sse = self.generate(side, "sse", SSE_PORT, &["300", "3"])?;
        self.spread(side, "sse_delay", &sse["delay_us"])?;
        self.rounds.add(side, "sse_first_event_us", float(&sse["first_event_us"])?);
        let mut python = self.client(side, "python3")?;
        python.arg(workspace().join("tests/clients/sse_delay.py"));
        python.args([&self.url(side, SSE_PORT, ""), "300", "3"]);
        let text = good(&mut python)?.stdout;
        let delays = serde_json::from_str::<Value>(&text)?["delays_us"].take();
        let delays = spread(serde_json::from_value(delays)?);
        self.rounds.add(side, "sse_python_us", delays.p50);
        self.rounds.add(side, "sse_python_p99_us", delays.p99);
        Ok(())
    }

    fn spread(&mut self, side: Side, key: &str, value: &Value) -> Result<()> {
        self.rounds.add(side, &format!("{key}_us"), float(&value["p50"])?);
        self.rounds.add(side, &format!("{key}_p99_us"), float(&value["p99"])?);
        Ok(())
    }

    /// Keep-alive requests over HTTP/1.1.
    fn wrk(&mut self, side: Side, connections: usize) -> Result<()> {
        let mut command = self.client(side, "wrk")?;
        command.args(["--latency", "-t1", &format!("-c{connections}"), &format!("-d{}s", self.seconds)]);
        command.arg(self.url(side, PORT, "/1k"));
        let (text, gate, warden) = self.with_cpu(side, &mut command)?;
        let per_second = per_second(&text)?;
        let total =
            text.lines().find(|l| l.contains("requests in")).and_then(|l| l.split_whitespace().next());
        let total: f64 = total.context("wrk's total")?.parse()?;
        self.rounds.add(side, &format!("h1_rps_{connections}"), per_second);
        // The table above it has percentages too.
        let distribution = text.split_once("Latency Distribution").context("wrk --latency")?.1;
        for (quantile, name) in [("50%", "p50"), ("99%", "p99")] {
            self.rounds.add(
                side,
                &format!("h1_{name}_us_{connections}"),
                duration_us(after(distribution, quantile)?)?,
            );
        }
        if side != Side::Direct && connections == 32 {
            self.rounds.add(side, "gate_us_per_request", gate / 1e3 / total);
            self.rounds.add(side, "warden_us_per_request", warden / 1e3 / total);
        }
        Ok(())
    }

    /// 32 streams on one HTTP/2 connection.
    fn h2load(&mut self, side: Side) -> Result<()> {
        let log = self.world.space().dir().join("h2load.log");
        let _ = fs::remove_file(&log);
        let mut command = self.client(side, "h2load")?;
        command.args(["-c1", "-m32", "-t1", &format!("-D{}", self.seconds)]).arg("--log-file").arg(&log);
        command.arg(self.url(side, PORT, "/1k"));
        let (text, ..) = self.with_cpu(side, &mut command)?;
        let line = text.lines().find(|l| l.starts_with("finished in")).context("h2load's result")?;
        let per_second =
            line.split(", ").nth(1).and_then(|p| p.split(' ').next()).context("h2load's rate")?;
        ensure!(text.contains(" 0 failed, 0 errored, 0 timeout"), "h2load met errors:\n{text}");
        ensure!(text.contains("Application protocol: h2"), "not HTTP/2:\n{text}");
        self.rounds.add(side, "h2_rps_32", per_second.parse()?);
        let times = fs::read_to_string(&log)?;
        let times = spread(times.lines().filter_map(|l| l.split('\t').nth(2)?.parse().ok()).collect());
        self.rounds.add(side, "h2_p50_us", times.p50);
        self.rounds.add(side, "h2_p99_us", times.p99);
        Ok(())
    }

    fn new_connections(&mut self, side: Side) -> Result<()> {
        let before = self.cpu(side)?;
        let result = self.generate(side, "new", FULL_PORT, &[&(self.seconds * 1000).to_string(), "8"])?;
        let after = self.cpu(side)?;
        self.rounds.add(side, "new_per_second", float(&result["per_second"])?);
        if side != Side::Direct {
            let count = float(&result["count"])?;
            self.rounds.add(side, "gate_us_per_connection", (after.0 - before.0) / 1e3 / count);
            self.rounds.add(side, "warden_us_per_connection", (after.1 - before.1) / 1e3 / count);
        }
        Ok(())
    }

    fn bulk(&mut self, side: Side) -> Result<()> {
        let mut command = self.client(side, "curl")?;
        command.args(["-sS", "--http1.1", "-o", "/dev/null", "-w", "%{speed_download} %{size_download}"]);
        command.arg(self.url(side, PORT, "/bulk"));
        let (text, gate, _) = self.with_cpu(side, &mut command)?;
        let (speed, size) = text.split_once(' ').context("curl's figures")?;
        ensure!(size.parse::<u64>()? == BULK, "curl got {size} bytes of {BULK}");
        self.rounds.add(side, "bulk_mb_s", speed.parse::<f64>()? / 1e6);
        if side != Side::Direct {
            self.rounds.add(side, "gate_cpu_s_per_gb", gate / BULK as f64);
        }
        Ok(())
    }

    /// Runs a client; gives its output, and the CPU time that gate and warden took meanwhile, in nanoseconds.
    fn with_cpu(&self, side: Side, command: &mut Command) -> Result<(String, f64, f64)> {
        let before = self.cpu(side)?;
        let (text, after) = (good(command)?.stdout, self.cpu(side)?);
        Ok((text, after.0 - before.0, after.1 - before.1))
    }

    /// CPU time so far of gate and warden, or of the peer and nothing, in nanoseconds; zero on the direct side.
    fn cpu(&self, side: Side) -> Result<(f64, f64)> {
        let of = |pid: u32| cpu_ns(pid).map(|ns| ns as f64).context("a measured process is gone");
        match (side, &self.peer) {
            (Side::Through, _) => {
                let daemon = self.world.daemon();
                Ok((of(daemon.gate_pid()?)?, of(daemon.warden_pid()?)?))
            }
            (Side::Peer, Some(peer)) => Ok((of(peer.pid())?, 0.0)),
            _ => Ok((0.0, 0.0)),
        }
    }

    /// Resident memory with nothing open, with 1,000 and with 8,000 idle connections. An agent of its own, since one
    /// that has worked keeps what it once used.
    fn memory(&mut self) -> Result<()> {
        if self.world.is_direct() || !self.wanted("memory") {
            return Ok(());
        }
        for (count, key) in [(1_000, "idle_kib_per_connection_1000"), (8_000, "idle_kib_per_connection")] {
            self.world.daemon_mut().stop()?;
            pin(self.pinned, AGENT_CORE)?;
            self.world.daemon_mut().start()?;
            pin(self.pinned, OTHER_CORE)?;
            let resident = |bench: &Self| -> Result<(f64, f64)> {
                let daemon = bench.world.daemon();
                let of = |pid| rss_kib(pid).map(|kib| kib as f64).context("a process of the agent is gone");
                Ok((of(daemon.gate_pid()?)?, of(daemon.warden_pid()?)?))
            };
            self.self_tested()?;
            let empty = resident(self)?;
            let full = self.with_idle(count, resident)?;
            self.rounds.add(Side::Through, key, (full.0 - empty.0) / f64::from(count));
            self.rounds.add(Side::Through, &format!("warden_{key}"), (full.1 - empty.1) / f64::from(count));
            if count == 1_000 {
                self.rounds.add(Side::Through, "idle_resident_mib", (empty.0 + empty.1) / 1024.0);
            }
        }
        Ok(())
    }

    /// Waits until the agent has tried its own enforcement, which every start does beside serving.
    fn self_tested(&self) -> Result<()> {
        let (daemon, space) = (self.world.daemon(), self.world.space());
        let tested = eventually(PATIENCE, || {
            let status = good(&mut daemon.cli(space, &["status", "--json"])?)?;
            let status: Value = serde_json::from_str(&status.stdout)?;
            Ok((!status["self_test"].is_null()).then_some(()))
        });
        tested?.context("the agent's self-test does not end")
    }

    /// Runs `measure` while `count` idle connections are open through the agent.
    fn with_idle<T>(&self, count: u32, measure: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let own = std::env::current_exe()?;
        let mut command = self.client(Side::Through, own.to_str().context("a path in UTF-8")?)?;
        let target = SocketAddr::new(far::ADDRESS, PORT).to_string();
        command.args(["load", "idle", &target, HOST, &count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let line = lines.next().context("the generator ended")??;
        let open = serde_json::from_str::<Value>(&line)?;
        ensure!(open["open"] == json!(count), "{line}");
        let measured = measure(self)?;
        let mut stdin = child.stdin.take().context("stdin is piped")?;
        stdin.write_all(b"\n")?;
        drop(stdin);
        let line = lines.next().context("the generator ended")??;
        let answered: Value = serde_json::from_str(&line)?;
        ensure!(answered["answered"] == json!(count), "idle connections were lost: {line}");
        ensure!(child.wait()?.success(), "the generator failed");
        Ok(measured)
    }
}
