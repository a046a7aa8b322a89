//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rebilld::cli::main()
}
