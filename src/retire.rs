//! `leafboot retire`: removes the boot VRF, the boot ACL and the loopback of the anycast address from a leaf, and waits until
//! SONiC has removed them, too.
//!
//! Must never: remove them while a port uses them, or change a port.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::db::{Db, DbError};
use leafboot_core::names::VrfName;
use leafboot_core::observed::Observed;
use leafboot_core::plan::Retirement;
use leafboot_core::refused_writes::RefusedWrite;
use leafboot_core::rows::RowKey;
use leafboot_core::settings::Settings;

/// The longest time between two reads of the databases. SONiC's daemons retry after a second, and an event of a row ends the
/// wait earlier.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The pause after a deletion. caclmgrd gathers events for half a second and then reads the rows (sonic-host-services
/// c2a4cdfe, `scripts/caclmgrd: run`). The next rows must not be deleted in that time.
const CACLMGRD_PAUSE: Duration = Duration::from_secs(2);

/// If a daemon still has something so long after its row was deleted, the deletion is announced again.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(5);

/// Why `leafboot retire` has failed.
#[derive(Debug, Error)]
pub enum RetireError {
    /// The databases cannot be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// CONFIG_DB is being loaded.
    #[error("CONFIG_DB is not loaded: CONFIG_DB_INITIALIZED is not 1")]
    NotLoaded,
    /// Ports still use the boot VRF or the boot ACL.
    #[error("{vrf} or its ACL still has {ports}: push a document without them and wait for released")]
    InUse {
        /// The boot VRF.
        vrf: VrfName,
        /// The ports, in one text.
        ports: String,
    },
    /// Redis refuses to delete a row.
    #[error("Redis refuses to delete {key}: {reason}")]
    Refused {
        /// The row.
        key: RowKey,
        /// Redis' error.
        reason: String,
    },
    /// SONiC has not removed everything in time.
    #[error("after {wait:?} SONiC still has {left}: wait longer, or look for something unmanaged in the VRF")]
    Late {
        /// What is left, in one text.
        left: String,
        /// How long leafboot has waited.
        wait: Duration,
    },
}

/// Removes what `settings` names, unless it is unmanaged. Returns when STATE_DB shows nothing of it.
pub async fn run(settings: &Settings, wait: Duration) -> Result<(), RetireError> {
    let vrf = &settings.boot.vrf;
    let mut left = format!("{vrf} and its ACL");
    let removed = timeout(wait, remove(settings, vrf, &mut left)).await;
    removed.unwrap_or(Err(RetireError::Late { left, wait }))
}

/// Removes what `settings` names, without a time limit. It sets `left` to what SONiC still has.
async fn remove(settings: &Settings, vrf: &VrfName, left: &mut String) -> Result<(), RetireError> {
    let mut db = Db::connect(&settings.database_config).await?;
    let mut announced = Instant::now();
    loop {
        let observed = Observed::new(&db.snapshot().await?, settings);
        if !observed.initialized {
            return Err(RetireError::NotLoaded);
        }
        match Retirement::new(&observed, settings) {
            Retirement::InUse(ports) => {
                let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(RetireError::InUse { vrf: vrf.clone(), ports });
            }
            Retirement::Delete(steps) => {
                if let Some(RefusedWrite { key, reason }) = db.apply(&steps).await?.into_iter().next() {
                    return Err(RetireError::Refused { key, reason });
                }
                sleep(CACLMGRD_PAUSE).await;
            }
            Retirement::Removing { remaining, announce } => {
                *left = remaining.join(", ");
                if announced.elapsed() >= ANNOUNCE_AFTER {
                    announced = Instant::now();
                    db.apply(&announce).await?;
                }
                // Read again after a change or after the time.
                let _ = timeout(READ_AGAIN, db.changed()).await;
                // Wait for the rest of a burst of changes.
                sleep(Duration::from_millis(10)).await;
            }
            Retirement::Gone => return Ok(()),
        }
    }
}
