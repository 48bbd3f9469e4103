//! Developer tasks. Each does its own set-up on a fresh machine.

mod ebpf;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask ebpf            compile the kernel programs to agent-ebpf/sluice.bpf.o
cargo xtask ebpf --check    … and fail if a byte differs from what is committed";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ebpf"] => ebpf::build(),
        ["ebpf", "--check"] => ebpf::check(),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
