//! Parses the pushed document. `admission` checks whether its entries can be used.
//!
//! Must never: accept an object with a duplicate name, or reject a single port.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::printable::Printable;

/// The most entries of a document. SONiC's largest leaves have 512 ports, and each may be named twice by mistake.
pub const ENTRIES_MAX: usize = 1024;
/// The longest name of an entry in bytes: the longest alias that SONiC takes (`sonic-port.yang: alias`).
pub const NAME_MAX: usize = 128;

/// Why a document is refused as a whole. A refused document changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// It is not JSON, has a duplicate name in an object, or has a value of the wrong type.
    #[error("not a port document: {0}")]
    Shape(String),
    /// It has more than [`ENTRIES_MAX`] entries.
    #[error("{0} entries are more than the {ENTRIES_MAX} that a document may have")]
    Entries(usize),
    /// It has an entry whose name is longer than [`NAME_MAX`].
    #[error("a port's name has {0} bytes, more than the {NAME_MAX} that SONiC takes")]
    Name(usize),
}

/// A parsed document: each port's entry, by the pushed name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The entries, sorted by their names as text.
    pub entries: BTreeMap<String, PortEntry>,
}

/// One port's entry. None: the field is missing, or null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortEntry {
    /// `boot` in a valid entry.
    pub state: Option<String>,
    /// The port's /64.
    pub prefix: Option<String>,
    /// The first unknown field.
    pub unknown: Option<String>,
}

impl Document {
    /// Parses the body of a push.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        let NamedOnce(value) =
            serde_json::from_slice(text).map_err(|error| DocumentError::Shape(error.to_string()))?;
        let Value::Object(mut fields) = value else {
            return Err(shape("it is not an object such as {\"ports\": {}}"));
        };
        let ports = fields.remove("ports").ok_or_else(|| shape("it has no field \"ports\""))?;
        if let Some(other) = fields.keys().next() {
            return Err(shape(format!(
                "it has the unknown field \"{}\": its only field is \"ports\"",
                Printable(other)
            )));
        }
        let Value::Object(ports) = ports else {
            return Err(shape("its field \"ports\" is not an object that names each port once"));
        };
        if ports.len() > ENTRIES_MAX {
            return Err(DocumentError::Entries(ports.len()));
        }
        let mut entries = BTreeMap::new();
        for (name, entry) in ports {
            if name.len() > NAME_MAX {
                return Err(DocumentError::Name(name.len()));
            }
            let entry = PortEntry::read(&name, entry)?;
            entries.insert(name, entry);
        }
        Ok(Self { entries })
    }
}

impl PortEntry {
    fn read(name: &str, value: Value) -> Result<Self, DocumentError> {
        let of = Printable(name);
        let Value::Object(fields) = value else {
            return Err(shape(format!(
                "the entry of \"{of}\" is not an object such as {{\"state\": \"boot\"}}"
            )));
        };
        let mut entry = Self::default();
        for (field, value) in fields {
            let text = match (field.as_str(), value) {
                ("state" | "prefix", Value::String(text)) => Some(text),
                ("state" | "prefix", Value::Null) => None,
                ("state" | "prefix", _) => {
                    return Err(shape(format!("the field \"{field}\" of \"{of}\" is not a text")));
                }
                _ => {
                    entry.unknown.get_or_insert(field);
                    continue;
                }
            };
            *(if field == "state" { &mut entry.state } else { &mut entry.prefix }) = text;
        }
        Ok(entry)
    }
}

fn shape(reason: impl Into<String>) -> DocumentError {
    DocumentError::Shape(reason.into())
}

/// A JSON value in which no object has a duplicate name. JSON permits duplicates, and parsers silently drop one of the values.
/// Arrays are checked too, but their items are dropped: a document has no arrays.
struct NamedOnce(Value);

impl<'de> Deserialize<'de> for NamedOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedOnceVisitor).map(Self)
    }
}

struct NamedOnceVisitor;

impl<'de> Visitor<'de> for NamedOnceVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        while array.next_element::<NamedOnce>()?.is_some() {}
        Ok(Value::Array(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format_args!(
                    "\"{}\" stands twice in one object",
                    Printable(&name)
                )));
            }
            let NamedOnce(value) = object.next_value()?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}
