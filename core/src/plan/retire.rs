//! What no port's release does: the boot VRF and the boot ACL themselves go.
//!
//! Must never: take anything away under a port.

use std::collections::BTreeSet;

use super::anycast::withdraw;
use super::{Need, Step, holds};
use crate::names::PortName;
use crate::observed::{Base, Observed, Port, Vrf};
use crate::rows::{self, RowKey};
use crate::settings::Settings;

/// What is left to do to remove the boot VRF and the boot ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// Ports are in them: they are released first.
    InUse(BTreeSet<PortName>),
    /// These rows may go now.
    Delete(Vec<Step>),
    /// Their rows are gone; SONiC still has something.
    Going {
        /// What, in words.
        things: Vec<String>,
        /// What makes SONiC's daemons hear of it once more, should they not let go: rows that FLUSHDB took away are gone
        /// without a word.
        announce: Vec<Step>,
    },
    /// Nothing of them is left in SONiC's databases.
    Gone,
}

impl Retirement {
    /// How far the removal of what `config` names is.
    ///
    /// orchagent keeps a VRF for ever that something is in (`orchagent/vrforch.cpp: VRFOrch::delOperation`), so its row
    /// goes only when no port is. caclmgrd dies of a rule's event when the table's row is gone (`scripts/caclmgrd:
    /// run`), so the rules go first, and the table when orchagent has let go of them.
    pub fn new(observed: &Observed, config: &Settings) -> Self {
        let vrf = &config.boot.vrf;
        let listed = observed.acl.table.as_ref().map(rows::acl_table_ports).unwrap_or_default();
        let in_use = |(name, port): &(&PortName, &Port)| holds(port, vrf) || listed.contains(name.as_str());
        let ports: BTreeSet<PortName> =
            observed.ports.iter().filter(in_use).map(|(name, _)| name.clone()).collect();
        if !ports.is_empty() {
            return Self::InUse(ports);
        }
        let mut steps = Vec::new();
        let Vrf { row, in_kernel, in_asic } = observed.vrf;
        let is_bound = observed.loopback.bound.as_deref() == Some(vrf.as_str());
        let loopback = match observed.loopback.base {
            Base::Foreign(_) => Need::Nothing,
            Base::Absent if !is_bound => Need::Nothing,
            Base::Ours | Base::Absent => withdraw(&config.boot.loopback, &observed.loopback, vrf),
        };
        let is_empty = matches!(loopback, Need::Nothing);
        if let Need::Steps(of_loopback) = loopback {
            steps.extend(of_loopback);
        } else if row && is_empty {
            steps.push(Step::Delete(RowKey::Vrf(vrf.clone())));
        }
        let acl = &observed.acl;
        let ours = acl.table.as_ref().is_some_and(rows::is_our_acl_table);
        let table = &config.acl.table;
        if ours && !acl.rules.is_empty() {
            let rule = |rule: &String| Step::Delete(RowKey::AclRule(table.clone(), rule.clone()));
            steps.extend(acl.rules.keys().map(rule));
        } else if ours && acl.active_rules.is_empty() {
            steps.push(Step::Delete(RowKey::AclTable(table.clone())));
        }
        if !steps.is_empty() {
            return Self::Delete(steps);
        }
        // Somebody else's table of that name stays.
        let is_acl = ours || acl.table.is_none();
        let left = [
            (!is_empty, format!("{} in {vrf} (STATE_DB INTERFACE_TABLE)", config.boot.loopback)),
            (in_kernel, format!("{vrf} (STATE_DB VRF_TABLE)")),
            (in_asic, format!("{vrf} (STATE_DB VRF_OBJECT_TABLE)")),
            (is_acl && !acl.active_rules.is_empty(), format!("rules of {table} (STATE_DB ACL_RULE_TABLE)")),
            (ours || (is_acl && acl.table_active), format!("{table} (STATE_DB ACL_TABLE_TABLE)")),
        ];
        let left: Vec<String> =
            left.into_iter().filter_map(|(is_left, what)| is_left.then_some(what)).collect();
        if left.is_empty() {
            Self::Gone
        } else {
            Self::Going { things: left, announce: announcements(observed, config) }
        }
    }
}

/// What SONiC's daemons have and no row names. A rule's row is announced only beside its table's: caclmgrd dies of it
/// otherwise.
fn announcements(observed: &Observed, config: &Settings) -> Vec<Step> {
    let Observed { vrf, acl, loopback, .. } = observed;
    let mut rows = Vec::new();
    if loopback.base == Base::Absent && loopback.bound.as_deref() == Some(config.boot.vrf.as_str()) {
        let address = |text: &String| RowKey::LoopbackAddress(config.boot.loopback.clone(), text.clone());
        rows.extend(loopback.bound_addresses.iter().map(address));
        rows.extend(rows.is_empty().then(|| RowKey::Loopback(config.boot.loopback.clone())));
    } else if !vrf.row && vrf.in_kernel && vrf.in_asic {
        rows.push(RowKey::Vrf(config.boot.vrf.clone()));
    }
    let table = || RowKey::AclTable(config.acl.table.clone());
    match &acl.table {
        Some(row) if rows::is_our_acl_table(row) => {
            let rule = |rule: &String| RowKey::AclRule(config.acl.table.clone(), rule.clone());
            rows.extend(acl.active_rules.iter().map(rule));
        }
        None if !acl.active_rules.is_empty() => {
            return vec![Step::Set(table(), rows::acl_table_fields(&BTreeSet::new()))];
        }
        None if acl.table_active => rows.push(table()),
        Some(_) | None => {}
    }
    rows.into_iter().map(Step::DeleteAgain).collect()
}
