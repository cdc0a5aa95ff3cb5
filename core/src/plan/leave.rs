//! A port's way out: its machine is told, then address, base row, every fact after them, and the boot ACL last.
//!
//! Must never: take the ACL off a port that anything of the boot VRF is still on.

use std::collections::BTreeSet;

use super::addresses::why_addressed;
use super::{Need, Step, Subject, View, Waiting, has_traces, holds};
use crate::desired::Provenance;
use crate::names::{BootPrefix, PortName};
use crate::observed::{Base, Port};
use crate::port_role::{self, PortRole, RaState};
use crate::rows::RowKey;

impl View<'_> {
    /// What a port needs that is not to boot: nothing, unless it is still ours.
    pub(super) fn leave(&self, name: &PortName, port: &Port) -> Need {
        if holds(port, self.vrf()) {
            return match &port.base {
                Base::Foreign(vrf) => Need::Fact(Waiting::UnmanagedInterface(vrf.clone())),
                Base::Ours | Base::Absent => self.withdraw(name, port),
            };
        }
        // Whoever deleted the base row left the address: on a tenant's next base row it would be the tenant's.
        let left = port.addresses.iter().filter(|prefix| self.is_left_over(port, prefix));
        let steps: Vec<Step> =
            left.map(|prefix| Step::Delete(RowKey::Address(name.clone(), *prefix))).collect();
        if steps.is_empty() { self.remains(name, port) } else { Need::Steps(steps) }
    }

    /// Whether an address of a port outside the boot VRF can be nobody's but ours.
    fn is_left_over(&self, port: &Port, prefix: &BootPrefix) -> bool {
        port.base == Base::Absent && self.config.boot.supernet.contains(&prefix.net())
    }

    /// What SONiC still has of a port that none of our rows speaks of any more.
    pub(super) fn remains(&self, name: &PortName, port: &Port) -> Need {
        if let Some(prefix) = port.bound_addresses.iter().find(|prefix| self.is_left_over(port, prefix)) {
            return Need::Fact(Waiting::AddressGone(*prefix));
        }
        // The rows are gone and intfmgrd has let go, but whoever writes the port's next row before the ASIC has let
        // go gets a router interface in the old VRF (`consumer_state_table_pops.lua` merges DEL and SET).
        if port.base == Base::Absent && has_traces(port) {
            return Need::Fact(Waiting::RouterInterfaceGone);
        }
        match self.guard.why_guarded(name, port) {
            Some(waiting) => Need::Fact(waiting),
            None => Need::Nothing,
        }
    }

    /// The way out of the VRF: addresses, then the base row, each when the one before is gone.
    pub(super) fn withdraw(&self, name: &PortName, port: &Port) -> Need {
        if !port.addresses.is_empty() {
            return self.withdraw_addresses(name, port, None);
        }
        if let Some(need) = self.clear_other_addresses(name, port) {
            return need;
        }
        if let Some(waiting) = why_addressed(port) {
            return Need::Fact(waiting);
        }
        match (&port.base, &port.bound) {
            (Base::Ours, _) => Need::Steps(vec![Step::Delete(RowKey::Interface(name.clone()))]),
            (_, bound) => Need::Fact(self.why_bound(name, bound.as_deref().unwrap_or_default())),
        }
    }

    /// Deletes the address rows on a port of the boot VRF that leafboot would not have written, IPv4 or IPv6: intfmgrd
    /// lets no port go that has an address. A memory deletes nothing that is not ours.
    pub(super) fn clear_other_addresses(&self, name: &PortName, port: &Port) -> Option<Need> {
        let row = |address: &String| RowKey::OtherAddress(name.clone(), address.clone());
        let first = port.other_addresses.first()?;
        Some(match self.desired.provenance {
            Provenance::Pushed => {
                Need::Steps(port.other_addresses.iter().map(|address| Step::Delete(row(address))).collect())
            }
            Provenance::Restored => Need::Fact(Waiting::UnmanagedAddress(row(first).to_string())),
        })
    }

    /// What keeps intfmgrd from letting a port go whose base row is gone: an address in the kernel that no row names
    /// (`cfgmgr/intfmgr.cpp: IntfMgr::getIntfIpCount`), or nothing but time.
    pub(super) fn why_bound(&self, name: &PortName, vrf: &str) -> Waiting {
        let address = self.facts.links.get(name).and_then(|link| link.assigned.first());
        address
            .map_or_else(|| Waiting::InterfaceGone(vrf.to_owned()), |net| Waiting::StrayKernelAddress(*net))
    }

    /// Whether a port that was taken out to come again is out.
    pub(super) fn is_renewed(&self, name: &PortName, port: &Port) -> bool {
        let is_renewing = self.facts.remedies.renew.contains(&Subject::Port(name.clone()));
        is_renewing && !holds(port, self.vrf()) && !port.router_interface
    }

    /// Deletes the port's address rows but `keep`, once its machine has been told.
    pub(super) fn withdraw_addresses(&self, name: &PortName, port: &Port, keep: Option<BootPrefix>) -> Need {
        if self.must_cease(name) {
            return Need::Fact(Waiting::FinalAdvertisementSent);
        }
        let stale = port.addresses.iter().filter(|address| Some(**address) != keep);
        Need::Steps(stale.map(|address| Step::Delete(RowKey::Address(name.clone(), *address))).collect())
    }

    /// Whether the port still advertises and is to cease, or its machine can be told that it ceases and has not been.
    /// A port that goes only to come again with the same prefix serves until then.
    fn must_cease(&self, name: &PortName) -> bool {
        // Whether the ASIC routes for the port says nothing of what its machine has been told.
        let role =
            port_role::port_role(Some(self.desired), name, self.facts.links, &BTreeSet::new(), self.vrf());
        match (role, self.facts.ra.get(name)) {
            (Some(PortRole::Serve(_)), _) | (_, Some(RaState::Ceased)) => false,
            (Some(PortRole::Cease(_)), _) | (None, Some(RaState::Advertising)) => true,
            (None, None) => false,
        }
    }
}
