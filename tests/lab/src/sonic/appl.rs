//! A table of APPL_DB between a manager that writes it and orchagent that reads it.
//!
//! Owns: the rows, and the set of keys that orchagent has not read yet.
//! Must never: remember earlier values of a key. As in SONiC, only the row that exists at the pop counts.

use std::collections::BTreeSet;

use super::database::{Database, Error, Fields};
use super::queue::Task;

/// One table.
#[derive(Debug)]
pub struct ApplTable {
    name: &'static str,
    changed: BTreeSet<String>,
}

impl ApplTable {
    /// The table with this name. Nothing in it has changed.
    pub fn new(name: &'static str) -> Self {
        Self { name, changed: BTreeSet::new() }
    }

    /// Writes a row.
    // sonic-swss-common common/producerstatetable.cpp: ProducerStateTable::set
    pub fn set(&mut self, appl: &mut Database, key: &str, fields: &Fields) -> Result<(), Error> {
        self.changed.insert(key.to_owned());
        appl.set(self.name, key, fields)
    }

    /// Deletes a row.
    // sonic-swss-common common/producerstatetable.cpp: ProducerStateTable::del
    pub fn delete(&mut self, appl: &mut Database, key: &str) -> Result<(), Error> {
        self.changed.insert(key.to_owned());
        appl.delete(self.name, key)
    }

    /// Has anything changed since the last pop?
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The database was emptied.
    pub fn forget(&mut self) {
        self.changed.clear();
    }

    /// Every changed key with the row it has now: a DEL followed by a SET is a SET.
    // sonic-swss-common common/consumer_state_table_pops.lua; sonic-swss#4737
    pub fn pop(&mut self, appl: &mut Database) -> Result<Vec<(String, Task)>, Error> {
        let mut tasks = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let task = appl.row(self.name, &key)?.map_or(Task::Del, Task::Set);
            tasks.push((key, task));
        }
        Ok(tasks)
    }
}
