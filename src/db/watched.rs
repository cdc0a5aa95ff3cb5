//! One of SONiC's databases with the index of the keys that leafboot reads. Events and scans fill the index.
//!
//! A pass costs Redis one command for each row that leafboot reads, however many other rows the database has. Before it
//! reads, it records every event until then, so it misses no row that was there when it began, as if it had scanned the
//! database. Changes without an event are found later: the next pass reads a row that is gone (FLUSHDB), and the slow scan
//! finds a row whose event was lost.
//!
//! Must never: hold rows from one pass to the next, or keep Redis from the switch's daemons for longer than a short command.

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::DbError;
use super::database::{Database, Value};
use super::endpoint::Endpoint;
use super::events::KeyspaceEvents;
use leafboot_core::row_index::RowIndex;
use leafboot_core::rows::Rows;
use leafboot_core::rows::tables::{self, Tables};
use leafboot_core::scan_pace::{Paces, Scan};

/// A database and the index of its keys.
pub(super) struct WatchedDatabase {
    database: Database,
    events: KeyspaceEvents,
    tables: &'static Tables,
    index: RowIndex,
    scan: Scan,
}

impl WatchedDatabase {
    /// Subscribes to the rows of `tables` and to the key `other`, if there is one, then connects. Every later change has an
    /// event (swss-common 85a39d80 subscribes first, too: `common/subscriberstatetable.cpp`).
    pub(super) async fn connect(
        endpoint: &Endpoint,
        tables: &'static Tables,
        other: Option<&str>,
        paces: Paces,
    ) -> Result<Self, DbError> {
        let patterns = tables.prefixes.iter().map(|(prefix, _)| format!("{prefix}*"));
        let patterns: Vec<String> = patterns.chain(other.map(str::to_owned)).collect();
        let events = endpoint.subscribe(&patterns).await?;
        let database = endpoint.connect().await?;
        let scan = Scan::new(paces, Instant::now().into_std());
        Ok(Self { database, events, tables, index: RowIndex::new(tables), scan })
    }

    /// Fills the index: from the hash of the database's objects, if there is one, or else by a scan of all keys. The scan
    /// would have to look at each route. After a start from the hash, the slow scan soon looks for rows that the hash lacks.
    pub(super) async fn fill(&mut self) -> Result<(), DbError> {
        if self.tables.objects.is_some() && self.fill_from(self.tables.objects).await? {
            self.scan.begin_soon(Instant::now().into_std());
            return Ok(());
        }
        self.fill_from(None).await?;
        Ok(())
    }

    /// Adds the keys of the objects in a hash, or all keys of the database. Returns whether there were any.
    async fn fill_from(&mut self, objects: Option<(&str, &str)>) -> Result<bool, DbError> {
        let pace = self.scan.first_pace();
        let (mut cursor, mut due, mut is_any) = (0, Instant::now(), false);
        loop {
            let (next, keys): (u64, Vec<String>) = match objects {
                Some((hash, pattern)) => {
                    let ids = self.database.scan_field_names(cursor, hash, pattern, pace.keys);
                    let (next, ids) = ids.await?;
                    (next, ids.iter().filter_map(|id| tables::object_row(id)).collect())
                }
                None => self.database.scan(cursor, self.tables.pattern, pace.keys).await?,
            };
            is_any |= !keys.is_empty();
            for key in keys {
                self.index.add(&key);
            }
            if next == 0 {
                return Ok(is_any);
            }
            cursor = next;
            // A timer may be a millisecond late. Steps that became due in that time follow at once.
            due += pace.pause;
            sleep_until(due).await;
        }
    }

    /// The database, for commands that do not need the index.
    pub(super) fn database(&mut self) -> &mut Database {
        &mut self.database
    }

    /// Reads every row of the tables.
    pub(super) async fn rows(&mut self) -> Result<Rows, DbError> {
        for key in self.events.until_now().await? {
            self.index.record_event(&key);
        }
        if let Some(key) = self.index.lost_event() {
            warn!(key, "Redis sent no event when this row came or went; FLUSHDB sends none");
            self.scan.record_lost_event(Instant::now().into_std());
        }
        let keys: Vec<_> = self.index.keys().collect();
        let values = self.database.rows(&keys).await?;
        let keys = keys.into_iter().map(|(key, _)| key.to_owned());
        let mut rows = Rows::new();
        let mut absent = Vec::new();
        for (key, value) in keys.zip(values) {
            match value {
                Value::Row(row) => {
                    rows.insert(key, row);
                }
                Value::NotARow => {}
                Value::Absent => absent.push(key),
            }
        }
        self.index.record_read(absent);
        Ok(rows)
    }

    /// Waits until a row changes, or until the slow scan finds a row that the index lacks. Returns false when the connection
    /// is lost. Cancel-safe.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let (cursor, count) = self.scan.next_step();
            let due = Instant::from_std(self.scan.due());
            let step = async {
                sleep_until(due).await;
                self.database.scan(cursor, self.tables.pattern, count).await
            };
            tokio::select! {
                key = self.events.next() => {
                    let Some(key) = key else { return false };
                    self.index.record_event(&key);
                    return true;
                }
                step = step => {
                    let Ok((cursor, keys)) = step else { return false };
                    self.scan.record_step(cursor, Instant::now().into_std());
                    let added = keys.iter().filter(|key| self.index.add_late(key)).count();
                    if added > 0 {
                        return true;
                    }
                }
            }
        }
    }
}
