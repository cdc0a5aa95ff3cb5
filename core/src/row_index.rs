//! The keys of one database's rows that leafboot reads. A pass reads the rows of these keys and of no others.
//!
//! The index keeps keys, not rows, so that no pass can see a stale row. At the start keys come from the database's hash of all
//! objects or, without one, from a fast scan; later they come from keyspace events and slow scans. The index drops a key when
//! its row reads as empty, whether the row was deleted, renamed or flushed (FLUSHDB emits no event). An event adds the key
//! again, so a row that comes back is not missed. A superfluous key costs one read.
//!
//! Must never: drop a key whose row may exist, or hold keys of other tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::tables::{FieldNames, Tables};

/// The keys of one database.
#[derive(Debug)]
pub struct RowIndex {
    tables: &'static Tables,
    /// Every key whose row is read, with the fields that are read.
    keys: BTreeMap<String, FieldNames>,
    /// The keys of the events since the last read.
    with_event: BTreeSet<String>,
    /// The keys whose row came or went before an event of it was seen.
    without_event: BTreeSet<String>,
}

impl RowIndex {
    /// An index without keys.
    pub fn new(tables: &'static Tables) -> Self {
        Self { tables, keys: BTreeMap::new(), with_event: BTreeSet::new(), without_event: BTreeSet::new() }
    }

    /// Records an event: the row of this key has come, changed or gone.
    pub fn record_event(&mut self, key: &str) {
        if let Some(fields) = self.tables.fields(key) {
            self.keys.entry(key.to_owned()).or_insert(fields);
            self.with_event.insert(key.to_owned());
        }
    }

    /// Adds a key that the start has found. Returns whether the key is new.
    pub fn add(&mut self, key: &str) -> bool {
        let fields = self.tables.fields(key).filter(|_| !self.keys.contains_key(key));
        fields.is_some_and(|fields| self.keys.insert(key.to_owned(), fields).is_none())
    }

    /// Adds a key that a later scan has found. An event should have named it before. Returns whether the key is new.
    pub fn add_late(&mut self, key: &str) -> bool {
        let is_new = self.add(key);
        if is_new {
            self.without_event.insert(key.to_owned());
        }
        is_new
    }

    /// The keys to read, with the fields to read of their rows.
    pub fn keys(&self) -> impl Iterator<Item = (&str, FieldNames)> {
        self.keys.iter().map(|(key, fields)| (key.as_str(), *fields))
    }

    /// Returns a key whose event is lost: its row came or went without an event. Each loss is returned at most once. Call this
    /// when all events until now are recorded.
    pub fn lost_event(&mut self) -> Option<String> {
        let without_event = std::mem::take(&mut self.without_event);
        without_event.into_iter().find(|key| !self.with_event.contains(key))
    }

    /// Records a read of all keys. `absent`: the keys without a row.
    pub fn record_read(&mut self, absent: impl IntoIterator<Item = String>) {
        for key in absent {
            self.keys.remove(&key);
            if !self.with_event.contains(&key) {
                self.without_event.insert(key);
            }
        }
        self.with_event.clear();
    }
}

#[cfg(test)]
mod tests;
