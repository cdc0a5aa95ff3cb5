//! SONiC's redis databases, found by name through SONiC's own `database_config.json`.
//!
//! Owns: reading that file, connecting, and the shape of a row (`TABLE<separator>key` → hash).
//! Must never: contain a database id, a separator or a socket path, or know the meaning of a table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use serde::Deserialize;

/// The fields of a row. An empty row is stored as `NULL:NULL` and read back as no field at all.
pub type Fields = BTreeMap<String, String>;

/// Errors of the databases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database config cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The database config is not what SONiC writes.
    #[error("{path}: not a database config: {source}", path = path.display())]
    Parse {
        /// The file that was asked for.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The database config does not have this database.
    #[error("the database config has no database {0}")]
    UnknownDatabase(String),
    /// A database of the config lives in an instance that the config does not have.
    #[error("the database config has no instance {instance} for {database}")]
    UnknownInstance {
        /// The database.
        database: String,
        /// The instance that it should be in.
        instance: String,
    },
    /// redis refused, or went away.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}

/// SONiC's `database_config.json`: which database is where.
#[derive(Debug, Clone, Deserialize)]
pub struct Databases {
    #[serde(rename = "INSTANCES")]
    instances: BTreeMap<String, Instance>,
    #[serde(rename = "DATABASES")]
    databases: BTreeMap<String, Place>,
}

#[derive(Debug, Clone, Deserialize)]
struct Instance {
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    unix_socket_path: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Place {
    id: i64,
    separator: String,
    instance: String,
}

impl Databases {
    /// Reads the config file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })
    }

    /// Connects to the database with this name, by its instance's unix socket, or by TCP if it has none.
    pub fn open(&self, name: &str) -> Result<Database, Error> {
        let place = self.databases.get(name).ok_or_else(|| Error::UnknownDatabase(name.to_owned()))?;
        let instance = self.instances.get(&place.instance).ok_or_else(|| Error::UnknownInstance {
            database: name.to_owned(),
            instance: place.instance.clone(),
        })?;
        let address = if instance.unix_socket_path.is_empty() {
            ConnectionAddr::Tcp(instance.hostname.clone(), instance.port)
        } else {
            ConnectionAddr::Unix(PathBuf::from(&instance.unix_socket_path))
        };
        let info = address
            .into_connection_info()?
            .set_redis_settings(RedisConnectionInfo::default().set_db(place.id));
        let connection = redis::Client::open(info)?.get_connection()?;
        Ok(Database { connection, id: place.id, separator: place.separator.clone() })
    }
}

/// A connection to one database.
pub struct Database {
    connection: redis::Connection,
    id: i64,
    separator: String,
}

impl Database {
    /// The fields of a row, or nothing if there is no such row.
    pub fn row(&mut self, table: &str, key: &str) -> Result<Option<Fields>, Error> {
        let mut row = self.row_with_null(table, key)?;
        if let Some(fields) = &mut row {
            fields.remove("NULL");
        }
        Ok(row)
    }

    /// The fields of a row, and `NULL` as one of them if the row has it.
    pub fn row_with_null(&mut self, table: &str, key: &str) -> Result<Option<Fields>, Error> {
        let raw: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(self.name(table, key)).query(&mut self.connection)?;
        if raw.is_empty() { Ok(None) } else { Ok(Some(without_marks(raw))) }
    }

    /// One field of a row.
    pub fn field(&mut self, table: &str, key: &str, field: &str) -> Result<Option<String>, Error> {
        Ok(self.row(table, key)?.and_then(|mut row| row.remove(field)))
    }

    /// Sets these fields and leaves the row's other fields alone. No field at all makes an empty row.
    pub fn set(&mut self, table: &str, key: &str, fields: &Fields) -> Result<(), Error> {
        let mut command = redis::cmd("HSET");
        command.arg(self.name(table, key));
        if fields.is_empty() {
            command.arg("NULL").arg("NULL");
        }
        for (field, value) in fields {
            command.arg(field).arg(value);
        }
        Ok(command.exec(&mut self.connection)?)
    }

    /// Deletes a row, if there is one.
    pub fn delete(&mut self, table: &str, key: &str) -> Result<(), Error> {
        Ok(redis::cmd("DEL").arg(self.name(table, key)).exec(&mut self.connection)?)
    }

    /// The keys of a table's rows, without the table's name.
    pub fn keys(&mut self, table: &str) -> Result<Vec<String>, Error> {
        let prefix = format!("{table}{}", self.separator);
        let names: Vec<String> = redis::cmd("KEYS").arg(format!("{prefix}*")).query(&mut self.connection)?;
        let mut keys: Vec<String> =
            names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect();
        keys.sort();
        Ok(keys)
    }

    /// Every row by its redis key, with everything that it has: lists with their mark, empty rows with their `NULL`.
    pub fn raw_rows(&mut self) -> Result<BTreeMap<String, Fields>, Error> {
        let pattern = format!("*{}*", self.separator);
        let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut self.connection)?;
        let mut pipeline = redis::pipe();
        for name in &names {
            pipeline.hgetall(name);
        }
        let rows: Vec<Fields> = pipeline.query(&mut self.connection)?;
        Ok(names.into_iter().zip(rows).collect())
    }

    /// Deletes one field of a row.
    pub fn delete_field(&mut self, table: &str, key: &str, field: &str) -> Result<(), Error> {
        Ok(redis::cmd("HDEL").arg(self.name(table, key)).arg(field).exec(&mut self.connection)?)
    }

    /// Deletes every row of a table.
    pub fn delete_all(&mut self, table: &str) -> Result<(), Error> {
        for key in self.keys(table)? {
            self.delete(table, &key)?;
        }
        Ok(())
    }

    /// Empties the database. redis publishes no event about it.
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(redis::cmd("FLUSHDB").exec(&mut self.connection)?)
    }

    /// The value of a plain string key.
    pub fn text(&mut self, key: &str) -> Result<Option<String>, Error> {
        Ok(redis::cmd("GET").arg(key).query(&mut self.connection)?)
    }

    /// The channel prefix of keyspace events about a table of this database.
    pub fn keyspace(&self, table: &str) -> String {
        format!("__keyspace@{}__:{table}{}", self.id, self.separator)
    }

    /// The connection itself, for what rows cannot say (subscriptions, transactions).
    pub fn connection(&mut self) -> &mut redis::Connection {
        &mut self.connection
    }

    /// Only the connection.
    pub fn into_connection(self) -> redis::Connection {
        self.connection
    }

    /// The redis key of a row. A table without keys (COUNTERS_PORT_NAME_MAP) is one row of the table's name.
    // sonic-swss-common common/table.cpp: TableBase::getKeyName
    pub fn name(&self, table: &str, key: &str) -> String {
        if key.is_empty() { table.to_owned() } else { format!("{table}{}{key}", self.separator) }
    }
}

/// The fields of a raw hash as SONiC's readers see them: a field name ends at its first `@` (the mark of a list).
// sonic-swss-common common/table.cpp: Table::get, stripSpecialSym
fn without_marks(raw: BTreeMap<String, String>) -> Fields {
    let strip = |field: String| field.split('@').next().unwrap_or_default().to_owned();
    raw.into_iter().map(|(field, value)| (strip(field), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_loses_its_mark() {
        let raw = [("ports@", "Ethernet0,Ethernet4"), ("type", "L3V6")];
        let fields = without_marks(raw.map(|(f, v)| (f.to_owned(), v.to_owned())).into());
        let expected = [("ports", "Ethernet0,Ethernet4"), ("type", "L3V6")];
        assert_eq!(fields, expected.map(|(f, v)| (f.to_owned(), v.to_owned())).into());
    }
}
