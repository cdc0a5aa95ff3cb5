//! The boot ACL comes before everything else of a port, and goes after everything else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Step, Waiting, has_traces, holds};
use crate::acl;
use crate::config::Config;
use crate::desired::{Desired, Origin};
use crate::net::{AclName, BootPrefix, PortName};
use crate::observed::{Base, Observed, Port};
use crate::rows::{self, Fields, RowKey};

/// How far the boot ACL is, for every port.
pub(super) struct Guard<'a> {
    name: &'a AclName,
    observed: &'a Observed,
    /// The ports that the table's row lists now.
    listed: BTreeSet<PortName>,
    rules: WantedRules,
    /// What all ports wait for.
    waiting: Option<Waiting>,
}

/// Every rule that is to stand, as its row's fields.
#[derive(Default)]
struct WantedRules {
    /// The rules of all ports, by their names.
    shared: BTreeMap<String, Fields>,
    /// The priorities by which the ASIC's table is known: those of the shared rules.
    priorities: BTreeSet<u32>,
    /// Each port's own rule.
    gateways: BTreeMap<PortName, (String, Fields)>,
}

impl<'a> Guard<'a> {
    /// Judges the ACL's rows and facts; the steps that may be done now come with it.
    ///
    /// Table before rules: caclmgrd dies of a rule whose table has no row (`scripts/caclmgrd: run`), and each change of
    /// a table's row makes it rebuild the leaf's ip6tables, so all ports that come and go now are one change.
    pub(super) fn new(desired: &Desired, observed: &'a Observed, config: &'a Config) -> (Self, Vec<Step>) {
        let name = &config.acl.table;
        let row = observed.acl.table.as_ref();
        let listed = row.map(listed_ports).unwrap_or_default();
        let rules = WantedRules::new(desired, config);
        let mut guard = Self { name, observed, listed, rules, waiting: None };
        let is_foreign = row.is_some_and(|row| !rows::is_acl_table_of_our_kind(row));
        if is_foreign {
            guard.waiting = Some(Waiting::AclForeign(name.clone()));
            return (guard, Vec::new());
        }
        // Nobody boots: what is there stays until it is retired, and what is being retired does not come back.
        if desired.ports.is_empty() && guard.listed.is_empty() {
            return (guard, Vec::new());
        }
        guard.waiting = guard.why_unready();
        let steps = guard.steps(desired, config);
        (guard, steps)
    }

    /// Why a port may not go a step further into the boot VRF: nothing, when the ACL stands before it in the ASIC.
    pub(super) fn why_open(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        let own = || self.rules.gateways.get(name).and_then(|(rule, row)| self.why_inactive(rule, row));
        self.why_unguarded(name, port).or_else(own)
    }

    /// Why a port is not isolated. Its own rule does not count: it only permits, so a port without it is shut too far.
    pub(super) fn why_unguarded(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if !self.listed.contains(name) {
            return Some(Waiting::AclRows(self.name.clone()));
        }
        let is_ours = |table: &String| {
            let entries = self.observed.acl.asic_tables.get(table);
            entries.is_some_and(|entries| entries.is_superset(&self.rules.priorities))
        };
        let is_bound = port.acl_tables.iter().any(is_ours);
        (!is_bound).then(|| Waiting::AclBound(self.name.clone()))
    }

    /// Whether the table's row still lists a port.
    pub(super) fn why_listed(&self, name: &PortName) -> Option<Waiting> {
        self.listed.contains(name).then(|| Waiting::AclUnbound(self.name.clone()))
    }

    fn steps(&self, desired: &Desired, config: &Config) -> Vec<Step> {
        let mut steps = Vec::new();
        let row = self.observed.acl.table.as_ref();
        // The table is empty until the rules of all ports stand; afterwards only its port list changes.
        let stands = self.rules.shared.iter().all(|(rule, fields)| self.says(rule, fields));
        let first = rows::acl_table_fields(&BTreeSet::new());
        let table = rows::acl_table_fields(&self.wanted_ports(desired, config));
        match row {
            None => steps.push(Step::Set(RowKey::AclTable(self.name.clone()), first)),
            Some(row) if stands && rows::acl_table_ports(row) != rows::acl_table_ports(&table) => {
                steps.push(Step::Set(RowKey::AclTable(self.name.clone()), table));
            }
            Some(_) => {}
        }
        let key = |rule: &String| RowKey::AclRule(self.name.clone(), rule.clone());
        let missing = self.rules.all().filter(|(rule, fields)| !self.says(rule, fields));
        steps.extend(missing.map(|(rule, fields)| Step::Set(key(rule), fields.clone())));
        // A rule that nobody wants any more may be a memory's: only an order takes it away.
        if desired.origin == Origin::Pushed {
            let is_wanted = |name: &String| self.rules.all().any(|(rule, _)| rule == name);
            let stale = self.observed.acl.rules.keys().filter(|rule| !is_wanted(rule));
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

    /// Why the table and the rules of all ports do not stand.
    fn why_unready(&self) -> Option<Waiting> {
        let acl = &self.observed.acl;
        let inactive = self.rules.shared.iter().find_map(|(rule, fields)| self.why_inactive(rule, fields));
        match (&acl.table, inactive) {
            (None, _) => Some(Waiting::AclRows(self.name.clone())),
            (Some(_), Some(Waiting::AclRule(..)) | None) if !acl.table_active => {
                Some(Waiting::AclTable(self.name.clone()))
            }
            (Some(_), inactive) => inactive,
        }
    }

    /// Why a rule does not stand.
    fn why_inactive(&self, rule: &str, fields: &Fields) -> Option<Waiting> {
        if !self.says(rule, fields) {
            return Some(Waiting::AclRows(self.name.clone()));
        }
        let is_active = self.observed.acl.active_rules.contains(rule);
        (!is_active).then(|| Waiting::AclRule(self.name.clone(), rule.to_owned()))
    }

    /// Whether a rule's row says what it is to say; what else somebody has put into it is not compared, or it would be
    /// written over and over again.
    fn says(&self, rule: &str, fields: &Fields) -> bool {
        let row = self.observed.acl.rules.get(rule);
        row.is_some_and(|row| fields.iter().all(|(name, value)| row.get(name) == Some(value)))
    }
}

impl WantedRules {
    fn new(desired: &Desired, config: &Config) -> Self {
        let rules = acl::rules(config);
        let gateway = |(port, prefix): (&PortName, &BootPrefix)| {
            let rule = acl::gateway_rule(config, port, *prefix);
            (port.clone(), (rule.name.clone(), rows::acl_rule_fields(&rule)))
        };
        Self {
            shared: rules.iter().map(|rule| (rule.name.clone(), rows::acl_rule_fields(rule))).collect(),
            priorities: rules.iter().map(|rule| rule.priority).collect(),
            gateways: desired.ports.iter().map(gateway).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = (&String, &Fields)> {
        self.shared.iter().chain(self.gateways.values().map(|(rule, fields)| (rule, fields)))
    }
}

/// The ports that a row lists, as far as they are front-panel ports.
fn listed_ports(row: &Fields) -> BTreeSet<PortName> {
    rows::acl_table_ports(row).iter().filter_map(|name| name.parse().ok()).collect()
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
