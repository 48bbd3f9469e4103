//! Sluice under systemd, in a booted Debian: the package installed, a unit tagged by configuration, the agent restarted
//! and killed under load, and everything purged again.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use sluice_tests::tree::{Ran, Tree};

/// The package of this source, built once a run (unoptimised: the same files, built in seconds).
static PACKAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut cargo = Command::new(env!("CARGO"));
    let built = cargo.args(["xtask", "dist", "--debug"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let built = built.expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stdout);
    assert!(
        built.status.success(),
        "cargo xtask dist --debug: {said}{}",
        String::from_utf8_lossy(&built.stderr)
    );
    PathBuf::from(said.lines().next_back().expect("the package's path"))
});

/// Functions of every story; the server and the loads are files of their own.
const PRELUDE: &str = include_str!("systemd/prelude.sh");

/// The same package as an earlier release: an earlier version, and kernel programs with other instructions for the same.
/// `SLUICE_EARLIER` is the binary of a real one.
static EARLIER: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = PACKAGE.with_file_name("earlier");
    let _was_there = std::fs::remove_dir_all(&dir);
    let run = |command: &mut Command| {
        let ran = command.output().expect("dpkg-deb runs");
        assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(&*PACKAGE).arg(&dir));
    let binary = dir.join("usr/bin/sluice");
    match std::env::var_os("SLUICE_EARLIER") {
        Some(given) => drop(std::fs::copy(given, &binary).expect("copied")),
        None => std::fs::write(&binary, earlier(std::fs::read(&binary).expect("binary"))).expect("written"),
    }
    let control = dir.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("control");
    let version = text.lines().find_map(|line| line.strip_prefix("Version: ")).expect("a version");
    let version = (format!("Version: {version}"), format!("Version: {version}~earlier"));
    std::fs::write(&control, text.replace(&version.0, &version.1)).expect("written");
    let package = dir.with_extension("deb");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&dir).arg(&package));
    package
});

/// The binary with "r0 = 1" of 32 bits in the place of that of 64 in its kernel programs.
fn earlier(mut binary: Vec<u8>) -> Vec<u8> {
    let object = include_bytes!("../../agent-ebpf/sluice.bpf.o");
    let at = binary.windows(object.len()).position(|window| window == object).expect("the object is inside");
    let (wide, narrow) = ([0xb7, 0, 0, 0, 1, 0, 0, 0], [0xb4, 0, 0, 0, 1, 0, 0, 0]);
    for instruction in binary[at..at + object.len()].chunks_exact_mut(8).filter(|bytes| **bytes == wide) {
        instruction.copy_from_slice(&narrow);
    }
    binary
}

fn story(script: &str) -> Ran {
    story_with(script, &PACKAGE)
}

/// The same, with another package to begin with; ours is `/next.deb` then.
fn story_with(script: &str, first: &std::path::Path) -> Ran {
    let tree = Tree::debian().expect("a tree");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd");
    let boot = tree.boot(&format!("{PRELUDE}\n{script}")).within(Duration::from_secs(240));
    let boot = boot.with(first, "/sluice.deb").with(PACKAGE.as_path(), "/next.deb").with(folder, "/files");
    let ran = boot.run().expect("booted").passed().expect("passed");
    // Shown when the test fails, and with --nocapture.
    println!("{}", ran.output);
    ran
}

/// That each text is in the output, in this order.
fn in_order(ran: &Ran, texts: &[&str]) {
    let mut rest = ran.output.as_str();
    for text in texts {
        let Some((_, after)) = rest.split_once(text) else {
            panic!(
                "`{text}` is missing, or not in its place:\n{}\n--- journal ---\n{}",
                ran.output, ran.journal
            );
        };
        rest = after;
    }
}

/// The number that a line `NAME=NUMBER` of the output gives.
fn number(ran: &Ran, name: &str) -> u64 {
    let line = ran.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let line =
        line.unwrap_or_else(|| panic!("no {name} in:\n{}\n--- journal ---\n{}", ran.output, ran.journal));
    line.trim().parse().unwrap_or_else(|_| panic!("{name}={line}"))
}

#[test]
fn the_tree_boots_and_has_what_the_stories_need() {
    let tree = Tree::debian().expect("a tree");
    let script = "
        stat -fc %T /sys/fs/cgroup /sys/fs/bpf
        ip -brief address show lo
        systemctl is-active dbus.service systemd-journald.service systemd-logind.service
        getent hosts outside.example";
    let ran = tree.boot(script).run().expect("booted").passed().expect("passed");
    for expected in ["cgroup2fs", "bpf_fs", "203.0.113.10/32", "active\nactive\nactive"] {
        assert!(ran.output.contains(expected), "{expected} is missing in:\n{}", ran.output);
    }
    assert!(ran.journal.contains("Started"), "{}", ran.journal);

    let failed = tree.boot("echo before; false; echo after").run().expect("booted");
    assert_eq!((failed.output.as_str(), failed.status), ("before\n", Some(1)));

    let late = Duration::from_secs(5);
    let error = tree.boot("exec sleep infinity").within(late).run().expect_err("not over");
    assert!(format!("{error:#}").contains("killed"), "{error:#}");
}

#[test]
fn the_unit_stays_as_closed_as_it_is() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/sluice.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=33", unit]);
    let judged = analyze.output().expect("systemd-analyze runs");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn a_tagged_unit_is_recorded_and_explained_in_its_own_journal() {
    let ran = story(
        "install; start_upstream
        intercept
        systemctl start legacy.service
        told() { unit_journal legacy.service | grep --quiet 'GET outside.example/hello'; }
        wait_for 10 told
        echo '--- journal'; unit_journal legacy.service
        echo '--- explained'; journalctl --catalog --no-pager --output=short --unit=legacy.service
        echo '--- sessions'; sluice sessions --json
        echo '--- peers'; cat /tmp/peers
        echo '--- untagged'; : > /tmp/peers; curl --silent --show-error https://outside.example/untagged; cat /tmp/peers
        echo '--- security'; systemd-analyze security --no-pager sluice.service | tail -1
        echo '--- processes'; ps -eo user,args | grep '[s]luice ' ",
    );
    in_order(
        &ran,
        &[
            // The agent and the job write to the journal each for itself: the entry may come after the job's next line.
            "--- journal",
            "job: begins",
            "GET outside.example/hello 200",
            "--- explained",
            "GET outside.example/hello 200",
            "An exchange of a tagged process was sent on",
            "--- sessions",
            r#""host":"outside.example""#,
            "--- peers",
            "through /hello",
            "--- untagged",
            "direct /untagged",
            "--- processes",
            "root     /usr/bin/sluice daemon",
            "sluice   ",
        ],
    );
    in_order(&ran, &["--- journal", "job: begins", "job: got hello", "job: ends", "--- explained"]);
    let session = ran.output.lines().find(|line| line.contains(r#""path":"/hello""#)).expect("the session");
    let session: serde_json::Value = serde_json::from_str(session).expect("JSON");
    assert_eq!(session["unit"], "legacy.service", "{session}");
    assert_eq!(
        (&session["tag"], &session["method"], &session["status"]),
        (&"legacy".into(), &"GET".into(), &200.into())
    );
}

#[test]
fn one_job_after_the_other_runs_under_the_same_name() {
    let ran = story(
        "install
        for round in $(seq 30); do sluice run --tag build -- true || break; done
        echo ran $round",
    );
    in_order(&ran, &["ran 30"]);
    assert!(!ran.output.contains("sluice: run:"), "{}", ran.output);
}

#[test]
fn a_restart_under_load_loses_nothing_and_lets_nothing_out() {
    let ran = story(
        "install; start_upstream; intercept
        start_load
        for round in 1 2 3 4 5; do await_more 15; systemctl restart sluice.service; done
        await_more 20
        stop_load",
    );
    assert!(number(&ran, "ok") >= 80, "{}", ran.output);
    assert_eq!(number(&ran, "failed"), 0, "requests lost over a restart:\n{}\n{}", ran.output, ran.journal);
    assert_eq!(number(&ran, "direct"), 0, "requests that went round the agent:\n{}", ran.output);
    // A request is recorded once; the load may have been stopped with answers on their way.
    assert!(number(&ran, "recorded") >= number(&ran, "ok"), "{}", ran.output);
}

/// A new package over an installed one, then a restart, each with a stream under way that ends only when the short exchanges
/// have gone on with the next daemon: nothing fails, nothing goes round, nobody waits for the stream, and it ends well.
#[test]
fn an_upgrade_under_load_loses_nothing_and_lets_nothing_out() {
    let ran = story_with(
        "install; start_upstream
        printf '\n[drain]\ngrace = \"60s\"\n' >> /etc/sluice/sluice.toml
        intercept
        dpkg-query --show sluice
        : > /tmp/streams; start_sniffer; start_load
        await_more 20; hold_stream
        find /sys/fs/bpf/sluice/tags/load -name 'link_connect4' | xargs stat --format='link %i'
        dpkg --install /next.deb
        await_more 20; release_stream; hold_stream
        find /sys/fs/bpf/sluice/tags/load -name 'link_connect4' | xargs stat --format='link %i'
        dpkg-query --show sluice
        systemctl restart sluice.service
        await_more 20; release_stream
        stop_load; stop_sniffer
        journalctl --sync
        echo drains=$(journalctl --no-pager --output=cat --unit='sluice.drain-*' | grep -c '^Started')
        find /sys/fs/bpf/sluice -name '*_v*' | sed 's/.*_v/ABI /' | sort -u
        dpkg --purge sluice; journalctl --sync
        journalctl --no-pager --output=cat --identifier=sluice | grep 'the package is removed'",
        &EARLIER,
    );
    in_order(
        &ran,
        &[
            "~earlier",
            "link ",
            "held until now: ",
            "link ",
            "held until now: ",
            &format!("ABI {}\n", agent_ebpf::ABI),
            "tag load removed: the package",
        ],
    );
    let links: Vec<&str> = ran.output.lines().filter(|line| line.starts_with("link ")).collect();
    assert_eq!(links[0], links[1], "the same link, with another program");
    println!(
        "refused for {} ms at most, waited for {} ms at most, {} answers, {} packets",
        number(&ran, "refused"),
        number(&ran, "waited"),
        number(&ran, "ok"),
        number(&ran, "seen")
    );
    assert_eq!(number(&ran, "failed"), 0, "lost over an upgrade:\n{}\n{}", ran.output, ran.journal);
    assert_eq!((number(&ran, "direct"), number(&ran, "strays")), (0, 0), "went round:\n{}", ran.output);
    assert!(number(&ran, "seen") > 0, "the sniffer saw nothing");
    assert_eq!(number(&ran, "lost"), 0, "the sniffer missed packets");
    assert_eq!(
        number(&ran, "drains"),
        2,
        "what was under way went on beside the next daemon:\n{}",
        ran.output
    );
}

#[test]
fn whoever_is_killed_nothing_leaves_and_all_comes_back() {
    let ran = story(
        "install; start_upstream; intercept
        start_load
        for victim in gate warden both; do
            await_more 20
            echo \"killing $victim\"
            kill_agent $victim
            await_more 20
            echo \"back after $victim\"
        done
        stop_load
        sluice sessions --json | wc -l",
    );
    in_order(&ran, &["back after gate", "back after warden", "back after both"]);
    assert_eq!(number(&ran, "direct"), 0, "requests that went round the agent:\n{}", ran.output);
    assert!(number(&ran, "recorded") >= number(&ran, "ok"), "the store lost an exchange:\n{}", ran.output);
}

#[test]
fn a_stopped_agent_refuses_and_a_purge_leaves_nothing() {
    let ran = story(
        "traces > /tmp/before
        install; start_upstream; intercept
        start_load; await_more 10
        systemctl mask --quiet --runtime --now sluice.service
        : > /tmp/peers
        await_refused 10 && echo 'load refused'
        systemctl start legacy.service && echo 'legacy started' || echo 'legacy refused'
        echo peers=$(lines /tmp/peers)
        systemctl unmask --quiet --runtime sluice.service
        systemctl start sluice.service
        await_more 10 && echo 'load goes on'
        systemctl start legacy.service && echo 'legacy started'
        stop_load
        echo '--- purge'
        dpkg --purge sluice
        traces > /tmp/after
        diff /tmp/before /tmp/after && echo 'no trace'
        : > /tmp/peers
        systemctl start legacy.service && echo 'legacy runs untagged'
        cat /tmp/peers",
    );
    in_order(
        &ran,
        &[
            "load refused",
            "legacy refused",
            "load goes on",
            "legacy started",
            "--- purge",
            "no trace",
            "direct /hello",
        ],
    );
    assert_eq!(number(&ran, "peers"), 0, "something left while the agent was stopped");
    assert_eq!(number(&ran, "direct"), 0, "requests that went round the agent");
}
