//! The endpoints of SONiC's databases, from `database_config.json`, and connections to them.
//!
//! Must never: print a password, or use the databases of one namespace on a switch with several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, RedisResult};
use serde::Deserialize;
use tokio::time::timeout;

use super::database::Database;
use super::events::KeyspaceEvents;
use super::{DbError, TIMEOUT};

/// The parts of SONiC's `database_config.json` that leafboot reads.
#[derive(Deserialize)]
struct DatabaseConfigFile {
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
    /// The file with Redis' password. Community SONiC has none; builds with Redis passwords do.
    #[serde(default)]
    password_path: String,
}

#[derive(Deserialize)]
struct DatabaseEntry {
    id: i64,
    separator: String,
    instance: String,
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

/// `database_config.json`, parsed.
pub(super) struct DatabaseConfig {
    path: PathBuf,
    file: DatabaseConfigFile,
}

/// The endpoint of one database.
pub(super) struct Endpoint {
    name: &'static str,
    address: ConnectionAddr,
    id: i64,
    password: Option<Password>,
}

impl DatabaseConfig {
    /// Reads the file. Refuses a switch with several namespaces, which the file beside it lists.
    pub(super) fn read(path: &Path) -> Result<Self, DbError> {
        let text =
            std::fs::read(path).map_err(|source| DbError::ConfigFile { path: path.to_owned(), source })?;
        let file = serde_json::from_slice(&text).map_err(|e| DbError::ConfigContent {
            path: path.to_owned(),
            reason: format!("not SONiC's database_config.json: {e}"),
        })?;
        refuse_namespaces(&path.with_file_name("database_global.json"))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The endpoint of the database with this name. Its separator must be the one that `rows` spells keys with.
    pub(super) fn endpoint(&self, name: &'static str, separator: &str) -> Result<Endpoint, DbError> {
        let wrong = |reason| DbError::ConfigContent { path: self.path.clone(), reason };
        let entry = self.file.databases.get(name).ok_or_else(|| wrong(format!("DATABASES has no {name}")))?;
        if entry.separator != separator {
            return Err(wrong(format!(
                "{name} has separator {:?}; leafboot knows {separator:?}",
                entry.separator
            )));
        }
        let instance = self.file.instances.get(&entry.instance).ok_or_else(|| {
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
        Ok(Endpoint { name, address, id: entry.id, password })
    }
}

/// Refuses a switch with several ASICs. SONiC runs a namespace with its own redis-server for each ASIC, and leafboot serves
/// one only.
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

/// A secret. It has no `Debug` and no `Display`.
struct Password(String);

impl Endpoint {
    fn client(&self) -> Result<Client, DbError> {
        let info = self.address.clone().into_connection_info().map_err(|e| self.unreachable(e))?;
        let mut settings = info.redis_settings().clone().set_db(self.id);
        if let Some(Password(password)) = &self.password {
            settings = settings.set_password(password);
        }
        Client::open(info.set_redis_settings(settings)).map_err(|e| self.unreachable(e))
    }

    /// Connects within [`TIMEOUT`]. Each command has the same time limit.
    pub(super) async fn connect(&self) -> Result<Database, DbError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = self.client()?.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Database::new(self.name, connection.map_err(|e| self.unreachable(e))?))
    }

    /// Subscribes to the keyspace events of the keys that match one of the patterns.
    pub(super) async fn subscribe(&self, patterns: &[String]) -> Result<KeyspaceEvents, DbError> {
        let client = self.client()?;
        let prefix = format!("__keyspace@{}__:", self.id);
        let channels: Vec<String> = patterns.iter().map(|pattern| format!("{prefix}{pattern}")).collect();
        let subscribing = async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.psubscribe(channels).await?;
            Ok(KeyspaceEvents::new(self.name, prefix, sink, stream))
        };
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let subscribed: RedisResult<_> = timeout(TIMEOUT, subscribing).await.unwrap_or_else(late);
        subscribed.map_err(|e| self.unreachable(e))
    }

    fn unreachable(&self, source: RedisError) -> DbError {
        DbError::Connect { database: self.name, address: self.address.to_string(), source }
    }
}
