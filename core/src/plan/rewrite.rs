//! The row that is written again when a fact stays away, for each fact.
//!
//! Must never: write a row that is not as it stands already, but to announce once more that it is gone.

use super::{Step, View, Waiting};
use crate::names::PortName;
use crate::rows::{self, Fields, RowKey};

impl View<'_> {
    /// What makes SONiC's daemon do the work of a port's fact again; nothing: no row does.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a fact that no row brings back is not repaired")]
    pub(super) fn rewrite(&self, name: &PortName, fact: &Waiting) -> Option<Step> {
        let port = || name.clone();
        Some(match fact {
            // `cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask` runs `ip link set … master` again (swss e6b0c5b5d).
            Waiting::KernelVrfBound | Waiting::InterfaceBound | Waiting::RouterInterfaceReady => {
                Step::Set(RowKey::Interface(port()), rows::interface_fields(self.vrf()))
            }
            // `IntfMgr::doIntfAddrTask` adds the address again.
            Waiting::GatewayAssigned(prefix)
            | Waiting::GatewayDuplicate(prefix)
            | Waiting::AddressBound(prefix) => Step::Set(RowKey::Address(port(), *prefix), Fields::new()),
            Waiting::InterfaceGone(_) => Step::DeleteAgain(RowKey::Interface(port())),
            Waiting::AddressGone(prefix) => Step::DeleteAgain(RowKey::Address(port(), *prefix)),
            Waiting::UnmanagedAddressGone(address) => {
                Step::DeleteAgain(RowKey::OtherAddress(port(), address.clone()))
            }
            // `IntfMgr::doIntfAddrTask` deletes an address from the kernel whoever has put it there.
            Waiting::StrayKernelAddress(address) => {
                Step::DeleteAgain(RowKey::OtherAddress(port(), address.to_string()))
            }
            Waiting::VlanMemberGone(vlan) => Step::DeleteAgain(RowKey::VlanMember(vlan.clone(), port())),
            _ => return None,
        })
    }

    /// The same for a fact of the anycast address's loopback.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the same")]
    pub(super) fn rewrite_loopback(&self, fact: &Waiting) -> Option<Step> {
        let name = || self.config.boot.loopback.clone();
        let address = |address: &String| RowKey::LoopbackAddress(name(), address.clone());
        Some(match fact {
            Waiting::KernelVrfBound | Waiting::InterfaceBound => {
                Step::Set(RowKey::Loopback(name()), rows::interface_fields(self.vrf()))
            }
            Waiting::AnycastAssigned(text) | Waiting::AnycastBound(text) => {
                Step::Set(address(text), Fields::new())
            }
            Waiting::InterfaceGone(_) => Step::DeleteAgain(RowKey::Loopback(name())),
            Waiting::UnmanagedAddressGone(text) => Step::DeleteAgain(address(text)),
            _ => return None,
        })
    }
}
