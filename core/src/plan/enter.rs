//! A port's way into the boot VRF: unmanaged configuration goes, the boot ACL is bound, then come base row and address, each with
//! its facts.
//!
//! Must never: write a row before the facts of the row before it are there.

use super::addresses::{address_removal_blocker, delete_addresses};
use super::{Context, Progress, Step, Subject, Waiting, is_managed};
use crate::desired::{self, Provenance};
use crate::names::{BootPrefix, PortName};
use crate::observed::{Base, ObservedPort};
use crate::port_role;
use crate::rows::{self, Fields, RowKey};

impl Context<'_> {
    /// How far a desired port is on its way into the boot VRF.
    pub(super) fn enter(&self, name: &PortName, port: &ObservedPort, prefix: BootPrefix) -> Progress {
        if let Some(progress) = self.unmanaged_config(name, port) {
            return progress;
        }
        let is_recreating = self.facts.remedies.recreate.contains(&Subject::Port(name.clone()));
        // A denying rule of the ACL is missing for too long, and the ASIC routes for the port: its machine may reach too much.
        let must_evict = self.facts.remedies.evict_ports && port.router_interface;
        if is_managed(port, self.vrf()) && (is_recreating || must_evict) {
            return self.remove_from_vrf(name, port);
        }
        match port.bound_vrf.as_deref() {
            bound if port.base == Base::Absent => self.enter_without_base(name, port, bound),
            None => {
                let missing = self.acl.entry_blocker(name, port).or_else(|| self.base_row_blocker(port));
                Progress::Waits(missing.unwrap_or(Waiting::InterfaceBound))
            }
            Some(bound) if bound == self.vrf().as_str() && !self.is_vrf_leaving() => {
                self.enter_bound(name, port, prefix)
            }
            // intfmgrd ignores a change of vrf_name for good (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`: «can not change
            // to … directly, skipping»), so the port must be removed first. It must also leave a VRF whose row was deleted:
            // SONiC deletes that VRF as soon as it is empty.
            Some(_) => self.remove_from_vrf(name, port),
        }
    }

    /// Deletes unmanaged configuration of the port, or returns the obstacle that must go first; none if the port is free. A push
    /// says that the port is leafboot's, so its unmanaged rows are deleted. A restored document deletes no unmanaged row.
    fn unmanaged_config(&self, name: &PortName, port: &ObservedPort) -> Option<Progress> {
        let is_pushed = self.desired.provenance == Provenance::Pushed;
        if desired::is_protected(name, port.row.as_ref(), &self.settings.boot) {
            return Some(Progress::Waits(Waiting::Protected));
        }
        if port.row.is_none() {
            return Some(Progress::Waits(Waiting::PortRowMissing));
        }
        if let Some(lag) = &port.lag {
            // The ASIC hands all packets of a LAG member to the LAG, so the port cannot boot. It joins the LAG as soon as it has
            // left the VRF.
            return Some(match is_managed(port, self.vrf()) {
                true => self.remove_from_vrf(name, port),
                false => Progress::Waits(Waiting::LagMember(lag.clone())),
            });
        }
        if let Some(name) = port.sub_interfaces.first() {
            return Some(Progress::Waits(Waiting::SubInterface(name.clone())));
        }
        if port.sub_router_interface {
            return Some(Progress::Waits(Waiting::SubInterfaceGone));
        }
        if let Some(vlan) = port.vlan_rows.first() {
            let delete = |vlan: &String| Step::Delete(RowKey::VlanMember(vlan.clone(), name.clone()));
            return Some(match is_pushed {
                true => Progress::Steps(port.vlan_rows.iter().map(delete).collect()),
                false => Progress::Waits(Waiting::VlanMember(vlan.clone())),
            });
        }
        // When a VLAN membership goes, vlanmgrd takes the port out of any master, also out of the boot VRF
        // (`cfgmgr/vlanmgr.cpp: VlanMgr::removeHostVlanMember`). So the membership must be gone before.
        if let Some(vlan) = port.bound_vlans.first() {
            return Some(Progress::Waits(Waiting::VlanMemberGone(vlan.clone())));
        }
        // Neither intfmgrd nor orchagent prevents a router interface on a bridge port.
        if port.bridge_port {
            return Some(Progress::Waits(Waiting::BridgePortGone));
        }
        match &port.base {
            Base::Unmanaged(_) if is_pushed => Some(self.clear_interface(name, port)),
            Base::Unmanaged(vrf) => Some(Progress::Waits(Waiting::UnmanagedInterface(vrf.clone()))),
            Base::Ours | Base::Absent => None,
        }
    }

    /// Removes an unmanaged interface from a pushed port: first its addresses, then its base row.
    fn clear_interface(&self, name: &PortName, port: &ObservedPort) -> Progress {
        let addresses = delete_addresses(name, port);
        if !addresses.is_empty() {
            return Progress::Steps(addresses);
        }
        match address_removal_blocker(port) {
            Some(waiting) => Progress::Waits(waiting),
            None => Progress::Steps(vec![Step::Delete(RowKey::Interface(name.clone()))]),
        }
    }

    /// The way in for a port without a base row. The base row is written when SONiC has nothing of an earlier interface any more.
    fn enter_without_base(&self, name: &PortName, port: &ObservedPort, bound: Option<&str>) -> Progress {
        // Another program has deleted leafboot's base row. intfmgrd removes the interface only when its addresses are gone
        // (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`, `IntfMgr::getIntfIpCount`).
        if bound == Some(self.vrf().as_str()) && !port.address_rows.is_empty() {
            return self.remove_from_vrf(name, port);
        }
        let others = delete_addresses(name, port);
        if let Some(Step::Delete(row)) = others.first() {
            return match self.desired.provenance {
                Provenance::Pushed => Progress::Steps(others),
                Provenance::Restored => Progress::Waits(Waiting::UnmanagedAddress(row.to_string())),
            };
        }
        // intfmgrd drops a SET while its STATE_DB row is there (`IntfMgr::doIntfGeneralTask`). A SET while the router interface is
        // there merges with the pending DEL, and the router interface stays in the old VRF (swss-common
        // `common/consumer_state_table_pops.lua`).
        if let Some(bound) = bound {
            return Progress::Waits(
                address_removal_blocker(port).unwrap_or_else(|| self.interface_removal_blocker(name, bound)),
            );
        }
        if port.router_interface {
            return Progress::Waits(Waiting::RouterInterfaceGone);
        }
        match self.acl.entry_blocker(name, port).or_else(|| self.base_row_blocker(port)) {
            Some(waiting) => Progress::Waits(waiting),
            None => {
                let fields = rows::interface_fields(self.vrf());
                Progress::Steps(vec![Step::Set(RowKey::Interface(name.clone()), fields)])
            }
        }
    }

    /// The way in for a port that intfmgrd has bound to the boot VRF: its address, and the facts after it.
    fn enter_bound(&self, name: &PortName, port: &ObservedPort, prefix: BootPrefix) -> Progress {
        if port.address_rows.iter().any(|address| *address != prefix) {
            return self.remove_addresses(name, port, Some(prefix));
        }
        if let Some(progress) = self.clear_other_addresses(name, port) {
            return progress;
        }
        if let Some(old) = port.bound_addresses.iter().find(|address| **address != prefix) {
            return Progress::Waits(Waiting::AddressGone(*old));
        }
        if let Some(other) = port.other_bound_addresses.first() {
            return Progress::Waits(Waiting::UnmanagedAddressGone(other.clone()));
        }
        if !port.address_rows.contains(&prefix) {
            return match self.address_row_blocker(name, port, prefix) {
                Some(waiting) => Progress::Waits(waiting),
                None => {
                    Progress::Steps(vec![Step::Set(RowKey::Address(name.clone(), prefix), Fields::new())])
                }
            };
        }
        match self.serving_blocker(name, port, prefix).or_else(|| self.acl.entry_blocker(name, port)) {
            Some(waiting) => Progress::Waits(waiting),
            None => Progress::Done,
        }
    }

    /// The fact that the address row waits for; none if it may be written.
    fn address_row_blocker(
        &self,
        name: &PortName,
        port: &ObservedPort,
        prefix: BootPrefix,
    ) -> Option<Waiting> {
        // The row was deleted, and intfmgrd has not removed the address yet.
        if port.bound_addresses.contains(&prefix) {
            return Some(Waiting::AddressGone(prefix));
        }
        let taken =
            self.other_port_with(name, prefix).map(|other| Waiting::PrefixTaken(other.clone(), prefix));
        taken.or_else(|| self.acl.entry_blocker(name, port))
    }

    /// The fact that the port lacks to serve its machine although every row is there.
    fn serving_blocker(&self, name: &PortName, port: &ObservedPort, prefix: BootPrefix) -> Option<Waiting> {
        if !port.bound_addresses.contains(&prefix) {
            return Some(Waiting::AddressBound(prefix));
        }
        if !port.router_interface {
            return Some(Waiting::RouterInterfaceReady);
        }
        if let Some(waiting) = self.vrf_device_blocker() {
            return Some(waiting);
        }
        // intfmgrd writes «ok» when it has asked the kernel, also if the kernel refused (`IntfMgr::doIntfAddrTask`).
        let link = self.facts.links.get(name).filter(|link| port_role::is_in(link, self.vrf()));
        let Some(link) = link else { return Some(Waiting::KernelVrfBound) };
        let gateway = prefix.gateway_net().into();
        if link.duplicate_addresses.contains(&gateway) {
            return Some(Waiting::GatewayDuplicate(prefix));
        }
        // Without a carrier the address stays tentative. It counts as assigned.
        if !link.assigned_addresses.contains(&gateway) {
            return Some(Waiting::GatewayAssigned(prefix));
        }
        (link.up && link.link_local.is_none()).then_some(Waiting::LinkLocalAddress)
    }

    /// Another port that still has the prefix. orchagent retries the second of two overlapping addresses in one VRF for ever
    /// (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`), and two machines would share a prefix meanwhile.
    fn other_port_with(&self, name: &PortName, prefix: BootPrefix) -> Option<&PortName> {
        let mut others = self.facts.observed.ports.iter().filter(|(other, _)| *other != name);
        let has = |port: &ObservedPort| {
            port.address_rows.contains(&prefix) || port.bound_addresses.contains(&prefix)
        };
        others.find(|(_, port)| has(port)).map(|(other, _)| other)
    }

    /// The fact that the base row waits for: intfmgrd needs port and VRF first (`IntfMgr::isIntfStateOk`).
    fn base_row_blocker(&self, port: &ObservedPort) -> Option<Waiting> {
        if port.ready { self.vrf_blocker() } else { Some(Waiting::PortReady) }
    }

    /// Whether SONiC still has the VRF although its row is gone. The DEL stays pending until orchagent has removed the VRF, and a
    /// later SET does not cancel it (`cfgmgr/vrfmgr.cpp: VrfMgr::doTask`).
    pub(super) fn is_vrf_being_deleted(&self) -> bool {
        let vrf = &self.facts.observed.vrf;
        !vrf.row && (vrf.in_kernel || vrf.in_asic)
    }

    /// Whether the VRF is being deleted, or a repair is about to recreate it.
    pub(super) fn is_vrf_leaving(&self) -> bool {
        self.is_vrf_being_deleted() || self.facts.remedies.recreate.contains(&Subject::Vrf)
    }

    /// The fact of the VRF that every port waits for; none if ports can enter.
    pub(super) fn vrf_blocker(&self) -> Option<Waiting> {
        let vrf = &self.facts.observed.vrf;
        let name = || self.vrf().clone();
        if self.is_vrf_leaving() {
            Some(Waiting::VrfGone(name()))
        } else if !vrf.in_kernel || !vrf.in_asic {
            Some(Waiting::VrfReady(name()))
        } else {
            None
        }
    }
}
