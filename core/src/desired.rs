//! The desired state of every port. `document` parses the pushed document, `admission` checks its entries, `old_prefixes` has the
//! former prefixes of ports, which must be withdrawn, and `kept` is the text of the state file.
//!
//! Must never: read a clock or a file.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::names::{BootPrefix, PortName};
use crate::printable::Printable;
use crate::settings::Boot;

pub use admission::{CheckedEntries, Reason, Rejected, Rejection, check_entries};
pub use document::{Document, DocumentError, ENTRIES_MAX, PortEntry};
pub use kept::{KeptDocument, Now};
pub use old_prefixes::{OldPrefix, OldPrefixes};

mod admission;
mod document;
mod kept;
mod old_prefixes;

/// The desired state of every port. If metal-core has pushed it, every port that is neither in `ports` nor rejected is to be
/// released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Counts the accepted documents that differ from the one before, from 1.
    pub generation: u64,
    /// Whether metal-core has pushed this since the agent started.
    pub provenance: Provenance,
    /// The ports that are to boot.
    pub ports: BTreeMap<PortName, DesiredPort>,
    /// The prefixes that earlier documents gave to ports and this one does not.
    pub old: OldPrefixes,
    /// The entries that cannot be used. A rejected port keeps its prefix, and is then also in `ports`. A port that is rejected as
    /// an uplink does not keep it.
    pub rejected: Rejected,
}

/// The desired configuration of a port that is to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DesiredPort {
    /// The machine's /64.
    pub prefix: BootPrefix,
}

impl From<BootPrefix> for DesiredPort {
    fn from(prefix: BootPrefix) -> Self {
        Self { prefix }
    }
}

/// The source of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// metal-core has pushed it since the agent started. Ports that it does not name are released.
    Pushed,
    /// It was read from the state file after a restart. It releases no port.
    Restored,
}

/// A front-panel port's `PORT` row in CONFIG_DB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRow {
    /// The port's other name, such as `Eth1/1`.
    pub alias: Option<String>,
    /// The port's front-panel index. The ports of a breakout share it.
    pub index: Option<u32>,
}

/// All front-panel ports of the leaf.
pub type PortRows = BTreeMap<PortName, PortRow>;

/// Whether `boot.protected` names a port, by its name or its alias.
pub fn is_protected(port: &PortName, row: Option<&PortRow>, boot: &Boot) -> bool {
    let alias = row.and_then(|row| row.alias.as_ref());
    boot.protected.iter().any(|name| name == port.as_str() || alias == Some(name))
}

/// Finds a port by its name or its alias.
pub fn resolve<'a>(name: &str, rows: &'a PortRows) -> Option<(&'a PortName, &'a PortRow)> {
    let by_name = name.parse::<PortName>().ok().and_then(|port| rows.get_key_value(&port));
    by_name.or_else(|| rows.iter().find(|(_, row)| row.alias.as_deref() == Some(name)))
}

/// The message for a `name` that is not a port of this leaf: one sentence.
pub fn unknown_port_message(name: &str, rows: &PortRows) -> String {
    let known = match (rows.first_key_value(), rows.last_key_value()) {
        (Some((first, _)), Some((last, _))) => format!("it has {} ports, {first} to {last}", rows.len()),
        _ => "its PORT table is empty".to_owned(),
    };
    format!("\"{}\" is not a port of this leaf ({known})", Printable(name))
}

impl Desired {
    /// The state before any push and without a state file: no port is to boot, and none is released.
    pub fn before_first_push() -> Self {
        Self {
            generation: 0,
            provenance: Provenance::Restored,
            ports: BTreeMap::new(),
            old: OldPrefixes::new(),
            rejected: Rejected::default(),
        }
    }

    /// The state after a push. It gets a new generation if its ports or its rejected entries differ from those `before`.
    /// Prefixes that ports lose are withdrawn from `now` on.
    pub fn after(before: Option<&Self>, checked: impl Into<CheckedEntries>, now: Instant) -> Self {
        let CheckedEntries { ports, rejected } = checked.into();
        let mut desired =
            Self { generation: 1, provenance: Provenance::Pushed, ports, old: OldPrefixes::new(), rejected };
        let Some(before) = before else { return desired };
        let is_changed = (&before.ports, &before.rejected) != (&desired.ports, &desired.rejected);
        desired.generation = before.generation + u64::from(is_changed);
        desired.old = old_prefixes::replace(&before.old, &before.ports, &desired.ports, now);
        desired
    }

    /// The /64 of a port that is to boot.
    pub fn prefix(&self, port: &PortName) -> Option<BootPrefix> {
        self.ports.get(port).map(|port| port.prefix)
    }

    /// The /64 of each port that is to boot.
    pub fn prefixes(&self) -> BTreeMap<PortName, BootPrefix> {
        self.ports.iter().map(|(name, port)| (name.clone(), port.prefix)).collect()
    }

    /// Moves the ports that are uplinks from `ports` to `rejected`. A port that is already in the boot VRF stays: it cannot
    /// carry the leaf's own traffic.
    pub fn reject_uplinks(
        mut self,
        uplinks: &BTreeMap<PortName, Rejection>,
        is_in_vrf: impl Fn(&PortName) -> bool,
    ) -> Self {
        for (port, rejection) in uplinks.iter().filter(|(port, _)| !is_in_vrf(port)) {
            if self.ports.remove(port).is_some() {
                self.rejected.ports.insert(port.clone(), rejection.clone());
            }
        }
        self
    }

    /// Whether a port is rejected as an uplink. Unlike other rejected ports it does not keep its prefix.
    pub fn is_uplink(&self, port: &PortName) -> bool {
        self.rejected.ports.get(port).is_some_and(|rejection| rejection.reason == Reason::Uplink)
    }

    /// Whether the document releases a port. A restored document and a rejected entry release none.
    pub fn releases(&self, port: &PortName) -> bool {
        let is_named = self.ports.contains_key(port) || self.rejected.ports.contains_key(port);
        self.provenance == Provenance::Pushed && !is_named
    }
}

#[cfg(test)]
mod tests;
