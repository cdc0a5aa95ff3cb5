//! The store's record of one path: the last request to the partition cache, its outcome, and which ports want it.
//!
//! Must never: call an outcome fresh that the partition cache did not confirm within `FRESH`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::outcome::{FetchOutcome, ResultReceiver};
use leafboot_core::names::PortName;

/// An outcome is used for this long after the request was sent: the machines of one rack start within it, and a changed
/// image is seen soon.
const FRESH: Duration = Duration::from_secs(2);
/// How long the outcome is used for an image that is too large to be shared: only memory depends on it.
const FRESH_TOO_LARGE: Duration = Duration::from_secs(60);

/// One path.
#[derive(Debug)]
pub struct Slot {
    /// The outcome of the last request.
    pub outcome: ResultReceiver,
    /// When that request was sent; none: the outcome is not fresh, whatever its age.
    pub requested: Option<Instant>,
    /// When a machine last asked for the path.
    pub last_asked: Instant,
    /// Which ports asked for it.
    pub demand: Demand,
}

/// Which ports asked for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// One port.
    Port(PortName),
    /// More than one.
    Several,
}

impl Demand {
    /// Adds a port.
    pub fn add(&mut self, port: &PortName) {
        if !matches!(self, Self::Port(first) if first == port) {
            *self = Self::Several;
        }
    }
}

impl Slot {
    /// Its entry, if it has one.
    pub fn entry(&self) -> Option<Arc<Entry>> {
        match self.outcome.borrow().as_ref() {
            Some(FetchOutcome::Shared(entry)) => Some(Arc::clone(entry)),
            _ => None,
        }
    }

    /// Whether its entry is being fetched.
    pub fn is_fetching(&self) -> bool {
        matches!(self.outcome.borrow().as_ref(), Some(FetchOutcome::Shared(entry)) if entry.is_fetching())
    }

    /// Whether its request and the transfer of its entry have ended.
    pub fn is_done(&self) -> bool {
        match self.outcome.borrow().as_ref() {
            Some(FetchOutcome::Shared(entry)) => !entry.is_fetching(),
            Some(_) => true,
            None => false,
        }
    }

    /// Whether nothing reads its entry or waits for its outcome.
    pub fn is_idle(&self) -> bool {
        match self.outcome.borrow().as_ref() {
            Some(FetchOutcome::Shared(entry)) => Arc::strong_count(entry) == 1,
            Some(_) => true,
            None => false,
        }
    }

    /// Its entry and the only port that wants it, if that port's machine could request the rest for itself.
    pub fn evictable(&self) -> Option<(&PortName, Arc<Entry>)> {
        match &self.demand {
            Demand::Port(port) => Some((port, self.entry().filter(|entry| entry.is_evictable())?)),
            Demand::Several => None,
        }
    }

    /// Whether machines that ask now get its outcome, without another request.
    pub fn is_fresh(&self, now: Instant) -> bool {
        let Some(requested) = self.requested else {
            return false;
        };
        let age = now.saturating_duration_since(requested);
        match self.outcome.borrow().as_ref() {
            None => self.outcome.has_changed().is_ok(),
            Some(FetchOutcome::Shared(entry)) => {
                // Without a validator the partition cache cannot be asked for changes, but one transfer is one version.
                let is_fresh = age < FRESH || (entry.is_fetching() && entry.version.precondition().is_none());
                is_fresh && entry.is_joinable()
            }
            Some(FetchOutcome::TooLarge) => age < FRESH_TOO_LARGE,
            Some(FetchOutcome::NoMemory) => age < FRESH,
            Some(FetchOutcome::NoImage(_) | FetchOutcome::Failed(_) | FetchOutcome::Unusable(_)) => false,
        }
    }
}
