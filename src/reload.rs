//! What SIGHUP does: the settings are read and checked, and it is said what of them a restart would change.
//!
//! Must never: change a running agent's settings: half of them new and half of them old fit no leaf.

use tokio::signal::unix::Signal;
use tracing::{info, warn};

use leafboot_core::settings::Settings;

/// Answers each SIGHUP in the log, until the process ends. `read` gives the settings as their file has them now, or what is
/// wrong with it.
pub async fn run(running: &Settings, mut hangup: Signal, read: impl Fn() -> Result<Settings, String>) {
    while hangup.recv().await.is_some() {
        match read().map(|config| running.differences(&config)) {
            Ok(keys) if keys.is_empty() => info!("SIGHUP: the settings are valid and say what is in force"),
            Ok(keys) => {
                let keys = keys.join(", ");
                warn!(keys, "SIGHUP: the settings are valid; what has changed is in force after a restart");
            }
            Err(error) => {
                warn!(error, "SIGHUP: a restart would fail with these settings; those in force stay");
            }
        }
    }
}
