//! How the programs come, stay and go.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use sluice::warden::kernel::{Kernel, LayerState, LsmHook, purge_lsm};

use crate::rig::{DENIED, Rig, rules};
use crate::stage::{WORLD4, tag};

#[test]
fn every_hook_loads_and_is_among_the_layers() {
    let rig = Rig::untagged("layers");
    let lsm = rig.stage.kernel.lsm().expect("at work");
    for hook in LsmHook::ALL {
        assert!(lsm.covers(hook), "{hook:?}: {:?}", lsm.hooks());
    }
    let layers = rig.stage.kernel.layers().iter().filter(|layer| layer.name.starts_with("lsm "));
    assert!(layers.clone().all(|layer| layer.state == LayerState::Loaded));
    assert!(layers.count() >= 11);
}

#[test]
fn nothing_is_refused_before_tagging_and_after() {
    let mut rig = Rig::untagged("after");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "ok");
    rig.tag();
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM");
    assert!(rig.stage.kernel.is_guarded(sluice::warden::kernel::CgroupId(rig.stage.cgroup.id())));
    rig.stage.kernel.detach_cgroup(&tag("ci"), rig.stage.cgroup.path()).expect("detach");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "ok");
    rig.tag();
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM");
    rig.stage.kernel.detach(&tag("ci")).expect("detach");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "ok");
    assert!(rig.stage.kernel.lsm().expect("at work").tagged().is_empty());
}

/// A process of the tag tries without pause while wardens die and others take over.
///
/// On two *emulated* processors this can end in a soft lockup of both, the second call of the storm and our own next
/// socket(2) at `bpf_lsm_socket_create+1`. It is QEMU's: the page holds the finished call to the trampoline (`<e8> …` in
/// every dump), nobody is patching any more (`exc_int3` comes to `kprobe_int3_handler`, past text_poke's own), and still
/// the processor takes the breakpoint that stood there for a moment, from a translation that was not thrown away. Our
/// programs are not in the stacks, and no link update is under way. So `cargo xtask vm` has one processor.
#[test]
fn it_outlives_its_warden_and_is_replaced_without_a_gap() {
    let mut rig = Rig::new("heir");
    let mut storm =
        rig.stage.namespace.command(Some(&rig.stage.cgroup), env!("CARGO_BIN_EXE_sluice-lsm-probe"));
    let mut storm = storm.arg("storm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut said = BufReader::new(storm.stdout.take().expect("piped")).lines();
    assert_eq!(said.next().expect("a line").expect("text"), "started");
    for _ in 0..3 {
        let heir = Kernel::open(rig.stage.bpf.path(), rig.stage.config()).expect("open");
        drop(std::mem::replace(&mut rig.stage.kernel, heir));
        assert_eq!(
            rig.inside(&["sockets", "40:1:0"]),
            "EPERM",
            "with no warden's programs but the dead one's"
        );
        rig.stage.kernel.guard(&rules(&DENIED)).expect("replaced");
        assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM", "adopted");
        let adopted = rig.stage.kernel.adopt().expect("adopt");
        assert_eq!(adopted.len(), 1);
        assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM");
        assert_eq!(rig.stage.kernel.lsm().expect("at work").tagged().len(), 1);
    }
    drop(storm.stdin.take());
    let sum = said.next().expect("a line").expect("text");
    assert!(storm.wait().expect("its end").success());
    assert!(sum.starts_with("made=0 refused="), "{sum}");
    assert!(rig.stage.dial(&["connect", WORLD4]).starts_with("ok "), "sockets bear their mark as before");
}

#[test]
fn cgroups_that_are_gone_are_forgotten() {
    let mut rig = Rig::new("gone");
    let short = sluice_tests::host::Cgroup::new("gone-short");
    rig.stage.kernel.attach(&tag("ci"), 7, short.path(), &Default::default()).expect("attach");
    assert_eq!(rig.stage.kernel.lsm().expect("at work").tagged().len(), 2);
    drop(short);
    rig.stage.kernel.adopt().expect("adopt");
    assert_eq!(rig.stage.kernel.lsm().expect("at work").tagged().len(), 1);
}

#[test]
fn purge_takes_it_away() {
    let rig = Rig::new("purge");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "EPERM");
    purge_lsm(rig.stage.bpf.path()).expect("purge");
    assert_eq!(rig.inside(&["sockets", "40:1:0"]), "ok");
    purge_lsm(rig.stage.bpf.path()).expect("nothing there is fine");
}
