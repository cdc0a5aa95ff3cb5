//! The rules that the boot ACL is to have, and which of them orchagent has lost without saying so.
//!
//! Must never: judge by what orchagent says alone: it does not say what it has lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::acl::{self, Action, Rule};
use crate::config::Config;
use crate::desired::Desired;
use crate::net::{BootPrefix, PortName};
use crate::observed::Acl;
use crate::rows::{self, Fields};

/// Every rule that is to stand.
pub(super) struct WantedRules {
    /// The rules of all ports. Those that deny come first, so that a table which has lost its rules is shut first.
    pub shared: Vec<WantedRule>,
    /// Each port's own rules.
    gateways: BTreeMap<PortName, Vec<WantedRule>>,
}

/// One rule and its row.
pub(super) struct WantedRule {
    pub name: String,
    priority: u32,
    pub row: Fields,
}

impl WantedRules {
    pub fn new(desired: &Desired, config: &Config) -> Self {
        let mut shared = acl::rules(config);
        shared.sort_by_key(|rule| rule.action == Action::Forward);
        let wanted = |rules: &[Rule]| rules.iter().map(WantedRule::new).collect();
        let own = |(port, prefix): (&PortName, &BootPrefix)| {
            (port.clone(), wanted(&acl::gateway_rules(config, port, *prefix)))
        };
        Self { gateways: desired.ports.iter().map(own).collect(), shared: wanted(&shared) }
    }

    /// The rules of one port.
    pub fn own(&self, port: &PortName) -> &[WantedRule] {
        self.gateways.get(port).map_or(&[], Vec::as_slice)
    }

    /// Every port's rules.
    pub fn gateways(&self) -> impl Iterator<Item = &WantedRule> {
        self.gateways.values().flatten()
    }

    pub fn all(&self) -> impl Iterator<Item = &WantedRule> {
        self.shared.iter().chain(self.gateways())
    }

    /// Whether all shared rules are among the entries of a table of the ASIC.
    pub fn are_in(&self, entries: &BTreeSet<u32>) -> bool {
        self.count_in(entries) == self.shared.len()
    }

    /// Whether a table of the ASIC is ours, whatever it lacks. The ASIC knows no names, and other tables may have some of
    /// our priorities: ours has most of them.
    pub fn are_mostly_in(&self, entries: &BTreeSet<u32>) -> bool {
        2 * self.count_in(entries) > self.shared.len()
    }

    fn count_in(&self, entries: &BTreeSet<u32>) -> usize {
        self.shared.iter().filter(|rule| entries.contains(&rule.priority)).count()
    }

    /// The rules that STATE_DB shows Active and the ASIC does not have.
    ///
    /// Whoever changes a table's type or stage, or deletes its row, makes orchagent delete the table with its rules; a
    /// table that is made again comes without them, and STATE_DB is not told (`orchagent/aclorch.cpp:
    /// AclOrch::removeAclTable`).
    pub fn absent(&self, acl: &Acl) -> BTreeSet<String> {
        // A starting orchagent has lost nothing, and makes its rules out of the rows that are there.
        if !acl.has_ports {
            return BTreeSet::new();
        }
        let none = BTreeSet::new();
        let ours = acl.asic_tables.values().find(|entries| self.are_mostly_in(entries)).unwrap_or(&none);
        let is_absent =
            |rule: &&WantedRule| acl.active_rules.contains(&rule.name) && !ours.contains(&rule.priority);
        let shared: Vec<&WantedRule> = self.shared.iter().filter(is_absent).collect();
        // The ports' own rules share a priority, so nobody can tell which of them are there.
        let is_known = shared.is_empty();
        let gateways = self.gateways().filter(|rule| is_absent(rule) || !is_known);
        shared.iter().copied().chain(gateways).map(|rule| rule.name.clone()).collect()
    }

    /// Whether STATE_DB shows every rule of all ports Active.
    pub fn are_active(&self, acl: &Acl) -> bool {
        self.shared.iter().all(|rule| acl.active_rules.contains(&rule.name))
    }
}

impl WantedRule {
    fn new(rule: &Rule) -> Self {
        Self { name: rule.name.clone(), priority: rule.priority, row: rows::acl_rule_fields(rule) }
    }
}
