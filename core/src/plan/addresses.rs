//! The address rows of a port that is not ours yet, or no longer: what is deleted, and what is waited for.
//!
//! Must never: decide whether the port is to lose them.

use super::{Step, Waiting};
use crate::names::PortName;
use crate::observed::Port;
use crate::rows::RowKey;

/// The deletes of every address row on a port, whoever wrote it.
pub(super) fn delete_addresses(name: &PortName, port: &Port) -> Vec<Step> {
    let gateways = port.addresses.iter().map(|prefix| RowKey::Address(name.clone(), *prefix));
    let others =
        port.other_addresses.iter().map(|address| RowKey::OtherAddress(name.clone(), address.clone()));
    gateways.chain(others).map(Step::Delete).collect()
}

/// An address that intfmgrd still has on the port.
pub(super) fn why_addressed(port: &Port) -> Option<Waiting> {
    let other =
        || port.other_bound_addresses.first().map(|address| Waiting::UnmanagedAddressGone(address.clone()));
    port.bound_addresses.first().map(|address| Waiting::AddressGone(*address)).or_else(other)
}
