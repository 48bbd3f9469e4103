//! What tags and packets cost.

use std::time::{Duration, Instant};

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

/// Bytes a second through a TCP connection over loopback from a process in `cgroup` to one that is in no tag.
fn throughput(stage: &Stage, cgroup: &Cgroup) -> f64 {
    let script = "import socket,time,threading\n\
        l=socket.create_server(('127.0.0.1',0))\n\
        c=socket.create_connection(l.getsockname()); s,_=l.accept()\n\
        b=bytearray(1<<20); left=3<<30\n\
        def rx():\n  v=bytearray(1<<20)\n  while s.recv_into(v): pass\n\
        t=threading.Thread(target=rx); t.start()\n\
        a=time.monotonic()\n\
        while left>0: left-=c.send(b)\n\
        c.close(); t.join()\n\
        print((3<<30)/(time.monotonic()-a))";
    let said = run(stage.namespace.command(Some(cgroup), "python3").args(["-c", script]));
    said.trim().parse().expect("a number")
}

#[test]
#[ignore = "measures: wants a quiet machine"]
fn bulk_throughput_of_a_tagged_process() {
    let stage = Stage::tagged("bulk");
    let other = Cgroup::new("bulk-other");
    let mut shares: Vec<f64> = (0..9)
        .map(|n| {
            let (tagged, untagged) = if n % 2 == 0 {
                let tagged = throughput(&stage, &stage.cgroup);
                (tagged, throughput(&stage, &other))
            } else {
                let untagged = throughput(&stage, &other);
                (throughput(&stage, &stage.cgroup), untagged)
            };
            println!("tagged {:.2} GB/s, untagged {:.2} GB/s", tagged / 1e9, untagged / 1e9);
            tagged / untagged
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    println!("median share {:.3}", shares[4]);
    assert!(shares[4] > 0.97, "{shares:?}");
}
