//! The removal of all addresses of a port: its steps, and the fact to wait for.
//!
//! Must never: decide whether the port is to lose its addresses.

use super::{Step, Waiting};
use crate::names::PortName;
use crate::observed::ObservedPort;
use crate::rows::RowKey;

/// The steps that delete every address row on a port, also unmanaged ones.
pub(super) fn delete_addresses(name: &PortName, port: &ObservedPort) -> Vec<Step> {
    let gateways = port.address_rows.iter().map(|prefix| RowKey::Address(name.clone(), *prefix));
    let others =
        port.other_address_rows.iter().map(|address| RowKey::OtherAddress(name.clone(), address.clone()));
    gateways.chain(others).map(Step::Delete).collect()
}

/// The fact to wait for while intfmgrd still has an address on the port.
pub(super) fn address_removal_blocker(port: &ObservedPort) -> Option<Waiting> {
    let other =
        || port.other_bound_addresses.first().map(|address| Waiting::UnmanagedAddressGone(address.clone()));
    port.bound_addresses.first().map(|address| Waiting::AddressGone(*address)).or_else(other)
}
