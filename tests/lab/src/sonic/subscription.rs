//! A CONFIG_DB table as a manager sees it: a first snapshot, then the keyspace events.
//!
//! Owns: turning an event into a task by reading the row that is there *now*; values in between are lost.
//! Must never: read the table again. What redis does not announce (FLUSHDB) is not noticed.

use redis::Msg;

use super::database::{Database, Error};
use super::queue::Task;

/// A subscription to one table.
#[derive(Debug)]
pub struct Subscription {
    table: &'static str,
    channel_prefix: String,
    events: Vec<Event>,
    keeps_null: bool,
}

#[derive(Debug)]
struct Event {
    key: String,
    deleted: bool,
}

impl Subscription {
    /// Takes the snapshot. The connection has subscribed before, so that nothing falls in between.
    // sonic-swss-common common/subscriberstatetable.cpp: SubscriberStateTable::SubscriberStateTable
    pub fn start(config: &mut Database, table: &'static str) -> Result<Self, Error> {
        let channel_prefix = config.keyspace(table);
        let snapshot = config.keys(table)?.into_iter().map(|key| Event { key, deleted: false });
        Ok(Self { table, channel_prefix, events: snapshot.collect(), keeps_null: false })
    }

    /// For a reader that takes the `NULL` of an empty row for a field like any other.
    pub fn with_null(self) -> Self {
        Self { keeps_null: true, ..self }
    }

    /// Keeps the event if it is about this table, and returns whether it is.
    pub fn offer(&mut self, message: &Msg) -> Result<bool, Error> {
        let Some(key) = message.get_channel_name().strip_prefix(&self.channel_prefix) else {
            return Ok(false);
        };
        let what: String = message.get_payload()?;
        self.events.push(Event { key: key.to_owned(), deleted: what == "del" });
        Ok(true)
    }

    /// The tasks that the kept events make.
    // sonic-swss-common common/subscriberstatetable.cpp: SubscriberStateTable::pops
    pub fn pop(&mut self, config: &mut Database) -> Result<Vec<(String, Task)>, Error> {
        let mut tasks = Vec::new();
        for Event { key, deleted } in std::mem::take(&mut self.events) {
            if deleted {
                tasks.push((key, Task::Del));
                continue;
            }
            let row = if self.keeps_null {
                config.row_with_null(self.table, &key)
            } else {
                config.row(self.table, &key)
            };
            if let Some(fields) = row? {
                tasks.push((key, Task::Set(fields)));
            }
            // A row that is gone already is skipped: its own "del" is under way.
        }
        Ok(tasks)
    }
}
