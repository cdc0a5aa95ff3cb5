//! The conditions of the API: `waiting`, `anycast`, `state_error` and `error`. Each has a reason and a message.
//!
//! The names of the reasons are part of the API: `docs/api.md` and `sonic/openapi.yaml` list them.
//!
//! Must never: have a reason that depends on data. Names and numbers go into the message.

use serde::Serialize;
use strum::{IntoStaticStr, VariantNames};

use crate::plan::Waiting;

/// Why leafboot or a port is not ready, or why a request is refused: `reason` for programs, `message` for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// One of [`Waiting::reasons`], of [`AgentReason`] or of [`RequestReason`].
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
    /// The number of the repair's attempt, from 1; none if there is no repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// The reasons of `waiting`, `error` and `state_error` beside those of [`Waiting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum AgentReason {
    /// The document was pushed, and the reconciler has made no pass for it yet.
    DocumentPending,
    /// The port's rows are being written into CONFIG_DB.
    RowsPending,
    /// SONiC's `database_config.json`, or a file that it names, cannot be used.
    DatabaseConfigUnusable,
    /// SONiC's databases cannot be reached or read.
    DatabaseUnreachable,
    /// Redis refuses to write a row.
    WriteRefused,
    /// The document could not be written into `state.directory`.
    StateNotSaved,
}

/// Why a request is refused. While the leaf's ports are unknown, requests that need them are refused with
/// `ConfigDbNotLoaded`, [`AgentReason::DatabaseConfigUnusable`] or [`AgentReason::DatabaseUnreachable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum RequestReason {
    /// 400: the body is not a port document.
    InvalidDocument,
    /// 400: the body ended before its length.
    IncompleteDocument,
    /// 400: the query has another parameter than `wait`, or a `wait` that cannot be used.
    InvalidQuery,
    /// 404: the API has no such path.
    UnknownPath,
    /// 404: the leaf has no such port.
    UnknownPort,
    /// 405: the path does not take the method. `Allow` says which ones it takes.
    MethodNotAllowed,
    /// 408: the body did not arrive in time.
    DocumentTimeout,
    /// 413: the body is too long.
    DocumentTooLarge,
    /// 413: the document has more entries than a leaf has ports.
    TooManyPorts,
    /// 413: an entry's name is longer than SONiC's.
    PortNameTooLong,
    /// 503: too many readers follow the events.
    TooManyReaders,
    /// 503: too many connections are open.
    TooManyConnections,
}

impl Condition {
    /// A condition with one of the agent's own reasons.
    pub fn new(reason: impl Into<&'static str>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), attempt: None }
    }
}

impl From<&Waiting> for Condition {
    fn from(waiting: &Waiting) -> Self {
        Self { reason: waiting.reason(), message: waiting.to_string(), attempt: waiting.attempt() }
    }
}

impl RequestReason {
    /// The status code of the answer.
    pub fn code(self) -> u16 {
        match self {
            Self::InvalidDocument | Self::IncompleteDocument | Self::InvalidQuery => 400,
            Self::UnknownPath | Self::UnknownPort => 404,
            Self::MethodNotAllowed => 405,
            Self::DocumentTimeout => 408,
            Self::DocumentTooLarge | Self::TooManyPorts | Self::PortNameTooLong => 413,
            Self::TooManyReaders | Self::TooManyConnections => 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_has_the_missing_facts_reason_and_its_attempt() {
        let fact = Box::new(Waiting::InterfaceBound);
        let repairing = Condition::from(&Waiting::Repairing { attempt: 2, fact });
        let json = serde_json::to_value(&repairing).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "reason": "InterfaceBound", "attempt": 2,
                "message": "repairing, attempt 2: intfmgrd has not bound it to the VRF (STATE_DB INTERFACE_TABLE)",
            })
        );
        let waiting = serde_json::to_value(Condition::from(&Waiting::PortReady)).unwrap();
        assert_eq!(waiting["reason"], "PortReady");
        assert!(waiting.get("attempt").is_none());
    }
}
