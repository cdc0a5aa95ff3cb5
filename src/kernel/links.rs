//! The kernel's view of the leaf's ports: read from rtnetlink, and published at each change.
//!
//! Must never: change anything in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use futures_util::FutureExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;
use tokio::sync::watch;
use tracing::debug;

use crate::kernel::netlink::{self, Group, KernelEvents};
use leafboot_core::names::Mac;
use leafboot_core::observed::{Link, Links};

/// Why the kernel's view is not available.
#[derive(Debug, Error)]
pub enum LinksError {
    /// The kernel sends no events.
    #[error("cannot receive events of links and addresses: {0}")]
    Events(#[source] std::io::Error),
    /// The kernel refused a list.
    #[error("cannot list links and addresses: {0}")]
    List(#[source] std::io::Error),
}

/// Publishes the kernel's view until the process ends. Returns only with an error.
pub async fn run(published: watch::Sender<Links>) -> Result<(), LinksError> {
    loop {
        publish_until_loss(&published).await?;
        debug!("kernel events of links and addresses were lost; listing them again");
    }
}

/// Publishes the kernel's view until events are lost.
async fn publish_until_loss(published: &watch::Sender<Links>) -> Result<(), LinksError> {
    let events = KernelEvents::subscribe(&[Group::Links, Group::Ipv4Addresses, Group::Ipv6Addresses])
        .map_err(LinksError::Events)?;
    let mut kernel = Kernel::list()?;
    loop {
        publish(published, &kernel);
        let mut next = Some(events.next().await);
        // All datagrams that wait are applied before the next view is published: a view of many ports takes time.
        while let Some(changes) = next {
            let Some(changes) = changes.map_err(LinksError::Events)? else { return Ok(()) };
            changes.into_iter().for_each(|change| kernel.apply(change));
            next = events.next().now_or_never();
        }
    }
}

/// The kernel's present view.
pub fn now() -> Result<Links, LinksError> {
    Ok(Kernel::list()?.links())
}

fn publish(published: &watch::Sender<Links>, kernel: &Kernel) {
    let links = kernel.links();
    published.send_if_modified(|old| {
        let changed = *old != links;
        if changed {
            *old = links;
        }
        changed
    });
}

/// The devices and their addresses by ifindex, as far as leafboot needs them.
#[derive(Default)]
struct Kernel {
    devices: BTreeMap<u32, Device>,
    addresses: BTreeMap<u32, BTreeMap<IpNet, AddressState>>,
}

#[derive(Default)]
struct Device {
    name: String,
    mac: Option<Mac>,
    mtu: u32,
    is_up: bool,
    has_carrier: bool,
    carrier_ups: u32,
    controller: Option<u32>,
    is_vrf: bool,
}

/// The state of an address in duplicate address detection (RFC 4862 5.4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum AddressState {
    /// Detection has not ended, or has not begun.
    Tentative,
    /// Another station on the link has the address.
    Duplicate,
    /// Detection has found no duplicate.
    Usable,
    /// There is no detection (`nodad`).
    Exempt,
}

impl Kernel {
    fn list() -> Result<Self, LinksError> {
        let mut kernel = Self::default();
        // The counters are half of a device's message, and leafboot does not need them.
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
            let (ifindex, device) = (link.header.index, device(link));
            if !device.is_up {
                self.suspend_addresses(ifindex);
            }
            self.devices.insert(ifindex, device);
        } else if let RouteNetlinkMessage::DelLink(link) = change {
            // A bridge port's removal from its bridge is a DelLink of family AF_BRIDGE; the device stays.
            if link.header.interface_family == AddressFamily::Unspec {
                self.devices.remove(&link.header.index);
                self.addresses.remove(&link.header.index);
            }
        } else if let RouteNetlinkMessage::NewAddress(address) = change {
            if let Some(net) = network(&address) {
                self.addresses.entry(address.header.index).or_default().insert(net, state(&address));
            }
        } else if let RouteNetlinkMessage::DelAddress(address) = change
            && let Some(net) = network(&address)
            && let Some(addresses) = self.addresses.get_mut(&address.header.index)
        {
            addresses.remove(&net);
        }
    }

    /// Marks the usable IPv6 addresses of a device that is administratively down as tentative. The kernel does the same to
    /// those that it keeps (`keep_addr_on_down`), and sends no event (`addrconf.c: addrconf_ifdown`). It sends one for each
    /// when detection has ended after the device has come up (`addrconf_dad_completed`).
    fn suspend_addresses(&mut self, ifindex: u32) {
        let addresses = self.addresses.get_mut(&ifindex).into_iter().flatten();
        for (_, state) in addresses.filter(|(net, _)| matches!(net, IpNet::V6(_))) {
            if *state == AddressState::Usable {
                *state = AddressState::Tentative;
            }
        }
    }

    fn links(&self) -> Links {
        let vrf = |device: &&Device| device.is_vrf;
        let vrfs = self.devices.values().filter(vrf).map(|device| (device.name.clone(), device.is_up));
        Links { ports: self.named(), loopbacks: self.named(), vrfs: vrfs.collect() }
    }

    /// The devices whose names are valid names of kind `N`.
    fn named<N: FromStr + Ord>(&self) -> BTreeMap<N, Link> {
        let named = |(ifindex, device): (&u32, &Device)| {
            Some((device.name.parse().ok()?, self.link(*ifindex, device)?))
        };
        self.devices.iter().filter_map(named).collect()
    }

    fn link(&self, ifindex: u32, device: &Device) -> Option<Link> {
        let mut link = Link {
            ifindex,
            mac: device.mac?,
            mtu: device.mtu,
            up: device.is_up && device.has_carrier,
            admin_up: device.is_up,
            carrier: device.has_carrier,
            carrier_ups: device.carrier_ups,
            vrf: device.controller.and_then(|index| Some(self.devices.get(&index)?.name.clone())),
            link_local: None,
            usable_addresses: BTreeSet::new(),
            assigned_addresses: BTreeSet::new(),
            duplicate_addresses: BTreeSet::new(),
        };
        for (net, state) in self.addresses.get(&ifindex).into_iter().flatten() {
            let is_usable = device.is_up && matches!(state, AddressState::Usable | AddressState::Exempt);
            match net {
                IpNet::V6(net) if net.addr().is_unicast_link_local() => {
                    if is_usable {
                        link.link_local.get_or_insert(net.addr());
                    }
                    continue;
                }
                IpNet::V6(net) if is_usable => drop(link.usable_addresses.insert(*net)),
                IpNet::V6(_) | IpNet::V4(_) => {}
            }
            if *state == AddressState::Duplicate {
                link.duplicate_addresses.insert(*net);
            }
            link.assigned_addresses.insert(*net);
        }
        Some(link)
    }
}

fn device(link: LinkMessage) -> Device {
    // IFF_LOWER_UP is the carrier. It counts only while the device is administratively up.
    let flags = link.header.flags;
    let mut device = Device {
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        ..Device::default()
    };
    for attribute in link.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            device.name = name;
        } else if let LinkAttribute::Address(bytes) = attribute {
            device.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac);
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            device.mtu = mtu;
        } else if let LinkAttribute::CarrierUpCount(carriers) = attribute {
            device.carrier_ups = carriers;
        } else if let LinkAttribute::Controller(index) = attribute {
            device.controller = Some(index).filter(|index| *index != 0);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            device.is_vrf = infos.contains(&LinkInfo::Kind(InfoKind::Vrf));
        }
    }
    device
}

fn state(message: &AddressMessage) -> AddressState {
    let has = |flag: AddressFlags, head: AddressHeaderFlags| {
        let is_set = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Flags(flags) if flags.intersects(flag));
        message.header.flags.intersects(head) || message.attributes.iter().any(is_set)
    };
    if has(AddressFlags::Dadfailed, AddressHeaderFlags::Dadfailed) {
        AddressState::Duplicate
    } else if has(AddressFlags::Tentative, AddressHeaderFlags::Tentative) {
        AddressState::Tentative
    } else if has(AddressFlags::Nodad, AddressHeaderFlags::Nodad) {
        AddressState::Exempt
    } else {
        AddressState::Usable
    }
}

/// The address of a message with its prefix length.
fn network(message: &AddressMessage) -> Option<IpNet> {
    let address = |attribute: &AddressAttribute| {
        if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
    };
    let address = message.attributes.iter().find_map(address)?;
    IpNet::new(address, message.header.prefix_len).ok()
}
