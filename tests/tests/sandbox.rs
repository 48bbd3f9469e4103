//! The gate's sandbox, proved by trying: what the gate needs works, what a taken-over gate would want does not.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_taken_over_gate_can_do_its_work_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let store = dir.path().join("store");
    std::fs::create_dir(&store).expect("mkdir");
    std::os::unix::fs::chown(&store, Some(65534), Some(65534)).expect("chown");

    let output =
        Command::new(env!("CARGO_BIN_EXE_sandbox_probe")).arg(&store).output().expect("the probe runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let results: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();

    let needed = ["store-write", "thread", "tcp-connect", "tcp-accept", "read-roots"];
    for name in needed {
        assert_eq!(results.get(name), Some(&"open"), "the gate needs {name}:\n{text}");
    }
    let open: Vec<_> =
        results.iter().filter(|(name, how)| !needed.contains(name) && !how.starts_with("closed")).collect();
    assert!(open.is_empty(), "open to a taken-over gate: {open:?}\n{text}");
    assert!(results.len() >= 26, "the probe stopped early:\n{text}");
}
