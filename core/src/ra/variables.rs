//! The router variables of RFC 4861 6.2.1 and of the RFCs that add options. They are the same on every port.
//!
//! Must never: depend on a port. `advertisement` adds the fields of a port.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::nd::options::NdOption;
use crate::nd::options::Preference;

/// The most old prefixes that an advertisement carries (RFC 9096 3.5).
pub const OLD_PREFIXES_MAX: usize = 4;

/// The router variables (RFC 4861 6.2.1), the same for every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterVariables {
    /// MinRtrAdvInterval, 3 s to 0.75 × `interval_max`.
    pub interval_min: Duration,
    /// MaxRtrAdvInterval, 4 s to 1800 s.
    pub interval_max: Duration,
    /// The longest random delay of a solicited answer, 0 to MAX_RA_DELAY_TIME (RFC 4861 6.2.6, 10).
    pub delay_max: Duration,
    /// AdvDefaultLifetime, `interval_max` to 9000 s; 0: the leaf is not a default router, and `routes` is not empty.
    pub router_lifetime: Duration,
    /// The leaf's preference among default routers (RFC 4191 2.2); medium if the leaf is not one.
    pub preference: Preference,
    /// AdvManagedFlag: addresses come by DHCPv6.
    pub managed: bool,
    /// AdvOtherConfigFlag: other settings come by DHCPv6.
    pub other: bool,
    /// The router is a Mobile IPv6 home agent (RFC 6275 7.1).
    pub home_agent: bool,
    /// AdvCurHopLimit; 0: unspecified.
    pub hop_limit: u8,
    /// AdvReachableTime, at most an hour; 0: unspecified.
    pub reachable_time: Duration,
    /// AdvRetransTimer; 0: unspecified.
    pub retrans_timer: Duration,
    /// AdvOnLinkFlag: the addresses in the prefix are on the link.
    pub on_link: bool,
    /// AdvAutonomousFlag: machines form an address in the prefix. If it is not set, `managed` is.
    pub autonomous: bool,
    /// AdvPreferredLifetime, at most `prefix_valid`.
    pub prefix_preferred: Duration,
    /// AdvValidLifetime, at least `interval_max`, or 0 without `autonomous`.
    pub prefix_valid: Duration,
    /// The prefix's P flag: DHCPv6 prefix delegation is preferred to an address in it (RFC 9762 4).
    pub prefix_delegation: bool,
    /// AdvLinkMTU, 1280 (RFC 8200 5) to 9216 bytes; 0: no MTU is advertised.
    pub mtu: u16,
    /// Recursive DNS servers (RFC 8106 5.1); at most 8.
    pub dns: Vec<Ipv6Addr>,
    /// DNS search list (RFC 8106 5.2).
    pub search: Vec<String>,
    /// Routes beside the default one (RFC 4191 2.3); at most 17.
    pub routes: Vec<Route>,
    /// The lifetime of `routes`, at least `interval_max`.
    pub route_lifetime: Duration,
    /// The NAT64 prefix (RFC 8781 4).
    pub pref64: Option<Ipv6Net>,
    /// The captive portal's API (RFC 8910 2.3).
    pub captive_portal: Option<String>,
}

/// A more specific route that is advertised (RFC 4191 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub prefix: Ipv6Net,
    /// The preference among routers that advertise the same route.
    pub preference: Preference,
}

impl RouterVariables {
    /// The options that do not depend on the port.
    pub fn options(&self) -> Vec<NdOption> {
        let lifetime = seconds(self.route_lifetime);
        // Resolvers, search list and NAT64 prefix live as long as the routes, and at least three times MaxRtrAdvInterval (RFC
        // 8106 5.1, RFC 8781 4).
        let routed = lifetime.max(seconds(self.router_lifetime));
        let information = routed.max(seconds(self.interval_max * 3));
        let mut options = Vec::new();
        options.extend(self.routes.iter().map(|route| NdOption::Route {
            prefix: route.prefix,
            preference: route.preference,
            lifetime,
        }));
        if !self.dns.is_empty() {
            options.push(NdOption::Rdnss { lifetime: information, servers: self.dns.clone() });
        }
        if !self.search.is_empty() {
            options.push(NdOption::Dnssl { lifetime: information, names: self.search.clone() });
        }
        options.extend(self.pref64.map(|prefix| {
            // RFC 8781 4.1: rounded up to a multiple of 8, at most 65528.
            let lifetime = information.min(65528).next_multiple_of(8);
            NdOption::Pref64 { lifetime: u16::try_from(lifetime).unwrap_or(65528), prefix }
        }));
        options.extend(self.captive_portal.clone().map(NdOption::CaptivePortal));
        options
    }

    /// The most bytes that an advertisement with these variables can have on any port.
    pub fn largest_advertisement(&self) -> usize {
        const HEADER_ADDRESS_MTU: usize = 16 + 8 + 8;
        const PREFIX: usize = 32;
        let mut options = Vec::new();
        self.options().iter().for_each(|option| option.encode(&mut options));
        HEADER_ADDRESS_MTU + PREFIX * (1 + OLD_PREFIXES_MAX) + options.len()
    }
}

/// Whole seconds in 32 bits, as on the wire.
pub(super) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Whole milliseconds in 32 bits, as on the wire.
pub(super) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
