//! `cargo xtask test`: every test of the workspace, and one plain closing line that sums them.
//!
//! Plain `cargo test`, not nextest: one way that works on a fresh machine. The unit tests run in parallel; the end to
//! end tests run one after another, since they load the machine and measure times.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{setup, sh};

mod guest;

/// What the test binaries said, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Sum {
    /// Adds a `test result: …` line of libtest; any other line adds nothing, and gives `false`.
    fn add_line(&mut self, line: &str) -> bool {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return false;
        };
        for part in counts.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
        true
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// `test [--guest] [FILTER]`: with a filter, only tests whose names contain it; `--guest`: only on Debian's own kernel.
pub fn run(arguments: &[String]) -> Result<()> {
    let (only_guest, arguments) = match arguments {
        [word, rest @ ..] if word == "--guest" => (true, rest),
        all => (false, all),
    };
    setup::require_root()?;
    setup::install(setup::Task::Test)?;
    // Everything is built before the first test runs, so that a mistake in a late package shows early.
    let units =
        ["test", "--package", "sluice", "--package", "agent-ebpf", "--package", "xtask", "--no-fail-fast"];
    let stories = ["test", "--package", "sluice-tests", "--no-fail-fast"];
    sh::run(&mut sh::cargo(&["build", "--package", "sluice", "--bin", "sluice"]))?;
    if !only_guest {
        sh::run(sh::cargo(&units).arg("--no-run"))?;
        sh::run(sh::cargo(&stories).arg("--no-run"))?;
    }
    let guest = guest::Guests::build()?;

    let mut sum = Sum::default();
    let mut troubles = Vec::new();
    let (mut units, mut stories) = (sh::cargo(&units), sh::cargo(&stories));
    let commands =
        [units.arg("--").args(arguments), stories.args(["--", "--test-threads=1"]).args(arguments)];
    for command in commands.into_iter().filter(|_| !only_guest) {
        let before = sum.failed;
        if let Err(error) = add_up(command, &mut sum) {
            // A binary that was killed prints no result: it must not count as nothing.
            if sum.failed == before {
                sum.failed += 1;
                troubles.push(format!("{error:#} (a test program ended without its result)"));
            }
        }
    }
    for (said, missing) in guest.run(arguments) {
        sum.add(said);
        troubles.extend(missing);
    }
    conclude(sum, &troubles)
}

/// Runs one `cargo test`, passes its output on as it comes, and adds up its results.
fn add_up(command: &mut Command, sum: &mut Sum) -> Result<()> {
    let line = sh::describe(command);
    eprintln!("+ {line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| line.clone())?;
    let stdout = child.stdout.take().context("the child has no standard output")?;
    let mut shown = std::io::stdout().lock();
    for text in BufReader::new(stdout).split(b'\n') {
        let text = text.with_context(|| line.clone())?;
        shown.write_all(&text)?;
        shown.write_all(b"\n")?;
        sum.add_line(&String::from_utf8_lossy(&text));
    }
    let status = child.wait().with_context(|| line.clone())?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

fn conclude(sum: Sum, troubles: &[String]) -> Result<()> {
    if sum.ignored > 0 {
        println!("{} ignored", sum.ignored);
    }
    for trouble in troubles {
        println!("{trouble}");
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed > 0 {
        bail!("{} failed", sum.failed);
    }
    if sum.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_other_lines_are_not() {
        let mut sum = Sum::default();
        sum.add_line("running 7 tests");
        sum.add_line(
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.2s",
        );
        sum.add_line("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        sum.add_line("a job printed: test result: ok. 100 passed; 0 failed");
        assert_eq!(sum, Sum { passed: 7, failed: 3, ignored: 1 });
    }

    #[test]
    fn nothing_run_and_anything_failed_are_errors() {
        assert!(conclude(Sum::default(), &[]).is_err());
        assert!(conclude(Sum { passed: 3, failed: 1, ignored: 0 }, &[]).is_err());
        assert!(conclude(Sum { passed: 3, failed: 0, ignored: 2 }, &[]).is_ok());
    }
}
