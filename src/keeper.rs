//! Keeps each document that is taken, and tries again where that fails.
//!
//! Must never: hold up a document, for a full or read-only disk keeps no port from being taken or released; or say the same
//! trouble twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::state_file::Store;
use leafboot_core::desired::Desired;

/// Between attempts to keep a document: at first, and at most after doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What keeps the documents.
pub struct Keeper {
    store: Store,
    /// Why the last document is not kept.
    error: watch::Sender<Option<String>>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// One that keeps in `store`. Before the first document nothing is to be kept.
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        metrics.state_saved(true);
        Self { store, error: watch::Sender::new(None), metrics }
    }

    /// Keeps a document; where that fails, [`Keeper::run`] goes on trying.
    pub fn keep(&self, desired: &Desired) {
        let error = self.store.keep(desired).err().map(|error| error.to_string());
        let before = self.error.send_replace(error.clone());
        self.metrics.state_saved(error.is_none());
        match error {
            Some(error) if before.as_ref() != Some(&error) => {
                warn!(error, "the document is taken and cannot be kept; trying again");
            }
            None if before.is_some() => info!(generation = desired.generation, "the document is kept"),
            _ => {}
        }
    }

    /// Why the last document is not kept: a restart now would remember an earlier one, or none.
    pub fn error(&self) -> Option<String> {
        self.error.borrow().clone()
    }

    /// Tries again, for as long as the last document is not kept, until the process ends.
    pub async fn run(&self, desired: watch::Receiver<Option<Desired>>) -> Infallible {
        let mut error = self.error.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            // Its sender lives as long as this.
            let _ = error.wait_for(Option::is_some).await;
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            let latest = desired.borrow().clone();
            latest.iter().for_each(|latest| self.keep(latest));
            if self.error.borrow().is_none() {
                pause = FIRST_PAUSE;
            }
        }
    }
}
