//! Pure: which ports are the leaf's own way to the partition: they carry a route that leafboot needs or the default route, or
//! an established BGP neighbour. Such a port is never taken, whatever is pushed and whatever `boot.protected` forgets.
//!
//! Only the default VRF counts (and the VRF of `relay.boot_service.device`): a tenant's neighbours and routes are in the
//! tenant's VRF. What is left out: a default route in more than eight pieces, neighbours that are not BGP's, and whatever
//! was before leafboot looked for the first time.
//!
//! Must never: let a port go because nobody could look, or because its session has just broken.

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

/// Uplinks flap: a port that was one is one until nothing speaks for it for this long.
pub const UPLINK_QUIET: Duration = Duration::from_secs(60);

/// A route as short as this is a default route, whole or in pieces: `::/0`, `2000::/3`, `128.0.0.0/1`.
const DEFAULT_LENGTH_MAX: u8 = 3;

/// Addresses that nobody routes to, so that only a default route leads there: documentation and discard prefixes (RFC 5737,
/// RFC 9637, RFC 6666). Several of each family, for one of them may be somebody's black hole.
const NOWHERE: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x3fff, 0xfff, 0xffff, 0, 0, 0, 0, 1)),
];

/// The route that the kernel has for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What of the routing table has matched.
    pub prefix: IpNet,
    /// The devices of all its next hops, by name.
    pub devices: BTreeSet<String>,
}

/// The ports that are uplinks, and those that have just been.
#[derive(Debug, Default)]
pub struct Uplinks(BTreeMap<PortName, Uplink>);

#[derive(Debug)]
struct Uplink {
    /// In one sentence.
    fact: String,
    /// When it was first seen that nothing speaks for it any more; none: something does.
    gone: Option<Instant>,
}

impl Uplinks {
    /// Looks what carries the leaf's own traffic now. `route` asks the kernel for the route to an address, in the default
    /// VRF or by a device; none: there is none. What comes out is each uplink and why it is one.
    pub fn look<E: Display>(
        &mut self,
        config: &Settings,
        observed: &Observed,
        route: impl Fn(IpAddr, Option<&str>) -> Result<Option<Route>, E>,
        now: Instant,
    ) -> BTreeMap<PortName, Rejection> {
        let facts = match facts(config, observed, route) {
            Ok(facts) => facts,
            Err(error) => return unknown(observed, &error),
        };
        for (port, uplink) in &mut self.0 {
            if !facts.contains_key(port) {
                uplink.gone.get_or_insert(now);
            }
        }
        self.0.extend(facts.into_iter().map(|(port, fact)| (port, Uplink { fact, gone: None })));
        self.0.retain(|_, uplink| uplink.gone.is_none_or(|gone| now < gone + UPLINK_QUIET));
        self.0.iter().map(|(port, uplink)| (port.clone(), uplink.rejection())).collect()
    }
}

impl Uplink {
    fn rejection(&self) -> Rejection {
        let message = match self.gone {
            None => self.fact.clone(),
            Some(_) => format!("{}, until less than {} s ago", self.fact, UPLINK_QUIET.as_secs()),
        };
        Rejection { reason: Reason::Uplink, message }
    }
}

/// Nobody knows which ports are uplinks, so every port may be one.
fn unknown(observed: &Observed, error: &impl Display) -> BTreeMap<PortName, Rejection> {
    let message = format!("the kernel does not say whether it carries the leaf's own routes: {error}");
    let rejection = Rejection { reason: Reason::Uplink, message };
    observed.ports.keys().map(|port| (port.clone(), rejection.clone())).collect()
}

/// Every uplink with the first fact that makes it one.
fn facts<E>(
    config: &Settings,
    observed: &Observed,
    route: impl Fn(IpAddr, Option<&str>) -> Result<Option<Route>, E>,
) -> Result<BTreeMap<PortName, String>, E> {
    let mut facts = BTreeMap::new();
    let mut add = |device: &str, fact: &str| {
        for port in behind(device, observed) {
            facts.entry(port).or_insert_with(|| fact.to_owned());
        }
    };
    for (address, device, setting) in needed(config) {
        let devices = route(address, device)?.map(|route| route.devices).unwrap_or_default();
        let fact = format!("it carries the route to {address} ({setting})");
        devices.iter().for_each(|device| add(device, &fact));
    }
    for address in NOWHERE {
        let Some(Route { prefix, devices }) = route(address, None)? else { continue };
        if prefix.prefix_len() <= DEFAULT_LENGTH_MAX {
            let fact = format!("it carries the default route {prefix}");
            devices.iter().for_each(|device| add(device, &fact));
        }
    }
    for neighbour in &observed.bgp_neighbours {
        let fact = format!("it has the established BGP neighbour {}", Printable(neighbour));
        // One without an address is named by its interface.
        let devices = match neighbour.parse::<IpAddr>() {
            Ok(address) => route(address, None)?.map(|route| route.devices).unwrap_or_default(),
            Err(_) => BTreeSet::from([neighbour.clone()]),
        };
        devices.iter().for_each(|device| add(device, &fact));
    }
    Ok(facts)
}

/// The addresses that machines cannot boot without, each with the device that it is reached by and the setting that has it. A
/// server that is named is looked up when it is asked, and is behind the default route or one of these most often.
fn needed(config: &Settings) -> impl Iterator<Item = (IpAddr, Option<&str>, &'static str)> {
    let upstream = |upstream: &relay::Upstream| upstream.origins.clone();
    let servers =
        upstream(&config.relay.boot_service).into_iter().filter_map(|origin| origin.host().parse().ok());
    let device = config.relay.boot_service.device.as_deref();
    let servers = servers.map(move |address| (address, device, "relay.boot_service"));
    let cache = config.acl.cache.iter().map(|net| (IpAddr::V6(net.addr()), None, "acl.cache"));
    servers.chain(cache)
}

/// The ports that a device stands for: itself, the port of a sub-interface, the members of a LAG or of a VLAN.
fn behind(device: &str, observed: &Observed) -> Vec<PortName> {
    let name = device.split_once('.').map_or(device, |(port, _)| port);
    if let Ok(port) = name.parse() {
        return vec![port];
    }
    let members = observed.ports.iter().filter(|(_, port)| {
        let in_vlan = port.vlans.contains(name) || port.bound_vlans.contains(name);
        port.lag.as_deref() == Some(name) || in_vlan
    });
    members.map(|(port, _)| port.clone()).collect()
}

#[cfg(test)]
mod tests;
