//! SIGHUP: reads and checks the settings file, and logs which settings a restart would change.
//!
//! Must never: change the settings of a running agent. A mixture of new and old settings fits no leaf.

use tokio::signal::unix::Signal;
use tracing::{info, warn};

use leafboot_core::settings::Settings;

/// Logs the result of each SIGHUP until the process ends. `read` reads the settings file, and returns what is wrong with it
/// as text.
pub async fn run(running: &Settings, mut hangup: Signal, read: impl Fn() -> Result<Settings, String>) {
    while hangup.recv().await.is_some() {
        match read().map(|settings| running.differences(&settings)) {
            Ok(keys) if keys.is_empty() => {
                info!("SIGHUP: the settings file is valid and has the settings in use")
            }
            Ok(keys) => {
                let keys = keys.join(", ");
                warn!(keys, "SIGHUP: the settings file is valid; restart to apply the changed settings");
            }
            Err(error) => {
                warn!(
                    error,
                    "SIGHUP: the settings file is invalid; a restart would fail; the settings in use stay"
                );
            }
        }
    }
}
