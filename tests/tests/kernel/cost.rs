//! What tags and packets cost.

use std::time::{Duration, Instant};

use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use sluice::warden::kernel::TagOptions;
use sluice_tests::host::{Cgroup, run};

use crate::stage::{Stage, tag};

#[test]
fn five_hundred_cgroups_are_tagged_in_two_seconds() {
    // Others work on this machine too: the best of three says what it takes.
    let times: Vec<Duration> = (0..3).map(|round| tag_five_hundred(&format!("cost{round}"))).collect();
    println!("500 cgroups under one tag: {times:?}");
    assert!(times.iter().any(|time| *time < Duration::from_secs(2)), "{times:?}");
}

fn tag_five_hundred(name: &str) -> Duration {
    let mut stage = Stage::new(name);
    let cgroups: Vec<Cgroup> = (0..500).map(|n| stage.cgroup.child(&format!("c{n}"))).collect();
    let start = Instant::now();
    for cgroup in &cgroups {
        stage.kernel.attach(&tag("many"), 9, cgroup.path(), &TagOptions::default()).expect("attach");
    }
    start.elapsed()
}

/// Seconds that 3 GiB take through a TCP connection over loopback, both ends in `cgroup`.
fn transfer(stage: &Stage, cgroup: &Cgroup) -> f64 {
    let script = "import socket,time,threading\n\
        l=socket.create_server(('127.0.0.1',0))\n\
        c=socket.create_connection(l.getsockname()); s,_=l.accept()\n\
        b=bytearray(1<<20); left=3<<30\n\
        def rx():\n  v=bytearray(1<<20)\n  while s.recv_into(v): pass\n\
        t=threading.Thread(target=rx); t.start()\n\
        a=time.monotonic()\n\
        while left>0: left-=c.send(b)\n\
        c.close(); t.join()\n\
        print(time.monotonic()-a)";
    let said = run(stage.namespace.command(Some(cgroup), "python3").args(["-c", script]));
    said.trim().parse().expect("a number")
}

/// Time and runs of the programs that see packets, of all daemons and tests on this machine.
fn packet_programs() -> (Duration, u64) {
    let ours =
        |info: &ProgramInfo| info.name_as_str().is_some_and(|name| ["outward", "inward"].contains(&name));
    let programs = loaded_programs().filter_map(Result::ok).filter(ours);
    programs.fold((Duration::ZERO, 0), |(time, runs), info| (time + info.run_time(), runs + info.run_count()))
}

/// The kernel counts the programs' own time: between two runs of a transfer, with them and without, lies more noise than
/// they cost. Counting makes each run dearer by two readings of the clock, which are in the figure.
#[test]
fn the_programs_that_see_packets_take_less_than_a_thirtieth_of_a_bulk_transfer() {
    let stage = Stage::tagged("bulk");
    let _counting = enable_stats(Stats::RunTime).expect("the kernel counts (5.8)");
    let shares: Vec<f64> = (0..3)
        .map(|_| {
            let before = packet_programs();
            let seconds = transfer(&stage, &stage.cgroup);
            let after = packet_programs();
            let (time, runs) = (after.0 - before.0, after.1 - before.1);
            println!("{runs} runs, {time:?} of {seconds:.2} s");
            assert!(runs > 10_000, "3 GiB are more packets than {runs}");
            time.as_secs_f64() / seconds
        })
        .collect();
    println!("shares: {shares:?}");
    assert!(shares.iter().any(|share| *share < 0.03), "{shares:?}");
}
