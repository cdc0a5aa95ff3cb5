//! What `leafboot check` can only see on the leaf: whether the protected names are ports of it.
//!
//! Must never: fail because the leaf's databases are away: settings are checked on other computers, too, and before SONiC
//! has started.

use std::time::Duration;

use tokio::time::timeout;

use crate::db;
use leafboot_core::desired;
use leafboot_core::observed;
use leafboot_core::settings::Settings;

/// The agent's start waits for it.
const WAIT: Duration = Duration::from_secs(5);

/// What is to be said of `boot.protected`, a sentence each.
pub async fn protected(config: &Settings) -> Vec<String> {
    if config.boot.protected.is_empty() {
        return Vec::new();
    }
    let reason = match timeout(WAIT, db::ports(&config.database_config)).await {
        Ok(Ok(Some(rows))) => {
            let ports = observed::port_rows(&rows);
            let protected = config.boot.protected.iter();
            let unknown = protected.filter(|name| desired::resolve(name, &ports).is_none());
            return unknown
                .map(|name| format!("boot.protected protects nothing: {}", desired::unknown(name, &ports)))
                .collect();
        }
        Ok(Ok(None)) => "CONFIG_DB is not loaded".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("SONiC's databases do not answer within {WAIT:?}"),
    };
    vec![format!("whether boot.protected names ports of this leaf was not looked at: {reason}")]
}
