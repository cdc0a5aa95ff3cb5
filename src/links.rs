//! The rtnetlink edge: publishes the kernel's view of the leaf's ports, and every change of it at once.
//!
//! Must never: change anything in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::FutureExt;
use ipnet::Ipv6Net;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;
use tokio::sync::watch;
use tracing::debug;

use crate::net::Mac;
use crate::netlink::{self, Events, Group};
use crate::observed::{Link, Links};

/// Why the kernel's view is not available.
#[derive(Debug, Error)]
pub enum LinksError {
    /// No events.
    #[error("cannot follow links and addresses: {0}")]
    Events(#[source] std::io::Error),
    /// The kernel refused a list.
    #[error("cannot list links and addresses: {0}")]
    List(#[source] std::io::Error),
}

/// Follows the kernel until the process ends; returns only with an error.
pub async fn run(published: watch::Sender<Links>) -> Result<(), LinksError> {
    loop {
        follow(&published).await?;
        debug!("events of links and addresses were lost; lists them anew");
    }
}

/// Follows the kernel until some of its events are lost.
async fn follow(published: &watch::Sender<Links>) -> Result<(), LinksError> {
    let events = Events::of(&[Group::Links, Group::Ipv6Addresses]).map_err(LinksError::Events)?;
    let mut kernel = Kernel::list()?;
    loop {
        publish(published, &kernel);
        let mut next = Some(events.next().await);
        // What has come meanwhile is one change: a leaf of many ports is not looked through for each message.
        while let Some(changes) = next {
            let Some(changes) = changes.map_err(LinksError::Events)? else { return Ok(()) };
            changes.into_iter().for_each(|change| kernel.apply(change));
            next = events.next().now_or_never();
        }
    }
}

/// The ports as the kernel has them now.
pub fn now() -> Result<Links, LinksError> {
    Ok(Kernel::list()?.ports())
}

fn publish(published: &watch::Sender<Links>, kernel: &Kernel) {
    let links = kernel.ports();
    published.send_if_modified(|old| {
        let changed = *old != links;
        if changed {
            *old = links;
        }
        changed
    });
}

/// Every device and its IPv6 addresses, by ifindex, as far as it is needed.
#[derive(Default)]
struct Kernel {
    devices: BTreeMap<u32, Device>,
    addresses: BTreeMap<u32, BTreeSet<Ipv6Net>>,
}

#[derive(Default)]
struct Device {
    name: String,
    mac: Option<Mac>,
    mtu: u32,
    up: bool,
    carriers: u32,
    controller: Option<u32>,
}

impl Kernel {
    fn list() -> Result<Self, LinksError> {
        let mut kernel = Self::default();
        // The counters are half of what a device has to say, and nobody here reads them.
        let mut links = LinkMessage::default();
        links.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let addresses = AddressMessage::default();
        for list in [RouteNetlinkMessage::GetLink(links), RouteNetlinkMessage::GetAddress(addresses)] {
            netlink::list(list, |entry| kernel.apply(entry)).map_err(LinksError::List)?;
        }
        Ok(kernel)
    }

    fn apply(&mut self, change: RouteNetlinkMessage) {
        if let RouteNetlinkMessage::NewLink(link) = change {
            self.devices.insert(link.header.index, device(link));
        } else if let RouteNetlinkMessage::DelLink(link) = change {
            // A bridge port's removal from its bridge is a DelLink of family AF_BRIDGE; the device stays.
            if link.header.interface_family == AddressFamily::Unspec {
                self.devices.remove(&link.header.index);
                self.addresses.remove(&link.header.index);
            }
        } else if let RouteNetlinkMessage::NewAddress(address) = change {
            let addresses = self.addresses.entry(address.header.index).or_default();
            if let Some(net) = usable(&address) {
                addresses.insert(net);
            } else if let Some(net) = network(&address) {
                // Duplicate address detection has begun again, or found one.
                addresses.remove(&net);
            }
        } else if let RouteNetlinkMessage::DelAddress(address) = change
            && let Some(net) = network(&address)
            && let Some(addresses) = self.addresses.get_mut(&address.header.index)
        {
            addresses.remove(&net);
        }
    }

    /// The devices that carry a port's name.
    fn ports(&self) -> Links {
        let port = |(ifindex, device): (&u32, &Device)| {
            let (link_local, addresses): (BTreeSet<Ipv6Net>, BTreeSet<Ipv6Net>) = self
                .addresses
                .get(ifindex)
                .into_iter()
                .flatten()
                .partition(|net| net.addr().is_unicast_link_local());
            let link = Link {
                ifindex: *ifindex,
                mac: device.mac?,
                mtu: device.mtu,
                up: device.up,
                carriers: device.carriers,
                vrf: device.controller.and_then(|index| Some(self.devices.get(&index)?.name.clone())),
                link_local: link_local.first().map(Ipv6Net::addr),
                addresses,
            };
            Some((device.name.parse().ok()?, link))
        };
        self.devices.iter().filter_map(port).collect()
    }
}

fn device(link: LinkMessage) -> Device {
    // IFF_LOWER_UP is the carrier; a port that is down administratively has none that counts.
    let up = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let mut device = Device { up, ..Device::default() };
    for attribute in link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            device.name = name;
        } else if let LinkAttribute::Address(bytes) = attribute {
            device.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            device.mtu = mtu;
        } else if let LinkAttribute::CarrierUpCount(carriers) = attribute {
            device.carriers = carriers;
        } else if let LinkAttribute::Controller(index) = attribute {
            device.controller = Some(index).filter(|index| *index != 0);
        }
    }
    device
}

/// The address with its prefix length, unless duplicate address detection is not done with it (RFC 4862 5.4).
fn usable(message: &AddressMessage) -> Option<Ipv6Net> {
    let tentative =
        message.header.flags.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
            || message.attributes.iter().any(|attribute| {
                matches!(attribute, AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed))
            });
    if tentative { None } else { network(message) }
}

fn network(message: &AddressMessage) -> Option<Ipv6Net> {
    let address = |attribute: &AddressAttribute| {
        if let AddressAttribute::Address(IpAddr::V6(address)) = attribute { Some(*address) } else { None }
    };
    let address = message.attributes.iter().find_map(address)?;
    Ipv6Net::new(address, message.header.prefix_len).ok()
}
