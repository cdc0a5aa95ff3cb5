//! The former prefixes of ports. They are withdrawn from the machines for two hours (RFC 9096 3.5).
//!
//! Must never: withdraw a port's current prefix, or keep more old prefixes than an advertisement has room for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::DesiredPort;
use crate::names::{BootPrefix, PortName};
use crate::ra::variables::OLD_PREFIXES_MAX;

/// The longest time for which a host keeps an address after it received lifetime 0 for the prefix (RFC 4862 5.5.3 e).
pub(super) const WITHDRAWN_FOR: Duration = Duration::from_secs(2 * 60 * 60);

/// The prefixes that are withdrawn from each port, the latest first.
pub type OldPrefixes = BTreeMap<PortName, Vec<OldPrefix>>;

/// A prefix in which a port's machines may still have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldPrefix {
    /// The prefix that the port had.
    pub prefix: BootPrefix,
    /// The end of its withdrawal. Until then it is advertised with lifetimes of 0.
    pub until: Instant,
}

/// The prefixes to withdraw when the ports `before` are replaced by the ports `after`, at `now`.
pub(super) fn replace(
    old: &OldPrefixes,
    before: &BTreeMap<PortName, DesiredPort>,
    after: &BTreeMap<PortName, DesiredPort>,
    now: Instant,
) -> OldPrefixes {
    let current = |port: &PortName| after.get(port).map(|port| port.prefix);
    let mut old = old.clone();
    for (port, had) in before.iter().filter(|(port, had)| current(port) != Some(had.prefix)) {
        let old = old.entry(port.clone()).or_default();
        old.retain(|old| old.until > now);
        old.insert(0, OldPrefix { prefix: had.prefix, until: now + WITHDRAWN_FOR });
        old.truncate(OLD_PREFIXES_MAX);
    }
    for (port, old) in &mut old {
        old.retain(|old| current(port) != Some(old.prefix));
    }
    old
}
