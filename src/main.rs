//! The leafboot binary.
//!
//! Must never: contain anything else. `command` has the code.

use std::process::ExitCode;

fn main() -> ExitCode {
    leafboot::main()
}
