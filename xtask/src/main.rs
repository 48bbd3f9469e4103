//! Developer tasks: `cargo xtask help`. Each task is one file; this one only chooses.

mod bench;
mod ci;
mod demo;
mod dist;
mod ebpf;
mod lex;
mod order;
mod pages;
mod profile;
mod setup;
mod sh;
mod size;
mod test;
mod vm;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK [ARGUMENTS]

  setup [TASK]      install the Debian packages that a task needs (default: all tasks)
  demo              the main job from end to end, then everything removed again
  test [--guest] [FILTER]
                    set up, build, run every test; the last line is `N passed, N failed`;
                    --guest: only those on Debian's kernel in QEMU
  ci [STEP]...      everything a change must pass: fmt order size pages ring clippy doc deny ebpf test
  ebpf [--check]    build the kernel object; with --check fail if the committed one differs
  bench             direct against through Sluice, in one run; writes JSON
  profile           count anew by what release builds are laid out, and pack it (agent/release.profdata.xz)
  vm ... -- COMMAND run a command on Debian's kernel in QEMU, with BPF LSM; vm test TARGET for a test target
  dist              release build and the .deb, in target/dist
  help              this text

setup, demo, test, bench, profile and dist install what is missing; that and the kernel tests need root.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = arguments.collect();
    let done = match task.as_str() {
        "setup" => setup::run(&rest),
        "demo" => demo::run(&rest),
        "test" => test::run(&rest),
        "ci" => ci::run(&rest),
        "bench" => bench::run(&rest),
        "dist" => dist::run(&rest),
        "profile" => profile::run(&rest),
        "vm" => vm::run(&rest),
        "ebpf" if rest.iter().any(|argument| argument == "--check") => ebpf::check(),
        "ebpf" => ebpf::build(),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: {other}: no such task\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
