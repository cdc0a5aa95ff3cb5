//! A port's way out of the boot VRF: the final Router Advertisement, then address and base row, each with its facts, and the boot
//! ACL last.
//!
//! Must never: take the ACL off a port while SONiC has anything of the boot VRF on it.

use std::collections::BTreeSet;

use super::addresses::address_removal_blocker;
use super::{Context, Progress, Step, Subject, Waiting, has_leftover_interface, is_managed};
use crate::desired::Provenance;
use crate::names::{BootPrefix, PortName};
use crate::observed::{Base, ObservedPort};
use crate::port_role::{self, PortRole, RaState};
use crate::rows::RowKey;

impl Context<'_> {
    /// How far a released port is on its way out. A port that leafboot never managed is done.
    pub(super) fn leave(&self, name: &PortName, port: &ObservedPort) -> Progress {
        if is_managed(port, self.vrf()) {
            return match &port.base {
                Base::Unmanaged(vrf) => Progress::Waits(Waiting::UnmanagedInterface(vrf.clone())),
                Base::Ours | Base::Absent => self.remove_from_vrf(name, port),
            };
        }
        // Another program has deleted the base row and left the address. The address would become part of a tenant's next interface.
        let left = port.address_rows.iter().filter(|prefix| self.is_left_over(port, prefix));
        let steps: Vec<Step> =
            left.map(|prefix| Step::Delete(RowKey::Address(name.clone(), *prefix))).collect();
        if steps.is_empty() { self.await_removal(name, port) } else { Progress::Steps(steps) }
    }

    /// Whether an address of a port outside the boot VRF is certainly leafboot's.
    fn is_left_over(&self, port: &ObservedPort, prefix: &BootPrefix) -> bool {
        port.base == Base::Absent && self.settings.boot.supernet.contains(&prefix.net())
    }

    /// Waits until SONiC has nothing more of a port whose rows are gone.
    pub(super) fn await_removal(&self, name: &PortName, port: &ObservedPort) -> Progress {
        if let Some(prefix) = port.bound_addresses.iter().find(|prefix| self.is_left_over(port, prefix)) {
            return Progress::Waits(Waiting::AddressGone(*prefix));
        }
        // The rows are gone, and intfmgrd has removed the interface. But a base row that is written before the ASIC has removed
        // its router interface gets one in the old VRF (swss-common `common/consumer_state_table_pops.lua` merges DEL and SET).
        if port.base == Base::Absent && has_leftover_interface(port) {
            return Progress::Waits(Waiting::RouterInterfaceGone);
        }
        match self.acl.unbind_blocker(name, port) {
            Some(waiting) => Progress::Waits(waiting),
            None => Progress::Done,
        }
    }

    /// The way out of the VRF: first the addresses, then the base row, each step when the one before has taken effect.
    pub(super) fn remove_from_vrf(&self, name: &PortName, port: &ObservedPort) -> Progress {
        if !port.address_rows.is_empty() {
            return self.remove_addresses(name, port, None);
        }
        if let Some(progress) = self.clear_other_addresses(name, port) {
            return progress;
        }
        if let Some(waiting) = address_removal_blocker(port) {
            return Progress::Waits(waiting);
        }
        match (&port.base, &port.bound_vrf) {
            (Base::Ours, _) => Progress::Steps(vec![Step::Delete(RowKey::Interface(name.clone()))]),
            (_, bound) => {
                Progress::Waits(self.interface_removal_blocker(name, bound.as_deref().unwrap_or_default()))
            }
        }
    }

    /// Deletes the unmanaged address rows, IPv4 and IPv6, on a port in the boot VRF: intfmgrd keeps the interface while it has an
    /// address. A restored document deletes no unmanaged row. None if there are no such rows.
    pub(super) fn clear_other_addresses(&self, name: &PortName, port: &ObservedPort) -> Option<Progress> {
        let row = |address: &String| RowKey::OtherAddress(name.clone(), address.clone());
        let first = port.other_address_rows.first()?;
        Some(match self.desired.provenance {
            Provenance::Pushed => Progress::Steps(
                port.other_address_rows.iter().map(|address| Step::Delete(row(address))).collect(),
            ),
            Provenance::Restored => Progress::Waits(Waiting::UnmanagedAddress(row(first).to_string())),
        })
    }

    /// The fact to wait for while intfmgrd still has a port whose base row is gone: the removal of an address in the kernel that
    /// no row names (`cfgmgr/intfmgr.cpp: IntfMgr::getIntfIpCount`), or else of the interface.
    pub(super) fn interface_removal_blocker(&self, name: &PortName, vrf: &str) -> Waiting {
        let address = self.facts.links.get(name).and_then(|link| link.assigned_addresses.first());
        address
            .map_or_else(|| Waiting::InterfaceGone(vrf.to_owned()), |net| Waiting::StrayKernelAddress(*net))
    }

    /// Whether a port that a repair recreates is removed by now.
    pub(super) fn is_removed(&self, name: &PortName, port: &ObservedPort) -> bool {
        let is_recreating = self.facts.remedies.recreate.contains(&Subject::Port(name.clone()));
        is_recreating && !is_managed(port, self.vrf()) && !port.router_interface
    }

    /// Deletes the port's address rows except `keep`, once the final Router Advertisement was sent.
    pub(super) fn remove_addresses(
        &self,
        name: &PortName,
        port: &ObservedPort,
        keep: Option<BootPrefix>,
    ) -> Progress {
        if self.must_send_final_advertisement(name) {
            return Progress::Waits(Waiting::FinalAdvertisementSent);
        }
        let stale = port.address_rows.iter().filter(|address| Some(**address) != keep);
        Progress::Steps(stale.map(|address| Step::Delete(RowKey::Address(name.clone(), *address))).collect())
    }

    /// Whether the final Router Advertisement is still to be sent. A port that a repair recreates with the same prefix sends none:
    /// it serves until its address is deleted.
    fn must_send_final_advertisement(&self, name: &PortName) -> bool {
        // The role without the ASIC's part: the machine may have learned the router before the ASIC lost the router interface.
        let role =
            port_role::port_role(Some(self.desired), name, self.facts.links, &BTreeSet::new(), self.vrf());
        match (role, self.facts.ra.get(name)) {
            (Some(PortRole::Serve(_)), _) | (_, Some(RaState::Ceased)) => false,
            (Some(PortRole::Cease(_)), _) | (None, Some(RaState::Advertising)) => true,
            (None, None) => false,
        }
    }
}
