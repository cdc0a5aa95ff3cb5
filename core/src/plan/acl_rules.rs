//! The rules that the boot ACL is to have, and the facts that each of them lacks.
//!
//! Must never: rely on STATE_DB alone. orchagent writes nothing there when the ASIC loses a rule.

use std::collections::{BTreeMap, BTreeSet};

use super::Waiting;
use crate::acl::{self, Action, Rule};
use crate::desired::{Desired, DesiredPort};
use crate::names::{AclName, PortName};
use crate::observed::ObservedAcl;
use crate::rows::{self, Fields};
use crate::settings::Settings;

/// The rules that the boot ACL is to have.
pub(super) struct WantedRules {
    /// The shared rules that deny.
    pub shared_denying: Vec<WantedRule>,
    /// The shared rules that permit.
    shared_permitting: Vec<WantedRule>,
    /// Each port's own rules. They only permit.
    of_ports: BTreeMap<PortName, Vec<WantedRule>>,
}

/// A rule's name and its row.
pub(super) struct WantedRule {
    pub name: String,
    pub row: Fields,
}

impl WantedRules {
    pub fn new(desired: &Desired, settings: &Settings) -> Self {
        let wanted = |rules: &[Rule]| rules.iter().map(WantedRule::new).collect();
        let of_port = |(name, port): (&PortName, &DesiredPort)| {
            (name.clone(), wanted(&acl::gateway_rules(settings, name, port.prefix)))
        };
        let (denying, permitting): (Vec<Rule>, Vec<Rule>) =
            acl::rules(settings).into_iter().partition(|rule| rule.action == Action::Drop);
        Self {
            shared_denying: wanted(&denying),
            shared_permitting: wanted(&permitting),
            of_ports: desired.ports.iter().map(of_port).collect(),
        }
    }

    /// The rules that all ports share.
    pub fn shared(&self) -> impl Iterator<Item = &WantedRule> {
        self.shared_denying.iter().chain(&self.shared_permitting)
    }

    /// The rules of one port alone.
    pub fn of_port(&self, port: &PortName) -> &[WantedRule] {
        self.of_ports.get(port).map_or(&[], Vec::as_slice)
    }

    /// All permitting rules, shared ones first.
    pub fn permitting(&self) -> impl Iterator<Item = &WantedRule> {
        self.shared_permitting.iter().chain(self.of_ports.values().flatten())
    }

    /// All rules, denying ones first.
    pub fn all(&self) -> impl Iterator<Item = &WantedRule> {
        self.shared_denying.iter().chain(self.permitting())
    }

    /// The objects of the ASIC's ACL tables that have every shared rule.
    pub fn complete_tables<'a>(&self, acl: &'a ObservedAcl) -> BTreeSet<&'a String> {
        let table_of = |rule: &WantedRule| acl.asic_entries.get(&rule.name);
        let tables: BTreeSet<&String> = acl.asic_entries.values().collect();
        tables.into_iter().filter(|table| self.shared().all(|rule| table_of(rule) == Some(table))).collect()
    }
}

impl WantedRule {
    fn new(rule: &Rule) -> Self {
        Self { name: rule.name.clone(), row: rows::acl_rule_fields(rule) }
    }

    /// The first fact that the rule lacks; none if its row is right, orchagent reports it active, and the ASIC has it.
    pub fn missing_fact(&self, table: &AclName, acl: &ObservedAcl) -> Option<Waiting> {
        let (table, name) = (table.clone(), self.name.clone());
        if !self.is_written(acl) {
            Some(Waiting::AclRowsPending(table))
        } else if acl.refused_rules.contains(&name) {
            Some(Waiting::AclRuleRefused(table, name))
        } else if !acl.active_rules.contains(&name) {
            Some(Waiting::AclRuleActive(table, name))
        } else if !acl.asic_entries.contains_key(&name) {
            Some(Waiting::AclRuleInAsic(table, name))
        } else {
            None
        }
    }

    /// Whether CONFIG_DB has the row as it is to be.
    pub fn is_written(&self, acl: &ObservedAcl) -> bool {
        acl.rules.get(&self.name) == Some(&self.row)
    }
}
