//! The `wasmpod` program: hands its arguments to `cli`, prints an error as one line, and turns the
//! outcome into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    wasmpod::cli::main()
}
