//! The kernel's neighbour table: which Ethernet address an IPv6 address on a port has.
//!
//! Must never: change anything in the kernel.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::netlink;
use leafboot_core::names::Mac;

/// The Ethernet address of the neighbour `address` on the device `ifindex`. None: the kernel has no such entry.
pub fn mac(ifindex: u32, address: Ipv6Addr) -> Option<Mac> {
    let mut wanted = NeighbourMessage::default();
    wanted.header.family = AddressFamily::Inet6;
    wanted.header.ifindex = ifindex;
    wanted.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(IpAddr::V6(address))));
    // Requests one entry and not the table (Linux 5.0, neighbour.c: neigh_get).
    let answer = netlink::get(RouteNetlinkMessage::GetNeighbour(wanted)).ok()??;
    let RouteNetlinkMessage::NewNeighbour(entry) = answer else { return None };
    entry.attributes.into_iter().find_map(|attribute| {
        if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            <[u8; 6]>::try_from(bytes).ok().map(Mac)
        } else {
            None
        }
    })
}
