//! The boot ACL comes before everything else of a port, and goes after everything else.
//!
//! Must never: list a port that somebody else has, drop one that the boot VRF still has, or write a rule that permits while
//! one that denies is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::acl_rules::{WantedRule, WantedRules};
use super::{Remedies, Step, Subject, Waiting, has_traces, holds};
use crate::acl;
use crate::desired::{self, Desired, Provenance};
use crate::names::{AclName, PortName};
use crate::observed::{Acl, Base, Observed, Port};
use crate::rows::{self, Fields, RowKey};
use crate::settings::Settings;

/// How far the boot ACL is, for every port.
pub(super) struct Guard<'a> {
    name: &'a AclName,
    desired: &'a Desired,
    acl: &'a Acl,
    remedies: &'a Remedies,
    /// The ports that the table's row lists now.
    listed: BTreeSet<PortName>,
    rules: WantedRules,
    /// The ASIC's tables that have the rules of all ports.
    whole: BTreeSet<&'a String>,
    /// What all ports wait for.
    waiting: Option<Waiting>,
    /// The facts that are missing of the table and of its rules.
    pub missing: BTreeMap<Subject, Waiting>,
    /// The rules that were taken out to come again, and are out.
    pub renewed: BTreeSet<Subject>,
}

impl<'a> Guard<'a> {
    /// Judges the ACL's rows and facts; the steps that may be done now come with it.
    ///
    /// Table before rules: caclmgrd dies of a rule whose table has no row (`scripts/caclmgrd: run`), and each change of
    /// a table's row makes it rebuild the leaf's ip6tables, so all ports that come and go now are one change.
    pub(super) fn new(
        desired: &'a Desired,
        observed: &'a Observed,
        remedies: &'a Remedies,
        config: &'a Settings,
    ) -> (Self, Vec<Step>) {
        let (name, acl) = (&config.acl.table, &observed.acl);
        let rules = WantedRules::new(desired, config);
        let listed = acl.table.as_ref().map(listed_ports).unwrap_or_default();
        let (missing, renewed) = (BTreeMap::new(), BTreeSet::new());
        let whole = rules.whole_tables(acl);
        let mut guard =
            Self { name, desired, acl, remedies, listed, rules, whole, waiting: None, missing, renewed };
        if acl.table.as_ref().is_some_and(|row| !rows::is_our_acl_table(row)) {
            guard.waiting = Some(Waiting::UnmanagedAclTable(name.clone()));
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
        steps.extend(guard.rule_steps());
        steps.extend(guard.repair());
        (guard, steps)
    }

    /// Why a port may not go a step further into the boot VRF: nothing, when the ACL stands before it in the ASIC.
    pub(super) fn why_open(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        let own = || self.rules.own(name).iter().find_map(|rule| rule.missing(self.name, self.acl));
        self.why_unguarded(name, port).or_else(own)
    }

    /// Why a port is not isolated. Its own rules do not count: they only permit, so a port without them is shut too far.
    pub(super) fn why_unguarded(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if !self.listed.contains(name) {
            return Some(Waiting::AclRowsPending(self.name.clone()));
        }
        let is_bound = port.acl_tables.iter().any(|table| self.whole.contains(table));
        (!is_bound).then(|| Waiting::AclBound(self.name.clone()))
    }

    /// Why a port is not rid of the ACL: the table's row lists it, or the ASIC has not let go of it yet. A table of which
    /// something is missing denies a tenant no less.
    pub(super) fn why_guarded(&self, name: &PortName, port: &Port) -> Option<Waiting> {
        let is_bound = self.acl.asic_entries.values().any(|table| port.acl_tables.contains(table));
        let is_guarded = self.listed.contains(name) || is_bound;
        is_guarded.then(|| Waiting::AclUnbound(self.name.clone()))
    }

    /// The table's row. It lists no further port until the rules of all ports stand; a new one lists those that are in the
    /// boot VRF already, for they are open without it.
    fn table_steps(&self, ports: &BTreeSet<PortName>, inside: &BTreeSet<PortName>) -> Vec<Step> {
        let key = RowKey::AclTable(self.name.clone());
        let Some(row) = &self.acl.table else {
            return vec![Step::Set(key, rows::acl_table_fields(inside))];
        };
        let mut list = ports.clone();
        if !self.rules.shared().all(|rule| rule.is_written(self.acl)) {
            list.retain(|port| self.listed.contains(port));
        }
        mended(key, row, rows::acl_table_fields(&list), rows::is_same_acl_table)
    }

    /// The rules' rows. Those that deny come first and alone: the others wait until the ASIC has them. orchagent takes a
    /// batch of rows in an order of its own, by key or by priority depending on the release (`orchagent/aclorch.cpp:
    /// AclOrch::doAclRuleTask`), and one that permits must not come before one that denies.
    fn rule_steps(&self) -> Vec<Step> {
        let denies = |rule: &WantedRule| rule.missing(self.name, self.acl).is_none();
        let mut steps: Vec<Step> = self.rules.denying.iter().flat_map(|rule| self.rule_step(rule)).collect();
        if self.rules.denying.iter().all(denies) {
            steps.extend(self.rules.all_permitting().flat_map(|rule| self.rule_step(rule)));
        }
        // A port's own rule that no document asks for is taken away when metal-core has pushed. All others follow from the
        // settings, and what these do not permit any more is not permitted.
        let may_go = |rule: &&String| {
            self.desired.provenance == Provenance::Pushed || !rule.starts_with(acl::GATEWAY_RULES)
        };
        let stale = self.acl.rules.keys().filter(|rule| !self.is_wanted(rule)).filter(may_go);
        steps.extend(stale.map(|rule| Step::Delete(self.rule_key(rule))));
        steps
    }

    /// What one rule's row lacks.
    fn rule_step(&self, rule: &WantedRule) -> Vec<Step> {
        let key = self.rule_key(&rule.name);
        let is_renewing = self.remedies.renew.contains(&Subject::AclRule(rule.name.clone()));
        match self.acl.rules.get(&rule.name) {
            Some(_) if is_renewing => vec![Step::Delete(key)],
            Some(row) => mended(key, row, rule.row.clone(), Fields::eq),
            // orchagent has not heard yet that the row is gone; what is written now would be one rule with it.
            None if is_renewing && self.has_state(&rule.name) => Vec::new(),
            None => vec![Step::Set(key, rule.row.clone())],
        }
    }

    /// Notes what is missing in spite of its row, and writes again what is due. Before orchagent has made ports, the ASIC has
    /// nothing and STATE_DB a former run's word: then nothing is missing that does not come by itself.
    fn repair(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.acl.has_ports {
            return steps;
        }
        let denial = self.rules.denying.iter().any(|rule| rule.missing(self.name, self.acl).is_some());
        if denial {
            self.missing.insert(Subject::AclDenials, Waiting::AclDenyRuleMissing(self.name.clone()));
        }
        for rule in self.rules.all() {
            let subject = Subject::AclRule(rule.name.clone());
            let is_gone = !self.acl.rules.contains_key(&rule.name) && !self.has_state(&rule.name);
            if is_gone && self.remedies.renew.contains(&subject) {
                self.renewed.insert(subject.clone());
            }
            // One that was refused is taken once its table is there.
            let is_refusal = |fact: &Waiting| matches!(fact, Waiting::AclRuleRefused(..));
            let may_come = |fact: &Waiting| self.acl.table_active || !is_refusal(fact);
            let fact = rule.missing(self.name, self.acl);
            let fact = fact.filter(|fact| fact.lateness().is_some() && may_come(fact));
            // One that permits is repaired when those that deny are there.
            let is_next = !denial || self.rules.denying.iter().any(|denying| denying.name == rule.name);
            if let Some(fact) = fact.filter(|_| is_next) {
                if self.remedies.rewrite.contains(&subject) {
                    steps.push(Step::Set(self.rule_key(&rule.name), rule.row.clone()));
                }
                self.missing.insert(subject, fact);
            }
        }
        let unheard = self.acl.active_rules.iter();
        let unheard = unheard.filter(|rule| !self.is_wanted(rule) && !self.acl.rules.contains_key(*rule));
        for rule in unheard.cloned().collect::<Vec<_>>() {
            let subject = Subject::AclRule(rule.clone());
            if self.remedies.rewrite.contains(&subject) {
                steps.push(Step::DeleteAgain(self.rule_key(&rule)));
            }
            self.missing.insert(subject, Waiting::AclRuleGone(self.name.clone(), rule));
        }
        steps.extend(self.repair_table());
        steps
    }

    /// A table that orchagent has refused is taken only when its row is written again: what was wrong with it may be over.
    fn repair_table(&mut self) -> Option<Step> {
        let row = self.acl.table.as_ref().filter(|_| !self.acl.table_active)?;
        self.missing.insert(Subject::AclTable, Waiting::AclTableActive(self.name.clone()));
        let is_due = self.remedies.rewrite.contains(&Subject::AclTable);
        is_due.then(|| Step::Set(RowKey::AclTable(self.name.clone()), row.clone()))
    }

    fn rule_key(&self, rule: &str) -> RowKey {
        RowKey::AclRule(self.name.clone(), rule.to_owned())
    }

    /// Whether a rule is to stand; those of a rejected port stay as they are.
    fn is_wanted(&self, name: &str) -> bool {
        let is_rejected = |port: &PortName| acl::is_own_rule(name, port);
        self.rules.all().any(|rule| rule.name == name) || self.desired.rejected.ports.keys().any(is_rejected)
    }

    /// Whether orchagent says anything of a rule.
    fn has_state(&self, rule: &str) -> bool {
        self.acl.active_rules.contains(rule) || self.acl.refused_rules.contains(rule)
    }

    /// The ports that the table is to list: those that nothing else claims any more and that are to boot, and those
    /// that are still on their way out. A LAG member would take the table from all of them; but a port that has become one
    /// in CONFIG_DB is none in the ASIC while it is in the boot VRF (`cfgmgr/teammgr.cpp: TeamMgr::addLagMember` passes over
    /// a port that has a master), and it would be open without the ACL.
    fn wanted_ports(&self, desired: &Desired, observed: &Observed, config: &Settings) -> BTreeSet<PortName> {
        let vrf = &config.boot.vrf;
        let wants = |(name, port): &(&PortName, &Port)| {
            let (is_there, is_desired) = (port.row.is_some(), desired.ports.contains_key(*name));
            let is_protected = desired::is_protected(name, port.row.as_ref(), &config.boot);
            let to_boot = is_there && is_desired && is_unclaimed(port) && !is_protected;
            let is_listed = self.listed.contains(*name);
            let is_to_stay = !desired.releases(name) && !desired.is_uplink(name);
            let kept = is_listed && is_there && is_to_stay && port.lag.is_none();
            let leaving = holds(port, vrf) || is_listed && has_traces(port);
            to_boot || kept || leaving
        };
        observed.ports.iter().filter(wants).map(|(name, _)| name.clone()).collect()
    }

    /// Why the table and the rules of all ports do not stand.
    fn why_unready(&self) -> Option<Waiting> {
        // But for its ports the row is as it is to be.
        let stands = self.table_steps(&self.listed, &self.listed).is_empty();
        // The rules that permit are written after those that deny stand.
        if !stands || !self.rules.denying.iter().all(|rule| rule.is_written(self.acl)) {
            Some(Waiting::AclRowsPending(self.name.clone()))
        } else if !self.acl.table_active {
            Some(Waiting::AclTableActive(self.name.clone()))
        } else {
            self.rules.shared().find_map(|rule| rule.missing(self.name, self.acl))
        }
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
