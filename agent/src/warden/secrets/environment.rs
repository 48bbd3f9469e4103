//! Secrets in the daemon's own environment: taken once, then wiped from the memory that the kernel shows as
//! /proc/PID/environ and that children inherit.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use zeroize::{Zeroize as _, Zeroizing};

/// An environment is at most this large (`_STK_LIM` / 4 × 3, execve(2)).
const MOST: u64 = 6 << 20;

/// The value of a variable of this process, which has it no more. `None`: there is no such variable, or it is empty.
///
/// # Errors
/// The memory cannot be wiped: then the value is not used either.
pub fn take(name: &str) -> io::Result<Option<Vec<u8>>> {
    let (begin, end) = bounds()?;
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(end - begin).unwrap_or(0)]);
    memory.read_exact_at(&mut bytes, begin)?;
    let mut found: Option<Vec<u8>> = None;
    for (at, length) in values(&bytes, name.as_bytes()) {
        let value = &bytes[at..at + length];
        // As getenv(3) has it the first counts; another of the same name is wiped as well.
        if found.is_none() {
            found = Some(value.to_vec());
        }
        let wiped = memory.write_all_at(&vec![0; length], begin + at as u64);
        if let Err(error) = wiped {
            found.zeroize();
            return Err(error);
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// Where each value of a variable is in an environment, and how long.
fn values(environment: &[u8], name: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    for entry in environment.split(|b| *b == 0) {
        if let Some(value) = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
            found.push((at + name.len() + 1, value.len()));
        }
        at += entry.len() + 1;
    }
    found
}

/// Where this process' environment is in its memory: `env_start` and `env_end` of /proc/PID/stat (proc_pid_stat(5)).
fn bounds() -> io::Result<(u64, u64)> {
    let strange = || io::Error::other("/proc/self/stat has no bounds of the environment");
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The program's name, the second field, may have anything in it but ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or_else(strange)?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let (begin, end) = (field(50).ok_or_else(strange)?, field(51).ok_or_else(strange)?);
    if begin == 0 || end < begin || end - begin > MOST { Err(strange()) } else { Ok((begin, end)) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_value_of_a_name_is_found() {
        let environment = b"A=1\0KEY=one\0KEYS=x\0XKEY=y\0KEY=\0KEY=two\0";
        let found = values(environment, b"KEY");
        let texts: Vec<&[u8]> = found.iter().map(|(at, length)| &environment[*at..at + length]).collect();
        assert_eq!(texts, [&b"one"[..], b"", b"two"]);
        assert!(values(b"", b"KEY").is_empty() && values(b"KEY", b"KEY").is_empty());
    }

    /// The child of the next test.
    #[test]
    #[ignore = "run by the next test, with the variable"]
    fn child() {
        let shown = || fs::read("/proc/self/environ").expect("environ");
        let has = |bytes: &[u8]| bytes.windows(11).any(|window| window == b"env-canary-");
        assert!(has(&shown()));
        assert_eq!(take("SLUICE_TEST_ENV").expect("taken").as_deref(), Some(&b"env-canary-1"[..]));
        assert!(!has(&shown()), "the kernel shows it no more");
        assert_eq!(take("SLUICE_TEST_ENV").expect("taken"), None, "once");
        assert_eq!(take("SLUICE_TEST_NONE").expect("taken"), None);
        let inherited = Command::new("/usr/bin/env").output().expect("env runs");
        assert!(inherited.status.success() && !has(&inherited.stdout), "children do not inherit it");
    }

    #[test]
    fn a_variable_is_taken_once_and_seen_no_more() {
        let output = Command::new(std::env::current_exe().expect("ourselves"))
            .args(["--exact", "warden::secrets::environment::tests::child", "--ignored"])
            .env("SLUICE_TEST_ENV", "env-canary-1")
            .output()
            .expect("the child runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
