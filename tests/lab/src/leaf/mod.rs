//! The programs that run inside the leaf's guest.
//!
//! [`init`] is its PID 1; it starts redis-server, the SONiC model, [`routes`] and [`control`], each a process of its
//! own. None of them knows leafboot: that is started through [`control`] like any other program, or is a service of
//! [`systemd`].

pub mod control;
pub mod init;
pub mod routes;
pub mod systemd;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Errors in the guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount was refused.
    #[error("cannot mount {what}: {source}")]
    Mount {
        /// What should have been mounted.
        what: PathBuf,
        /// The reason.
        source: nix::Error,
    },
    /// A kernel module was refused.
    #[error("cannot load {module}: {source}")]
    Module {
        /// Its file.
        module: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which one.
        program: String,
        /// The reason.
        source: io::Error,
    },
    /// A program failed.
    #[error("{command}: {status}")]
    Failed {
        /// The whole command.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A program was not ready in time, or has ended.
    #[error("{0}")]
    Late(String),
}

/// Runs `ip` with these words, which are separated by spaces.
fn ip(words: &str) -> Result<(), Error> {
    let status = Command::new("/sbin/ip")
        .args(words.split(' '))
        .status()
        .map_err(|source| Error::Start { program: "ip".to_owned(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: format!("ip {words}"), status }) }
}

fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), Error> {
    let path = path.as_ref();
    std::fs::write(path, content).map_err(|source| Error::File { path: path.to_owned(), source })
}
