//! Pure: the keys of one database's rows that matter, so that a pass reads those and asks Redis for no others.
//!
//! What is kept are keys and not rows, for then no row that a pass sees can be stale. Keys come by the events of their rows,
//! and by a scan of the database: a fast one at the start, a slow one ever after. They go when their row reads as empty:
//! whether it was deleted, renamed or flushed (FLUSHDB emits no event) makes no difference. An event puts its key back, so
//! a row that comes again is not missed; a key too many costs one read.
//!
//! Must never: forget a key whose row may be there, or grow by keys of other tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::tables::{FieldNames, Tables};

/// The keys of one database.
#[derive(Debug)]
pub struct Index {
    tables: &'static Tables,
    /// Every key whose row is read, and what of it.
    keys: BTreeMap<String, FieldNames>,
    /// The keys that events named since the last read.
    named: BTreeSet<String>,
    /// Keys whose row came or went although no event had said so when it was noticed.
    doubtful: BTreeSet<String>,
}

impl Index {
    /// One without keys.
    pub fn new(tables: &'static Tables) -> Self {
        Self { tables, keys: BTreeMap::new(), named: BTreeSet::new(), doubtful: BTreeSet::new() }
    }

    /// An event names the key of a row that has come, changed or gone.
    pub fn name(&mut self, key: &str) {
        if let Some(fields) = self.tables.fields(key) {
            self.keys.entry(key.to_owned()).or_insert(fields);
            self.named.insert(key.to_owned());
        }
    }

    /// The first scan has found a row. Returns whether its key is new.
    pub fn add(&mut self, key: &str) -> bool {
        let fields = self.tables.fields(key).filter(|_| !self.keys.contains_key(key));
        fields.is_some_and(|fields| self.keys.insert(key.to_owned(), fields).is_none())
    }

    /// A later scan has found a row, of which an event should have told. Returns whether its key is new.
    pub fn find(&mut self, key: &str) -> bool {
        let is_new = self.add(key);
        if is_new {
            self.doubtful.insert(key.to_owned());
        }
        is_new
    }

    /// The keys to read, with the fields that are read of their rows.
    pub fn keys(&self) -> impl Iterator<Item = (&str, FieldNames)> {
        self.keys.iter().map(|(key, fields)| (key.as_str(), *fields))
    }

    /// Every event until now was taken in: returns a key whose row came or went without one, for events get lost.
    pub fn unexplained(&mut self) -> Option<String> {
        let doubtful = std::mem::take(&mut self.doubtful);
        doubtful.into_iter().find(|key| !self.named.contains(key))
    }

    /// The keys were read, and the rows of these are not there.
    pub fn forget(&mut self, gone: impl IntoIterator<Item = String>) {
        for key in gone {
            self.keys.remove(&key);
            if !self.named.contains(&key) {
                self.doubtful.insert(key);
            }
        }
        self.named.clear();
    }
}

#[cfg(test)]
mod tests;
