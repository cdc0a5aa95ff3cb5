//! One of SONiC's databases: its rows as `rows` has them, read and written.
//!
//! Must never: block Redis for the switch's daemons, or let one odd byte or key hide the rows beside it.

use std::collections::{BTreeMap, BTreeSet};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult};

use super::DbError;
use crate::plan::Step;
use crate::refusals::Refused;
use crate::rows::{self, Fields, NULL, Rows};

/// Keys looked at per SCAN step: a switch's whole database in one step, and a few milliseconds of a huge one.
const SCAN_COUNT: usize = 5000;

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

    /// All rows whose keys match, in one round trip behind the scan.
    pub(super) async fn rows(&mut self, patterns: &[&'static str]) -> Result<Rows, DbError> {
        self.fields(&patterns.iter().map(|keys| (*keys, ALL)).collect::<Vec<_>>()).await
    }

    /// The same, with some of the rows' fields only.
    pub(super) async fn fields(&mut self, patterns: &[(&'static str, FieldNames)]) -> Result<Rows, DbError> {
        let keys: Vec<&str> = patterns.iter().map(|(keys, _)| *keys).collect();
        let keys = self.keys(&keys).await?.into_iter().zip(patterns);
        let keys: BTreeMap<String, FieldNames> =
            keys.flat_map(|(keys, (_, names))| keys.into_iter().map(|key| (key, *names))).collect();
        let mut pipeline = redis::pipe();
        for (key, names) in &keys {
            match *names {
                ALL => pipeline.hgetall(key),
                names => pipeline.hmget(key, names),
            };
        }
        let found = self.hashes(pipeline).await?;
        let rows = keys.into_iter().zip(found);
        Ok(rows.filter_map(|((key, names), hash)| Some((key, row(names, hash?)?))).collect())
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
        let database = self.name;
        let answer = command.query_async(&mut self.connection).await;
        answer.map_err(|error| DbError::Command { database, reason: one_line(&error) })
    }

    /// The answers to a pipeline's commands. That a command is refused is its answer; an error here is the connection's.
    async fn run_all<T: redis::FromRedisValue>(
        &mut self,
        mut pipeline: Pipeline,
    ) -> Result<Vec<RedisResult<T>>, DbError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let database = self.name;
        let answers = pipeline.ignore_errors().query_async(&mut self.connection).await;
        answers.map_err(|error| DbError::Command { database, reason: one_line(&error) })
    }

    /// What each command of a pipeline says of a hash; none: it is none, so no row of SONiC's.
    async fn hashes(&mut self, pipeline: Pipeline) -> Result<Vec<Option<Hash>>, DbError> {
        let found: Vec<RedisResult<Hash>> = self.run_all(pipeline).await?;
        let hash = |found: RedisResult<Hash>| match found {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
            Err(error) => Err(DbError::Command { database: self.name, reason: one_line(&error) }),
        };
        found.into_iter().map(hash).collect()
    }

    /// The keys that match each pattern, by one SCAN a pattern in each round trip: KEYS would block Redis for every
    /// daemon of the switch.
    async fn keys(&mut self, patterns: &[&str]) -> Result<Vec<BTreeSet<String>>, DbError> {
        let mut keys = vec![BTreeSet::new(); patterns.len()];
        let mut cursors: Vec<(usize, u64)> = (0..patterns.len()).map(|pattern| (pattern, 0)).collect();
        while !cursors.is_empty() {
            let mut pipeline = redis::pipe();
            for (pattern, cursor) in &cursors {
                let pattern = patterns[*pattern];
                pipeline.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
            }
            let found: Vec<RedisResult<(u64, Vec<Vec<u8>>)>> = self.run_all(pipeline).await?;
            let found: RedisResult<Vec<_>> = found.into_iter().collect();
            let found = found.map_err(|e| DbError::Command { database: self.name, reason: one_line(&e) })?;
            for ((pattern, cursor), (next, found)) in cursors.iter_mut().zip(found) {
                *cursor = next;
                // A key that is no text is none of SONiC's.
                keys[*pattern].extend(found.into_iter().filter_map(|key| String::from_utf8(key).ok()));
            }
            cursors.retain(|(_, cursor)| *cursor != 0);
        }
        Ok(keys)
    }
}

/// What Redis, or the way to it, says of a command: it is shown, so it is one line, and no longer than that.
fn one_line(error: &RedisError) -> String {
    const LONGEST: usize = 200;
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(_), None) | (None, _) => error.to_string(),
    };
    text.chars().take(LONGEST).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Which fields of rows are read.
type FieldNames = &'static [&'static str];

/// Every field of a row.
const ALL: FieldNames = &[];

/// A hash as Redis gives it: names and values in turns, in no order; or the values of fields that were named.
type Hash = Vec<Option<Vec<u8>>>;

/// A row of a hash; none: it went in between, and reads as empty.
fn row(names: FieldNames, hash: Hash) -> Option<Fields> {
    let mut texts = hash.into_iter().map(|bytes| bytes.map(text));
    if names != ALL {
        let named = names.iter().zip(texts);
        return Some(named.filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect());
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
