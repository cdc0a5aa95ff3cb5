//! What the integration tests share: a real redis-server with SONiC's tables, the real binary, real HTTP clients.
#![allow(dead_code, reason = "every test file uses its part")]

pub mod advertiser;
pub mod agent;
pub mod cable;
pub mod download;
pub mod flood;
pub mod front;
pub mod namespace;
pub mod origin;
pub mod panel;
pub mod port;
pub mod ports;
pub mod scripted;
pub mod solicitor;
pub mod switch;
pub mod systemd;
pub mod wire;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Runs a program to its end; a missing one fails with the command that installs it.
pub fn output(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|e| panic!("{program}: {e}; install what is missing with tests/lab/setup"))
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until `fact` is there; fails, naming it, when it is not after 10 s.
pub fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fact() {
        assert!(Instant::now() < deadline, "not after 10 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
