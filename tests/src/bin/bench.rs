//! `cargo xtask bench`: direct against through Sluice, in one run on this machine, five rounds, medians.
//!
//! The same client runs both ways: `wrk`, `h2load`, `curl`, or this program's own generator (`bench load …`), started
//! plainly or with `sluice run`. nginx, or the tests' SSE server, is upstream. The agent has processor 0 for itself,
//! client and upstream share processor 1, so 1.00 would mean that the agent is not the bottleneck. Recording is on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sluice_tests::binary::profile_dir;
use sluice_tests::daemon::{cpu_ns, rss_kib};
use sluice_tests::harness::{Options, World, address};
use sluice_tests::load::goals::Rounds;
use sluice_tests::load::{self, spread};
use sluice_tests::process::{Ended, run};
use sluice_tests::upstream::nginx::{BULK, FULL_PORT, Nginx, PORT};

/// Longest time for one measurement.
const PATIENCE: Duration = Duration::from_secs(120);
/// The agent's processor, and everybody else's.
const AGENT_CORE: usize = 0;
const OTHER_CORE: usize = 1;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = &arguments[..]
        && first == "load"
    {
        return load::main(rest);
    }
    let rounds = number(&arguments, "--rounds", 5)?;
    let seconds = number(&arguments, "--seconds", 2)?;
    let only_direct = arguments.iter().any(|a| a == "--direct");
    if cfg!(debug_assertions) {
        eprintln!(
            "bench: this is a debug build: its figures say nothing (cargo xtask bench builds a release)"
        );
    }
    let mut bench = Bench::start(seconds, only_direct)?;
    for round in 1..=rounds {
        for direct in [true, false] {
            if direct || !only_direct {
                eprintln!("round {round} of {rounds}, {}", if direct { "direct" } else { "through Sluice" });
                bench.round(round, direct)?;
            }
        }
    }
    bench.memory()?;
    println!("{}", bench.rounds.table());
    let path = profile_dir()?.parent().context("target")?.join("bench.json");
    let mut report = bench.rounds.json();
    report["machine"] = machine();
    fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!(
        "{} (median of {rounds} rounds); all numbers: {}",
        if bench.rounds.all_met() { "every goal met" } else { "NOT every goal met" },
        path.display()
    );
    Ok(())
}

fn number(arguments: &[String], name: &str, default: u64) -> Result<u64> {
    let Some(at) = arguments.iter().position(|a| a == name) else { return Ok(default) };
    arguments.get(at + 1).and_then(|v| v.parse().ok()).with_context(|| format!("{name} needs a number"))
}

struct Bench {
    // Dropped in this order: nginx lives in the world.
    _nginx: Nginx,
    world: World,
    seconds: u64,
    rounds: Rounds,
    pinned: bool,
}

impl Bench {
    fn start(seconds: u64, direct: bool) -> Result<Self> {
        let pinned = std::thread::available_parallelism()?.get() > 1;
        if !pinned {
            eprintln!("bench: one processor only: agent, client and upstream share it");
        }
        // The agent inherits the processor and sizes its thread pool by it.
        pin(pinned, AGENT_CORE)?;
        let world = World::with(Options { direct, ..Options::default() })?;
        pin_all_threads(pinned, OTHER_CORE)?;
        let mut ports = world.untagged("sysctl")?;
        run(ports.args(["-q", "-w", "net.ipv4.ip_local_port_range=1024 65000"]), PATIENCE)?;
        let nginx = Nginx::start(&world, pinned.then_some(OTHER_CORE))?;
        Ok(Self { _nginx: nginx, world, seconds, rounds: Rounds::default(), pinned })
    }

    /// A client, started plainly or in a tag, on its processor.
    fn client(&self, direct: bool, program: &str) -> Result<Command> {
        let mut command =
            if direct { self.world.untagged("taskset") } else { self.world.job("bench", "taskset") }?;
        command.args([
            "-c",
            &if self.pinned { OTHER_CORE.to_string() } else { "0-1023".to_owned() },
            program,
        ]);
        Ok(command)
    }

    fn generate(&self, direct: bool, scenario: &str, port: u16, rest: &[&str]) -> Result<Value> {
        let own = std::env::current_exe()?;
        let mut command = self.client(direct, own.to_str().context("a path in UTF-8")?)?;
        let target = SocketAddr::new(address("www.example.test"), port).to_string();
        command.args(["load", scenario, &target, "www.example.test"]).args(rest);
        Ok(serde_json::from_str(&good(&mut command)?.stdout)?)
    }

    fn round(&mut self, round: u64, direct: bool) -> Result<()> {
        self.wrk(direct, 1)?;
        self.wrk(direct, 32)?;
        self.h2load(direct)?;
        self.new_connections(direct)?;
        self.bulk(direct)?;
        let warm = self.generate(direct, "warm", PORT, &["200"])?;
        self.spread(direct, "warm_first_byte", &warm["first_byte_us"])?;
        let prefix = format!("r{round}{}", if direct { "d" } else { "t" });
        let cold = self.generate(direct, "cold", PORT, &["100", &prefix])?;
        self.spread(direct, "cold_first_byte", &cold["first_byte_us"])?;
        let sse = self.generate(direct, "sse", 443, &["300", "3"])?;
        self.spread(direct, "sse_delay", &sse["delay_us"])?;
        self.rounds.add(direct, "sse_first_event_us", float(&sse["first_event_us"])?);
        let connect = self.generate(direct, "connect", PORT, &["2000"])?;
        self.spread(direct, "connect", &connect["connect_us"])
    }

    fn spread(&mut self, direct: bool, key: &str, value: &Value) -> Result<()> {
        self.rounds.add(direct, &format!("{key}_us"), float(&value["p50"])?);
        self.rounds.add(direct, &format!("{key}_p99_us"), float(&value["p99"])?);
        Ok(())
    }

    /// Keep-alive requests over HTTP/1.1.
    fn wrk(&mut self, direct: bool, connections: usize) -> Result<()> {
        let mut command = self.client(direct, "wrk")?;
        command.args(["--latency", "-t1", &format!("-c{connections}"), &format!("-d{}s", self.seconds)]);
        command.arg(format!("https://www.example.test:{PORT}/1k"));
        let (text, gate, warden) = self.with_cpu(direct, &mut command)?;
        ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk met errors:\n{text}");
        let per_second: f64 = after(&text, "Requests/sec:")?.parse()?;
        let total =
            text.lines().find(|l| l.contains("requests in")).and_then(|l| l.split_whitespace().next());
        let total: f64 = total.context("wrk's total")?.parse()?;
        self.rounds.add(direct, &format!("h1_rps_{connections}"), per_second);
        // The table above it has percentages too.
        let distribution = text.split_once("Latency Distribution").context("wrk --latency")?.1;
        for (quantile, name) in [("50%", "p50"), ("99%", "p99")] {
            self.rounds.add(
                direct,
                &format!("h1_{name}_us_{connections}"),
                duration_us(after(distribution, quantile)?)?,
            );
        }
        if !direct && connections == 32 {
            self.rounds.add(false, "gate_us_per_request", gate / 1e3 / total);
            self.rounds.add(false, "warden_us_per_request", warden / 1e3 / total);
        }
        Ok(())
    }

    /// 32 streams on one HTTP/2 connection.
    fn h2load(&mut self, direct: bool) -> Result<()> {
        let log = self.world.space().dir().join("h2load.log");
        let _ = fs::remove_file(&log);
        let mut command = self.client(direct, "h2load")?;
        command.args(["-c1", "-m32", "-t1", &format!("-D{}", self.seconds)]).arg("--log-file").arg(&log);
        command.arg(format!("https://www.example.test:{PORT}/1k"));
        let (text, ..) = self.with_cpu(direct, &mut command)?;
        let line = text.lines().find(|l| l.starts_with("finished in")).context("h2load's result")?;
        let per_second =
            line.split(", ").nth(1).and_then(|p| p.split(' ').next()).context("h2load's rate")?;
        ensure!(text.contains(" 0 failed, 0 errored, 0 timeout"), "h2load met errors:\n{text}");
        ensure!(text.contains("Application protocol: h2"), "not HTTP/2:\n{text}");
        self.rounds.add(direct, "h2_rps_32", per_second.parse()?);
        let lines = fs::read_to_string(&log)?;
        let times = spread(lines.lines().filter_map(|l| l.split('\t').nth(2)?.parse().ok()).collect());
        self.rounds.add(direct, "h2_p50_us", times.p50);
        self.rounds.add(direct, "h2_p99_us", times.p99);
        Ok(())
    }

    fn new_connections(&mut self, direct: bool) -> Result<()> {
        let before = self.cpu(direct)?;
        let result = self.generate(direct, "new", FULL_PORT, &[&(self.seconds * 1000).to_string(), "8"])?;
        let after = self.cpu(direct)?;
        self.rounds.add(direct, "new_per_second", float(&result["per_second"])?);
        if !direct {
            let count = float(&result["count"])?;
            self.rounds.add(false, "gate_us_per_connection", (after.0 - before.0) / 1e3 / count);
            self.rounds.add(false, "warden_us_per_connection", (after.1 - before.1) / 1e3 / count);
        }
        Ok(())
    }

    fn bulk(&mut self, direct: bool) -> Result<()> {
        let mut command = self.client(direct, "curl")?;
        command.args(["-sS", "--http1.1", "-o", "/dev/null", "-w", "%{speed_download} %{size_download}"]);
        command.arg(format!("https://www.example.test:{PORT}/bulk"));
        let (text, gate, _) = self.with_cpu(direct, &mut command)?;
        let (speed, size) = text.split_once(' ').context("curl's figures")?;
        ensure!(size.parse::<u64>()? == BULK, "curl got {size} bytes of {BULK}");
        self.rounds.add(direct, "bulk_mb_s", speed.parse::<f64>()? / 1e6);
        if !direct {
            self.rounds.add(false, "gate_cpu_s_per_gb", gate / BULK as f64);
        }
        Ok(())
    }

    /// Runs a client; gives its output, and the CPU time that gate and warden took meanwhile, in nanoseconds.
    fn with_cpu(&self, direct: bool, command: &mut Command) -> Result<(String, f64, f64)> {
        let before = self.cpu(direct)?;
        let text = good(command)?.stdout;
        let after = self.cpu(direct)?;
        Ok((text, after.0 - before.0, after.1 - before.1))
    }

    /// CPU time of gate and warden so far, in nanoseconds; zero on the direct side.
    fn cpu(&self, direct: bool) -> Result<(f64, f64)> {
        if direct {
            return Ok((0.0, 0.0));
        }
        let daemon = self.world.daemon();
        let of = |pid: u32| cpu_ns(pid).map(|ns| ns as f64).context("a process of the agent is gone");
        Ok((of(daemon.gate_pid()?)?, of(daemon.warden_pid()?)?))
    }

    /// Resident memory with nothing open, with 1,000 and with 8,000 idle connections. An agent of its own, since one
    /// that has worked keeps what it once used.
    fn memory(&mut self) -> Result<()> {
        if self.world.is_direct() {
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
            let empty = resident(self)?;
            let full = self.with_idle(count, resident)?;
            self.rounds.add(false, key, (full.0 - empty.0) / f64::from(count));
            self.rounds.add(false, &format!("warden_{key}"), (full.1 - empty.1) / f64::from(count));
            if count == 1_000 {
                self.rounds.add(false, "idle_resident_mib", (empty.0 + empty.1) / 1024.0);
            }
        }
        Ok(())
    }

    /// Runs `measure` while `count` idle connections are open through the agent.
    fn with_idle<T>(&self, count: u32, measure: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let own = std::env::current_exe()?;
        let mut command = self.client(false, own.to_str().context("a path in UTF-8")?)?;
        let target = SocketAddr::new(address("www.example.test"), PORT).to_string();
        command.args(["load", "idle", &target, "www.example.test", &count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let line = lines.next().context("the generator ended")??;
        let open: Value = serde_json::from_str(&line)?;
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

fn good(command: &mut Command) -> Result<Ended> {
    let ended = run(command, PATIENCE)?;
    if !ended.good() {
        bail!("{command:?}: {:?}\n{}\n{}", ended.status, ended.stdout, ended.stderr);
    }
    Ok(ended)
}

fn pin(wanted: bool, core: usize) -> Result<()> {
    if wanted {
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set).context("pinning")?;
    }
    Ok(())
}

/// The upstream's threads were started on the agent's processor: moves them too.
fn pin_all_threads(wanted: bool, core: usize) -> Result<()> {
    if wanted {
        let mut taskset = Command::new("taskset");
        taskset.args(["-a", "-p", "-c", &core.to_string(), &std::process::id().to_string()]);
        good(&mut taskset)?;
    }
    Ok(())
}

fn float(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}

/// The word after `label`.
fn after<'a>(text: &'a str, label: &str) -> Result<&'a str> {
    let rest = text.split_once(label).with_context(|| format!("no {label} in:\n{text}"))?.1;
    rest.split_whitespace().next().context("a word")
}

/// wrk's `1.23ms`, `45.00us`, `1.20s`.
fn duration_us(text: &str) -> Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, unit) = units
        .iter()
        .find_map(|(unit, us)| text.strip_suffix(unit).and_then(|n| Some((n.parse::<f64>().ok()?, us))))
        .with_context(|| format!("{text} is no time"))?;
    Ok(number * unit)
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo").lines().find(|l| l.starts_with("model name")).map(str::to_owned);
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    json!({"kernel": read("/proc/sys/kernel/osrelease").trim(), "processor": model, "load": read("/proc/loadavg").trim(), "time": epoch})
}
