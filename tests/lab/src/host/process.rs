//! Programs on the computer: run to their end, or kept running for as long as the laboratory lives.
//!
//! A kept program never outlives the thread that started it, however that ends: the kernel kills it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::Error;

/// Runs a command to its end and returns what it printed; a failure is an error.
pub fn run(argv: &[&str]) -> Result<String, Error> {
    let output = output(argv)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let complaint = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        Err(Error::Command { command: argv.join(" "), complaint })
    }
}

/// Runs a command to its end and returns its output and its exit code.
pub fn output(argv: &[&str]) -> Result<Output, Error> {
    let failed = |complaint: String| Error::Command { command: argv.join(" "), complaint };
    let (program, arguments) = argv.split_first().ok_or_else(|| failed("no program is named".to_owned()))?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("cannot be started: {error}")))
}

/// A program that runs in the background until this value is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program whose output goes to a log.
    pub fn start(name: &str, argv: &[String], log: &Path) -> Result<Process, Error> {
        Process::spawn(name, Command::new("/usr/bin/setpriv").args(["--pdeathsig", "KILL"]).args(argv), log)
    }

    /// Starts a program that has children of its own: they die with it, for it is the first process of a PID namespace.
    pub fn start_family(name: &str, argv: &[String], log: &Path) -> Result<Process, Error> {
        let family = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child=KILL"];
        let argv: Vec<String> =
            family.iter().map(|word| (*word).to_owned()).chain(argv.iter().cloned()).collect();
        Process::start(name, &argv, log)
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Process, Error> {
        let output = File::create(log).map_err(Error::file(log))?;
        let errors = output.try_clone().map_err(Error::file(log))?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(|error| {
            Error::Command { command: name.to_owned(), complaint: format!("cannot be started: {error}") }
        })?;
        Ok(Process { name: name.to_owned(), child })
    }

    /// An error if the program has ended: it should run until it is dropped.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Wrong(format!("{} ended: {status}", self.name))),
            Err(error) => Err(Error::Control(error)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and a destructor cannot return an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
