//! The removal of the boot VRF, the boot ACL and the loopback, which no port's release removes.
//!
//! Must never: remove anything that a port still uses.

use std::collections::BTreeSet;

use super::anycast::remove_loopback;
use super::{Progress, Step, is_managed};
use crate::names::PortName;
use crate::observed::{Base, Observed, ObservedPort, Vrf};
use crate::rows::{self, RowKey};
use crate::settings::Settings;

/// How far the removal of boot VRF, boot ACL and loopback is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// These ports still use them and must be released first.
    InUse(BTreeSet<PortName>),
    /// These steps may be done now.
    Delete(Vec<Step>),
    /// The rows are deleted, and SONiC's daemons have not removed everything yet.
    Removing {
        /// What SONiC still has, for people.
        remaining: Vec<String>,
        /// The steps that announce the deletions again, for daemons that have missed them: FLUSHDB emits no events.
        announce: Vec<Step>,
    },
    /// SONiC's databases have nothing of them.
    Gone,
}

impl Retirement {
    /// Computes how far the removal of what `settings` names is.
    ///
    /// orchagent never deletes a VRF that something is in (`orchagent/vrforch.cpp: VRFOrch::delOperation`), so the VRF's row goes
    /// only when the VRF is empty. caclmgrd crashes on a rule's event when the table's row is gone (`scripts/caclmgrd: run`), so
    /// the rules go first, and the table goes when orchagent has removed them.
    pub fn new(observed: &Observed, settings: &Settings) -> Self {
        let vrf = &settings.boot.vrf;
        let listed = observed.acl.table.as_ref().map(rows::acl_table_ports).unwrap_or_default();
        let in_use = |(name, port): &(&PortName, &ObservedPort)| {
            is_managed(port, vrf) || listed.contains(name.as_str())
        };
        let ports: BTreeSet<PortName> =
            observed.ports.iter().filter(in_use).map(|(name, _)| name.clone()).collect();
        if !ports.is_empty() {
            return Self::InUse(ports);
        }
        let mut steps = Vec::new();
        let Vrf { row, in_kernel, in_asic } = observed.vrf;
        let is_bound = observed.loopback.bound_vrf.as_deref() == Some(vrf.as_str());
        let loopback = match observed.loopback.base {
            Base::Unmanaged(_) => Progress::Done,
            Base::Absent if !is_bound => Progress::Done,
            Base::Ours | Base::Absent => remove_loopback(&settings.boot.loopback, &observed.loopback, vrf),
        };
        let is_empty = matches!(loopback, Progress::Done);
        if let Progress::Steps(of_loopback) = loopback {
            steps.extend(of_loopback);
        } else if row && is_empty {
            steps.push(Step::Delete(RowKey::Vrf(vrf.clone())));
        }
        let acl = &observed.acl;
        let ours = acl.table.as_ref().is_some_and(rows::is_our_acl_table);
        let table = &settings.acl.table;
        if ours && !acl.rules.is_empty() {
            let rule = |rule: &String| Step::Delete(RowKey::AclRule(table.clone(), rule.clone()));
            steps.extend(acl.rules.keys().map(rule));
        } else if ours && acl.active_rules.is_empty() {
            steps.push(Step::Delete(RowKey::AclTable(table.clone())));
        }
        if !steps.is_empty() {
            return Self::Delete(steps);
        }
        // An unmanaged table of the same name stays.
        let is_acl = ours || acl.table.is_none();
        let remaining = [
            (!is_empty, format!("{} in {vrf} (STATE_DB INTERFACE_TABLE)", settings.boot.loopback)),
            (in_kernel, format!("{vrf} (STATE_DB VRF_TABLE)")),
            (in_asic, format!("{vrf} (STATE_DB VRF_OBJECT_TABLE)")),
            (is_acl && !acl.active_rules.is_empty(), format!("rules of {table} (STATE_DB ACL_RULE_TABLE)")),
            (ours || (is_acl && acl.table_active), format!("{table} (STATE_DB ACL_TABLE_TABLE)")),
        ];
        let remaining: Vec<String> =
            remaining.into_iter().filter_map(|(is_there, name)| is_there.then_some(name)).collect();
        if remaining.is_empty() {
            Self::Gone
        } else {
            Self::Removing { remaining, announce: announcements(observed, settings) }
        }
    }
}

/// The steps that announce deletions again: of everything that SONiC still has although no row names it. A rule's deletion is announced only while its
/// table has a row, because caclmgrd would crash otherwise.
fn announcements(observed: &Observed, settings: &Settings) -> Vec<Step> {
    let Observed { vrf, acl, loopback, .. } = observed;
    let mut rows = Vec::new();
    if loopback.base == Base::Absent && loopback.bound_vrf.as_deref() == Some(settings.boot.vrf.as_str()) {
        let address = |text: &String| RowKey::LoopbackAddress(settings.boot.loopback.clone(), text.clone());
        rows.extend(loopback.bound_addresses.iter().map(address));
        rows.extend(rows.is_empty().then(|| RowKey::Loopback(settings.boot.loopback.clone())));
    } else if !vrf.row && vrf.in_kernel && vrf.in_asic {
        rows.push(RowKey::Vrf(settings.boot.vrf.clone()));
    }
    let table = || RowKey::AclTable(settings.acl.table.clone());
    match &acl.table {
        Some(row) if rows::is_our_acl_table(row) => {
            let rule = |rule: &String| RowKey::AclRule(settings.acl.table.clone(), rule.clone());
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
