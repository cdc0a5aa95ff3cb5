//! The leaf's control server: the computer runs commands in the guest through it.
//!
//! It listens on the management link only, and does not judge the commands. One request and one reply per connection,
//! each a line of JSON.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::site;

/// A request of the computer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Runs a command to its end.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Its standard input.
        stdin: String,
    },
    /// Starts a command and lets it run.
    Start {
        /// The program and its arguments.
        argv: Vec<String>,
        /// The file that its output is appended to.
        log: PathBuf,
    },
    /// Kills a process as `kill -9` does.
    Kill {
        /// Its process id.
        pid: i32,
    },
}

/// The leaf's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The command ended.
    Ran {
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// The command runs.
    Started {
        /// Its process id.
        pid: i32,
    },
    /// The process was killed.
    Killed,
    /// The request failed.
    Failed {
        /// The reason.
        reason: String,
    },
}

/// Serves until the guest ends.
pub fn run() -> Result<(), Error> {
    let address = SocketAddr::from((site::MANAGEMENT_LEAF, site::CONTROL_PORT));
    let start = |source| Error::Start { program: format!("the control server on {address}"), source };
    let listener = TcpListener::bind(address).map_err(start)?;
    for stream in listener.incoming() {
        let stream = stream.map_err(start)?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("control: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let reply = serde_json::from_str(&line)
        .map_err(io::Error::from)
        .and_then(answer)
        .unwrap_or_else(|error| Reply::Failed { reason: error.to_string() });
    let reply = serde_json::to_string(&reply)?;
    stream.write_all(format!("{reply}\n").as_bytes())
}

fn answer(request: Request) -> io::Result<Reply> {
    match request {
        Request::Run { argv, stdin } => run_to_end(&argv, &stdin),
        Request::Start { argv, log } => start(&argv, &log),
        Request::Kill { pid } => {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            Ok(Reply::Killed)
        }
    }
}

fn command(argv: &[String]) -> io::Result<Command> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn run_to_end(argv: &[String], stdin: &str) -> io::Result<Reply> {
    let mut child =
        command(argv)?.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(stdin.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok(Reply::Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn start(argv: &[String], log: &Path) -> io::Result<Reply> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut child =
        command(argv)?.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()?;
    let pid = child.id() as i32;
    std::thread::spawn(move || {
        let ended = child.wait();
        writeln!(&log, "lab: process {pid} ended: {ended:?}")
    });
    Ok(Reply::Started { pid })
}
