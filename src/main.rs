//! The leafboot binary.
//!
//! Must never: hold anything: `command` has it all.

use std::process::ExitCode;

fn main() -> ExitCode {
    leafboot::main()
}
