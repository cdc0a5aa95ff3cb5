//! The text of a file that keeps one port's attempts over a restart of leafboot.
//!
//! Must never: take an attempt of before the leaf's restart for one that goes on.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::history::PortHistory;
use super::{AttemptEnd, Moment};
use crate::names::PortName;

/// The file's version. An older leafboot does not read a newer file: attempts are no more than a help.
const VERSION: u32 = 1;

/// One port's attempts, as the file has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAttempts {
    version: u32,
    /// The kernel's `random/boot_id`: another one means that the leaf was restarted, and its clock began anew.
    boot_id: String,
    port: PortName,
    history: PortHistory,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum KeptAttemptsError {
    /// It is not what leafboot writes.
    #[error("not a file of boot attempts: {0}")]
    Json(#[from] serde_json::Error),
    /// Another leafboot has written it.
    #[error("it has version {0}, and this leafboot reads version {VERSION}")]
    Version(u32),
}

impl KeptAttempts {
    /// The file's content for the attempts on `port`.
    pub fn to_json(boot_id: &str, port: &PortName, history: PortHistory) -> String {
        let kept = Self { version: VERSION, boot_id: boot_id.to_owned(), port: port.clone(), history };
        // It has text keys only, so it can always be written.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// The port and its attempts in a file's content. Those of before the leaf's restart have ended. `boot_id`: the kernel's
    /// now.
    pub fn from_json(text: &str, boot_id: &str) -> Result<(PortName, PortHistory), KeptAttemptsError> {
        let mut kept: Self = serde_json::from_str(text)?;
        if kept.version != VERSION {
            return Err(KeptAttemptsError::Version(kept.version));
        }
        if kept.boot_id != boot_id {
            kept.history.end(AttemptEnd::LeafRestarted, Moment(0));
        }
        Ok((kept.port, kept.history))
    }
}
