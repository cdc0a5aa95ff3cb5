//! Finds the leaf's uplinks. An uplink carries a route that leafboot needs, the default route, or an
//! established BGP neighbour. leafboot never takes an uplink, even if it is pushed and `boot.protected` does not name it.
//!
//! Only the default VRF counts, and the VRF of `relay.boot_service.device`: a tenant's neighbours and routes are in the
//! tenant's VRF. This file does not find three kinds of uplinks: those with a default route in more than eight pieces, those with
//! neighbours of protocols other than BGP, and those that were lost before the first look.
//!
//! Must never: treat a port as free because the kernel did not answer, or because its BGP session has just broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::desired::{Reason, Rejection};
use crate::names::PortName;
use crate::observed::Observed;
use crate::printable::Printable;
use crate::settings::{Settings, relay};

/// How long a port stays an uplink after it lost what made it one. Uplinks flap.
pub const UPLINK_QUIET: Duration = Duration::from_secs(60);

/// A route as short as this is a default route, whole or in pieces: `::/0`, `2000::/3`, `128.0.0.0/1`.
const DEFAULT_LENGTH_MAX: u8 = 3;

/// Addresses that no network routes, so that only a default route leads there: documentation and discard prefixes (RFC 5737,
/// RFC 9637, RFC 6666). There are several of each family, because a leaf may have a black-hole route for one of them.
const UNROUTED_ADDRESSES: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0xfff, 0xffff, 0, 0, 0, 0, 1)),
];

/// The route that the kernel has for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// The prefix of the route.
    pub prefix: IpNet,
    /// The devices of all its next hops, by name.
    pub devices: BTreeSet<String>,
}

/// The ports that are uplinks, or were until less than [`UPLINK_QUIET`] ago.
#[derive(Debug, Default)]
pub struct Uplinks(BTreeMap<PortName, Uplink>);

#[derive(Debug)]
struct Uplink {
    /// The fact that makes the port an uplink, in one sentence.
    fact: String,
    /// When the fact was first seen to be gone; none while it holds.
    lost_at: Option<Instant>,
}

impl Uplinks {
    /// Finds the ports that carry the leaf's own traffic now, and returns each uplink with the reason. `route` asks the kernel
    /// for the route to an address, in the default VRF or by a device; none means that there is no route. If `route` fails,
    /// every port counts as an uplink.
    pub fn update<E: Display>(
        &mut self,
        settings: &Settings,
        observed: &Observed,
        route: impl Fn(IpAddr, Option<&str>) -> Result<Option<KernelRoute>, E>,
        now: Instant,
    ) -> BTreeMap<PortName, Rejection> {
        let facts = match facts(settings, observed, route) {
            Ok(facts) => facts,
            Err(error) => return all_ports(observed, &error),
        };
        for (port, uplink) in &mut self.0 {
            if !facts.contains_key(port) {
                uplink.lost_at.get_or_insert(now);
            }
        }
        self.0.extend(facts.into_iter().map(|(port, fact)| (port, Uplink { fact, lost_at: None })));
        self.0.retain(|_, uplink| uplink.lost_at.is_none_or(|lost_at| now < lost_at + UPLINK_QUIET));
        self.0.iter().map(|(port, uplink)| (port.clone(), uplink.rejection())).collect()
    }
}

impl Uplink {
    fn rejection(&self) -> Rejection {
        let message = match self.lost_at {
            None => self.fact.clone(),
            Some(_) => format!("{}, until less than {} s ago", self.fact, UPLINK_QUIET.as_secs()),
        };
        Rejection { reason: Reason::Uplink, message }
    }
}

/// The kernel did not answer, so every port may be an uplink.
fn all_ports(observed: &Observed, error: &impl Display) -> BTreeMap<PortName, Rejection> {
    let message = format!("the kernel does not say whether it carries the leaf's own routes: {error}");
    let rejection = Rejection { reason: Reason::Uplink, message };
    observed.ports.keys().map(|port| (port.clone(), rejection.clone())).collect()
}

/// Every uplink, with the first fact that makes it one.
fn facts<E>(
    settings: &Settings,
    observed: &Observed,
    route: impl Fn(IpAddr, Option<&str>) -> Result<Option<KernelRoute>, E>,
) -> Result<BTreeMap<PortName, String>, E> {
    let mut facts = BTreeMap::new();
    let mut add = |device: &str, fact: &str| {
        for port in ports_behind(device, observed) {
            facts.entry(port).or_insert_with(|| fact.to_owned());
        }
    };
    for (address, device, setting) in needed_addresses(settings) {
        let devices = route(address, device)?.map(|route| route.devices).unwrap_or_default();
        let fact = format!("it carries the route to {address} ({setting})");
        devices.iter().for_each(|device| add(device, &fact));
    }
    for address in UNROUTED_ADDRESSES {
        let Some(KernelRoute { prefix, devices }) = route(address, None)? else { continue };
        if prefix.prefix_len() <= DEFAULT_LENGTH_MAX {
            let fact = format!("it carries the default route {prefix}");
            devices.iter().for_each(|device| add(device, &fact));
        }
    }
    for neighbour in &observed.bgp_neighbours {
        let fact = format!("it has the established BGP neighbour {}", Printable(neighbour));
        // bgpmon names an unnumbered neighbour by its interface (sonic-buildimage 086b03bd, `bgpmon.py`).
        let devices = match neighbour.parse::<IpAddr>() {
            Ok(address) => route(address, None)?.map(|route| route.devices).unwrap_or_default(),
            Err(_) => BTreeSet::from([neighbour.clone()]),
        };
        devices.iter().for_each(|device| add(device, &fact));
    }
    Ok(facts)
}

/// The addresses that machines need to boot, each with the device that reaches it and the setting that has it. Servers that
/// have a name instead of an address are left out: they are mostly behind the default route or one of these addresses.
fn needed_addresses(settings: &Settings) -> impl Iterator<Item = (IpAddr, Option<&str>, &'static str)> {
    let upstream = |upstream: &relay::UpstreamSettings| upstream.origins.clone();
    let servers =
        upstream(&settings.relay.boot_service).into_iter().filter_map(|origin| origin.host().parse().ok());
    let device = settings.relay.boot_service.device.as_deref();
    let servers = servers.map(move |address| (address, device, "relay.boot_service"));
    let cache = settings.acl.cache.iter().map(|net| (IpAddr::V6(net.addr()), None, "acl.cache"));
    servers.chain(cache)
}

/// The ports behind a device: the port itself, the port of a sub-interface, or the members of a LAG or of a VLAN.
fn ports_behind(device: &str, observed: &Observed) -> Vec<PortName> {
    let name = device.split_once('.').map_or(device, |(port, _)| port);
    if let Ok(port) = name.parse() {
        return vec![port];
    }
    let members = observed.ports.iter().filter(|(_, port)| {
        let in_vlan = port.vlan_rows.contains(name) || port.bound_vlans.contains(name);
        port.lag.as_deref() == Some(name) || in_vlan
    });
    members.map(|(port, _)| port.clone()).collect()
}

#[cfg(test)]
mod tests;
