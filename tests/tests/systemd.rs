//! Sluice under systemd, in a booted Debian.

use sluice_tests::tree::Tree;

#[test]
fn the_tree_boots_and_has_what_the_stories_need() {
    let tree = Tree::debian().expect("a tree");
    let script = "
        stat -fc %T /sys/fs/cgroup /sys/fs/bpf
        ip -brief address show lo
        systemctl is-active dbus.service systemd-journald.service systemd-logind.service
        getent hosts outside.example
        keytool -list -cacerts -storepass changeit | grep -c trustedCertEntry
        curl --version | head -1";
    let ran = tree.boot(script).run().expect("booted").passed().expect("passed");
    for expected in ["cgroup2fs", "bpf_fs", "203.0.113.10/32", "active\nactive\nactive"] {
        assert!(ran.output.contains(expected), "{expected} is missing in:\n{}", ran.output);
    }
    assert!(ran.journal.contains("Started"), "{}", ran.journal);

    let failed = tree.boot("echo before; false; echo after").run().expect("booted");
    assert_eq!((failed.output.as_str(), failed.status), ("before\n", Some(1)));

    let late = std::time::Duration::from_secs(5);
    let error = tree.boot("exec sleep infinity").within(late).run().expect_err("not over");
    assert!(format!("{error:#}").contains("killed"), "{error:#}");
}
