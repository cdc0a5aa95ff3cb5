//! Errors of the laboratory, each with the command or the file that caused it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every way in which the computer's side fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that a package installs, or a build makes, is not there.
    #[error("{what} is missing. Try: {command}")]
    Missing {
        /// What is missing.
        what: String,
        /// The command that installs or builds it.
        command: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A command did not succeed.
    #[error("{command}: {complaint}")]
    Command {
        /// The whole command.
        command: String,
        /// Its error output.
        complaint: String,
    },
    /// The network namespace was refused.
    #[error("cannot make a network namespace (the laboratory needs root): {0}")]
    Namespace(nix::Error),
    /// The leaf's control server cannot be reached, or gives an invalid answer.
    #[error("the leaf's control server: {0}")]
    Control(#[from] io::Error),
    /// A fact did not become true in time.
    #[error("not after {} s: {what}", after.as_secs())]
    Late {
        /// The fact.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// Something is true that must not be.
    #[error("{0}")]
    Wrong(String),
    /// A failure, and the directory of the laboratory's logs.
    #[error("{source}\n\nThe logs are in {directory}\n{tails}")]
    InLab {
        /// The failure.
        source: Box<Error>,
        /// The laboratory's directory.
        directory: PathBuf,
        /// The last lines of each log.
        tails: String,
    },
}

impl Error {
    /// For `map_err`: a failure with this file.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::File { path: path.to_owned(), source }
    }
}
