//! The role of each port: what it must do towards its machine now, from the desired state and the kernel's view of the port.
//! Router Advertisements and the relay both follow this role, so they start and end together.
//!
//! Must never: trust a database for what the kernel knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use crate::desired::{Desired, OldPrefix, Provenance};
use crate::names::{BootPrefix, Mac, PortName, VrfName};
use crate::observed::{Link, Links};

/// What a port must do towards its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRole {
    /// Advertise and relay.
    Serve(Serving),
    /// Advertise a router lifetime of 0 (RFC 4861 6.2.5), then be silent.
    Cease(Serving),
}

/// What Router Advertisements and the relay need to know of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The kernel's number of the port.
    pub ifindex: u32,
    /// How often the port has got a carrier. Another machine may be on the port when this number changes.
    pub carrier_ups: u32,
    /// The port's Ethernet address.
    pub mac: Mac,
    /// The port's MTU in bytes.
    pub mtu: u32,
    /// The port's link-local address: the source of its advertisements (RFC 4861 6.1.2).
    pub link_local: Ipv6Addr,
    /// The machine's /64.
    pub prefix: BootPrefix,
    /// The /64s that the port had before. They are still withdrawn.
    pub old: Vec<OldPrefix>,
}

/// How far a port's advertisements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaState {
    /// The port advertises the router to the machine.
    Advertising,
    /// The port has sent the machine a router lifetime of 0.
    Ceased,
}

/// The state of each port that advertises or has ceased.
pub type RaStates = BTreeMap<PortName, RaState>;

/// The role of each port. A port without a role is not in the map, and is silent. `unrouted`: the ports without a router
/// interface in the ASIC.
pub fn port_roles(
    desired: Option<&Desired>,
    links: &Links,
    unrouted: &BTreeSet<PortName>,
    vrf: &VrfName,
) -> BTreeMap<PortName, PortRole> {
    let role = |port: &PortName| Some((port.clone(), port_role(desired, port, links, unrouted, vrf)?));
    links.ports.keys().filter_map(role).collect()
}

/// The role of one port. A port has none unless the kernel shows it up, in the boot VRF, with a gateway address and a
/// link-local one, and the VRF up. A port serves only when the ASIC routes for it: before that, the advertised router
/// would forward nothing.
pub fn port_role(
    desired: Option<&Desired>,
    port: &PortName,
    links: &Links,
    unrouted: &BTreeSet<PortName>,
    vrf: &VrfName,
) -> Option<PortRole> {
    let desired = desired?;
    let link = links.get(port)?;
    if !link.up || !is_in(link, vrf) || !links.is_vrf_up(vrf) {
        return None;
    }
    let serving = |prefix| {
        let Link { ifindex, carrier_ups, mac, mtu, .. } = *link;
        let old = desired.old.get(port).into_iter().flatten().filter(|old| old.prefix != prefix).copied();
        Some(Serving {
            ifindex,
            carrier_ups,
            mac,
            mtu,
            link_local: link.link_local?,
            prefix,
            old: old.collect(),
        })
    };
    match desired.prefix(port) {
        Some(prefix) if has_gateway(link, prefix) => {
            if unrouted.contains(port) {
                None
            } else {
                serving(prefix).map(PortRole::Serve)
            }
        }
        // No document releases this port.
        None if !desired.releases(port) => None,
        _ if desired.provenance == Provenance::Restored => None,
        // The port is released, or gets another prefix. The machine learns it before the address is deleted.
        _ => {
            let had = link.usable_addresses.iter().find_map(|address| BootPrefix::of_gateway(*address))?;
            serving(had).map(PortRole::Cease)
        }
    }
}

/// Whether the kernel has the port in the boot VRF.
pub fn is_in(link: &Link, vrf: &VrfName) -> bool {
    link.vrf.as_deref() == Some(vrf.as_str())
}

/// Whether the prefix's gateway address on the port is usable.
pub fn has_gateway(link: &Link, prefix: BootPrefix) -> bool {
    link.usable_addresses.contains(&prefix.gateway_net())
}

#[cfg(test)]
mod tests;
