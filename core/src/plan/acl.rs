//! The boot ACL: its rows, its facts and its repair. A port gets the ACL before anything else, and loses it after everything
//! else.
//!
//! Must never: list a port that is in use outside the boot VRF, drop a port that is still in the boot VRF, or write a
//! permitting rule while a denying rule is missing.

use std::collections::{BTreeMap, BTreeSet};

use super::acl_rules::{WantedRule, WantedRules};
use super::{Remedies, Step, Subject, Waiting, has_leftover_interface, is_managed};
use crate::acl;
use crate::desired::{self, Desired, Provenance};
use crate::names::{AclName, PortName};
use crate::observed::{Base, Observed, ObservedAcl, ObservedPort};
use crate::rows::{self, Fields, RowKey};
use crate::settings::Settings;

/// The state of the boot ACL, for all ports.
pub(super) struct AclState<'a> {
    name: &'a AclName,
    desired: &'a Desired,
    acl: &'a ObservedAcl,
    remedies: &'a Remedies,
    /// The ports in the list of the table's row.
    listed: BTreeSet<PortName>,
    rules: WantedRules,
    /// The ASIC's tables that have every shared rule.
    complete_tables: BTreeSet<&'a String>,
    /// The fact that all ports wait for.
    waiting: Option<Waiting>,
    /// The missing facts of the table and of its rules.
    pub missing: BTreeMap<Subject, Waiting>,
    /// The rules that a repair recreates and that orchagent has removed by now.
    pub removed: BTreeSet<Subject>,
}

impl<'a> AclState<'a> {
    /// Computes the state from the ACL's rows and facts, and the steps that may be done now.
    ///
    /// The table's row comes before its rules, because caclmgrd crashes on a rule whose table has no row (`scripts/caclmgrd:
    /// run`). All ports that enter or leave now are one change of the table's row, because caclmgrd rebuilds the leaf's
    /// ip6tables at each change.
    pub(super) fn new(
        desired: &'a Desired,
        observed: &'a Observed,
        remedies: &'a Remedies,
        settings: &'a Settings,
    ) -> (Self, Vec<Step>) {
        let (name, acl) = (&settings.acl.table, &observed.acl);
        let rules = WantedRules::new(desired, settings);
        let listed = acl.table.as_ref().map(listed_ports).unwrap_or_default();
        let (missing, removed) = (BTreeMap::new(), BTreeSet::new());
        let complete_tables = rules.complete_tables(acl);
        let mut state = Self {
            name,
            desired,
            acl,
            remedies,
            listed,
            rules,
            complete_tables,
            waiting: None,
            missing,
            removed,
        };
        if acl.table.as_ref().is_some_and(|row| !rows::is_our_acl_table(row)) {
            state.waiting = Some(Waiting::UnmanagedAclTable(name.clone()));
            return (state, Vec::new());
        }
        // While no port boots, the ACL is not written: it stays as it is until `leafboot retire`, which may be deleting it now.
        // Rules without a table are the exception: SONiC's YANG refuses them, and caclmgrd crashes on them.
        let is_orphaned = acl.table.is_none() && !acl.rules.is_empty();
        let is_empty = !observed.ports.values().any(|port| is_managed(port, &settings.boot.vrf));
        if desired.ports.is_empty() && state.listed.is_empty() && is_empty && !is_orphaned {
            return (state, Vec::new());
        }
        state.waiting = state.table_blocker();
        let ports = state.wanted_ports(desired, observed, settings);
        let is_in_vrf = |name: &&PortName| is_managed(&observed.ports[*name], &settings.boot.vrf);
        let in_vrf = ports.iter().filter(is_in_vrf).cloned().collect();
        let mut steps = state.table_steps(&ports, &in_vrf);
        steps.extend(state.rule_steps());
        steps.extend(state.repair());
        (state, steps)
    }

    /// The fact of the ACL that the port's next step into the boot VRF waits for; none when the ASIC has the whole ACL for it.
    pub(super) fn entry_blocker(&self, name: &PortName, port: &ObservedPort) -> Option<Waiting> {
        let own = || self.rules.of_port(name).iter().find_map(|rule| rule.missing_fact(self.name, self.acl));
        self.isolation_blocker(name, port).or_else(own)
    }

    /// The missing fact because of which a port is not isolated; none if it is isolated. The port's own rules do not count: they
    /// only permit.
    pub(super) fn isolation_blocker(&self, name: &PortName, port: &ObservedPort) -> Option<Waiting> {
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if !self.listed.contains(name) {
            return Some(Waiting::AclRowsPending(self.name.clone()));
        }
        let is_bound = port.acl_tables.iter().any(|table| self.complete_tables.contains(table));
        (!is_bound).then(|| Waiting::AclBound(self.name.clone()))
    }

    /// The fact to wait for while a port still has the ACL: the table's row lists it, or the ASIC binds the table to it. An
    /// incomplete table counts, too, because it may deny a tenant's packets.
    pub(super) fn unbind_blocker(&self, name: &PortName, port: &ObservedPort) -> Option<Waiting> {
        let is_bound = self.acl.asic_entries.values().any(|table| port.acl_tables.contains(table));
        let remains = self.listed.contains(name) || is_bound;
        remains.then(|| Waiting::AclUnbound(self.name.clone()))
    }

    /// The steps for the table's row. The row gets no further port until every shared rule has its row. A new row lists the ports
    /// that are in the boot VRF already, because they are not isolated without it.
    fn table_steps(&self, ports: &BTreeSet<PortName>, in_vrf: &BTreeSet<PortName>) -> Vec<Step> {
        let key = RowKey::AclTable(self.name.clone());
        let Some(row) = &self.acl.table else {
            return vec![Step::Set(key, rows::acl_table_fields(in_vrf))];
        };
        let mut list = ports.clone();
        if !self.rules.shared().all(|rule| rule.is_written(self.acl)) {
            list.retain(|port| self.listed.contains(port));
        }
        corrected(key, row, rows::acl_table_fields(&list), rows::is_same_acl_table)
    }

    /// The steps for the rules' rows. Denying rules are written first and alone; permitting rules wait until the ASIC has them.
    /// orchagent works off a batch of rows by key or by priority, depending on the release (`orchagent/aclorch.cpp:
    /// AclOrch::doAclRuleTask`), and no permitting rule may reach the ASIC before a denying one.
    fn rule_steps(&self) -> Vec<Step> {
        let is_in_asic = |rule: &WantedRule| rule.missing_fact(self.name, self.acl).is_none();
        let mut steps: Vec<Step> =
            self.rules.shared_denying.iter().flat_map(|rule| self.rule_step(rule)).collect();
        if self.rules.shared_denying.iter().all(is_in_asic) {
            steps.extend(self.rules.permitting().flat_map(|rule| self.rule_step(rule)));
        }
        // A port's own rule goes only when a push no longer asks for it. All other rules follow from the settings: a rule that
        // the settings no longer have goes at once.
        let may_go = |rule: &&String| {
            self.desired.provenance == Provenance::Pushed || !rule.starts_with(acl::GATEWAY_RULES)
        };
        let stale = self.acl.rules.keys().filter(|rule| !self.is_wanted(rule)).filter(may_go);
        steps.extend(stale.map(|rule| Step::Delete(self.rule_key(rule))));
        steps
    }

    /// The steps for one rule's row.
    fn rule_step(&self, rule: &WantedRule) -> Vec<Step> {
        let key = self.rule_key(&rule.name);
        let is_recreating = self.remedies.recreate.contains(&Subject::AclRule(rule.name.clone()));
        match self.acl.rules.get(&rule.name) {
            Some(_) if is_recreating => vec![Step::Delete(key)],
            Some(row) => corrected(key, row, rule.row.clone(), Fields::eq),
            // orchagent has not seen the deletion yet. It would take a row that is written now as an update of the old rule.
            None if is_recreating && self.has_state(&rule.name) => Vec::new(),
            None => vec![Step::Set(key, rule.row.clone())],
        }
    }

    /// Records the facts that are missing although their rows are there, and returns the repair's steps that are due. Nothing is
    /// missing before orchagent has created ports: then the ASIC is empty, STATE_DB is of an earlier run, and everything comes
    /// by itself.
    fn repair(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.acl.asic_has_ports {
            return steps;
        }
        let is_denial_missing =
            self.rules.shared_denying.iter().any(|rule| rule.missing_fact(self.name, self.acl).is_some());
        if is_denial_missing {
            self.missing.insert(Subject::AclDenials, Waiting::AclDenyRuleMissing(self.name.clone()));
        }
        for rule in self.rules.all() {
            let subject = Subject::AclRule(rule.name.clone());
            let is_gone = !self.acl.rules.contains_key(&rule.name) && !self.has_state(&rule.name);
            if is_gone && self.remedies.recreate.contains(&subject) {
                self.removed.insert(subject.clone());
            }
            // A refused rule is repaired once its table is active.
            let is_refusal = |fact: &Waiting| matches!(fact, Waiting::AclRuleRefused(..));
            let may_come = |fact: &Waiting| self.acl.table_active || !is_refusal(fact);
            let fact = rule.missing_fact(self.name, self.acl);
            let fact = fact.filter(|fact| fact.lateness().is_some() && may_come(fact));
            // Permitting rules are repaired when all denying rules are there.
            let is_next = !is_denial_missing
                || self.rules.shared_denying.iter().any(|denying| denying.name == rule.name);
            if let Some(fact) = fact.filter(|_| is_next) {
                if self.remedies.rewrite.contains(&subject) {
                    steps.push(Step::Set(self.rule_key(&rule.name), rule.row.clone()));
                }
                self.missing.insert(subject, fact);
            }
        }
        let without_row = self.acl.active_rules.iter();
        let without_row =
            without_row.filter(|rule| !self.is_wanted(rule) && !self.acl.rules.contains_key(*rule));
        for rule in without_row.cloned().collect::<Vec<_>>() {
            let subject = Subject::AclRule(rule.clone());
            if self.remedies.rewrite.contains(&subject) {
                steps.push(Step::DeleteAgain(self.rule_key(&rule)));
            }
            self.missing.insert(subject, Waiting::AclRuleGone(self.name.clone(), rule));
        }
        steps.extend(self.repair_table());
        steps
    }

    /// The repair of a table that orchagent has refused: its row is written again, because the reason may be gone.
    fn repair_table(&mut self) -> Option<Step> {
        let row = self.acl.table.as_ref().filter(|_| !self.acl.table_active)?;
        self.missing.insert(Subject::AclTable, Waiting::AclTableActive(self.name.clone()));
        let is_due = self.remedies.rewrite.contains(&Subject::AclTable);
        is_due.then(|| Step::Set(RowKey::AclTable(self.name.clone()), row.clone()))
    }

    fn rule_key(&self, rule: &str) -> RowKey {
        RowKey::AclRule(self.name.clone(), rule.to_owned())
    }

    /// Whether a rule is wanted. A rejected port keeps its own rules.
    fn is_wanted(&self, name: &str) -> bool {
        let is_rejected = |port: &PortName| acl::is_own_rule(name, port);
        self.rules.all().any(|rule| rule.name == name) || self.desired.rejected.ports.keys().any(is_rejected)
    }

    /// Whether STATE_DB has a status of the rule.
    fn has_state(&self, rule: &str) -> bool {
        self.acl.active_rules.contains(rule) || self.acl.refused_rules.contains(rule)
    }

    /// The ports that the table is to list: desired ports that nothing else uses any more, and ports on their way out. A LAG member
    /// in the list makes the table inactive for all ports. But a port that joins a LAG in CONFIG_DB while it is in the boot VRF
    /// does not join it in the ASIC (`cfgmgr/teammgr.cpp: TeamMgr::addLagMember` skips a port with a master), so such a port
    /// stays in the list until it has left the VRF.
    fn wanted_ports(
        &self,
        desired: &Desired,
        observed: &Observed,
        settings: &Settings,
    ) -> BTreeSet<PortName> {
        let vrf = &settings.boot.vrf;
        let is_wanted = |(name, port): &(&PortName, &ObservedPort)| {
            let (is_there, is_desired) = (port.row.is_some(), desired.ports.contains_key(*name));
            let is_protected = desired::is_protected(name, port.row.as_ref(), &settings.boot);
            let may_enter = is_there && is_desired && is_free_of_others(port) && !is_protected;
            let is_listed = self.listed.contains(*name);
            let is_to_stay = !desired.releases(name) && !desired.is_uplink(name);
            let stays = is_listed && is_there && is_to_stay && port.lag.is_none();
            let is_leaving = is_managed(port, vrf) || is_listed && has_leftover_interface(port);
            may_enter || stays || is_leaving
        };
        observed.ports.iter().filter(is_wanted).map(|(name, _)| name.clone()).collect()
    }

    /// The fact that the table or a shared rule lacks.
    fn table_blocker(&self) -> Option<Waiting> {
        // Compare the row without its list of ports.
        let is_table_written = self.table_steps(&self.listed, &self.listed).is_empty();
        // Permitting rules are written only when the ASIC has the denying ones, so they do not count here.
        if !is_table_written || !self.rules.shared_denying.iter().all(|rule| rule.is_written(self.acl)) {
            Some(Waiting::AclRowsPending(self.name.clone()))
        } else if !self.acl.table_active {
            Some(Waiting::AclTableActive(self.name.clone()))
        } else {
            self.rules.shared().find_map(|rule| rule.missing_fact(self.name, self.acl))
        }
    }
}

/// The steps that correct an edited row: they set leafboot's fields and delete all others. A further match would change a rule's
/// meaning, and orchagent refuses a table with an unknown field (`orchagent/aclorch.cpp: AclOrch::doAclTableTask`).
fn corrected(
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

/// The front-panel ports in the list of a table's row.
fn listed_ports(row: &Fields) -> BTreeSet<PortName> {
    rows::acl_table_ports(row).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Whether nothing outside the boot VRF uses the port, in CONFIG_DB, STATE_DB and ASIC_DB. The ACL on a tenant's port would cut
/// the tenant off, and a LAG member makes the whole table inactive (`orchagent/aclorch.cpp: AclOrch::processAclTablePorts`).
fn is_free_of_others(port: &ObservedPort) -> bool {
    let is_bridged = !port.vlan_rows.is_empty() || !port.bound_vlans.is_empty() || port.bridge_port;
    let is_addressed = !port.address_rows.is_empty() || !port.other_address_rows.is_empty();
    let is_routed = port.bound_vrf.is_some() || port.router_interface || is_addressed;
    let is_free = port.base == Base::Absent && !is_routed;
    let is_whole = port.lag.is_none() && port.sub_interfaces.is_empty() && !port.sub_router_interface;
    is_whole && !is_bridged && (is_free || port.base == Base::Ours)
}
