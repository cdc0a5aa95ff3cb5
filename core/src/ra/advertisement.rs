//! Builds a port's Router Advertisement from the router variables and the state of the port.
//!
//! Must never: decide when an advertisement is sent, or encode it.

use super::variables::{OLD_PREFIXES_MAX, RouterVariables, milliseconds, seconds};
use crate::names::BootPrefix;
use crate::nd::message::Advertisement;
use crate::nd::options::{NdOption, PrefixInformation};
use crate::port_role::Serving;

/// The advertisement of a port: the router variables, the port's prefix and Ethernet address, and an MTU of at most the port's.
/// Each old prefix has lifetimes 0 and unchanged flags (RFC 9096 3.5).
pub fn advertisement(variables: &RouterVariables, serving: &Serving, old: &[BootPrefix]) -> Advertisement {
    let prefix = |prefix: BootPrefix, valid, preferred| {
        NdOption::Prefix(PrefixInformation {
            prefix: prefix.net(),
            on_link: variables.on_link,
            autonomous: variables.autonomous,
            delegation: variables.prefix_delegation,
            valid,
            preferred,
        })
    };
    let (valid, preferred) = (seconds(variables.prefix_valid), seconds(variables.prefix_preferred));
    let mut options = vec![NdOption::SourceLinkLayerAddress(serving.mac)];
    // RFC 4861 6.2.1: an AdvLinkMTU of 0 means that no MTU is sent.
    options.extend((variables.mtu != 0).then(|| NdOption::Mtu(serving.mtu.min(variables.mtu.into()))));
    options.push(prefix(serving.prefix, valid, preferred));
    options.extend(old.iter().take(OLD_PREFIXES_MAX).map(|old| prefix(*old, 0, 0)));
    options.extend(variables.options());
    Advertisement {
        hop_limit: variables.hop_limit,
        managed: variables.managed,
        other: variables.other,
        home_agent: variables.home_agent,
        preference: variables.preference,
        router_lifetime: u16::try_from(variables.router_lifetime.as_secs()).unwrap_or(u16::MAX),
        reachable_time: milliseconds(variables.reachable_time),
        retrans_timer: milliseconds(variables.retrans_timer),
        options,
    }
}

#[cfg(test)]
mod tests;
