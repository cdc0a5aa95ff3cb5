//! The step that repairs a missing fact: it writes the fact's row again, or announces the row's deletion again.
//!
//! Must never: change a row.

use super::{Context, Step, Waiting};
use crate::names::PortName;
use crate::rows::{self, Fields, RowKey};

impl Context<'_> {
    /// The step that makes SONiC's daemon do the work of a port's fact again; none if no row makes it do so.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a fact that no row brings back is not repaired")]
    pub(super) fn rewrite(&self, name: &PortName, fact: &Waiting) -> Option<Step> {
        let port = || name.clone();
        Some(match fact {
            // intfmgrd runs `ip link set … master` again (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`).
            Waiting::KernelVrfBound | Waiting::InterfaceBound | Waiting::RouterInterfaceReady => {
                Step::Set(RowKey::Interface(port()), rows::interface_fields(self.vrf()))
            }
            // intfmgrd adds the address again (`IntfMgr::doIntfAddrTask`).
            Waiting::GatewayAssigned(prefix)
            | Waiting::GatewayDuplicate(prefix)
            | Waiting::AddressBound(prefix) => Step::Set(RowKey::Address(port(), *prefix), Fields::new()),
            Waiting::InterfaceGone(_) => Step::DeleteAgain(RowKey::Interface(port())),
            Waiting::AddressGone(prefix) => Step::DeleteAgain(RowKey::Address(port(), *prefix)),
            Waiting::UnmanagedAddressGone(address) => {
                Step::DeleteAgain(RowKey::OtherAddress(port(), address.clone()))
            }
            // intfmgrd deletes the address from the kernel, whichever program has added it (`IntfMgr::doIntfAddrTask`).
            Waiting::StrayKernelAddress(address) => {
                Step::DeleteAgain(RowKey::OtherAddress(port(), address.to_string()))
            }
            Waiting::VlanMemberGone(vlan) => Step::DeleteAgain(RowKey::VlanMember(vlan.clone(), port())),
            _ => return None,
        })
    }

    /// The step that repairs a fact of the anycast address's loopback.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a fact that no row brings back is not repaired")]
    pub(super) fn rewrite_loopback(&self, fact: &Waiting) -> Option<Step> {
        let name = || self.settings.boot.loopback.clone();
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
