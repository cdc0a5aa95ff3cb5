//! What `leafboot check` can only see on the leaf: whether `boot.protected` names ports of it.
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

/// The names of `boot.protected` that no port of this leaf has, a sentence for each. Err: why the leaf's ports are not known.
pub async fn protected(config: &Settings) -> Result<Vec<String>, String> {
    if config.boot.protected.is_empty() {
        return Ok(Vec::new());
    }
    let reason = match timeout(WAIT, db::ports(&config.database_config)).await {
        Ok(Ok(Some(rows))) => {
            let ports = observed::port_rows(&rows);
            let protected = config.boot.protected.iter();
            let unknown = protected.filter(|name| desired::resolve(name, &ports).is_none());
            let unknown = unknown.map(|name| desired::unknown(name, &ports));
            return Ok(unknown.map(|reason| format!("boot.protected protects nothing: {reason}")).collect());
        }
        Ok(Ok(None)) => "CONFIG_DB is not loaded".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("SONiC's databases do not answer within {WAIT:?}"),
    };
    Err(format!("boot.protected was not compared with this leaf's ports: {reason}"))
}
