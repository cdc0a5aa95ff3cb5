//! The leaf as the computer sees it: starts the guest, and runs commands in it.
//!
//! It decides nothing: the leaf follows the rows in its database, and leafboot.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::{Error, artifacts, network, until};
use crate::leaf::control::{Reply, Request};
use crate::site::{self, Port};

/// The longest that a command in the leaf may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The guest's first process after the set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// A program that only collects ended processes.
    Lab,
    /// Debian's systemd.
    Systemd,
}

/// The running guest.
#[derive(Debug)]
pub struct Leaf {
    guest: Process,
}

impl Leaf {
    /// Starts the guest; [`Leaf::ready`] waits for it.
    pub fn start(lab_binary: &Path, directory: &Path, init: Init) -> Result<Leaf, Error> {
        let ports = Port::ALL.map(network::leaf_tap);
        let front_panel = std::iter::once(network::UPLINK_TAP).chain(ports.iter().map(String::as_str));
        let mut argv = vec!["/usr/bin/env".to_owned()];
        argv.push(format!("LD_PRELOAD={}", artifacts::xstate(directory)?.display()));
        argv.extend(["/usr/bin/linux.uml", "mem=512M"].map(str::to_owned));
        argv.extend(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"].map(str::to_owned));
        argv.extend(["con=null", "con0=null,fd:1"].map(str::to_owned));
        argv.push(format!("uml_dir={}", directory.display()));
        argv.push(format!("vec0:transport=tap,ifname={},depth=64", network::MANAGEMENT_TAP));
        argv.extend(
            front_panel.enumerate().map(|(number, tap)| {
                format!("vec{}:transport=tap,ifname={tap},depth=64,mtu=9100", number + 1)
            }),
        );
        argv.push(format!("init={}", lab_binary.display()));
        argv.extend(["--", "leaf-init", "--run-directory"].map(str::to_owned));
        argv.push(directory.display().to_string());
        if init == Init::Systemd {
            argv.push("--systemd".to_owned());
        }
        // User-mode-linux has many processes: the kernel, and one for each process of the guest.
        Ok(Leaf { guest: Process::start_family("the leaf", &argv, &directory.join("leaf.log"))? })
    }

    /// Waits until the guest takes commands.
    pub fn ready(&mut self) -> Result<(), Error> {
        let address = SocketAddr::from((site::MANAGEMENT_LEAF, site::CONTROL_PORT));
        until("the leaf takes commands", Duration::from_secs(60), || {
            self.guest.check()?;
            Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok().map(drop))
        })?;
        self.run(&["true"]).map(drop)
    }

    fn ask(&self, request: &Request) -> Result<Reply, Error> {
        let stream = TcpStream::connect((site::MANAGEMENT_LEAF, site::CONTROL_PORT))?;
        stream.set_read_timeout(Some(COMMAND_LIMIT))?;
        let request = serde_json::to_string(request).map_err(std::io::Error::from)?;
        (&stream).write_all(format!("{request}\n").as_bytes())?;
        let mut reply = String::new();
        BufReader::new(&stream).read_line(&mut reply)?;
        match serde_json::from_str(&reply).map_err(std::io::Error::from)? {
            Reply::Failed { reason } => {
                Err(Error::Command { command: format!("in the leaf: {request}"), complaint: reason })
            }
            reply @ (Reply::Ran { .. } | Reply::Started { .. } | Reply::Killed) => Ok(reply),
        }
    }

    /// Runs a command in the leaf and returns what it printed; a failure is an error.
    pub fn run(&self, argv: &[&str]) -> Result<String, Error> {
        self.run_with(argv, "")
    }

    /// Like [`Self::run`], with this text on its standard input.
    pub fn run_with(&self, argv: &[&str], stdin: &str) -> Result<String, Error> {
        let failed = |complaint: String| Error::Command {
            command: format!("in the leaf: {}", argv.join(" ")),
            complaint,
        };
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        match self.ask(&Request::Run { argv, stdin: stdin.to_owned() })? {
            Reply::Ran { code: Some(0), stdout, .. } => Ok(stdout),
            Reply::Ran { code, stderr, .. } => Err(failed(format!("exit code {code:?}: {}", stderr.trim()))),
            other @ (Reply::Started { .. } | Reply::Killed | Reply::Failed { .. }) => {
                Err(failed(format!("the leaf answered {other:?}")))
            }
        }
    }

    /// Starts a command in the leaf and returns its process.
    pub fn start_program(&self, argv: &[&str], log: PathBuf) -> Result<i32, Error> {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        match self.ask(&Request::Start { argv, log })? {
            Reply::Started { pid } => Ok(pid),
            other @ (Reply::Ran { .. } | Reply::Killed | Reply::Failed { .. }) => {
                Err(Error::Wrong(format!("the leaf answered {other:?}")))
            }
        }
    }

    /// `kill -9`
    pub fn kill(&self, pid: i32) -> Result<(), Error> {
        self.ask(&Request::Kill { pid }).map(drop)
    }

    /// Asks leafboot's API; returns the status and the answer.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let url = format!("http://leafboot{path}");
        let mut argv = vec!["curl", "-sS", "--max-time", "30", "--unix-socket", site::API_SOCKET];
        argv.extend(["-X", method, "-w", "\n%{http_code}", &url]);
        if body.is_some() {
            argv.extend(["-H", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        let printed = self.run_with(&argv, &body.map(Value::to_string).unwrap_or_default())?;
        let answer = printed.rsplit_once('\n').and_then(|(body, status)| {
            Some((status.parse().ok()?, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body))))
        });
        answer.ok_or_else(|| Error::Wrong(format!("{method} {path}: not an answer: {printed}")))
    }
}
