//! The boot ACL comes before everything else of a port, and goes after everything else.
//!
//! Must never: list a port that somebody else has, or drop one that the boot VRF still has.

use std::collections::BTreeSet;

use super::acl_rules::{WantedRule, WantedRules};
use super::{Step, Waiting, has_traces, holds};
use crate::acl;
use crate::config::Config;
use crate::desired::{self, Desired, Provenance};
use crate::net::{AclName, PortName};
use crate::observed::{Acl, Base, Observed, Port};
use crate::rows::{self, Fields, RowKey};

/// How far the boot ACL is, for every port.
pub(super) struct Guard<'a> {
    name: &'a AclName,
    acl: &'a Acl,
    /// The ports that the table's row lists now.
    listed: BTreeSet<PortName>,
    rules: WantedRules,
    /// The rules that orchagent says it has, and the ASIC does not.
    absent: BTreeSet<String>,
    /// What all ports wait for.
    waiting: Option<Waiting>,
}

impl<'a> Guard<'a> {
    /// Judges the ACL's rows and facts; the steps that may be done now come with it.
    ///
    /// Table before rules: caclmgrd dies of a rule whose table has no row (`scripts/caclmgrd: run`), and each change of
    /// a table's row makes it rebuild the leaf's ip6tables, so all ports that come and go now are one change.
    pub(super) fn new(desired: &Desired, observed: &'a Observed, config: &'a Config) -> (Self, Vec<Step>) {
        let (name, acl) = (&config.acl.table, &observed.acl);
        let rules = WantedRules::new(desired, config);
        let listed = acl.table.as_ref().map(listed_ports).unwrap_or_default();
        let mut guard = Self { name, acl, listed, absent: rules.absent(acl), rules, waiting: None };
        if acl.table.as_ref().is_some_and(|row| !rows::is_our_acl_table(row)) {
            guard.waiting = Some(Waiting::AclForeign(name.clone()));
            return (guard, Vec::new());
        }
        // Nobody boots: what is there stays until it is retired, and what is being retired does not come back. Rules whose
        // table somebody has deleted need it: SONiC's YANG refuses them without, and caclmgrd dies of them.
        let is_orphaned = acl.table.is_none() && !acl.rules.is_empty();
        let is_empty = !observed.ports.values().any(|port| holds(port, &config.boot.vrf));
        if desired.ports.is_empty() && guard.listed.is_empty() && is_empty && !is_orphaned {
            return (guard, Vec::new());
        }
        guard.waiting = guard.why_unready();
        let ports = guard.wanted_ports(desired, observed, config);
        let is_inside = |name: &&PortName| holds(&observed.ports[*name], &config.boot.vrf);
        let inside = ports.iter().filter(is_inside).cloned().collect();
        let mut steps = guard.table_steps(&ports, &inside);
        steps.extend(guard.rule_steps(desired));
        (guard, steps)
    }

    /// Why a port may not go a step further into the boot VRF: nothing, when the ACL stands before it in the ASIC.
    pub(super) fn why_open(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        let own = || self.rules.own(name).iter().find_map(|rule| self.why_inactive(rule));
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
        let is_bound = self.is_bound(port, WantedRules::are_in);
        (!is_bound).then(|| Waiting::AclBound(self.name.clone()))
    }

    /// Why a port is not rid of the ACL: the table's row lists it, or the ASIC has not let go of it yet.
    pub(super) fn why_guarded(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        // One with which something is wrong denies a tenant no less.
        let is_guarded = self.listed.contains(name) || self.is_bound(port, WantedRules::are_mostly_in);
        is_guarded.then(|| Waiting::AclUnbound(self.name.clone()))
    }

    /// Whether the ASIC has bound a table to a port that our rules are in.
    fn is_bound(&self, port: &Port, are_in: fn(&WantedRules, &BTreeSet<u32>) -> bool) -> bool {
        let has_rules = |table| self.acl.asic_tables.get(table).is_some_and(|has| are_in(&self.rules, has));
        port.acl_tables.iter().any(has_rules)
    }

    /// The table's row. It lists no further port until the rules of all ports stand; a new one lists those that are in the
    /// boot VRF already, for they are open without it.
    fn table_steps(&self, ports: &BTreeSet<PortName>, inside: &BTreeSet<PortName>) -> Vec<Step> {
        let key = RowKey::AclTable(self.name.clone());
        let Some(row) = &self.acl.table else {
            return vec![Step::Set(key, rows::acl_table_fields(inside))];
        };
        let stand = self.rules.shared.iter().all(|rule| self.is_written(rule));
        let table = rows::acl_table_fields(if stand { ports } else { &self.listed });
        mended(key, row, table, rows::is_same_acl_table)
    }

    fn rule_steps(&self, desired: &Desired) -> Vec<Step> {
        let key = |rule: &str| RowKey::AclRule(self.name.clone(), rule.to_owned());
        // The ports' own rules first: as long as one of all ports is lost, it is known that these may be lost too.
        let own_first = self.rules.gateways().chain(&self.rules.shared);
        let lost = own_first.filter(|rule| self.is_lost(rule));
        let mut steps: Vec<Step> = lost.map(|rule| Step::Delete(key(&rule.name))).collect();
        for rule in self.rules.all().filter(|rule| !self.is_lost(rule)) {
            steps.extend(match self.acl.rules.get(&rule.name) {
                // orchagent has not heard yet that the row is gone; what is written now would be one rule with it.
                None if self.absent.contains(&rule.name) => Vec::new(),
                None => vec![Step::Set(key(&rule.name), rule.row.clone())],
                // What was refused is tried again once there is a table: that may have been another one then, or the ASIC
                // may have been full.
                Some(row) if *row == rule.row => {
                    let is_refused = self.acl.table_active && self.acl.refused_rules.contains(&rule.name);
                    is_refused.then(|| Step::Set(key(&rule.name), rule.row.clone())).into_iter().collect()
                }
                Some(row) => mended(key(&rule.name), row, rule.row.clone(), Fields::eq),
            });
        }
        // A rule that nobody wants any more may be a memory's: only an order takes it away.
        if desired.provenance == Provenance::Pushed {
            let is_rejected =
                |rule: &str| desired.rejected.ports.keys().any(|port| acl::is_own_rule(rule, port));
            let is_wanted =
                |name: &String| self.rules.all().any(|rule| rule.name == *name) || is_rejected(name);
            let stale = self.acl.rules.keys().filter(|rule| !is_wanted(rule));
            steps.extend(stale.map(|rule| Step::Delete(key(rule))));
        }
        steps
    }

    /// The ports that the table is to list: those that nothing else claims any more and that are to boot, and those
    /// that are still on their way out. One that has become a LAG member would take the table from all of them, and need
    /// not be guarded unless the boot VRF has it still.
    fn wanted_ports(&self, desired: &Desired, observed: &Observed, config: &Config) -> BTreeSet<PortName> {
        let vrf = &config.boot.vrf;
        let wants = |(name, port): &(&PortName, &Port)| {
            let (is_there, is_desired) = (port.row.is_some(), desired.ports.contains_key(*name));
            let is_protected = desired::is_protected(name, port.row.as_ref(), &config.boot);
            let to_boot = is_there && is_desired && is_unclaimed(port) && !is_protected;
            let kept = is_there && !desired.releases(name);
            let leaving = self.listed.contains(*name) && port.lag.is_none() && (kept || has_traces(port));
            to_boot || leaving || holds(port, vrf)
        };
        observed.ports.iter().filter(wants).map(|(name, _)| name.clone()).collect()
    }

    /// Why the table and the rules of all ports do not stand.
    fn why_unready(&self) -> Option<Waiting> {
        let inactive = || self.rules.shared.iter().find_map(|rule| self.why_inactive(rule));
        // But for its ports the row is as it is to be.
        let stands = self.table_steps(&self.listed, &self.listed).is_empty();
        if !stands || !self.rules.shared.iter().all(|rule| self.is_written(rule)) {
            Some(Waiting::AclRows(self.name.clone()))
        } else if !self.acl.table_active {
            Some(Waiting::AclTable(self.name.clone()))
        } else {
            inactive()
        }
    }

    /// Why a rule does not stand.
    fn why_inactive(&self, rule: &WantedRule) -> Option<Waiting> {
        if !self.is_written(rule) {
            return Some(Waiting::AclRows(self.name.clone()));
        }
        let is_active = self.acl.active_rules.contains(&rule.name);
        (!is_active).then(|| Waiting::AclRule(self.name.clone(), rule.name.clone()))
    }

    /// Whether nothing is to be written of a rule: its row says it, and orchagent has not lost it.
    fn is_written(&self, rule: &WantedRule) -> bool {
        self.says(rule) && !self.is_lost(rule)
    }

    fn says(&self, rule: &WantedRule) -> bool {
        self.acl.rules.get(&rule.name) == Some(&rule.row)
    }

    /// Whether orchagent has lost a rule. Its row must go and come: a write over a row that is there makes orchagent take
    /// the rule out and put it in again, which looks the same as a loss (`orchagent/aclorch.cpp: AclTable::add`).
    fn is_lost(&self, rule: &WantedRule) -> bool {
        self.says(rule) && self.rules.are_active(self.acl) && self.absent.contains(&rule.name)
    }
}

/// Writes a row over what somebody has made of it, then takes away what is none of ours: one more match in a rule makes
/// another rule of it, and a table with a field that it does not know is no table to orchagent (`orchagent/aclorch.cpp:
/// AclOrch::doAclTableTask`).
fn mended(
    key: RowKey,
    row: &Fields,
    wanted: Fields,
    is_same: impl Fn(&Fields, &Fields) -> bool,
) -> Vec<Step> {
    let others: BTreeSet<String> = row.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    let ours = row.iter().filter(|(name, _)| wanted.contains_key(*name));
    let ours: Fields = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut steps = Vec::new();
    if !is_same(&ours, &wanted) {
        steps.push(Step::Set(key.clone(), wanted));
    }
    if !others.is_empty() {
        steps.push(Step::Clear(key, others));
    }
    steps
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
    let is_whole = port.lag.is_none() && port.sub_interfaces.is_empty() && !port.sub_router_interface;
    is_whole && !is_bridged && (is_free || port.base == Base::Ours)
}
