//! Checks the entries of a document against the leaf's ports, the settings and one another. A faulty entry rejects only its
//! own port.
//!
//! Must never: release a port because its entry is faulty, or reject a port because another port's entry is faulty.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use strum::VariantNames;

use super::{
    Desired, DesiredPort, Document, PortEntry, PortRow, PortRows, is_protected, resolve, unknown_port_message,
};
use crate::names::{BootPrefix, PortName, PrefixError};
use crate::printable::Printable;
use crate::settings::Boot;

/// The result: the ports that are to boot, and the rejected entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedEntries {
    /// The ports that are to boot, and the rejected ports that keep what they had.
    pub ports: BTreeMap<PortName, DesiredPort>,
    /// The rejected entries.
    pub rejected: Rejected,
}

/// The rejected entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// By SONiC's name of the port.
    pub ports: BTreeMap<PortName, Rejection>,
    /// By the pushed name, if SONiC cannot have a port of that name.
    pub names: BTreeMap<String, Rejection>,
}

/// Why an entry is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind, for programs.
    pub reason: Reason,
    /// What is wrong, and what would be right: one sentence.
    pub message: String,
}

/// The reasons for a rejection. Their names are part of the API: `docs/api.md` and `sonic/openapi.yaml` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, VariantNames)]
pub enum Reason {
    /// No port of this leaf has the name, as name or as alias.
    UnknownPort,
    /// The entry names a sub-interface.
    SubInterface,
    /// One entry has the port's name, and another one has its alias.
    NamedTwice,
    /// `boot.protected` names the port.
    Protected,
    /// The entry has an unknown field.
    InvalidField,
    /// The state is missing, or is not `boot`.
    InvalidState,
    /// The prefix is not a unicast /64.
    InvalidPrefix,
    /// The entry has no prefix, and none can be derived from the port's index.
    NoPrefix,
    /// The prefix is not in `boot.supernet`.
    PrefixOutsideSupernet,
    /// Another port has the prefix.
    PrefixOverlap,
    /// The leaf's own traffic uses the port.
    Uplink,
}

/// Ports without a rejection.
impl<P: Into<DesiredPort>> From<BTreeMap<PortName, P>> for CheckedEntries {
    fn from(ports: BTreeMap<PortName, P>) -> Self {
        let ports = ports.into_iter().map(|(name, port)| (name, port.into())).collect();
        Self { ports, rejected: Rejected::default() }
    }
}

impl Rejected {
    /// Whether nothing is rejected.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.names.is_empty()
    }

    /// Every rejection with the name that the API's answers have for it, ports first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Rejection)> {
        let ports = self.ports.iter().map(|(port, rejection)| (port.as_str(), rejection));
        ports.chain(self.names.iter().map(|(name, rejection)| (name.as_str(), rejection)))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.reason, self.message)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter()
            .try_for_each(|(name, rejection)| writeln!(f, "{} is rejected: {rejection}", Printable(name)))
    }
}

/// Checks every entry. `before` is the desired state until now. A port that has a prefix keeps it when another port asks for
/// it, and a rejected port keeps its prefix.
pub fn check_entries(
    document: &Document,
    rows: &PortRows,
    boot: &Boot,
    before: Option<&Desired>,
) -> CheckedEntries {
    let mut checked = CheckedEntries::default();
    let mut wanted: BTreeMap<&PortName, DesiredPort> = BTreeMap::new();
    let mut named: BTreeMap<&PortName, &str> = BTreeMap::new();
    for (name, entry) in &document.entries {
        let Some((port, row)) = resolve(name, rows) else {
            checked.rejected.add(name, no_port(name, rows));
            continue;
        };
        if let Some(other) = named.insert(port, name) {
            let message = format!("the entries {} and {} both name it", Printable(other), Printable(name));
            wanted.remove(port);
            checked.rejected.ports.insert(port.clone(), Rejection { reason: Reason::NamedTwice, message });
            continue;
        }
        match check_entry(port, row, entry, boot) {
            Ok(new) => {
                wanted.insert(port, new);
            }
            Err(rejection) => {
                checked.rejected.ports.insert(port.clone(), rejection);
            }
        }
    }
    let none = BTreeMap::new();
    checked.assign_prefixes(wanted, before.map_or(&none, |before| &before.ports));
    checked
}

impl Rejected {
    /// Adds an entry that no `PORT` row matches. Its name may still be the name of a port: the port's row may be gone.
    fn add(&mut self, name: &str, rejection: Rejection) {
        match name.parse() {
            Ok(port) => self.ports.insert(port, rejection),
            Err(_) => self.names.insert(name.to_owned(), rejection),
        };
    }
}

impl CheckedEntries {
    /// Gives each port its prefix, unless another port has it. Two /64s overlap only if they are equal. SONiC would retry the
    /// second one for ever (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`).
    ///
    /// First come the ports that keep their prefix: the document names the same prefix again, or the port is rejected. The
    /// other ports follow in their order. A port that is rejected here keeps its old prefix, which another port may just have
    /// got, so the assignment starts again after each rejection.
    fn assign_prefixes(
        &mut self,
        mut wanted: BTreeMap<&PortName, DesiredPort>,
        before: &BTreeMap<PortName, DesiredPort>,
    ) {
        loop {
            let keeps = |(port, had): (&PortName, &DesiredPort)| {
                let again = wanted.get(port).filter(|again| again.prefix == had.prefix);
                let is_rejected = self.rejected.ports.contains_key(port);
                Some((port.clone(), *again.or(is_rejected.then_some(had))?))
            };
            self.ports = before.iter().filter_map(keeps).collect();
            let mut taken: BTreeMap<BootPrefix, &PortName> =
                self.ports.iter().map(|(port, kept)| (kept.prefix, port)).collect();
            let mut newcomers = wanted.iter().filter(|(port, _)| !self.ports.contains_key(**port));
            let loser = newcomers.find_map(|(port, new)| {
                let other = taken.get(&new.prefix).copied();
                if other.is_none() {
                    taken.insert(new.prefix, port);
                }
                Some(((*port).clone(), new.prefix, other?.clone()))
            });
            let Some((port, prefix, other)) = loser else {
                self.ports.extend(wanted.into_iter().map(|(port, new)| (port.clone(), new)));
                return;
            };
            let message = format!("{prefix} is the prefix of {other}: each port needs a /64 of its own");
            wanted.remove(&port);
            self.rejected.ports.insert(port, Rejection { reason: Reason::PrefixOverlap, message });
        }
    }
}

/// Checks one port's entry by itself. Returns what the port is to get.
fn check_entry(
    port: &PortName,
    row: &PortRow,
    entry: &PortEntry,
    boot: &Boot,
) -> Result<DesiredPort, Rejection> {
    let rejection = |reason, message: String| Rejection { reason, message };
    if is_protected(port, Some(row), boot) {
        let message = "boot.protected names it: it is never taken".to_owned();
        return Err(rejection(Reason::Protected, message));
    }
    if let Some(field) = &entry.unknown {
        let message = format!(
            "it has the unknown field \"{}\": its fields are \"state\" and \"prefix\"",
            Printable(field)
        );
        return Err(rejection(Reason::InvalidField, message));
    }
    match entry.state.as_deref() {
        Some("boot") => {}
        None => {
            let message = "its \"state\" is missing: write \"boot\"".to_owned();
            return Err(rejection(Reason::InvalidState, message));
        }
        Some(other) => {
            let message = format!(
                "its state \"{}\" is not \"boot\": leave the port out of the document to release it",
                Printable(other)
            );
            return Err(rejection(Reason::InvalidState, message));
        }
    }
    let prefix: BootPrefix = match (&entry.prefix, row.index) {
        (Some(text), _) => {
            text.parse().map_err(|error: PrefixError| rejection(Reason::InvalidPrefix, error.to_string()))?
        }
        (None, None) => {
            let message = "no prefix is given, and its PORT row has no index to derive one from".to_owned();
            return Err(rejection(Reason::NoPrefix, message));
        }
        (None, Some(index)) => boot.prefix.nth(index).ok_or_else(|| {
            let message =
                format!("no prefix is given, and boot.prefix {} has no /64 number {index}", boot.prefix);
            rejection(Reason::NoPrefix, message)
        })?,
    };
    if !boot.supernet.contains(&prefix.net()) {
        let message =
            format!("{prefix} is outside of boot.supernet {}, which the boot ACL permits", boot.supernet);
        return Err(rejection(Reason::PrefixOutsideSupernet, message));
    }
    Ok(DesiredPort { prefix })
}

/// The rejection of a `name` that is no port of this leaf.
fn no_port(name: &str, rows: &PortRows) -> Rejection {
    match name.split_once('.').and_then(|(port, _)| resolve(port, rows)) {
        Some((port, _)) => {
            let message = format!("it is a sub-interface of {port}: a port boots as a whole or not at all");
            Rejection { reason: Reason::SubInterface, message }
        }
        None => Rejection { reason: Reason::UnknownPort, message: unknown_port_message(name, rows) },
    }
}
