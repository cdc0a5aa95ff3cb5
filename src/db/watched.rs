//! One of SONiC's databases, and the keys of its rows that matter: known by events and scans, read without looking for them.
//!
//! A pass costs Redis as many commands as there are rows that matter, however many others the database has. Before it reads,
//! it takes in every event of what Redis has done until then, so it misses no row that was there when it began: as if it had
//! scanned the database. What no event tells of is found in time: that a row is gone (FLUSHDB) by the next pass, for that
//! reads it; that a row is there (a lost event) by the slow scan.
//!
//! Must never: hold rows from one pass to the next, or keep Redis from the switch's daemons for longer than a short command.

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::DbError;
use super::database::{Database, Found};
use super::endpoint::Place;
use super::events::Events;
use leafboot_core::row_index::Index;
use leafboot_core::rows::Rows;
use leafboot_core::rows::tables::Tables;
use leafboot_core::scan_pace::{Paces, Walk};

/// A database and the keys of its rows that matter.
pub(super) struct Watched {
    database: Database,
    events: Events,
    tables: &'static Tables,
    index: Index,
    walk: Walk,
}

impl Watched {
    /// Subscribes to the rows of `tables` and to the key `other`, if there is one, and connects. What changes from now on is
    /// told by events (`common/subscriberstatetable.cpp` subscribes first, too).
    pub(super) async fn connect(
        place: &Place,
        tables: &'static Tables,
        other: Option<&str>,
        paces: Paces,
    ) -> Result<Self, DbError> {
        let patterns = tables.prefixes.iter().map(|(prefix, _)| format!("{prefix}*"));
        let patterns: Vec<String> = patterns.chain(other.map(str::to_owned)).collect();
        let events = place.subscribe(&patterns).await?;
        let database = place.connect().await?;
        let walk = Walk::new(paces, Instant::now().into_std());
        Ok(Self { database, events, tables, index: Index::new(tables), walk })
    }

    /// Scans for the rows that are there.
    pub(super) async fn fill(&mut self) -> Result<(), DbError> {
        let pace = self.walk.first_pace();
        let (mut cursor, mut due) = (0, Instant::now());
        loop {
            let (next, keys) = self.database.scan(cursor, self.tables.pattern, pace.keys).await?;
            for key in keys {
                self.index.add(&key);
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
            // A timer is late by a millisecond: the steps that were due meanwhile are made one after the other.
            due += pace.pause;
            sleep_until(due).await;
        }
    }

    /// The database itself.
    pub(super) fn database(&mut self) -> &mut Database {
        &mut self.database
    }

    /// Every row of the tables.
    pub(super) async fn rows(&mut self) -> Result<Rows, DbError> {
        for key in self.events.until_now().await? {
            self.index.name(&key);
        }
        if let Some(key) = self.index.unexplained() {
            warn!(key, "a row came or went, and Redis sent no event of it; it may have emptied the database");
            self.walk.alarm(Instant::now().into_std());
        }
        let keys: Vec<_> = self.index.keys().collect();
        let found = self.database.rows(&keys).await?;
        let keys = keys.into_iter().map(|(key, _)| key.to_owned());
        let mut rows = Rows::new();
        let mut gone = Vec::new();
        for (key, found) in keys.zip(found) {
            match found {
                Found::Row(row) => {
                    rows.insert(key, row);
                }
                Found::NoRow => {}
                Found::Nothing => gone.push(key),
            }
        }
        self.index.forget(gone);
        Ok(rows)
    }

    /// Waits until a row changes, or until the slow scan finds one that is not known. Returns false when the connection is
    /// lost. Cancel-safe.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let (cursor, count) = self.walk.step();
            let due = Instant::from_std(self.walk.due());
            let step = async {
                sleep_until(due).await;
                self.database.scan(cursor, self.tables.pattern, count).await
            };
            tokio::select! {
                key = self.events.next() => {
                    let Some(key) = key else { return false };
                    self.index.name(&key);
                    return true;
                }
                step = step => {
                    let Ok((cursor, keys)) = step else { return false };
                    self.walk.stepped(cursor, Instant::now().into_std());
                    let unknown = keys.iter().filter(|key| self.index.find(key)).count();
                    if unknown > 0 {
                        return true;
                    }
                }
            }
        }
    }
}
