//! Removes the boot VRF, the boot ACL and the anycast address's loopback from a leaf, once, and waits until SONiC has let go of them.
//!
//! Must never: remove them under a port, or touch a port.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::db::{Db, DbError};
use leafboot_core::names::VrfName;
use leafboot_core::observed::Observed;
use leafboot_core::plan::Retirement;
use leafboot_core::refused_writes::Refused;
use leafboot_core::rows::RowKey;
use leafboot_core::settings::Settings;

/// SONiC's own daemons look again after a second; the subscription wakes us before that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// caclmgrd gathers events for half a second before it reads the rows that they are about (`scripts/caclmgrd: run`); what
/// it reads then must not be half gone.
const CACLMGRD: Duration = Duration::from_secs(2);

/// A daemon that has not let go after this time has not heard that a row is gone.
const UNHEARD: Duration = Duration::from_secs(5);

/// Why they are still there.
#[derive(Debug, Error)]
pub enum RetireError {
    /// The databases cannot be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// CONFIG_DB is being loaded.
    #[error("CONFIG_DB is not loaded: CONFIG_DB_INITIALIZED is not 1")]
    NotLoaded,
    /// Ports are in it.
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
        /// Redis' answer.
        reason: String,
    },
    /// SONiC has not let go of it.
    #[error(
        "after {wait:?} SONiC still has {left}: wait longer; or something that leafboot does not know is in it"
    )]
    Late {
        /// What is left, in one text.
        left: String,
        /// How long was waited.
        wait: Duration,
    },
}

/// Removes what `config` names, unless it is somebody else's; done when STATE_DB shows nothing of it.
pub async fn run(config: &Settings, wait: Duration) -> Result<(), RetireError> {
    let vrf = &config.boot.vrf;
    let mut left = format!("{vrf} and its ACL");
    let removed = timeout(wait, remove(config, vrf, &mut left)).await;
    removed.unwrap_or(Err(RetireError::Late { left, wait }))
}

/// `left` says what the last look has found.
async fn remove(config: &Settings, vrf: &VrfName, left: &mut String) -> Result<(), RetireError> {
    let mut db = Db::connect(&config.database_config).await?;
    let mut announced = Instant::now();
    loop {
        let observed = Observed::new(&db.snapshot().await?, config);
        if !observed.initialized {
            return Err(RetireError::NotLoaded);
        }
        match Retirement::new(&observed, config) {
            Retirement::InUse(ports) => {
                let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(RetireError::InUse { vrf: vrf.clone(), ports });
            }
            Retirement::Delete(steps) => {
                if let Some(Refused { key, reason }) = db.apply(&steps).await?.into_iter().next() {
                    return Err(RetireError::Refused { key, reason });
                }
                sleep(CACLMGRD).await;
            }
            Retirement::Going { things, announce } => {
                *left = things.join(", ");
                if announced.elapsed() >= UNHEARD {
                    announced = Instant::now();
                    db.apply(&announce).await?;
                }
                // Whether a row has changed or the time is over: look again.
                let _ = timeout(LOOK_AGAIN, db.changed()).await;
                // A burst of changes is one look.
                sleep(Duration::from_millis(10)).await;
            }
            Retirement::Gone => return Ok(()),
        }
    }
}
