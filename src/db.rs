//! The Redis edge: reads one pass's rows, writes a plan's steps, and wakes the reconciler when a row changes.
//! The only file that imports redis.
//!
//! Must never: decide anything, or write anything but a plan's steps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;

use crate::observed::Snapshot;
use crate::plan::Step;
use crate::rows::{self, Fields, NULL, Rows, patterns};

/// Redis answers on the switch itself within a millisecond; one that needs longer is not well.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Keys looked at per SCAN step: a switch's whole database in one step, and a few milliseconds of a huge one.
const SCAN_COUNT: usize = 5000;

/// Why SONiC's databases cannot be used now.
#[derive(Debug, Error)]
pub enum DbError {
    /// `database_config.json` is not readable.
    #[error("cannot read {path}: {source}; is SONiC's database container running?")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file with Redis's password is not readable.
    #[error("cannot read {path}, the password_path of database_config.json: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// `database_config.json` is not what SONiC writes, or is half-written.
    #[error("{path}: {reason}")]
    ConfigContent {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {database} at {address}: {source}")]
    Connect {
        /// Which of SONiC's databases.
        database: &'static str,
        /// Socket path or host and port.
        address: String,
        /// What Redis or the kernel said.
        source: RedisError,
    },
    /// A command failed.
    #[error("{database}: {source}")]
    Command {
        /// Which of SONiC's databases.
        database: &'static str,
        /// What Redis said.
        source: RedisError,
    },
}

/// SONiC's `database_config.json`, the parts that are needed.
#[derive(Deserialize)]
struct DatabaseConfig {
    #[serde(rename = "INSTANCES")]
    instances: BTreeMap<String, Instance>,
    #[serde(rename = "DATABASES")]
    databases: BTreeMap<String, DatabaseEntry>,
}

#[derive(Deserialize)]
struct Instance {
    hostname: String,
    port: u16,
    #[serde(default)]
    unix_socket_path: String,
    /// Not in community SONiC: where builds with Redis passwords keep theirs.
    #[serde(default)]
    password_path: String,
}

/// SONiC's `database_global.json`, which lists the databases of every namespace.
#[derive(Deserialize)]
struct GlobalConfig {
    #[serde(rename = "INCLUDES")]
    includes: Vec<Include>,
}

#[derive(Deserialize)]
struct Include {
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct DatabaseEntry {
    id: i64,
    separator: String,
    instance: String,
}

/// One of SONiC's databases.
struct Database {
    name: &'static str,
    connection: MultiplexedConnection,
}

/// One database's changes, and at the end that it has no more to tell: its connection is lost.
type Events = BoxStream<'static, Event>;

/// What a database tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Changed,
    Lost,
}

/// Connections to the databases that leafboot uses.
pub struct Db {
    config: Database,
    state: Database,
    asic: Database,
    counters: Database,
    events: SelectAll<Events>,
}

impl Db {
    /// Connects to the databases that `database_config` names and subscribes to their changes.
    pub async fn connect(database_config: &Path) -> Result<Self, DbError> {
        let places = Places::read(database_config)?;
        let config = places.find("CONFIG_DB", "|")?;
        let state = places.find("STATE_DB", "|")?;
        let asic = places.find("ASIC_DB", ":")?;
        let counters = places.find("COUNTERS_DB", ":")?;
        // Subscribe first, read later: what changes in between wakes us once more
        // (`common/subscriberstatetable.cpp` does it in this order too).
        let events = stream::select_all([
            config.subscribe(&[&patterns::CONFIG[..], &[rows::CONFIG_DB_INITIALIZED]].concat()).await?,
            state.subscribe(&patterns::STATE).await?,
            asic.subscribe(&patterns::ASIC.map(|(keys, _)| keys)).await?,
        ]);
        Ok(Self {
            config: config.connect().await?,
            state: state.connect().await?,
            asic: asic.connect().await?,
            counters: counters.connect().await?,
            events,
        })
    }

    /// Reads everything that a pass needs: four round trips one after the other, unless a database has more than
    /// `SCAN_COUNT` keys, however many ports there are.
    pub async fn snapshot(&mut self) -> Result<Snapshot, DbError> {
        let Self { config, state, asic, counters, .. } = self;
        let (config, (state, asic), port_objects) = tokio::try_join!(
            async {
                // Before and after: `config reload` may empty CONFIG_DB, or end, while its rows are read.
                let before = config.is_initialized().await?;
                let rows = config.rows(&patterns::CONFIG).await?;
                Ok((before && config.is_initialized().await?, rows))
            },
            async {
                // In this order: what orchagent says of an ACL's rules is compared with what the ASIC has afterwards.
                let state = state.rows(&patterns::STATE).await?;
                Ok((state, asic.fields(&patterns::ASIC).await?))
            },
            async {
                let names: Hash = counters.run(redis::Cmd::hgetall(rows::PORT_NAME_MAP)).await?;
                Ok(row(ALL, names).unwrap_or_default())
            },
        )?;
        let (initialized, config) = config;
        Ok(Snapshot { initialized, config, state, asic, port_objects })
    }

    /// Writes a plan's steps, in their order, in one round trip. One row is one HSET: SONiC's readers take half a
    /// row for a whole one (`common/subscriberstatetable.cpp`).
    pub async fn apply(&mut self, steps: &[Step]) -> Result<(), DbError> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for step in steps {
            match step {
                Step::Set(key, fields) if fields.is_empty() => {
                    pipeline.hset(key.to_string(), NULL, NULL).ignore();
                }
                Step::Set(key, fields) => {
                    let fields: Vec<(&String, &String)> = fields.iter().collect();
                    pipeline.hset_multiple(key.to_string(), &fields).ignore();
                }
                Step::Clear(key, fields) => {
                    pipeline.hdel(key.to_string(), fields.iter().collect::<Vec<_>>()).ignore();
                }
                Step::Delete(key) => {
                    pipeline.del(key.to_string()).ignore();
                }
            }
        }
        self.config.run_all(&pipeline).await
    }

    /// Waits until a row changes; what has changed until now is one change. Returns false when a subscription has
    /// ended: its connection is lost. Cancel-safe. FLUSHDB emits no event: the caller also needs a timer.
    pub async fn changed(&mut self) -> bool {
        let mut alive = self.events.next().await == Some(Event::Changed);
        while alive && let Some(more) = self.events.next().now_or_never() {
            alive = more == Some(Event::Changed);
        }
        alive
    }
}

impl Database {
    async fn run<T: redis::FromRedisValue>(&mut self, command: redis::Cmd) -> Result<T, DbError> {
        let database = self.name;
        command
            .query_async(&mut self.connection)
            .await
            .map_err(|source| DbError::Command { database, source })
    }

    async fn run_all<T: redis::FromRedisValue>(&mut self, pipeline: &Pipeline) -> Result<T, DbError> {
        let database = self.name;
        pipeline
            .query_async(&mut self.connection)
            .await
            .map_err(|source| DbError::Command { database, source })
    }

    /// Whether CONFIG_DB is loaded. swss-common's own wait takes «0» for yes (`common/configdb.h`); only «1» means it.
    async fn is_initialized(&mut self) -> Result<bool, DbError> {
        let initialized: Option<Vec<u8>> = self.run(redis::Cmd::get(rows::CONFIG_DB_INITIALIZED)).await?;
        Ok(initialized.as_deref() == Some(b"1"))
    }

    /// All rows whose keys match, in one round trip behind the scan.
    async fn rows(&mut self, patterns: &[&'static str]) -> Result<Rows, DbError> {
        self.fields(&patterns.iter().map(|keys| (*keys, ALL)).collect::<Vec<_>>()).await
    }

    /// The same, with some of the rows' fields only.
    async fn fields(&mut self, patterns: &[(&'static str, FieldNames)]) -> Result<Rows, DbError> {
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

    /// What each command of a pipeline says of a hash; none: it is none, so no row of SONiC's.
    async fn hashes(&mut self, mut pipeline: Pipeline) -> Result<Vec<Option<Hash>>, DbError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<RedisResult<Hash>> = self.run_all(pipeline.ignore_errors()).await?;
        let hash = |found: RedisResult<Hash>| match found {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
            Err(source) => Err(DbError::Command { database: self.name, source }),
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
            let found: Vec<(u64, Vec<Vec<u8>>)> = self.run_all(&pipeline).await?;
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

/// `database_config.json`, read.
struct Places {
    path: PathBuf,
    config: DatabaseConfig,
}

/// Where one database is.
struct Place {
    name: &'static str,
    address: ConnectionAddr,
    id: i64,
    password: Option<Password>,
}

impl Places {
    fn read(path: &Path) -> Result<Self, DbError> {
        let text =
            std::fs::read(path).map_err(|source| DbError::ConfigFile { path: path.to_owned(), source })?;
        let config = serde_json::from_slice(&text).map_err(|e| DbError::ConfigContent {
            path: path.to_owned(),
            reason: format!("not SONiC's database_config.json: {e}"),
        })?;
        refuse_namespaces(&path.with_file_name("database_global.json"))?;
        Ok(Self { path: path.to_owned(), config })
    }

    /// Finds a database by its name. Its separator must be the one that `rows` spells keys with.
    fn find(&self, name: &'static str, separator: &str) -> Result<Place, DbError> {
        let wrong = |reason| DbError::ConfigContent { path: self.path.clone(), reason };
        let entry =
            self.config.databases.get(name).ok_or_else(|| wrong(format!("DATABASES has no {name}")))?;
        if entry.separator != separator {
            return Err(wrong(format!(
                "{name} has separator {:?}; leafboot knows {separator:?}",
                entry.separator
            )));
        }
        let instance = self.config.instances.get(&entry.instance).ok_or_else(|| {
            wrong(format!("{name} is in instance {:?}, which INSTANCES does not have", entry.instance))
        })?;
        let address = if instance.unix_socket_path.is_empty() {
            ConnectionAddr::Tcp(instance.hostname.clone(), instance.port)
        } else {
            ConnectionAddr::Unix(PathBuf::from(&instance.unix_socket_path))
        };
        let password = match instance.password_path.as_str() {
            "" => None,
            path => Some(password(Path::new(path))?),
        };
        Ok(Place { name, address, id: entry.id, password })
    }
}

/// A leaf with several ASICs has a namespace, and a redis-server, for each; leafboot knows one of them only.
fn refuse_namespaces(path: &Path) -> Result<(), DbError> {
    let Ok(text) = std::fs::read(path) else { return Ok(()) };
    let wrong = |reason| DbError::ConfigContent { path: path.to_owned(), reason };
    let global: GlobalConfig = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let names = global.includes.into_iter().map(|include| include.namespace);
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    Err(wrong(format!(
        "this switch has several namespaces ({names}); leafboot serves switches with one ASIC"
    )))
}

fn password(path: &Path) -> Result<Password, DbError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| DbError::PasswordFile { path: path.to_owned(), source })?;
    Ok(Password(text.trim_end().to_owned()))
}

/// A secret: it is never printed.
struct Password(String);

impl Place {
    fn client(&self) -> Result<Client, DbError> {
        let info = self.address.clone().into_connection_info().map_err(|e| self.unreachable(e))?;
        let mut settings = info.redis_settings().clone().set_db(self.id);
        if let Some(Password(password)) = &self.password {
            settings = settings.set_password(password);
        }
        Client::open(info.set_redis_settings(settings)).map_err(|e| self.unreachable(e))
    }

    async fn connect(&self) -> Result<Database, DbError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = self.client()?.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Database { name: self.name, connection: connection.map_err(|e| self.unreachable(e))? })
    }

    /// Subscribes to the keyspace events of rows whose keys match.
    async fn subscribe(&self, patterns: &[&str]) -> Result<Events, DbError> {
        let client = self.client()?;
        let channels: Vec<String> =
            patterns.iter().map(|pattern| format!("__keyspace@{}__:{pattern}", self.id)).collect();
        let subscribing = async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.psubscribe(channels).await?;
            Ok(stream)
        };
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let subscribed: RedisResult<_> = timeout(TIMEOUT, subscribing).await.unwrap_or_else(late);
        let changes = subscribed.map_err(|e| self.unreachable(e))?.map(|_| Event::Changed);
        Ok(changes.chain(stream::once(std::future::ready(Event::Lost))).boxed())
    }

    fn unreachable(&self, source: RedisError) -> DbError {
        DbError::Connect { database: self.name, address: self.address.to_string(), source }
    }
}
