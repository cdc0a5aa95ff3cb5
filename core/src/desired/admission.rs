//! Which entries of a document can be, on this leaf and beside one another. One port's fault is that port's alone.
//!
//! Must never: release a port because of a fault in its entry, or let a fault of one entry decide over another.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use strum::VariantNames;

use super::{Desired, Document, Entry, PortRow, PortRows, is_protected, resolve, unknown};
use crate::names::{BootPrefix, PortName, PrefixError};
use crate::printable::Printable;
use crate::settings::Boot;

/// What a document comes to: the ports that are to boot, and the entries that cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// The ports that are to boot. One whose entry is rejected keeps what it had.
    pub ports: BTreeMap<PortName, BootPrefix>,
    /// The others.
    pub rejected: Rejected,
}

/// Entries that cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// By SONiC's name of the port.
    pub ports: BTreeMap<PortName, Rejection>,
    /// By the name that was pushed, where that is none of SONiC's.
    pub names: BTreeMap<String, Rejection>,
}

/// Why a port is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind, for programs.
    pub reason: Reason,
    /// What is wrong, and what would be right, in one sentence.
    pub message: String,
}

/// The kinds of rejection, as they are spelled in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, VariantNames)]
pub enum Reason {
    /// No port of this leaf has the name or alias.
    UnknownPort,
    /// The name is a sub-interface's.
    SubInterface,
    /// One entry has the port's name and another one its alias.
    NamedTwice,
    /// `boot.protected` names the port.
    Protected,
    /// The entry has a field that no port has.
    InvalidField,
    /// The state is missing, or is none that there is.
    InvalidState,
    /// The prefix is not one that a port can have.
    InvalidPrefix,
    /// None is given, and none can be derived.
    NoPrefix,
    /// The prefix is not in `boot.supernet`.
    PrefixOutsideSupernet,
    /// Another port has the prefix.
    PrefixOverlap,
    /// The leaf's own traffic goes through the port.
    Uplink,
}

/// Ports of which every one can be.
impl From<BTreeMap<PortName, BootPrefix>> for Judged {
    fn from(ports: BTreeMap<PortName, BootPrefix>) -> Self {
        Self { ports, rejected: Rejected::default() }
    }
}

impl Rejected {
    /// Whether nothing is rejected.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.names.is_empty()
    }

    /// Every rejection with the name that answers have for it, ports first.
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

/// Judges every entry. `before` is what was desired until now: who has a prefix keeps it, and who is rejected keeps what
/// it has.
pub fn judge(document: &Document, rows: &PortRows, boot: &Boot, before: Option<&Desired>) -> Judged {
    let mut judged = Judged::default();
    let mut wishes: BTreeMap<&PortName, BootPrefix> = BTreeMap::new();
    let mut named: BTreeMap<&PortName, &str> = BTreeMap::new();
    for (name, entry) in &document.entries {
        let Some((port, row)) = resolve(name, rows) else {
            judged.rejected.add(name, no_port(name, rows));
            continue;
        };
        if let Some(other) = named.insert(port, name) {
            let message = format!("the entries {} and {} both mean it", Printable(other), Printable(name));
            wishes.remove(port);
            judged.rejected.ports.insert(port.clone(), Rejection { reason: Reason::NamedTwice, message });
            continue;
        }
        match wish(port, row, entry, boot) {
            Ok(prefix) => {
                wishes.insert(port, prefix);
            }
            Err(rejection) => {
                judged.rejected.ports.insert(port.clone(), rejection);
            }
        }
    }
    let none = BTreeMap::new();
    judged.share_out(wishes, before.map_or(&none, |before| &before.ports));
    judged
}

impl Rejected {
    /// Adds an entry that no port's row speaks of. It may still be a port's name: of one whose row is gone.
    fn add(&mut self, name: &str, rejection: Rejection) {
        match name.parse() {
            Ok(port) => self.ports.insert(port, rejection),
            Err(_) => self.names.insert(name.to_owned(), rejection),
        };
    }
}

impl Judged {
    /// Gives each port its prefix, unless another one has it. Two /64s overlap only when they are equal; SONiC would retry
    /// the second for ever (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`).
    ///
    /// First come those that keep what they had: whose wish it is, and who is rejected. Then the others in their order. One
    /// that is rejected for its wish keeps what it had, which another one may wish: so it is begun anew.
    fn share_out(
        &mut self,
        mut wishes: BTreeMap<&PortName, BootPrefix>,
        before: &BTreeMap<PortName, BootPrefix>,
    ) {
        loop {
            let keeps = |port: &PortName, had: &BootPrefix| {
                self.rejected.ports.contains_key(port) || wishes.get(port) == Some(had)
            };
            self.ports = before
                .iter()
                .filter(|(port, had)| keeps(port, had))
                .map(|(port, had)| (port.clone(), *had))
                .collect();
            let mut taken: BTreeMap<BootPrefix, PortName> =
                self.ports.iter().map(|(port, prefix)| (*prefix, port.clone())).collect();
            let mut newcomers = wishes.iter().filter(|(port, _)| !self.ports.contains_key(**port));
            let loser = newcomers.find_map(|(port, prefix)| {
                let other = taken.get(prefix).cloned();
                if other.is_none() {
                    taken.insert(*prefix, (*port).clone());
                }
                Some(((*port).clone(), *prefix, other?))
            });
            let Some((port, prefix, other)) = loser else {
                self.ports.extend(taken.into_iter().map(|(prefix, port)| (port, prefix)));
                return;
            };
            let message = format!("{prefix} is the prefix of {other}: each port needs a /64 of its own");
            wishes.remove(&port);
            self.rejected.ports.insert(port, Rejection { reason: Reason::PrefixOverlap, message });
        }
    }
}

/// One port's wish, judged by itself.
fn wish(port: &PortName, row: &PortRow, entry: &Entry, boot: &Boot) -> Result<BootPrefix, Rejection> {
    let rejection = |reason, message: String| Rejection { reason, message };
    if is_protected(port, Some(row), boot) {
        let message = "boot.protected names it: it is never taken".to_owned();
        return Err(rejection(Reason::Protected, message));
    }
    if let Some(field) = &entry.unknown {
        let message =
            format!("it has the field \"{}\": there are \"state\" and \"prefix\"", Printable(field));
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
    Ok(prefix)
}

/// Why a document's `name` is no port that can boot.
fn no_port(name: &str, rows: &PortRows) -> Rejection {
    match name.split_once('.').and_then(|(port, _)| resolve(port, rows)) {
        Some((port, _)) => {
            let message = format!("it is a sub-interface of {port}: a port boots as a whole or not at all");
            Rejection { reason: Reason::SubInterface, message }
        }
        None => Rejection { reason: Reason::UnknownPort, message: unknown(name, rows) },
    }
}
