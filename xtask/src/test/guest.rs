//! The tests that run on Debian's own kernel, 6.1, with BPF LSM on (`vm`), besides the machine's: the kernel part, the
//! LSM layer, which the machine's kernel may lack, and the escape suite, whose table says more there.
//!
//! The guests are emulated and share nothing, so they run at the same time. Each has one processor (see
//! [`vm::Options::processors`]): what only shows on several is looked for on the machine's own kernel.

use std::path::PathBuf;
use std::thread;

use anyhow::Result;

use super::Sum;
use crate::vm;

/// A target of `sluice-tests`.
#[derive(Debug)]
struct Target {
    name: &'static str,
    /// For its program. What is skipped asserts a time, which means nothing on an emulated processor.
    arguments: &'static [&'static str],
}

/// What each guest runs, in this order.
const GUESTS: [&[Target]; 2] = [
    &[
        Target {
            name: "kernel",
            arguments: &[
                "--skip",
                "five_hundred_cgroups_are_tagged_in_two_seconds",
                "--skip",
                "connect_of_a_tagged_process_takes_at_most_15_microseconds_more",
            ],
        },
        Target { name: "lsm", arguments: &[] },
        Target {
            name: "escapes",
            arguments: &["--nocapture", "--skip", "nothing_leaves_a_tag", "--skip", "the_program_knows"],
        },
    ],
    // One test for some minutes: its table says what it is at.
    &[Target { name: "escapes", arguments: &["--nocapture", "--skip", "ways_that_change_the_space"] }],
];

/// When a guest is given up: twice what it takes beside another build on two processors.
const MINUTES: u32 = 20;
/// The line before a target's own.
const BEGINS: &str = "sluice-vm: begins ";

/// The test programs, built.
#[derive(Debug)]
pub struct Guests(Vec<Vec<(&'static Target, PathBuf)>>);

impl Guests {
    /// Builds the test programs and fetches the kernel.
    pub fn build() -> Result<Self> {
        vm::prepare(None)?;
        let program = |target: &'static Target| Ok((target, vm::test_program(target.name)?));
        let one = |targets: &'static [Target]| targets.iter().map(program).collect::<Result<Vec<_>>>();
        GUESTS.into_iter().map(one).collect::<Result<Vec<_>>>().map(Self)
    }

    /// Runs them all with `arguments` besides their own. Gives what the programs of each guest said, and what is wrong
    /// with it beyond that; each of these is in the count of failures.
    pub fn run(&self, arguments: &[String]) -> Vec<(Sum, Vec<String>)> {
        thread::scope(|scope| {
            let guests: Vec<_> =
                self.0.iter().map(|programs| scope.spawn(|| boot(programs, arguments))).collect();
            guests.into_iter().map(|guest| guest.join().expect("a guest's thread does not panic")).collect()
        })
    }
}

/// One guest, from its boot to its end.
fn boot(programs: &[(&Target, PathBuf)], arguments: &[String]) -> (Sum, Vec<String>) {
    let options = vm::Options { minutes: MINUTES, ..vm::Options::default() };
    let command = ["/bin/sh".to_owned(), "-c".to_owned(), script(programs, arguments)];
    let mut heard = Heard::default();
    let ended = vm::guest(&options, &command, &mut |line| {
        println!("[6.1 {}] {line}", heard.hears(line));
    });
    heard.conclude(programs.iter().map(|(target, _)| target.name), ended)
}

/// Every program in its turn, whatever became of those before it.
fn script(programs: &[(&Target, PathBuf)], arguments: &[String]) -> String {
    let mut text = "failed=0\n".to_owned();
    for (target, program) in programs {
        let mut words = vec![program.display().to_string(), "--test-threads=1".to_owned()];
        words.extend(target.arguments.iter().map(|word| (*word).to_owned()));
        words.extend_from_slice(arguments);
        let words: Vec<String> = words.iter().map(|word| vm::quoted(word)).collect();
        text.push_str(&format!("echo '{BEGINS}{}'\n{} || failed=1\n", target.name, words.join(" ")));
    }
    text.push_str("exit $failed\n");
    text
}

/// What came out of one guest.
#[derive(Debug, Default)]
struct Heard {
    sum: Sum,
    /// The target whose program is at work, and its last line.
    now: String,
    last: String,
    /// Targets whose programs came to their results.
    over: Vec<String>,
}

impl Heard {
    /// Takes a line in; gives the target whose it is.
    fn hears(&mut self, line: &str) -> &str {
        if let Some(name) = line.strip_prefix(BEGINS) {
            self.now = name.to_owned();
        }
        if self.sum.add_line(line) {
            self.over.push(self.now.clone());
        }
        if !line.trim().is_empty() {
            line.clone_into(&mut self.last);
        }
        &self.now
    }

    /// A program that was killed prints no result, and neither does a guest that hangs: they must not count as nothing.
    fn conclude<'a>(
        mut self,
        targets: impl Iterator<Item = &'a str>,
        ended: Result<()>,
    ) -> (Sum, Vec<String>) {
        let missing: Vec<&str> = targets.filter(|name| !self.over.iter().any(|over| over == name)).collect();
        let mut troubles = Vec::new();
        for name in &missing {
            troubles.push(format!("{name} on Debian's kernel ended without its result"));
        }
        self.sum.failed += missing.len() as u64;
        if let Err(error) = ended
            && (self.sum.failed == 0 || !missing.is_empty())
        {
            self.sum.failed += u64::from(missing.is_empty());
            troubles.push(format!("Debian's kernel, {} at {:?}: {error:#}", self.now, self.last));
        }
        (self.sum, troubles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str], ended: Result<()>) -> (Sum, Vec<String>) {
        let mut heard = Heard::default();
        for line in lines {
            heard.hears(line);
        }
        heard.conclude(["one", "two"].into_iter(), ended)
    }

    const BOTH: [&str; 4] = [
        "sluice-vm: begins one",
        "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
        "sluice-vm: begins two",
        "test result: FAILED. 6 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
    ];

    #[test]
    fn results_of_all_targets_are_added_up() {
        let (sum, troubles) = heard(&BOTH, Err(anyhow::anyhow!("exit status 1")));
        assert_eq!(sum, Sum { passed: 11, failed: 2, ignored: 1 });
        assert!(troubles.is_empty(), "{troubles:?}");
    }

    #[test]
    fn a_target_without_its_result_has_failed() {
        let (sum, troubles) = heard(&BOTH[..3], Err(anyhow::anyhow!("did not end in 30 minutes")));
        assert_eq!(sum, Sum { passed: 5, failed: 1, ignored: 1 });
        assert!(troubles[0].starts_with("two on"), "{troubles:?}");
        assert!(troubles[1].contains("did not end"), "{troubles:?}");
        let (sum, troubles) = heard(&[], Err(anyhow::anyhow!("it does not boot")));
        assert_eq!((sum.failed, troubles.len()), (2, 3));
    }

    #[test]
    fn a_guest_that_ends_badly_has_failed_whatever_its_programs_said() {
        let (sum, troubles) = heard(&[BOTH[0], BOTH[1], BOTH[2], BOTH[1]], Err(anyhow::anyhow!("status 3")));
        assert_eq!((sum.passed, sum.failed, troubles.len()), (10, 1, 1));
    }

    #[test]
    fn programs_have_their_own_arguments_and_those_of_all() {
        let target = Target { name: "one", arguments: &["--skip", "slow"] };
        let text = script(&[(&target, PathBuf::from("/bin/it's"))], &["only".to_owned()]);
        assert!(
            text.contains(r"'/bin/it'\''s' '--test-threads=1' '--skip' 'slow' 'only' || failed=1"),
            "{text}"
        );
    }
}
