//! The Redis edge: reads one pass's rows, writes a plan's steps, and wakes the reconciler when a row changes.
//!
//! `place` says where SONiC's databases are and connects; `database` reads and writes one, and `events` hears its changes;
//! `index` knows which of its keys matter, `walk` when the next step of its scan is due, and `watched` is all of that for
//! one database. Redis is imported in `place`, `database`, `events` and here only.
//!
//! Must never: decide anything, or write anything but a plan's steps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::RedisError;
use thiserror::Error;

use database::Database;
use endpoint::Places;
use leafboot_core::observed::Snapshot;
use leafboot_core::plan::Step;
use leafboot_core::refused_writes::Refused;
use leafboot_core::rows::{self, RowKey, Rows, tables};
pub use leafboot_core::scan_pace::{Pace, Paces};
use watched::Watched;

mod database;
mod endpoint;
mod events;
mod watched;

/// Redis answers on the switch itself within a millisecond; one that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why SONiC's databases cannot be used now.
#[derive(Debug, Error)]
pub enum DbError {
    /// `database_config.json` is not readable.
    #[error("cannot read {path}: {source}; is SONiC's database container running?")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file with Redis's password is not readable.
    #[error("cannot read {path}, the password_path of database_config.json: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// `database_config.json` is not what SONiC writes, or is half-written.
    #[error("{path}: {reason}")]
    ConfigContent {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {database} at {address}: {source}")]
    Connect {
        /// Which of SONiC's databases.
        database: &'static str,
        /// Socket path or host and port.
        address: String,
        /// What Redis or the kernel said.
        source: RedisError,
    },
    /// A command failed.
    #[error("{database}: {reason}")]
    Command {
        /// Which of SONiC's databases.
        database: &'static str,
        /// What Redis said: one line, at most 200 characters.
        reason: String,
    },
}

/// Connections to the databases that leafboot uses.
pub struct Db {
    config: Watched,
    state: Watched,
    asic: Watched,
    counters: Database,
}

/// The rows of the leaf's ports, for who needs nothing else; none while CONFIG_DB is not loaded.
pub async fn ports(database_config: &Path) -> Result<Option<Rows>, DbError> {
    let place = Places::read(database_config)?.find("CONFIG_DB", "|")?;
    let mut config = Watched::connect(&place, &tables::PORTS, None, Paces::default()).await?;
    config.fill().await?;
    let rows = config.rows().await?;
    Ok(config.database().is_initialized().await?.then_some(rows))
}

impl Db {
    /// Connects to the databases that `database_config` names, subscribes to their changes, and looks for the rows that matter:
    /// on a leaf with full routing tables that takes seconds.
    pub async fn connect(database_config: &Path) -> Result<Self, DbError> {
        Self::connect_at(database_config, Paces::default()).await
    }

    /// The same at another pace than the usual one.
    pub async fn connect_at(database_config: &Path, paces: Paces) -> Result<Self, DbError> {
        let places = Places::read(database_config)?;
        let config = places.find("CONFIG_DB", "|")?;
        let state = places.find("STATE_DB", "|")?;
        let asic = places.find("ASIC_DB", ":")?;
        let counters = places.find("COUNTERS_DB", ":")?;
        // One after the other, so that what is wrong is said of the same one each time.
        let loaded = Some(rows::CONFIG_DB_INITIALIZED);
        let mut config = Watched::connect(&config, &tables::CONFIG, loaded, paces).await?;
        let mut state = Watched::connect(&state, &tables::STATE, None, paces).await?;
        let mut asic = Watched::connect(&asic, &tables::ASIC, None, paces).await?;
        let counters = counters.connect().await?;
        tokio::try_join!(config.fill(), state.fill(), asic.fill())?;
        Ok(Self { config, state, asic, counters })
    }

    /// Reads everything that a pass needs: for each database, a round trip for `database::ROWS_AT_ONCE` rows.
    pub async fn snapshot(&mut self) -> Result<Snapshot, DbError> {
        let Self { config, state, asic, counters } = self;
        let (config, (state, asic), (port_objects, rule_counters)) = tokio::try_join!(
            async {
                // Before and after: `config reload` may empty CONFIG_DB, or end, while its rows are read.
                let before = config.database().is_initialized().await?;
                let rows = config.rows().await?;
                Ok((before && config.database().is_initialized().await?, rows))
            },
            async {
                // In this order: what orchagent says of an ACL's rules is compared with what the ASIC has afterwards.
                let state = state.rows().await?;
                Ok((state, asic.rows().await?))
            },
            async {
                Ok((counters.row(rows::PORT_NAME_MAP).await?, counters.row(rows::RULE_COUNTER_MAP).await?))
            },
        )?;
        let (initialized, config) = config;
        Ok(Snapshot { initialized, config, state, asic, port_objects, rule_counters })
    }

    /// Writes a plan's steps, in their order, and returns those that Redis refused; the others are written. One round trip,
    /// or two: rows that others need come first, and what needs a row that was refused is not written.
    pub async fn apply(&mut self, steps: &[Step]) -> Result<Vec<Refused>, DbError> {
        let needed: BTreeSet<RowKey> = steps.iter().filter_map(Step::needs).collect();
        let (first, rest): (Vec<&Step>, Vec<&Step>) =
            steps.iter().partition(|step| needed.contains(step.key()));
        let mut refused = self.config.database().write(&first).await?;
        let lacks = |step: &&Step| step.needs().is_some_and(|key| refused.iter().any(|row| row.key == key));
        let (lacking, rest): (Vec<&Step>, Vec<&Step>) = rest.into_iter().partition(lacks);
        let reason = "the row of its table was refused";
        refused.extend(
            lacking.iter().map(|step| Refused { key: step.key().clone(), reason: reason.to_owned() }),
        );
        refused.extend(self.config.database().write(&rest).await?);
        Ok(refused)
    }

    /// Waits until a row changes. Returns false when a subscription has ended: its connection is lost. Cancel-safe. FLUSHDB
    /// emits no event: the caller also needs a timer.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            alive = self.config.changed() => alive,
            alive = self.state.changed() => alive,
            alive = self.asic.changed() => alive,
        }
    }
}
