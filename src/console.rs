//! The commands that ask a running agent: `status`, `timeline`, `boot` and `release`. They join the API's client with the
//! screens.
//!
//! Must never: touch SONiC, the kernel or the agent's files. They do what the API does.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use thiserror::Error;

use crate::client::{Client, ClientError, port_path};
use crate::screens::answers::Port;
use crate::screens::layout::{self, Style};
use leafboot_core::printable::Printable;

pub mod push;
pub mod status;
pub mod timeline;

/// Between two looks of `--watch` and `--follow`.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Moves the cursor to the first column of the first line, and erases what is below (ECMA-48 8.3.21, 8.3.39).
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// Why a command has failed.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The agent cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The agent refuses what was asked about one port.
    #[error("{port}: {source}")]
    Port {
        /// The port as it was named.
        port: String,
        /// Why.
        source: ClientError,
    },
    /// There is nothing to show or to push.
    #[error("{0}")]
    Nothing(String),
    /// Standard output is closed or full.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl ConsoleError {
    /// Whether the next try would fail as well.
    fn is_final(&self) -> bool {
        match self {
            Self::Client(ClientError::Refused { .. }) | Self::Port { .. } | Self::Output(_) => true,
            Self::Client(_) | Self::Nothing(_) => false,
        }
    }

    /// Whether standard output is a pipe whose reader has closed it.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What came of a command, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is well.
    Well,
    /// The command was carried out, and a port waits or has a fault.
    NotYet,
    /// A port's entry is rejected.
    Rejected,
}

/// Standard output, as a screen.
struct Screen {
    style: Style,
    is_terminal: bool,
}

impl Screen {
    fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let variable = |name| std::env::var(name).ok();
        let style = Style::of(is_terminal, variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
        Self { style, is_terminal }
    }

    /// Prints a text.
    fn print(text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Shows a text in the place of the one before, as far as the terminal has room. Elsewhere texts follow each other.
    fn redraw(&self, text: &str) -> io::Result<()> {
        if !self.is_terminal {
            return Self::print(text);
        }
        let rows = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        // The cursor stands in the line below the text.
        Self::print(&format!("{REDRAW}{}", layout::cut(text, rows.saturating_sub(1))))
    }
}

/// One port, by its name or its alias.
async fn named_port(client: &mut Client, name: &str) -> Result<Port, ConsoleError> {
    client.read(&port_path(name)).await.map_err(of_port(name))
}

/// Names the port in an error that is about it.
fn of_port(name: &str) -> impl Fn(ClientError) -> ConsoleError {
    move |error| {
        if matches!(error, ClientError::Refused { .. }) {
            ConsoleError::Port { port: Printable(name).to_string(), source: error }
        } else {
            error.into()
        }
    }
}
