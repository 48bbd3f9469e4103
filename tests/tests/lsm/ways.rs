//! Families of sockets, and processes outside.

use agent_ebpf::Counter;
use sluice_tests::host::Held;

use crate::rig::{Rig, comm};
use crate::stage::{WORLD4, WORLD6};

/// Packet (raw, datagram), VSOCK (stream, datagram), XDP, kernel cryptography, key management, netlink between processes.
const OTHERS: [&str; 8] =
    ["17:3:768", "17:2:768", "40:1:0", "40:2:0", "44:3:0", "38:5:0", "15:3:2", "16:3:2"];
/// What nobody needs a right for.
const UNPRIVILEGED: [&str; 3] = ["40:1:0", "38:5:0", "16:2:2"];
/// Unix (stream, datagram), IPv4, IPv6, netlink.
const FOLLOWED: [&str; 6] = ["1:1:0", "1:2:0", "2:1:0", "2:2:0", "10:1:0", "16:3:0"];

#[test]
fn families_that_are_not_followed_are_refused() {
    let rig = Rig::new("family");
    let words: Vec<&str> = ["sockets"].into_iter().chain(OTHERS).collect();
    let open = rig.outside(&words);
    assert!(!open.contains("EPERM"), "{open}");
    assert!(open.starts_with("ok ok ok"), "packet and VSOCK sockets are possible here: {open}");
    assert_eq!(rig.inside(&words), ["EPERM"; 8].join(" "), "untagged: {open}");
    let told = rig.told(Counter::Family);
    assert_eq!(told.len(), 8);
    assert_eq!((told[0].family, told[0].kind, told[0].protocol, told[0].tag), (17, 3, 768, 7));
    assert_eq!((told[2].family, told[2].uid, comm(&told[2])), (40, 0, "sluice-lsm-prob".to_owned()));
    assert_eq!(told[0].cgroup, rig.stage.cgroup.id());
    assert_eq!(rig.stage.count(Counter::Family), 8);

    let words: Vec<&str> = ["sockets"].into_iter().chain(UNPRIVILEGED).collect();
    assert_eq!(rig.try_as_nobody(&rig.outside, &words, None), "ok ok ok");
    assert_eq!(rig.try_as_nobody(&rig.stage.cgroup, &words, None), "EPERM EPERM EPERM");
    assert_eq!(rig.told(Counter::Family)[0].uid, 65534);
}

#[test]
fn families_that_are_followed_are_not() {
    let rig = Rig::new("follow");
    let words: Vec<&str> = ["sockets"].into_iter().chain(FOLLOWED).collect();
    assert_eq!(rig.inside(&words), ["ok"; 6].join(" "));
    assert!(rig.stage.dial(&["connect", WORLD4]).starts_with("ok "), "a connection is taken as ever");
    assert!(rig.stage.dial(&["connect", WORLD6]).starts_with("ok "));
    assert_eq!(rig.stage.count(Counter::Taken), 2);
    assert_eq!(rig.stage.count(Counter::ForeignSocket), 0);
}

#[test]
fn depth_below_the_tag_does_not_matter() {
    let rig = Rig::new("deep");
    let mut nest = vec![rig.stage.cgroup.child("a")];
    for _ in 0..40 {
        nest.push(nest.last().expect("one").child("a"));
    }
    let deepest = nest.last().expect("one");
    assert_eq!(rig.try_in(deepest, &["sockets", "40:1:0"], None), "EPERM");
    assert!(rig.stage.dial_in(Some(deepest), &["connect", WORLD4]).starts_with("ok "));
    while nest.pop().is_some() {}
}

#[test]
fn the_agent_is_left_alone_inside_a_tag() {
    let mut rig = Rig::new("agent");
    let agent = rig.stage.cgroup.child("agent");
    let gate = agent.child("gate");
    assert_eq!(rig.try_in(&gate, &["sockets", "40:1:0"], None), "EPERM");
    let config = agent_ebpf::Config { agent_cgroup: agent.id(), ..rig.stage.config() };
    rig.stage.kernel.configure(config).expect("configure");
    assert_eq!(rig.try_in(&gate, &["sockets", "40:1:0"], None), "ok");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM");
}

#[test]
fn processes_outside_are_out_of_reach() {
    let rig = Rig::new("ptrace");
    let sleeper = |cgroup| {
        let mut command = rig.stage.namespace.command(Some(cgroup), "sh");
        command.args(["-c", "echo $$; exec cat"]);
        Held::start(&mut command)
    };
    let child = rig.stage.cgroup.child("job");
    let (_outer, outer) = sleeper(&rig.outside);
    let (_inner, inner) = sleeper(&child);
    let _ = rig.events();
    let place = |pid: &str, file: &str| format!("/proc/{pid}/{file}");
    for file in ["environ", "maps", "fd/2"] {
        assert!(rig.outside(&["open", &place(&outer, file)]).starts_with("ok"), "{file}");
        assert!(rig.inside(&["open", &place(&inner, file)]).starts_with("ok"), "{file} of its own tag");
        let refused = rig.inside(&["open", &place(&outer, file)]);
        assert!(matches!(refused.as_str(), "refused EACCES" | "refused EPERM"), "{file}: {refused}");
    }
    assert_eq!(rig.outside(&["getfd", &outer, "0"]), "ok");
    assert_eq!(rig.inside(&["getfd", &inner, "0"]), "ok");
    assert_eq!(rig.inside(&["getfd", &outer, "0"]), "refused EPERM");
    let told = rig.told(Counter::Ptrace);
    assert!(!told.is_empty());
    assert!(told.iter().all(|event| event.detail.to_string() == outer && event.tag == 7), "{told:?}");
}

#[test]
fn a_flood_is_counted_and_told_at_a_pace() {
    let rig = Rig::new("flood");
    let many = ["40:1:0"; 500];
    let words: Vec<&str> = ["sockets"].into_iter().chain(many).collect();
    let start = std::time::Instant::now();
    rig.inside(&words);
    rig.inside(&words);
    let seconds = start.elapsed().as_secs() + 2;
    let told = rig.told(Counter::Family);
    let cpus = std::thread::available_parallelism().expect("CPUs").get() as u64;
    let most = u64::from(agent_ebpf::EVENTS_A_SECOND) * cpus * seconds;
    assert!((told.len() as u64) <= most.min(900), "{} events, at most {most}", told.len());
    assert_eq!(rig.stage.count(Counter::Family), 1000);
    assert!(told.iter().map(|event| event.suppressed).sum::<u32>() as usize + told.len() <= 1000);
}
