//! The Redis edge: reads the rows of one pass, writes a plan's steps, and wakes the reconciler when a row changes.
//!
//! `endpoint` finds SONiC's databases and connects. `database` reads and writes one database, and `events` receives its
//! keyspace events. `watched` joins both with the core's `row_index`, which holds the keys to read, and with the core's
//! `scan_pace`, which says when the next step of a scan is due. Only these files import Redis.
//!
//! Must never: decide anything, or write anything but a plan's steps.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::RedisError;
use thiserror::Error;

use database::Database;
use endpoint::DatabaseConfig;
use leafboot_core::observed::Snapshot;
use leafboot_core::plan::Step;
use leafboot_core::refused_writes::RefusedWrite;
use leafboot_core::rows::{self, RowKey, Rows, tables};
pub use leafboot_core::scan_pace::Paces;
use watched::WatchedDatabase;

pub mod counters;
mod database;
mod endpoint;
mod events;
mod watched;

/// How long Redis may take to connect or to answer. On the switch itself it answers within a millisecond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why SONiC's databases cannot be used now.
#[derive(Debug, Error)]
pub enum DbError {
    /// `database_config.json` is not readable.
    #[error("cannot read {path}: {source}; is SONiC's database container running?")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// A file with Redis's password is not readable.
    #[error("cannot read {path}, the password_path of database_config.json: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// `database_config.json` is not what SONiC writes, or is half-written.
    #[error("{path}: {reason}")]
    ConfigContent {
        /// The file.
        path: PathBuf,
        /// What is wrong in the file.
        reason: String,
    },
    /// Redis cannot be reached.
    #[error("cannot connect to {database} at {address}: {source}")]
    Connect {
        /// Which of SONiC's databases.
        database: &'static str,
        /// Socket path, or host and port.
        address: String,
        /// The error of Redis or of the kernel.
        source: RedisError,
    },
    /// A Redis command failed.
    #[error("{database}: {reason}")]
    Command {
        /// Which of SONiC's databases.
        database: &'static str,
        /// Redis' error: one line, at most 200 characters.
        reason: String,
    },
}

/// Connections to SONiC's databases.
pub struct Db {
    config: WatchedDatabase,
    state: WatchedDatabase,
    asic: WatchedDatabase,
    counters: Database,
}

/// Reads the `PORT` rows alone, over a connection of its own. Returns none while CONFIG_DB is not loaded.
pub async fn ports(database_config: &Path) -> Result<Option<Rows>, DbError> {
    let endpoint = DatabaseConfig::read(database_config)?.endpoint("CONFIG_DB", "|")?;
    let mut config = WatchedDatabase::connect(&endpoint, &tables::PORTS, None, Paces::default()).await?;
    config.fill().await?;
    let rows = config.rows().await?;
    Ok(config.database().is_initialized().await?.then_some(rows))
}

impl Db {
    /// Connects to the databases that `database_config` names, subscribes to their changes, and finds the rows that
    /// leafboot reads. That does not depend on the number of routes.
    pub async fn connect(database_config: &Path) -> Result<Self, DbError> {
        Self::connect_at(database_config, Paces::default()).await
    }

    /// Connects as [`Self::connect`] does, and scans at the given pace.
    pub async fn connect_at(database_config: &Path, paces: Paces) -> Result<Self, DbError> {
        let endpoints = DatabaseConfig::read(database_config)?;
        let config = endpoints.endpoint("CONFIG_DB", "|")?;
        let state = endpoints.endpoint("STATE_DB", "|")?;
        let asic = endpoints.endpoint("ASIC_DB", ":")?;
        let counters = endpoints.endpoint("COUNTERS_DB", ":")?;
        // Connect in a fixed order, so that the error always names the same database.
        let loaded = Some(rows::CONFIG_DB_INITIALIZED);
        let mut config = WatchedDatabase::connect(&config, &tables::CONFIG, loaded, paces).await?;
        let mut state = WatchedDatabase::connect(&state, &tables::STATE, None, paces).await?;
        let mut asic = WatchedDatabase::connect(&asic, &tables::ASIC, None, paces).await?;
        let counters = counters.connect().await?;
        tokio::try_join!(config.fill(), state.fill(), asic.fill())?;
        Ok(Self { config, state, asic, counters })
    }

    /// Reads all rows that a pass needs. Each database takes one round trip for every `database::ROWS_AT_ONCE` rows.
    pub async fn snapshot(&mut self) -> Result<Snapshot, DbError> {
        let Self { config, state, asic, counters } = self;
        let (config, (state, asic), (port_objects, rule_counters)) = tokio::try_join!(
            async {
                // Check before and after: `config reload` may empty CONFIG_DB, or end, while its rows are read.
                let before = config.database().is_initialized().await?;
                let rows = config.rows().await?;
                Ok((before && config.database().is_initialized().await?, rows))
            },
            async {
                // Read STATE_DB first: an ACL rule that orchagent reports there must be in the ASIC afterwards.
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

    /// Writes a plan's steps in their order, and returns the writes that Redis refused; all others are done. It takes one
    /// round trip or two: rows that others need come first, and a row is not written when Redis refused the row it needs.
    pub async fn apply(&mut self, steps: &[Step]) -> Result<Vec<RefusedWrite>, DbError> {
        let needed: BTreeSet<RowKey> = steps.iter().filter_map(Step::needs).collect();
        let (first, rest): (Vec<&Step>, Vec<&Step>) =
            steps.iter().partition(|step| needed.contains(step.key()));
        let mut refused = self.config.database().write(&first).await?;
        let lacks = |step: &&Step| step.needs().is_some_and(|key| refused.iter().any(|row| row.key == key));
        let (lacking, rest): (Vec<&Step>, Vec<&Step>) = rest.into_iter().partition(lacks);
        let reason = "the row of its ACL table was refused";
        refused.extend(
            lacking.iter().map(|step| RefusedWrite { key: step.key().clone(), reason: reason.to_owned() }),
        );
        refused.extend(self.config.database().write(&rest).await?);
        Ok(refused)
    }

    /// Waits until a row changes. Returns false when a connection is lost. Cancel-safe. FLUSHDB emits no event, so the caller
    /// also needs a timer.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            alive = self.config.changed() => alive,
            alive = self.state.changed() => alive,
            alive = self.asic.changed() => alive,
        }
    }
}
