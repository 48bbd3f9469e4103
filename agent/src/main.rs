//! The binary `sluice`: argv in, exit code out. Everything else is in the library.

fn main() -> std::process::ExitCode {
    sluice::cli::main(std::env::args_os())
}
