//! Writes each accepted document into the state file, and tries again after a failure.
//!
//! Must never: delay a document, or log the same error twice. Ports enter and leave boot also while the disk is full or
//! read-only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::state_file::StateFile;
use leafboot_core::desired::Desired;

/// The pause before the second attempt to write. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// The state file, and whether it has the last document.
pub struct Keeper {
    store: StateFile,
    /// Why the file does not have the last document.
    error: watch::Sender<Option<String>>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// A keeper that writes into `store`. Before the first document there is nothing to write.
    pub fn new(store: StateFile, metrics: Arc<Metrics>) -> Self {
        metrics.state_saved(true);
        Self { store, error: watch::Sender::new(None), metrics }
    }

    /// Writes a document. If that fails, [`Keeper::run`] tries again.
    pub fn keep(&self, desired: &Desired) {
        let error = self.store.keep(desired).err().map(|error| error.to_string());
        let before = self.error.send_replace(error.clone());
        self.metrics.state_saved(error.is_none());
        match error {
            Some(error) if before.as_ref() != Some(&error) => {
                warn!(error, "state file: cannot be written; trying again");
            }
            None if before.is_some() => {
                info!(generation = desired.generation, "state file: the document is saved")
            }
            _ => {}
        }
    }

    /// Why the file does not have the last document. A restart now would restore an earlier one, or none.
    pub fn error(&self) -> Option<String> {
        self.error.borrow().clone()
    }

    /// Tries again while the file does not have the last document, until the process ends.
    pub async fn run(&self, desired: watch::Receiver<Option<Desired>>) -> Infallible {
        let mut error = self.error.subscribe();
        let mut pause = FIRST_PAUSE;
        loop {
            // The sender lives as long as `self`, so this cannot fail.
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
