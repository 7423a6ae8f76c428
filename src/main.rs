//! Parses the command line, runs what it says, and ends with its exit code.

use std::process::ExitCode;

/// One heap per worker thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::cli::main()
}
