//! The rules that the boot ACL is to have, and what each of them lacks.
//!
//! Must never: take orchagent's word for a rule: it does not say what it has lost.

use std::collections::{BTreeMap, BTreeSet};

use super::Waiting;
use crate::acl::{self, Action, Rule};
use crate::desired::Desired;
use crate::names::{AclName, BootPrefix, PortName};
use crate::observed::Acl;
use crate::rows::{self, Fields};
use crate::settings::Settings;

/// Every rule that is to stand.
pub(super) struct WantedRules {
    /// The rules of all ports that deny.
    pub denying: Vec<WantedRule>,
    /// The rules of all ports that permit.
    pub permitting: Vec<WantedRule>,
    /// Each port's own rules. They only permit.
    own: BTreeMap<PortName, Vec<WantedRule>>,
}

/// One rule and its row.
pub(super) struct WantedRule {
    pub name: String,
    pub row: Fields,
}

impl WantedRules {
    pub fn new(desired: &Desired, config: &Settings) -> Self {
        let wanted = |rules: &[Rule]| rules.iter().map(WantedRule::new).collect();
        let own = |(port, prefix): (&PortName, &BootPrefix)| {
            (port.clone(), wanted(&acl::gateway_rules(config, port, *prefix)))
        };
        let (denying, permitting): (Vec<Rule>, Vec<Rule>) =
            acl::rules(config).into_iter().partition(|rule| rule.action == Action::Drop);
        Self {
            denying: wanted(&denying),
            permitting: wanted(&permitting),
            own: desired.ports.iter().map(own).collect(),
        }
    }

    /// The rules of all ports.
    pub fn shared(&self) -> impl Iterator<Item = &WantedRule> {
        self.denying.iter().chain(&self.permitting)
    }

    /// The rules of one port.
    pub fn own(&self, port: &PortName) -> &[WantedRule] {
        self.own.get(port).map_or(&[], Vec::as_slice)
    }

    /// All rules that permit.
    pub fn all_permitting(&self) -> impl Iterator<Item = &WantedRule> {
        self.permitting.iter().chain(self.own.values().flatten())
    }

    pub fn all(&self) -> impl Iterator<Item = &WantedRule> {
        self.denying.iter().chain(self.all_permitting())
    }

    /// The ASIC's tables that have the rules of all ports, every one.
    pub fn whole_tables<'a>(&self, acl: &'a Acl) -> BTreeSet<&'a String> {
        let table = |rule: &WantedRule| acl.asic_entries.get(&rule.name);
        let tables: BTreeSet<&String> = acl.asic_entries.values().collect();
        tables.into_iter().filter(|whole| self.shared().all(|rule| table(rule) == Some(whole))).collect()
    }
}

impl WantedRule {
    fn new(rule: &Rule) -> Self {
        Self { name: rule.name.clone(), row: rows::acl_rule_fields(rule) }
    }

    /// What the rule lacks; none: its row stands, orchagent has it, and so has the ASIC.
    pub fn missing(&self, table: &AclName, acl: &Acl) -> Option<Waiting> {
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

    /// Whether the row stands as it is to be.
    pub fn is_written(&self, acl: &Acl) -> bool {
        acl.rules.get(&self.name) == Some(&self.row)
    }
}
