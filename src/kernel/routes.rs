//! Lookups in the kernel's routing table. A leaf has hundreds of thousands of routes, so each lookup is for one address.
//!
//! Must never: list the table, or change anything in the kernel.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::link::{InfoData, InfoVrf, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV};

use crate::kernel::netlink;
use leafboot_core::uplinks::KernelRoute;

/// The route to an address for the leaf's own traffic: in the default VRF, or in the VRF of `device`. None: there is no route, or
/// it drops packets.
pub fn to(address: IpAddr, device: Option<&str>) -> io::Result<Option<KernelRoute>> {
    let Some(route) = find(address, device)? else { return Ok(None) };
    Ok(Some(KernelRoute { prefix: prefix(address, &route)?, devices: names(&route)? }))
}

/// Whether the table of a VRF has a route to an address. The kernel's own traffic would find one in the main table, too
/// (Linux `Documentation/networking/vrf.rst`); a switching ASIC would not.
pub fn has_vrf(vrf: &str, address: IpAddr) -> io::Result<bool> {
    let mut wanted = LinkMessage::default();
    wanted.attributes.push(LinkAttribute::IfName(vrf.to_owned()));
    let (Some(link), Some(route)) = (device(wanted)?, find(address, Some(vrf))?) else { return Ok(false) };
    let found = route
        .attributes
        .iter()
        .find_map(|attribute| if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None });
    let found = found.unwrap_or_else(|| u32::from(route.header.table));
    // A device that is no VRF has no table of its own.
    Ok(table(&link).is_none_or(|table| table == found))
}

/// The routing table of a VRF device.
fn table(link: &LinkMessage) -> Option<u32> {
    let infos = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None }
    })?;
    let data = infos
        .iter()
        .find_map(|info| if let LinkInfo::Data(InfoData::Vrf(data)) = info { Some(data) } else { None })?;
    data.iter().find_map(|info| if let InfoVrf::TableId(table) = info { Some(*table) } else { None })
}

/// The entry that matches an address.
fn find(address: IpAddr, device: Option<&str>) -> io::Result<Option<RouteMessage>> {
    let mut wanted = RouteMessage::default();
    (wanted.header.address_family, wanted.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    // Request the table's matching entry with all its next hops, not only the next hop of one packet (Linux 4.13,
    // route.c: inet_rtm_getroute, ip6_fib.c: inet6_rtm_getroute).
    wanted.header.flags = RouteFlags::FibMatch;
    wanted.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    if let Some(device) = device {
        let Some(index) = index(device)? else { return Ok(None) };
        wanted.attributes.push(RouteAttribute::Oif(index));
    }
    match answer(netlink::get(RouteNetlinkMessage::GetRoute(wanted)))? {
        Some(RouteNetlinkMessage::NewRoute(route)) => Ok(Some(route)),
        _ => Ok(None),
    }
}

/// The kernel's answer. An error that means that there is no such route or device counts as no answer.
fn answer(answer: io::Result<Option<RouteNetlinkMessage>>) -> io::Result<Option<RouteNetlinkMessage>> {
    const NONE: [i32; 5] = [ENETUNREACH, EHOSTUNREACH, EINVAL, EACCES, ENODEV];
    match answer {
        Err(error) if error.raw_os_error().is_some_and(|code| NONE.contains(&code)) => Ok(None),
        answer => answer,
    }
}

/// The destination of a route to `address`. The message of a default route has none: it is the whole address space.
fn prefix(address: IpAddr, route: &RouteMessage) -> io::Result<IpNet> {
    let destination = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(RouteAddress::Inet(destination)) = attribute {
            Some(IpAddr::V4(*destination))
        } else if let RouteAttribute::Destination(RouteAddress::Inet6(destination)) = attribute {
            Some(IpAddr::V6(*destination))
        } else {
            None
        }
    });
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new(destination.unwrap_or(any), route.header.destination_prefix_length).map_err(io::Error::other)
}

/// The names of the devices of all next hops.
fn names(route: &RouteMessage) -> io::Result<BTreeSet<String>> {
    let mut indices = BTreeSet::new();
    for attribute in &route.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            indices.insert(*index);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            indices.extend(hops.iter().map(|hop| hop.interface_index));
        }
    }
    let names = indices.into_iter().map(|index| {
        let mut link = LinkMessage::default();
        link.header.index = index;
        Ok(name(device(link)?))
    });
    // Leave out a device that was deleted since the lookup.
    names.filter_map(Result::transpose).collect()
}

/// The kernel's number of a device.
fn index(name: &str) -> io::Result<Option<u32>> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Ok(device(link)?.map(|link| link.header.index))
}

fn name(link: Option<LinkMessage>) -> Option<String> {
    link?
        .attributes
        .into_iter()
        .find_map(|attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None })
}

fn device(mut wanted: LinkMessage) -> io::Result<Option<LinkMessage>> {
    wanted.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    match answer(netlink::get(RouteNetlinkMessage::GetLink(wanted)))? {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
        _ => Ok(None),
    }
}
