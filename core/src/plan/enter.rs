//! A port's way in: others' claims go, the boot ACL stands, the base row, the address, and every fact after them.
//!
//! Must never: write a row before the facts of the one before it are there.

use super::addresses::{delete_addresses, why_addressed};
use super::{Need, Step, Subject, View, Waiting, holds};
use crate::desired::{self, Provenance};
use crate::names::{BootPrefix, PortName};
use crate::observed::{Base, Port};
use crate::port_role;
use crate::rows::{self, Fields, RowKey};

impl View<'_> {
    /// What a port needs that is to boot.
    pub(super) fn enter(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Need {
        if let Some(need) = self.claims(name, port) {
            return need;
        }
        let is_renewing = self.facts.remedies.renew.contains(&Subject::Port(name.clone()));
        // A denying rule of the ACL stays away: what the ASIC routes on the port may reach too much.
        let is_open = self.facts.remedies.is_shut && port.router_interface;
        if holds(port, self.vrf()) && (is_renewing || is_open) {
            return self.withdraw(name, port);
        }
        match port.bound.as_deref() {
            bound if port.base == Base::Absent => self.enter_without_base(name, port, bound),
            None => {
                let unready = self.guard.why_open(name, port).or_else(|| self.why_unready(port));
                Need::Fact(unready.unwrap_or(Waiting::InterfaceBound))
            }
            Some(bound) if bound == self.vrf().as_str() && !self.is_vrf_leaving() => {
                self.enter_bound(name, port, prefix)
            }
            // `cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask` drops a change of vrf_name for good («can not change
            // to … directly, skipping»): the row says ours and nothing will happen. The way is through «gone». It is too
            // when the VRF's row was deleted: the VRF goes as soon as nothing is in it, and nothing keeps it.
            Some(_) => self.withdraw(name, port),
        }
    }

    /// What others have put on the port. A fresh push is metal-core's word that the port is free of them, so its own
    /// rows are cleared away; a memory clears nothing.
    fn claims(&self, name: &PortName, port: &Port) -> Option<Need> {
        let ordered = self.desired.provenance == Provenance::Pushed;
        if desired::is_protected(name, port.row.as_ref(), &self.config.boot) {
            return Some(Need::Fact(Waiting::Protected));
        }
        if port.row.is_none() {
            return Some(Need::Fact(Waiting::PortRowMissing));
        }
        if let Some(lag) = &port.lag {
            // The ASIC hands what comes in on a LAG member to the LAG: nothing of ours is of use on it. It becomes one as soon
            // as it has left the VRF.
            return Some(match holds(port, self.vrf()) {
                true => self.withdraw(name, port),
                false => Need::Fact(Waiting::LagMember(lag.clone())),
            });
        }
        if let Some(name) = port.sub_interfaces.first() {
            return Some(Need::Fact(Waiting::SubInterface(name.clone())));
        }
        if port.sub_router_interface {
            return Some(Need::Fact(Waiting::SubInterfaceGone));
        }
        if let Some(vlan) = port.vlans.first() {
            let delete = |vlan: &String| Step::Delete(RowKey::VlanMember(vlan.clone(), name.clone()));
            return Some(match ordered {
                true => Need::Steps(port.vlans.iter().map(delete).collect()),
                false => Need::Fact(Waiting::VlanMember(vlan.clone())),
            });
        }
        // `cfgmgr/vlanmgr.cpp: VlanMgr::removeHostVlanMember` takes the port out of whatever master it has, our VRF
        // too, whenever the membership goes: so it must be gone before.
        if let Some(vlan) = port.bound_vlans.first() {
            return Some(Need::Fact(Waiting::VlanMemberGone(vlan.clone())));
        }
        // Nothing in intfmgrd or orchagent keeps a router interface off a bridge port.
        if port.bridge_port {
            return Some(Need::Fact(Waiting::BridgePortGone));
        }
        match &port.base {
            Base::Foreign(_) if ordered => Some(self.clear_interface(name, port)),
            Base::Foreign(vrf) => Some(Need::Fact(Waiting::UnmanagedInterface(vrf.clone()))),
            Base::Ours | Base::Absent => None,
        }
    }

    /// Clears somebody's interface off a pushed port: addresses, then the base row, each when the one before is gone.
    fn clear_interface(&self, name: &PortName, port: &Port) -> Need {
        let addresses = delete_addresses(name, port);
        if !addresses.is_empty() {
            return Need::Steps(addresses);
        }
        match why_addressed(port) {
            Some(waiting) => Need::Fact(waiting),
            None => Need::Steps(vec![Step::Delete(RowKey::Interface(name.clone()))]),
        }
    }

    /// Nothing of ours is in CONFIG_DB but perhaps addresses; the base row comes when all traces are gone.
    fn enter_without_base(&self, name: &PortName, port: &Port, bound: Option<&str>) -> Need {
        // Our base row was deleted by hand: intfmgrd cannot let go while the address stands
        // (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`, getIntfIpCount).
        if bound == Some(self.vrf().as_str()) && !port.addresses.is_empty() {
            return self.withdraw(name, port);
        }
        let others = delete_addresses(name, port);
        if let Some(Step::Delete(row)) = others.first() {
            return match self.desired.provenance {
                Provenance::Pushed => Need::Steps(others),
                Provenance::Restored => Need::Fact(Waiting::UnmanagedAddress(row.to_string())),
            };
        }
        // A SET before STATE_DB's row is gone is dropped (`IntfMgr::doIntfGeneralTask`); one before the router
        // interface is gone merges with its DEL, and that stays in the old VRF (`consumer_state_table_pops.lua`).
        if let Some(bound) = bound {
            return Need::Fact(why_addressed(port).unwrap_or_else(|| self.why_bound(name, bound)));
        }
        if port.router_interface {
            return Need::Fact(Waiting::RouterInterfaceGone);
        }
        match self.guard.why_open(name, port).or_else(|| self.why_unready(port)) {
            Some(waiting) => Need::Fact(waiting),
            None => {
                let fields = rows::interface_fields(self.vrf());
                Need::Steps(vec![Step::Set(RowKey::Interface(name.clone()), fields)])
            }
        }
    }

    /// intfmgrd has bound the port to the boot VRF; the address is next.
    fn enter_bound(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Need {
        if port.addresses.iter().any(|address| *address != prefix) {
            return self.withdraw_addresses(name, port, Some(prefix));
        }
        if let Some(need) = self.clear_other_addresses(name, port) {
            return need;
        }
        if let Some(old) = port.bound_addresses.iter().find(|address| **address != prefix) {
            return Need::Fact(Waiting::AddressGone(*old));
        }
        if let Some(other) = port.other_bound_addresses.first() {
            return Need::Fact(Waiting::UnmanagedAddressGone(other.clone()));
        }
        if !port.addresses.contains(&prefix) {
            return match self.why_no_address(name, port, prefix) {
                Some(waiting) => Need::Fact(waiting),
                None => Need::Steps(vec![Step::Set(RowKey::Address(name.clone(), prefix), Fields::new())]),
            };
        }
        match self.why_unserved(name, port, prefix).or_else(|| self.guard.why_open(name, port)) {
            Some(waiting) => Need::Fact(waiting),
            None => Need::Nothing,
        }
    }

    /// Why the address may not be written yet.
    fn why_no_address(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Option<Waiting> {
        // The row was deleted by hand and intfmgrd has not followed yet.
        if port.bound_addresses.contains(&prefix) {
            return Some(Waiting::AddressGone(prefix));
        }
        let taken = self.other_with(name, prefix).map(|other| Waiting::PrefixTaken(other.clone(), prefix));
        taken.or_else(|| self.guard.why_open(name, port))
    }

    /// Why the port's machine cannot be served yet although every row is there.
    fn why_unserved(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Option<Waiting> {
        if !port.bound_addresses.contains(&prefix) {
            return Some(Waiting::AddressBound(prefix));
        }
        if !port.router_interface {
            return Some(Waiting::RouterInterfaceReady);
        }
        if let Some(waiting) = self.why_vrf_unusable() {
            return Some(waiting);
        }
        // intfmgrd writes «ok» for what it asked for, not for what the kernel did (`IntfMgr::doIntfAddrTask`).
        let link = self.facts.links.get(name).filter(|link| port_role::is_in(link, self.vrf()));
        let Some(link) = link else { return Some(Waiting::KernelVrfBound) };
        let gateway = prefix.gateway_net().into();
        if link.duplicates.contains(&gateway) {
            return Some(Waiting::GatewayDuplicate(prefix));
        }
        // On a port without a carrier the address stays tentative, and is there.
        if !link.assigned.contains(&gateway) {
            return Some(Waiting::GatewayAssigned(prefix));
        }
        (link.up && link.link_local.is_none()).then_some(Waiting::LinkLocalAddress)
    }

    /// Another port that has the prefix: in one VRF orchagent retries the second of two overlapping addresses for ever
    /// (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`), and for a while two machines would be one.
    fn other_with(&self, name: &PortName, prefix: BootPrefix) -> Option<&PortName> {
        let mut others = self.facts.observed.ports.iter().filter(|(other, _)| *other != name);
        let has = |port: &Port| port.addresses.contains(&prefix) || port.bound_addresses.contains(&prefix);
        others.find(|(_, port)| has(port)).map(|(other, _)| other)
    }

    /// Port and VRF must be there before a port goes into the VRF (`IntfMgr::isIntfStateOk`).
    fn why_unready(&self, port: &Port) -> Option<Waiting> {
        if port.ready { self.why_no_vrf() } else { Some(Waiting::PortReady) }
    }

    /// Whether SONiC still has the VRF although its row is gone (`cfgmgr/vrfmgr.cpp: VrfMgr::doTask`: a DEL stays pending
    /// until orchagent has let go, and a SET behind it does not cancel it).
    pub(super) fn is_vrf_going(&self) -> bool {
        let vrf = &self.facts.observed.vrf;
        !vrf.row && (vrf.in_kernel || vrf.in_asic)
    }

    /// Whether the VRF is on its way out, for good or to come again.
    pub(super) fn is_vrf_leaving(&self) -> bool {
        self.is_vrf_going() || self.facts.remedies.renew.contains(&Subject::Vrf)
    }

    /// Why nothing can go into the VRF yet.
    pub(super) fn why_no_vrf(&self) -> Option<Waiting> {
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
