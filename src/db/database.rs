//! One of SONiC's databases: reads and writes its rows.
//!
//! Must never: block Redis for the switch's daemons, or fail a whole read because of one invalid byte or key.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult};

use super::DbError;
use leafboot_core::plan::Step;
use leafboot_core::refused_writes::RefusedWrite;
use leafboot_core::rows::tables::{ALL, FieldNames};
use leafboot_core::rows::{self, Fields, NULL};

/// How many rows are read in one round trip.
const ROWS_AT_ONCE: usize = 64;

/// Creates a row that is absent and deletes it again, which emits two events. A subscriber reads the row at the first event,
/// finds nothing, and takes the second event as its deletion (swss-common 85a39d80,
/// `common/subscriberstatetable.cpp: SubscriberStateTable::pops`).
const ANNOUNCE_DELETION: &str = "if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[1])
    redis.call('DEL', KEYS[1])
end";

/// One of SONiC's databases.
pub(super) struct Database {
    name: &'static str,
    connection: MultiplexedConnection,
}

impl Database {
    pub(super) fn new(name: &'static str, connection: MultiplexedConnection) -> Self {
        Self { name, connection }
    }

    /// Whether CONFIG_DB is loaded: `CONFIG_DB_INITIALIZED` is `1`. swss-common's own wait accepts `0`, too
    /// (swss-common 85a39d80, `common/configdb.h`).
    pub(super) async fn is_initialized(&mut self) -> Result<bool, DbError> {
        let initialized: Option<Vec<u8>> = self.run(redis::Cmd::get(rows::CONFIG_DB_INITIALIZED)).await?;
        Ok(initialized.as_deref() == Some(b"1"))
    }

    /// The row of a key; an absent row reads as empty.
    pub(super) async fn row(&mut self, key: &str) -> Result<Fields, DbError> {
        Ok(row(ALL, self.run(redis::Cmd::hgetall(key)).await?).unwrap_or_default())
    }

    /// One field of each key's row, in the keys' order. None: there is no such row, or it has no such field.
    pub(super) async fn field(
        &mut self,
        keys: &[String],
        name: &str,
    ) -> Result<Vec<Option<String>>, DbError> {
        let mut fields = Vec::with_capacity(keys.len());
        for keys in keys.chunks(ROWS_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for key in keys {
                pipeline.hget(key, name);
            }
            for answer in self.run_all::<Option<Vec<u8>>>(pipeline).await? {
                fields.push(answer.map_err(|error| self.failed(&error))?.map(text));
            }
        }
        Ok(fields)
    }

    /// Reads the value of each key, in the keys' order. Each round trip has only [`ROWS_AT_ONCE`] rows, so that no daemon of
    /// the switch waits long for Redis.
    pub(super) async fn rows(&mut self, keys: &[(&str, FieldNames)]) -> Result<Vec<Value>, DbError> {
        let mut rows = Vec::with_capacity(keys.len());
        for keys in keys.chunks(ROWS_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for (key, names) in keys {
                match *names {
                    ALL => pipeline.hgetall(key),
                    names => pipeline.hmget(key, names),
                };
            }
            for ((_, names), answer) in keys.iter().zip(self.run_all(pipeline).await?) {
                rows.push(match answer {
                    Ok(hash) => row(names, hash).map_or(Value::Absent, Value::Row),
                    Err(error) if error.code() == Some("WRONGTYPE") => Value::NotARow,
                    Err(error) => return Err(self.failed(&error)),
                });
            }
        }
        self.find_rows_without_fields(keys, &mut rows).await?;
        Ok(rows)
    }

    /// Tells absent rows from rows that have none of the fields read: HMGET answers both alike. ASIC_DB has such rows.
    async fn find_rows_without_fields(
        &mut self,
        keys: &[(&str, FieldNames)],
        rows: &mut [Value],
    ) -> Result<(), DbError> {
        let is_unclear =
            |((_, names), row): &(&(&str, FieldNames), &mut Value)| *names != ALL && **row == Value::Absent;
        let unclear: Vec<_> = keys.iter().zip(rows).filter(is_unclear).collect();
        let mut pipeline = redis::pipe();
        for ((key, _), _) in &unclear {
            pipeline.exists(key);
        }
        for ((_, row), answer) in unclear.into_iter().zip(self.run_all(pipeline).await?) {
            if answer.map_err(|error| self.failed(&error))? {
                *row = Value::Row(Fields::new());
            }
        }
        Ok(())
    }

    /// Does one step of a scan over about `count` keys from `cursor` on. Returns the cursor for the next step, 0 at the end,
    /// and the keys that match. KEYS would block Redis for every daemon of the switch.
    pub(super) async fn scan(
        &mut self,
        cursor: u64,
        pattern: &str,
        count: usize,
    ) -> Result<(u64, Vec<String>), DbError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.run(command).await?;
        // All of SONiC's keys are text.
        Ok((next, keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect()))
    }

    /// Does one step of a scan over about `count` fields of a hash. Returns the cursor for the next step, 0 at the end, and
    /// the names that match.
    pub(super) async fn scan_field_names(
        &mut self,
        cursor: u64,
        hash: &str,
        pattern: &str,
        count: usize,
    ) -> Result<(u64, Vec<String>), DbError> {
        let mut command = redis::cmd("HSCAN");
        command.arg(hash).arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        let (next, fields): (u64, Vec<Vec<u8>>) = self.run(command).await?;
        // Redis returns names and values in turns.
        Ok((next, fields.into_iter().step_by(2).filter_map(|name| String::from_utf8(name).ok()).collect()))
    }

    /// Writes steps in their order, in one round trip, and returns the writes that Redis refused. One row is one HSET: SONiC's
    /// subscribers would take half a row for a whole one (swss-common 85a39d80, `common/subscriberstatetable.cpp`).
    pub(super) async fn write(&mut self, steps: &[&Step]) -> Result<Vec<RefusedWrite>, DbError> {
        let mut pipeline = redis::pipe();
        for step in steps {
            match step {
                Step::Set(key, fields) if fields.is_empty() => pipeline.hset(key.to_string(), NULL, NULL),
                Step::Set(key, fields) => {
                    pipeline.hset_multiple(key.to_string(), &fields.iter().collect::<Vec<_>>())
                }
                Step::Clear(key, fields) => pipeline.hdel(key.to_string(), fields.iter().collect::<Vec<_>>()),
                Step::Delete(key) => pipeline.del(key.to_string()),
                Step::DeleteAgain(key) => {
                    pipeline.cmd("EVAL").arg(ANNOUNCE_DELETION).arg(1).arg(key.to_string()).arg(NULL)
                }
            };
        }
        let answers: Vec<RedisResult<redis::Value>> = self.run_all(pipeline).await?;
        let refused = |(step, answer): (&&Step, RedisResult<_>)| {
            Some(RefusedWrite { key: step.key().clone(), reason: one_line(&answer.err()?) })
        };
        Ok(steps.iter().zip(answers).filter_map(refused).collect())
    }

    async fn run<T: redis::FromRedisValue>(&mut self, command: redis::Cmd) -> Result<T, DbError> {
        command.query_async(&mut self.connection).await.map_err(|error| self.failed(&error))
    }

    /// The answers to a pipeline's commands. A refused command is an error among the answers; the outer error is the
    /// connection's.
    async fn run_all<T: redis::FromRedisValue>(
        &mut self,
        mut pipeline: Pipeline,
    ) -> Result<Vec<RedisResult<T>>, DbError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let answers = pipeline.ignore_errors().query_async(&mut self.connection).await;
        answers.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &RedisError) -> DbError {
        DbError::Command { database: self.name, reason: one_line(error) }
    }
}

/// An error of Redis as text for people: one line, at most 200 characters.
pub(super) fn one_line(error: &RedisError) -> String {
    const LONGEST: usize = 200;
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(_), None) | (None, _) => error.to_string(),
    };
    text.chars().take(LONGEST).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The value of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A row, with the fields that were read.
    Row(Fields),
    /// A value that is no hash, so no row.
    NotARow,
    /// The key does not exist.
    Absent,
}

/// A hash as Redis returns it. HGETALL returns names and values in turns, in no order; HMGET returns the values alone.
type Hash = Vec<Option<Vec<u8>>>;

/// The row of a hash; none if Redis returned no field.
fn row(names: FieldNames, hash: Hash) -> Option<Fields> {
    let mut texts = hash.into_iter().map(|bytes| bytes.map(text));
    if names != ALL {
        let named = names.iter().zip(texts);
        let fields: Fields = named.filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect();
        return (!fields.is_empty()).then_some(fields);
    }
    let mut pairs = Vec::with_capacity(texts.len() / 2);
    while let (Some(Some(name)), Some(Some(value))) = (texts.next(), texts.next()) {
        pairs.push((name, value));
    }
    (!pairs.is_empty()).then(|| without_null(pairs))
}

/// Bytes as text. A bad byte, for example in a port's description, is replaced, so that it does not fail the read.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}

/// Removes the field that stands for an empty row. Beside other fields it is an ordinary field.
fn without_null(mut pairs: Vec<(String, String)>) -> Fields {
    if pairs.len() == 1 && pairs.iter().all(|(name, _)| name == NULL) {
        return Fields::new();
    }
    // The vector becomes the map without spare capacity: a leaf has thousands of rows.
    pairs.sort_unstable();
    Fields::from_sorted_store_unchecked(pairs)
}
