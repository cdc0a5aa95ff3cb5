//! The part of `leafboot check` that needs the leaf: it compares `boot.protected` with the leaf's ports.
//!
//! Must never: fail because CONFIG_DB cannot be read. Settings are also checked on other computers, and before SONiC starts.

use std::time::Duration;

use tokio::time::timeout;

use crate::db;
use leafboot_core::desired;
use leafboot_core::observed;
use leafboot_core::settings::Settings;

/// How long to wait for SONiC's databases. systemd runs the check before each start.
const WAIT: Duration = Duration::from_secs(5);

/// The names of `boot.protected` that no port of this leaf has, with a sentence for each. Error: why the leaf's ports are
/// unknown.
pub async fn protected(settings: &Settings) -> Result<Vec<String>, String> {
    if settings.boot.protected.is_empty() {
        return Ok(Vec::new());
    }
    let reason = match timeout(WAIT, db::ports(&settings.database_config)).await {
        Ok(Ok(Some(rows))) => {
            let ports = observed::port_rows(&rows);
            let protected = settings.boot.protected.iter();
            let unknown = protected.filter(|name| desired::resolve(name, &ports).is_none());
            let unknown = unknown.map(|name| desired::unknown_port_message(name, &ports));
            return Ok(unknown.map(|reason| format!("boot.protected protects nothing: {reason}")).collect());
        }
        Ok(Ok(None)) => "CONFIG_DB is not loaded".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("SONiC's databases do not answer within {WAIT:?}"),
    };
    Err(format!("boot.protected was not compared with this leaf's ports: {reason}"))
}
