//! Rules by the content of programs: copies of curl, one of them with a byte more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sluice::types::Verdict;
use sluice_tests::harness::World;
use sluice_tests::process::{PATIENCE, run};

use crate::rig::{TAG, curl, fetched, judged, record, world};

fn sha256(path: &Path) -> String {
    let ended = run(Command::new("sha256sum").arg(path), PATIENCE).expect("sha256sum");
    ended.stdout.split_whitespace().next().expect("a sum").to_owned()
}

/// A copy of curl with `more` behind it.
fn copy(world: &World, name: &str, more: &[u8]) -> PathBuf {
    let path = world.space().dir().join(name);
    let mut bytes = fs::read("/usr/bin/curl").expect("curl");
    bytes.extend(more);
    // A new file each time: one that is being executed cannot be written to.
    let _there = fs::remove_file(&path);
    fs::write(&path, bytes).expect("a copy");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    path
}

fn get(world: &World, program: &Path, url: &str) -> (String, String) {
    let mut job = world.job(TAG, program).expect("a job");
    let (status, body, _) = fetched(job.args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"]).arg(url));
    (status, body)
}

fn rules(sum: &str) -> String {
    format!(
        "[[rule]]\nname = \"not-this\"\nexe_sha256 = \"{sum}\"\npath = \"/status/**\"\nverdict = \"deny\"\n\
         [[rule]]\nname = \"this\"\nexe_sha256 = [\"{sum}\"]\nhost = \"www.example.test\"\nverdict = \"allow\"\n\
         [[rule]]\nname = \"others\"\npath = \"/headers/1\"\nverdict = \"allow\"\n"
    )
}

#[test]
fn a_byte_more_is_another_program() {
    let sum = sha256(Path::new("/usr/bin/curl")).to_ascii_uppercase();
    let world = world("mode = \"enforce\"", &rules(&sum));
    let (same, other) = (copy(&world, "same", b""), copy(&world, "other", b"+"));
    let url = |path: &str| format!("https://www.example.test{path}");
    for (program, path, wanted) in [
        (&same, "/bytes/1", "200"),
        (&other, "/bytes/2", "403"),
        (&other, "/headers/1", "200"),
        (&same, "/status/204", "403"),
        (&same, "/bytes/3", "200"),
    ] {
        let (status, body) = get(&world, program, &url(path));
        assert_eq!(status, wanted, "{program:?} {path} {body}");
    }
    let summary = record(&world, "the refusal", |s| s.path.as_deref() == Some("/bytes/2"));
    assert_eq!(judged(&summary), (Some("(none)"), Verdict::Deny));
    let summary = record(&world, "the other", |s| s.path.as_deref() == Some("/status/204"));
    assert_eq!(judged(&summary), (Some("not-this"), Verdict::Deny));

    // Under the same path, and in the same inode.
    let changed = copy(&world, "same", b"+");
    assert_eq!(get(&world, &changed, &url("/bytes/4")).0, "403");
    let plain = fs::read("/usr/bin/curl").expect("curl");
    fs::write(&changed, &plain).expect("written in place");
    assert_eq!(get(&world, &changed, &url("/bytes/5")).0, "200");
    fs::write(&changed, [&plain[..], b"-"].concat()).expect("written in place");
    assert_eq!(get(&world, &changed, &url("/bytes/6")).0, "403");

    // Many at once are all told.
    let script = format!(
        "for n in $(seq 40); do /usr/bin/curl -sS --max-time 30 -o /dev/null -w '%{{http_code}}\\n' {} & done; wait",
        url("/bytes/7")
    );
    let mut job = world.job(TAG, "sh").expect("a job");
    let ended = run(job.args(["-c", &script]), PATIENCE).expect("started");
    assert_eq!(ended.stdout, "200\n".repeat(40), "{}", ended.stderr);
}

#[test]
fn a_program_that_was_deleted_is_what_it_was() {
    let sum = sha256(Path::new("/usr/bin/curl"));
    let world = world("mode = \"enforce\"", &rules(&sum));
    for (name, more, wanted) in [("gone", &b""[..], "200"), ("other", b"+", "403")] {
        let program = copy(&world, name, more);
        // It deletes itself, then waits for its input to end before it connects: the configuration comes from there.
        let script = format!(
            "(sleep 0.3; rm {0}; echo 'url = \"https://www.example.test/bytes/1\"') | {0} -sS --max-time 20 -w '\\n%{{http_code}}' -K -",
            program.display()
        );
        let mut job = world.job(TAG, "sh").expect("a job");
        let ended = run(job.args(["-c", &script]), PATIENCE).expect("started");
        assert!(ended.stdout.ends_with(&format!("\n{wanted}")), "{name}: {} {}", ended.stdout, ended.stderr);
        assert!(!program.exists());
    }
}

#[test]
fn what_cannot_be_hashed_is_refused_where_a_rule_asks() {
    let large = "[[rule]]\nname = \"not-this\"\nexe_sha256 = \"".to_owned()
        + &"00".repeat(32)
        + "\"\nverdict = \"deny\"\n[[rule]]\nname = \"all\"\nverdict = \"allow\"\n";
    let world = world("mode = \"enforce\"", &large);
    let (status, _, _) = fetched(&mut curl(&world, TAG, &["https://www.example.test/bytes/1"]));
    assert_eq!(status, "200", "it has another hash");
    // Larger than what is read: a hole behind it.
    let program = copy(&world, "large", b"");
    fs::File::options().write(true).open(&program).expect("file").set_len(600 << 20).expect("a hole");
    assert_eq!(get(&world, &program, "https://www.example.test/bytes/2").0, "000");
    let summary = record(&world, "the refusal", |s| s.rule.as_deref() == Some("not-this"));
    assert_eq!(summary.verdict, Verdict::Deny);
    assert!(summary.error.as_deref().is_some_and(|e| e.contains("is not known")), "{summary:?}");
}
