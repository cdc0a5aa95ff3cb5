//! The text of the state file, which keeps the last accepted document for the next run.
//!
//! Files have a version. Version 0, before there were versions, has a prefix instead of an object for each port. In a file
//! of a later version, unknown fields and unreadable entries are skipped and reported. In a file of this version or an earlier
//! one they are errors.
//!
//! Must never: restore a document as if it were pushed, or prolong the withdrawal of a prefix.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::old_prefixes::WITHDRAWN_FOR;
use super::{Desired, DesiredPort, DocumentError, OldPrefix};
use crate::names::{BootPrefix, PortName};
use crate::printable::Printable;

/// The version of the files that this program writes.
const VERSION: u64 = 1;
/// The most skipped parts that the report names.
const NAMED_MAX: usize = 5;

/// The parsed file. Rejected entries are not in it: the next push is checked again.
#[derive(Deserialize)]
struct Kept {
    #[serde(default)]
    version: u64,
    generation: u64,
    ports: BTreeMap<String, Value>,
    #[serde(default)]
    old: BTreeMap<String, Vec<Value>>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// An old prefix. `until`: the end of its withdrawal in seconds of the Unix epoch.
#[derive(Serialize, Deserialize)]
struct KeptOld {
    prefix: BootPrefix,
    until: u64,
    #[serde(flatten, skip_serializing)]
    unknown: Map<String, Value>,
}

#[derive(Deserialize)]
struct KeptPort {
    prefix: BootPrefix,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The same moment on two clocks: the monotonic clock, and the wall clock, which survives a restart.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock: the time since the Unix epoch.
    pub unix: Duration,
}

/// A document that was read from a state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDocument {
    /// The document.
    pub desired: Desired,
    /// If a later version of leafboot wrote the file: its version and the skipped parts, in one sentence.
    pub newer: Option<String>,
}

impl Desired {
    /// The text of the state file.
    pub fn to_kept(&self, now: Now) -> String {
        let port =
            |(name, port): (&PortName, &DesiredPort)| (name.to_string(), json!({ "prefix": port.prefix }));
        let ports: Map<String, Value> = self.ports.iter().map(port).collect();
        let kept = |old: &OldPrefix| {
            let left = old.until.saturating_duration_since(now.instant);
            let until = (now.unix + left).as_secs();
            (!left.is_zero()).then(|| KeptOld { prefix: old.prefix, until, unknown: Map::new() })
        };
        let old: BTreeMap<&PortName, Vec<KeptOld>> =
            self.old.iter().map(|(port, old)| (port, old.iter().filter_map(kept).collect())).collect();
        json!({ "version": VERSION, "generation": self.generation, "ports": ports, "old": old }).to_string()
    }

    /// Reads a state file's text. A prefix is withdrawn for no longer than [`WITHDRAWN_FOR`], even if the clock was set back.
    pub fn from_kept(text: &str, now: Now) -> Result<KeptDocument, DocumentError> {
        let kept: Kept = serde_json::from_str(text).map_err(|e| DocumentError::Shape(e.to_string()))?;
        let mut reader = StateFileReader { version: kept.version, skipped: Vec::new() };
        reader.skip_all("", &kept.unknown)?;
        let mut desired = Self { generation: kept.generation, ..Self::before_first_push() };
        for (name, value) in kept.ports {
            if let Some((name, port)) = reader.port(&name, value)? {
                desired.ports.insert(name, port);
            }
        }
        for (name, values) in kept.old {
            for value in values {
                let Some((name, old)) = reader.old(&name, value)? else { continue };
                let left = Duration::from_secs(old.until).saturating_sub(now.unix).min(WITHDRAWN_FOR);
                let old = OldPrefix { prefix: old.prefix, until: now.instant + left };
                desired.old.entry(name).or_default().extend((!left.is_zero()).then_some(old));
            }
        }
        Ok(KeptDocument { desired, newer: reader.newer() })
    }
}

/// Reads the parts of a file. A part that it cannot read is skipped in a later version's file, and an error otherwise.
struct StateFileReader {
    version: u64,
    skipped: Vec<String>,
}

impl StateFileReader {
    /// Reads one entry of `ports`. None: it was skipped.
    fn port(&mut self, name: &str, value: Value) -> Result<Option<(PortName, DesiredPort)>, DocumentError> {
        let at = format!("ports.{name}");
        let prefix = if value.is_string() && self.version == 0 {
            self.read::<BootPrefix>(&at, value)?
        } else {
            let Some(port) = self.read::<KeptPort>(&at, value)? else { return Ok(None) };
            self.skip_all(&format!("{at}."), &port.unknown)?;
            Some(port.prefix)
        };
        let name = self.read(&at, Value::from(name))?;
        Ok(name.zip(prefix).map(|(name, prefix)| (name, DesiredPort { prefix })))
    }

    /// Reads one entry of `old`. None: it was skipped.
    fn old(&mut self, name: &str, value: Value) -> Result<Option<(PortName, KeptOld)>, DocumentError> {
        let at = format!("old.{name}");
        let Some(old) = self.read::<KeptOld>(&at, value)? else { return Ok(None) };
        self.skip_all(&format!("{at}."), &old.unknown)?;
        Ok(self.read(&at, Value::from(name))?.map(|name| (name, old)))
    }

    /// Reads the part of the file at the path `at`. None: it was skipped.
    fn read<T: DeserializeOwned>(&mut self, at: &str, value: Value) -> Result<Option<T>, DocumentError> {
        match serde_json::from_value(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.skip(at, &error.to_string()).map(|()| None),
        }
    }

    /// Skips all these fields.
    fn skip_all(&mut self, at: &str, fields: &Map<String, Value>) -> Result<(), DocumentError> {
        fields.keys().try_for_each(|field| self.skip(&format!("{at}{field}"), "unknown field"))
    }

    /// Skips the part at the path `at`. An error if no later version wrote the file.
    fn skip(&mut self, at: &str, reason: &str) -> Result<(), DocumentError> {
        let at = Printable(at).to_string();
        if self.version <= VERSION {
            return Err(DocumentError::Shape(format!("{at}: {reason}")));
        }
        self.skipped.push(at);
        Ok(())
    }

    /// The report on a later version's file. None for a file of this version or an earlier one.
    fn newer(&self) -> Option<String> {
        let version = self.version;
        let named = self.skipped.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        let skipped = match self.skipped.len() {
            0 => "nothing was skipped".to_owned(),
            count if count > NAMED_MAX => format!("{count} parts were skipped: {named} …"),
            _ => format!("skipped: {named}"),
        };
        (version > VERSION).then(|| {
            format!("it has version {version}, and this leafboot knows version {VERSION}; {skipped}")
        })
    }
}
