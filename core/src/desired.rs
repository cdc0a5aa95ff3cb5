//! What metal-core wants of each port, and what it takes from the ports that had something else. `document` is the push as
//! text, `judge` says which of its entries can be, `kept` is the copy on disk.
//!
//! Must never: read a clock or a file.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::names::{BootPrefix, PortName};
use crate::printable::Printable;
use crate::ra::variables::OLD_PREFIXES_MAX;
use crate::settings::Boot;

pub use admission::{Judged, Reason, Rejected, Rejection, judge};
pub use document::{Document, DocumentError, ENTRIES_MAX, Entry};
pub use kept::Now;

mod admission;
mod document;
mod kept;

/// RFC 4862 5.5.3 e: no machine keeps an address longer than this after it has heard of lifetime 0.
const WITHDRAWN_FOR: Duration = Duration::from_secs(2 * 60 * 60);

/// The desired state of every port: a port that is neither in `ports` nor rejected is not to be ours.
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
    /// What the document says of ports and cannot be. A rejected port that is in `ports`, too, keeps what it had.
    pub rejected: Rejected,
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

/// Says that `name` is no port of this leaf, in one sentence with a hint.
pub fn unknown(name: &str, rows: &PortRows) -> String {
    let known = match (rows.first_key_value(), rows.last_key_value()) {
        (Some((first, _)), Some((last, _))) => format!("it has {} ports, {first} to {last}", rows.len()),
        _ => "its PORT table is empty".to_owned(),
    };
    format!("\"{}\" is not a port of this leaf ({known})", Printable(name))
}

impl Desired {
    /// Before any push and without a memory: no port is to boot, and none is released.
    pub fn unknown() -> Self {
        Self {
            generation: 0,
            provenance: Provenance::Restored,
            ports: BTreeMap::new(),
            old: OldPrefixes::new(),
            rejected: Rejected::default(),
        }
    }

    /// What is pushed after `before`: of another generation if its ports or its rejected ones differ. What a port loses by
    /// it is withdrawn.
    pub fn after(before: Option<&Self>, judged: impl Into<Judged>, now: Instant) -> Self {
        let Judged { ports, rejected } = judged.into();
        let mut desired =
            Self { generation: 1, provenance: Provenance::Pushed, ports, old: OldPrefixes::new(), rejected };
        let Some(before) = before else { return desired };
        let is_other = (&before.ports, &before.rejected) != (&desired.ports, &desired.rejected);
        desired.generation = before.generation + u64::from(is_other);
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

    /// The same, with those of its ports rejected that are uplinks. Who `is_held` stays what it is: a port in the boot VRF
    /// carries nothing of the leaf's own.
    pub fn without_uplinks(
        mut self,
        uplinks: &BTreeMap<PortName, Rejection>,
        is_held: impl Fn(&PortName) -> bool,
    ) -> Self {
        for (port, rejection) in uplinks.iter().filter(|(port, _)| !is_held(port)) {
            if self.ports.remove(port).is_some() {
                self.rejected.ports.insert(port.clone(), rejection.clone());
            }
        }
        self
    }

    /// Whether a port is rejected for what it carries: then nothing of ours may be on it, unlike with other faults.
    pub fn is_uplink(&self, port: &PortName) -> bool {
        self.rejected.ports.get(port).is_some_and(|rejection| rejection.reason == Reason::Uplink)
    }

    /// Whether it is an order to let go of a port: neither a memory nor an entry that cannot be is one.
    pub fn releases(&self, port: &PortName) -> bool {
        let is_named = self.ports.contains_key(port) || self.rejected.ports.contains_key(port);
        self.provenance == Provenance::Pushed && !is_named
    }
}

#[cfg(test)]
mod tests;
