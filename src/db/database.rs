//! One of SONiC's databases: its rows as `rows` has them, read and written.
//!
//! Must never: block Redis for the switch's daemons, or let one odd byte or key hide the rows beside it.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult};

use super::DbError;
use leafboot_core::plan::Step;
use leafboot_core::refused_writes::Refused;
use leafboot_core::rows::tables::{ALL, FieldNames};
use leafboot_core::rows::{self, Fields, NULL};

/// How many rows are read in one round trip.
const ROWS_AT_ONCE: usize = 64;

/// Makes a row that is not there, and deletes it: whoever reads it at the first event finds nothing, and the second says that
/// it is gone (swss-common `common/subscriberstatetable.cpp: SubscriberStateTable::pops`).
const ANNOUNCE_GONE: &str = "if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[1])
    redis.call('DEL', KEYS[1])
end";

/// One of SONiC's databases.
pub(super) struct Database {
    name: &'static str,
    connection: MultiplexedConnection,
}

impl Database {
    /// One that is connected to.
    pub(super) fn new(name: &'static str, connection: MultiplexedConnection) -> Self {
        Self { name, connection }
    }

    /// Whether CONFIG_DB is loaded. swss-common's own wait takes «0» for yes (`common/configdb.h`); only «1» means it.
    pub(super) async fn is_initialized(&mut self) -> Result<bool, DbError> {
        let initialized: Option<Vec<u8>> = self.run(redis::Cmd::get(rows::CONFIG_DB_INITIALIZED)).await?;
        Ok(initialized.as_deref() == Some(b"1"))
    }

    /// The row of a key; one that is not there reads as empty.
    pub(super) async fn row(&mut self, key: &str) -> Result<Fields, DbError> {
        Ok(row(ALL, self.run(redis::Cmd::hgetall(key)).await?).unwrap_or_default())
    }

    /// What stands under each key, in the keys' order. Several round trips, each of so few rows that no daemon of the switch
    /// waits long for Redis.
    pub(super) async fn rows(&mut self, keys: &[(&str, FieldNames)]) -> Result<Vec<Found>, DbError> {
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
                    Ok(hash) => row(names, hash).map_or(Found::Nothing, Found::Row),
                    Err(error) if error.code() == Some("WRONGTYPE") => Found::NoRow,
                    Err(error) => return Err(self.failed(&error)),
                });
            }
        }
        self.tell_empty_rows(keys, &mut rows).await?;
        Ok(rows)
    }

    /// A row that has none of the fields that were asked for reads like one that is gone: some of ASIC_DB's are so.
    async fn tell_empty_rows(
        &mut self,
        keys: &[(&str, FieldNames)],
        rows: &mut [Found],
    ) -> Result<(), DbError> {
        let is_unclear =
            |((_, names), row): &(&(&str, FieldNames), &mut Found)| *names != ALL && **row == Found::Nothing;
        let unclear: Vec<_> = keys.iter().zip(rows).filter(is_unclear).collect();
        let mut pipeline = redis::pipe();
        for ((key, _), _) in &unclear {
            pipeline.exists(key);
        }
        for ((_, row), answer) in unclear.into_iter().zip(self.run_all(pipeline).await?) {
            if answer.map_err(|error| self.failed(&error))? {
                *row = Found::Row(Fields::new());
            }
        }
        Ok(())
    }

    /// One step of a scan: about `count` keys from `cursor` on. Returns the cursor for the next step, which is 0 at the end,
    /// and those of the keys that match. KEYS would block Redis for every daemon of the switch.
    pub(super) async fn scan(
        &mut self,
        cursor: u64,
        pattern: &str,
        count: usize,
    ) -> Result<(u64, Vec<String>), DbError> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.run(command).await?;
        // A key that is no text is none of SONiC's.
        Ok((next, keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect()))
    }

    /// Writes steps, in their order, in one round trip, and returns what was refused. One row is one HSET: SONiC's readers
    /// take half a row for a whole one (`common/subscriberstatetable.cpp`).
    pub(super) async fn write(&mut self, steps: &[&Step]) -> Result<Vec<Refused>, DbError> {
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
                    pipeline.cmd("EVAL").arg(ANNOUNCE_GONE).arg(1).arg(key.to_string()).arg(NULL)
                }
            };
        }
        let answers: Vec<RedisResult<redis::Value>> = self.run_all(pipeline).await?;
        let refused = |(step, answer): (&&Step, RedisResult<_>)| {
            Some(Refused { key: step.key().clone(), reason: one_line(&answer.err()?) })
        };
        Ok(steps.iter().zip(answers).filter_map(refused).collect())
    }

    async fn run<T: redis::FromRedisValue>(&mut self, command: redis::Cmd) -> Result<T, DbError> {
        command.query_async(&mut self.connection).await.map_err(|error| self.failed(&error))
    }

    /// The answers to a pipeline's commands. That a command is refused is its answer; an error here is the connection's.
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

/// What Redis, or the way to it, says of a command: it is shown, so it is one line, and no longer than that.
pub(super) fn one_line(error: &RedisError) -> String {
    const LONGEST: usize = 200;
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(_), None) | (None, _) => error.to_string(),
    };
    text.chars().take(LONGEST).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What stands under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A row, or those of its fields that were asked for.
    Row(Fields),
    /// Something that is no hash, so no row of SONiC's.
    NoRow,
    /// Nothing.
    Nothing,
}

/// A hash as Redis gives it: names and values in turns, in no order; or the values of fields that were named.
type Hash = Vec<Option<Vec<u8>>>;

/// A row of a hash; none: it is gone, and reads as empty.
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

/// One odd byte, in a port's description say, must not hide all rows.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}

/// What stands for an empty row; beside other fields it is one that somebody has put there.
fn without_null(mut pairs: Vec<(String, String)>) -> Fields {
    if pairs.len() == 1 && pairs.iter().all(|(name, _)| name == NULL) {
        return Fields::new();
    }
    // They are taken as they are, without room for more: there are thousands of rows.
    pairs.sort_unstable();
    Fields::from_sorted_store_unchecked(pairs)
}
