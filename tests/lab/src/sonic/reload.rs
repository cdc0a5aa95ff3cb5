//! `config reload`, with and without `-n`: the model of the operator's part.
//!
//! Owns: emptying and filling CONFIG_DB, from a config_db.json or from redis commands.
//! Must never: be called by a daemon. This is the only file of the model that writes CONFIG_DB.

use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use super::database::Database;

/// The rows of a file.
pub fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Reload(format!("{}: {error}", path.display())))
}

/// The redis commands that make these rows: a config_db.json, or redis commands already, one a line.
pub fn commands(rows: &str) -> Result<Vec<Vec<String>>, Error> {
    if rows.trim_start().starts_with('{') {
        let tables: Map<String, Value> =
            serde_json::from_str(rows).map_err(|error| Error::Reload(error.to_string()))?;
        from_json(&tables).ok_or_else(|| Error::Reload("not table, key, field, value".to_owned()))
    } else {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let is_command = |words: &Vec<String>| words.first().is_some_and(|word| !word.starts_with('#'));
        Ok(rows.lines().map(words).filter(is_command).collect())
    }
}

/// Empties CONFIG_DB. Subscribers get no event.
// sonic-utilities config/main.py: flush_configdb
pub fn empty(config: &mut Database) -> Result<(), Error> {
    config.flush()?;
    Ok(redis::cmd("SET").arg("CONFIG_DB_INITIALIZED").arg("0").exec(config.connection())?)
}

/// Writes the rows, and sets CONFIG_DB_INITIALIZED.
// sonic-utilities config/main.py: reload
pub fn fill(config: &mut Database, commands: &[Vec<String>]) -> Result<(), Error> {
    let ready = ["SET", "CONFIG_DB_INITIALIZED", "1"].map(str::to_owned).to_vec();
    for command in commands.iter().chain([&ready]) {
        let mut raw = redis::Cmd::new();
        for word in command {
            raw.arg(word);
        }
        raw.exec(config.connection())?;
    }
    Ok(())
}

// sonic-swss-common common/configdb.h: ConfigDBConnector_Native::typed_to_raw
fn from_json(tables: &Map<String, Value>) -> Option<Vec<Vec<String>>> {
    let mut commands = Vec::new();
    for (table, rows) in tables {
        for (key, row) in rows.as_object()? {
            let mut command = vec!["HSET".to_owned(), format!("{table}|{key}")];
            for (field, value) in row.as_object()? {
                match value {
                    Value::Array(list) => {
                        let items: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                        command.extend([format!("{field}@"), items?.join(",")]);
                    }
                    Value::String(text) => command.extend([field.clone(), text.clone()]),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
                }
            }
            if command.len() == 2 {
                command.extend(["NULL".to_owned(), "NULL".to_owned()]);
            }
            commands.push(command);
        }
    }
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_commands_say_the_same() {
        let json = r#"{"ACL_TABLE": {"boot": {"type": "L3V6", "ports": ["Ethernet0", "Ethernet4"]}},
                       "VRF": {"Vrfboot": {}}}"#;
        let mut from_json = commands(json).unwrap();
        from_json.sort();
        let text = "# by hand\nHSET ACL_TABLE|boot ports@ Ethernet0,Ethernet4 type L3V6\n\nHSET VRF|Vrfboot NULL NULL\n";
        assert_eq!(from_json, commands(text).unwrap());
        assert!(commands(r#"{"VRF": {"Vrfboot": {"vni": 1}}}"#).is_err());
    }
}
