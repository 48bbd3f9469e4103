//! The binary `sluice`: argv in, exit code out. Everything else is in the library.

/// glibc's goes through all its small free chunks whenever more than a KiB is asked for, which each request does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sluice::cli::main(std::env::args_os())
}
