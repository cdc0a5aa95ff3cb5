//! Why an upstream gave no answer.
//!
//! Must never: contain a header, a query or a body: they may hold secrets, and machines and the log see errors.

use std::io;
use std::time::Duration;

use leafboot_core::attempt::UpstreamProblem;
use thiserror::Error;

/// Why no origin gave an answer.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection, or a connection that took no request. Nothing was sent.
    #[error("{origin} cannot be reached: {reason}")]
    Connect {
        /// The origin that was tried last.
        origin: String,
        /// The error of the kernel, the resolver or TLS.
        reason: io::Error,
    },
    /// The answer, or the rest of it, did not come in time.
    #[error("{origin} did not answer within {:.1} s", .after.as_secs_f32())]
    Late {
        /// The origin.
        origin: String,
        /// How long the relay waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("{origin} broke off: {reason}")]
    Broken {
        /// The origin.
        origin: String,
        /// The error with its causes.
        reason: String,
    },
    /// The answer cannot be used; the next one would most likely be the same.
    #[error("{origin} gave an answer that cannot be used: {reason}")]
    Unusable {
        /// The origin.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine did not send all of its request. Says nothing of the origin.
    #[error("the machine's request broke off: {reason}")]
    Request {
        /// The error.
        reason: String,
    },
    /// The answer is longer than the caller accepts.
    #[error("the answer of {origin} is longer than {most} bytes")]
    TooLong {
        /// The origin.
        origin: String,
        /// The longest accepted answer in bytes.
        most: usize,
    },
    /// The deadline was over before an origin could be asked.
    #[error("there was no time left to ask")]
    NoTime,
}

impl UpstreamError {
    /// The kind of problem, as an attempt records it.
    pub fn problem(&self) -> UpstreamProblem {
        match self {
            Self::Connect { .. } => UpstreamProblem::Unreachable,
            Self::Late { .. } | Self::NoTime => UpstreamProblem::Silent,
            Self::Broken { .. } | Self::Request { .. } => UpstreamProblem::BrokeOff,
            Self::Unusable { .. } | Self::TooLong { .. } => UpstreamProblem::Unusable,
        }
    }
}

/// An error with its causes: hyper's own messages do not have them.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
