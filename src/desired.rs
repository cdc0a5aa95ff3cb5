//! What metal-core wants: the pushed document, parsed and checked as a whole, what it takes from the ports, and its kept
//! copy.
//!
//! Must never: take a part of a document that has a fault, read a clock or a file.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::config::Boot;
use crate::net::{BootPrefix, PortName, PrefixError};
use crate::ra::packet::OLD_PREFIXES_MAX;

/// RFC 4862 5.5.3 e: no machine keeps an address longer than this after it has heard of lifetime 0.
const WITHDRAWN_FOR: Duration = Duration::from_secs(2 * 60 * 60);

/// The desired state of every port: a port that is not in `ports` is not to be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Counts accepted documents that differ from the one before; from 1.
    pub generation: u64,
    /// Whether metal-core has said this since the agent started.
    pub provenance: Provenance,
    /// The ports that are to boot, each with its /64.
    pub ports: BTreeMap<PortName, BootPrefix>,
    /// What earlier documents gave to ports and this one does not, the latest first.
    pub old: OldPrefixes,
}

/// Prefixes that are to be withdrawn from ports.
pub type OldPrefixes = BTreeMap<PortName, Vec<OldPrefix>>;

/// A prefix that a port's machines may still have an address in (RFC 9096 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldPrefix {
    /// What the port had.
    pub prefix: BootPrefix,
    /// Until then it is advertised with lifetimes 0.
    pub until: Instant,
}

/// Where a document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// An order: what is not in it is released.
    Pushed,
    /// A memory of an earlier run: nothing is released on its word.
    Restored,
}

/// What is known of a front-panel port from its CONFIG_DB `PORT` row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRow {
    /// The port's other name, such as `Eth1/1`.
    pub alias: Option<String>,
    /// The port's front-panel index; ports of one breakout share it.
    pub index: Option<u32>,
}

/// All front-panel ports of the leaf.
pub type PortRows = BTreeMap<PortName, PortRow>;

/// A document that was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not JSON, or not of the document's shape.
    #[error("not a port document: {0}")]
    Shape(String),
    /// Well-formed, but with ports that cannot be taken.
    #[error("{}", .0.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
}

/// One port's fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The port as the document names it.
    pub port: String,
    /// The field at fault: `port` (its name), `state`, `prefix`, or one that a port does not have.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.port, self.field, self.reason)
    }
}

/// Parses and checks a whole document against the leaf's ports: every port known, unprotected and named once,
/// every prefix a /64 that no other port has.
pub fn parse(
    body: &[u8],
    rows: &PortRows,
    boot: &Boot,
) -> Result<BTreeMap<PortName, BootPrefix>, DocumentError> {
    let document: Document = serde_json::from_slice(body).map_err(|e| DocumentError::Shape(e.to_string()))?;
    let mut ports = BTreeMap::new();
    let mut refusals = Vec::new();
    for (name, wish) in document.ports.0 {
        match checked(&name, wish, rows, boot).and_then(|port| add(&mut ports, &name, port)) {
            Ok(()) => {}
            Err((field, reason)) => refusals.push(Refusal { port: name, field, reason }),
        }
    }
    if refusals.is_empty() { Ok(ports) } else { Err(DocumentError::Refused(refusals)) }
}

/// A field and what is wrong with it.
type Fault = (String, String);

/// One port's wish, checked by itself.
fn checked(
    name: &str,
    wish: serde_json::Value,
    rows: &PortRows,
    boot: &Boot,
) -> Result<(PortName, BootPrefix), Fault> {
    let fault = |field: &str, reason: String| (field.to_owned(), reason);
    let (port, row) = resolve(name, rows).ok_or_else(|| fault("port", no_port(name, rows)))?;
    if is_protected(port, Some(row), boot) {
        return Err(fault("port", "it is protected by boot.protected: an uplink is never taken".to_owned()));
    }
    let wish = Wish::read(wish)?;
    match wish.state.as_deref() {
        Some("boot") => {}
        None => return Err(fault("state", "it is missing: write {\"state\": \"boot\"}".to_owned())),
        Some(other) => {
            let reason =
                format!("{other:?} is not \"boot\"; leave the port out of the document to release it");
            return Err(fault("state", reason));
        }
    }
    let prefix: BootPrefix = match (wish.prefix, row.index) {
        (Some(text), _) => text.parse().map_err(|e: PrefixError| fault("prefix", e.to_string()))?,
        (None, None) => {
            let reason = "none given, and the port's PORT row has no index to derive it from";
            return Err(fault("prefix", reason.to_owned()));
        }
        (None, Some(index)) => boot.prefix.nth(index).ok_or_else(|| {
            fault("prefix", format!("none given, and boot.prefix {} has no /64 number {index}", boot.prefix))
        })?,
    };
    if !boot.supernet.contains(&prefix.net()) {
        let reason =
            format!("{prefix} is outside boot.supernet {}, which the boot ACL permits", boot.supernet);
        return Err(fault("prefix", reason));
    }
    Ok((port.clone(), prefix))
}

/// Whether `boot.protected` names a port, by its name or its alias.
pub fn is_protected(port: &PortName, row: Option<&PortRow>, boot: &Boot) -> bool {
    let alias = row.and_then(|row| row.alias.as_ref());
    boot.protected.iter().any(|name| name == port.as_str() || alias == Some(name))
}

/// Adds a port, unless it or its prefix is there. Two /64s overlap only when they are equal; SONiC would retry
/// the second for ever (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`).
fn add(
    ports: &mut BTreeMap<PortName, BootPrefix>,
    name: &str,
    (port, prefix): (PortName, BootPrefix),
) -> Result<(), Fault> {
    if ports.contains_key(&port) {
        return Err(("port".to_owned(), format!("{name} and another entry both mean {port}")));
    }
    if let Some((other, _)) = ports.iter().find(|(_, taken)| **taken == prefix) {
        let reason = format!("{prefix} overlaps the prefix of {other}: each port needs its own /64");
        return Err(("prefix".to_owned(), reason));
    }
    ports.insert(port, prefix);
    Ok(())
}

/// Finds a port by its name or its alias.
pub fn resolve<'a>(name: &str, rows: &'a PortRows) -> Option<(&'a PortName, &'a PortRow)> {
    let by_name = name.parse::<PortName>().ok().and_then(|port| rows.get_key_value(&port));
    by_name.or_else(|| rows.iter().find(|(_, row)| row.alias.as_deref() == Some(name)))
}

/// Why a document's `name` is no port that can boot.
fn no_port(name: &str, rows: &PortRows) -> String {
    match name.split_once('.').and_then(|(port, _)| resolve(port, rows)) {
        Some((port, _)) => {
            format!("{name:?} is a sub-interface of {port}: a port boots as a whole or not at all")
        }
        None => unknown(name, rows),
    }
}

/// Says that `name` is no port of this leaf, in one sentence with a hint.
pub fn unknown(name: &str, rows: &PortRows) -> String {
    let known = match (rows.first_key_value(), rows.last_key_value()) {
        (Some((first, _)), Some((last, _))) => format!("it has {} ports, {first} to {last}", rows.len()),
        _ => "its PORT table is empty".to_owned(),
    };
    format!("{name:?} is not a port of this leaf ({known})")
}

/// The document as it comes in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ports: Wishes,
}

/// One port's entry.
struct Wish {
    state: Option<String>,
    prefix: Option<String>,
}

impl Wish {
    /// Reads an entry by hand, so that a fault can name the field that it is in.
    fn read(value: serde_json::Value) -> Result<Self, Fault> {
        let serde_json::Value::Object(entry) = value else {
            return Err((
                "port".to_owned(),
                "its entry is not an object such as {\"state\": \"boot\"}".to_owned(),
            ));
        };
        let mut wish = Self { state: None, prefix: None };
        for (field, value) in entry {
            match (field.as_str(), value) {
                ("state", serde_json::Value::String(state)) => wish.state = Some(state),
                ("prefix", serde_json::Value::String(prefix)) => wish.prefix = Some(prefix),
                ("prefix", serde_json::Value::Null) => {}
                ("state" | "prefix", other) => return Err((field, format!("{other} is not a text"))),
                _ => return Err((field, "no such field: a port has state and prefix".to_owned())),
            }
        }
        Ok(wish)
    }
}

/// The entries in their order. JSON lets a name come twice and parsers drop one silently; here it is an error.
struct Wishes(BTreeMap<String, serde_json::Value>);

impl<'de> Deserialize<'de> for Wishes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;
        impl<'de> Visitor<'de> for EachOnce {
            type Value = Wishes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that names each port once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wishes, A::Error> {
                let mut wishes = BTreeMap::new();
                while let Some((name, wish)) = map.next_entry::<String, serde_json::Value>()? {
                    if wishes.contains_key(&name) {
                        return Err(de::Error::custom(format_args!("port {name:?} is named twice")));
                    }
                    wishes.insert(name, wish);
                }
                Ok(Wishes(wishes))
            }
        }
        deserializer.deserialize_map(EachOnce)
    }
}

/// The kept copy's shape on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    generation: u64,
    ports: BTreeMap<PortName, BootPrefix>,
    #[serde(default)]
    old: BTreeMap<PortName, Vec<KeptOld>>,
}

/// An old prefix, and until when in seconds of the Unix epoch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptOld {
    prefix: BootPrefix,
    until: u64,
}

/// The same moment on both clocks: one that never jumps and one that outlives the process.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For this run.
    pub instant: Instant,
    /// Since the Unix epoch.
    pub unix: Duration,
}

impl Desired {
    /// Before any push and without a memory: no port is to boot, and none is released.
    pub fn unknown() -> Self {
        Self {
            generation: 0,
            provenance: Provenance::Restored,
            ports: BTreeMap::new(),
            old: OldPrefixes::new(),
        }
    }

    /// What is pushed after `before`: of another generation if its ports differ. What a port loses by it is withdrawn.
    pub fn after(before: Option<&Self>, ports: BTreeMap<PortName, BootPrefix>, now: Instant) -> Self {
        let mut desired =
            Self { generation: 1, provenance: Provenance::Pushed, ports, old: OldPrefixes::new() };
        let Some(before) = before else { return desired };
        desired.generation = before.generation + u64::from(before.ports != desired.ports);
        desired.old = before.old.clone();
        for (port, prefix) in before.ports.iter().filter(|(port, had)| desired.ports.get(*port) != Some(had))
        {
            let old = desired.old.entry(port.clone()).or_default();
            old.retain(|old| old.until > now);
            old.insert(0, OldPrefix { prefix: *prefix, until: now + WITHDRAWN_FOR });
            old.truncate(OLD_PREFIXES_MAX);
        }
        for (port, old) in &mut desired.old {
            old.retain(|old| desired.ports.get(port) != Some(&old.prefix));
        }
        desired
    }

    /// The text to keep for the next run.
    pub fn to_kept(&self, now: Now) -> String {
        let kept = |old: &OldPrefix| {
            let left = old.until.saturating_duration_since(now.instant);
            (!left.is_zero()).then(|| KeptOld { prefix: old.prefix, until: (now.unix + left).as_secs() })
        };
        let old = self.old.iter().map(|(port, old)| (port.clone(), old.iter().filter_map(kept).collect()));
        let kept = Kept { generation: self.generation, ports: self.ports.clone(), old: old.collect() };
        serde_json::json!(kept).to_string()
    }

    /// Reads a kept text back, as a memory. A clock that was set back prolongs nothing beyond what is ever kept.
    pub fn from_kept(text: &str, now: Now) -> Result<Self, DocumentError> {
        let kept: Kept = serde_json::from_str(text).map_err(|e| DocumentError::Shape(e.to_string()))?;
        let still = |old: KeptOld| {
            let left = Duration::from_secs(old.until).saturating_sub(now.unix).min(WITHDRAWN_FOR);
            (!left.is_zero()).then(|| OldPrefix { prefix: old.prefix, until: now.instant + left })
        };
        let old = kept.old.into_iter().map(|(port, old)| (port, old.into_iter().filter_map(still).collect()));
        Ok(Self {
            generation: kept.generation,
            provenance: Provenance::Restored,
            ports: kept.ports,
            old: old.collect(),
        })
    }
}

#[cfg(test)]
mod tests;
