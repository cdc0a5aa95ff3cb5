//! The boot ACL comes before everything else of a port, and goes after everything else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Step, Waiting, has_traces, holds};
use crate::acl;
use crate::config::Config;
use crate::desired::{Desired, Origin};
use crate::net::{AclName, PortName};
use crate::observed::{Base, Observed, Port};
use crate::rows::{self, Fields, RowKey};

/// How far the boot ACL is, for every port.
pub(super) struct Guard<'a> {
    name: &'a AclName,
    observed: &'a Observed,
    /// The ports that the table's row lists now.
    listed: BTreeSet<PortName>,
    /// The priorities by which the ASIC's table is known.
    priorities: BTreeSet<u32>,
    /// What all ports wait for.
    waiting: Option<Waiting>,
}

impl<'a> Guard<'a> {
    /// Judges the ACL's rows and facts; the steps that may be done now come with it.
    ///
    /// Table before rules: caclmgrd dies of a rule whose table has no row (`scripts/caclmgrd: run`), and each change of
    /// a table's row makes it rebuild the leaf's ip6tables, so all ports that come and go now are one change.
    pub(super) fn new(desired: &Desired, observed: &'a Observed, config: &'a Config) -> (Self, Vec<Step>) {
        let name = &config.acl.table;
        let rules = wanted_rules(desired, config);
        let row = observed.acl.table.as_ref();
        let listed = row.map(listed_ports).unwrap_or_default();
        let mut guard = Self {
            name,
            observed,
            listed,
            priorities: acl::rules(config).iter().map(|rule| rule.priority).collect(),
            waiting: None,
        };
        let is_foreign = row.is_some_and(|row| !rows::is_acl_table_of_our_kind(row));
        if is_foreign {
            guard.waiting = Some(Waiting::AclForeign(name.clone()));
            return (guard, Vec::new());
        }
        // Nobody boots: what is there stays until it is retired, and what is being retired does not come back.
        if desired.ports.is_empty() && guard.listed.is_empty() {
            return (guard, Vec::new());
        }
        let steps = guard.steps(desired, config, &rules);
        guard.waiting = guard.why_unready(&rules, &steps);
        (guard, steps)
    }

    /// Why no port may go a step further into the boot VRF: nothing, when the ACL stands before this one in the ASIC.
    pub(super) fn why_open(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if !self.listed.contains(name) {
            return Some(Waiting::AclRows(self.name.clone()));
        }
        let is_ours = |table: &String| {
            let entries = self.observed.acl.asic_tables.get(table);
            entries.is_some_and(|entries| entries.is_superset(&self.priorities))
        };
        let is_bound = port.acl_tables.iter().any(is_ours);
        (!is_bound).then(|| Waiting::AclBound(self.name.clone()))
    }

    /// Whether the table's row still lists a port.
    pub(super) fn why_listed(&self, name: &PortName) -> Option<Waiting> {
        self.listed.contains(name).then(|| Waiting::AclUnbound(self.name.clone()))
    }

    fn steps(&self, desired: &Desired, config: &Config, rules: &BTreeMap<String, Fields>) -> Vec<Step> {
        let mut steps = Vec::new();
        let ports = self.wanted_ports(desired, config);
        let table = rows::acl_table_fields(&ports);
        let row = self.observed.acl.table.as_ref();
        // The table is empty until its rules stand; afterwards only its port list changes.
        let first = rows::acl_table_fields(&BTreeSet::new());
        let missing = rules.iter().filter(|(rule, fields)| !says(self.observed.acl.rules.get(*rule), fields));
        let missing: Vec<_> = missing.collect();
        match row {
            None => steps.push(Step::Set(RowKey::AclTable(self.name.clone()), first)),
            Some(row)
                if missing.is_empty() && rows::acl_table_ports(row) != rows::acl_table_ports(&table) =>
            {
                steps.push(Step::Set(RowKey::AclTable(self.name.clone()), table));
            }
            Some(_) => {}
        }
        let key = |rule: &String| RowKey::AclRule(self.name.clone(), rule.clone());
        steps.extend(missing.iter().map(|(rule, fields)| Step::Set(key(rule), (*fields).clone())));
        // A rule that nobody wants any more may be a memory's: only an order takes it away.
        if desired.origin == Origin::Pushed {
            let stale = self.observed.acl.rules.keys().filter(|rule| !rules.contains_key(*rule));
            steps.extend(stale.map(|rule| Step::Delete(key(rule))));
        }
        steps
    }

    /// The ports that the table is to list: those that nothing else claims any more and that are to boot, and those
    /// that are still on their way out.
    fn wanted_ports(&self, desired: &Desired, config: &Config) -> BTreeSet<PortName> {
        let vrf = &config.boot.vrf;
        let wants = |(name, port): &(&PortName, &Port)| {
            let to_boot = desired.ports.contains_key(*name) && is_unclaimed(port);
            let kept = desired.origin == Origin::Restored || desired.ports.contains_key(*name);
            let leaving = self.listed.contains(*name) && (kept || has_traces(port));
            to_boot || leaving || holds(port, vrf)
        };
        self.observed.ports.iter().filter(wants).map(|(name, _)| name.clone()).collect()
    }

    fn why_unready(&self, rules: &BTreeMap<String, Fields>, steps: &[Step]) -> Option<Waiting> {
        let is_rule = |step: &Step| matches!(step, Step::Set(RowKey::AclRule(..), _));
        let inactive = rules.keys().find(|rule| !self.observed.acl.active_rules.contains(*rule));
        if self.observed.acl.table.is_none() || steps.iter().any(is_rule) {
            Some(Waiting::AclRows(self.name.clone()))
        } else if !self.observed.acl.table_active {
            Some(Waiting::AclTable(self.name.clone()))
        } else {
            inactive.map(|rule| Waiting::AclRule(self.name.clone(), rule.clone()))
        }
    }
}

/// The ports that a row lists, as far as they are front-panel ports.
fn listed_ports(row: &Fields) -> BTreeSet<PortName> {
    rows::acl_table_ports(row).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Every rule that is to stand, as its row's fields.
fn wanted_rules(desired: &Desired, config: &Config) -> BTreeMap<String, Fields> {
    let gateways = desired.ports.iter().map(|(port, prefix)| acl::gateway_rule(config, port, *prefix));
    let rules = acl::rules(config).into_iter().chain(gateways);
    rules.map(|rule| (rule.name.clone(), rows::acl_rule_fields(&rule))).collect()
}

/// Whether nobody else has the port, down to the ASIC: an ACL on a tenant's port would cut the tenant off, and one on a
/// LAG member makes the whole table inactive (`orchagent/aclorch.cpp: AclOrch::processAclTablePorts`).
fn is_unclaimed(port: &Port) -> bool {
    let is_bridged = !port.vlans.is_empty() || !port.bound_vlans.is_empty() || port.bridge_port;
    let is_addressed = !port.addresses.is_empty() || !port.other_addresses.is_empty();
    let is_routed = port.bound.is_some() || port.router_interface || is_addressed;
    let is_free = port.base == Base::Absent && !is_routed;
    port.lag.is_none() && !is_bridged && (is_free || port.base == Base::Ours)
}

/// Whether a row says what it is to say; what else somebody has put into it is not compared, or it would be written
/// over and over again.
fn says(row: Option<&Fields>, fields: &Fields) -> bool {
    row.is_some_and(|row| fields.iter().all(|(name, value)| row.get(name) == Some(value)))
}
