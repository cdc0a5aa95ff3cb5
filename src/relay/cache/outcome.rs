//! The outcome of a request to the partition cache, and the channel that passes it to all machines that wait for it.
//!
//! Must never: present a failure as a response of the partition cache.

use leafboot_core::attempt::UpstreamProblem;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::sync::watch;

use super::entry::Entry;
use crate::relay::upstream::UpstreamError;

/// The outcome of a request to the partition cache.
#[derive(Debug, Clone)]
pub enum FetchOutcome {
    /// An entry that all machines read.
    Shared(Arc<Entry>),
    /// The image can never fit into memory: each machine gets an unshared transfer.
    TooLarge,
    /// There is no memory for the image now: each machine gets an unshared transfer.
    NoMemory,
    /// A response that is no image (status, headers): each machine gets this response.
    NoImage(Arc<(StatusCode, HeaderMap)>),
    /// No response, and why.
    Failed(Arc<str>),
    /// A response that cannot be used, and why.
    Unusable(Arc<str>),
}

impl FetchOutcome {
    /// The outcome of a request that failed.
    pub fn failed(error: &UpstreamError) -> Self {
        let reason = error.to_string().into();
        if error.problem() == UpstreamProblem::Unusable {
            Self::Unusable(reason)
        } else {
            Self::Failed(reason)
        }
    }
}

/// Sends the outcome of one request; none until it is known.
pub type ResultSender = watch::Sender<Option<FetchOutcome>>;
/// Receives the outcome of one request.
pub type ResultReceiver = watch::Receiver<Option<FetchOutcome>>;
