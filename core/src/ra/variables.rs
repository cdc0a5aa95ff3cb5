//! The router variables of RFC 4861 6.2.1 and of the RFCs that add options: what a leaf advertises on every port.
//!
//! Must never: know a port. What depends on the port is added in `advertisement`.

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
    /// AdvDefaultLifetime, `interval_max` to 9000 s; 0: the leaf is no default router, and there are `routes`.
    pub router_lifetime: Duration,
    /// Among several default routers (RFC 4191 2.2); medium where the leaf is none.
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
    /// AdvOnLinkFlag: machines reach addresses in the prefix without the router.
    pub on_link: bool,
    /// AdvAutonomousFlag: machines form an address in the prefix; if not, `managed`.
    pub autonomous: bool,
    /// AdvPreferredLifetime, at most `prefix_valid`.
    pub prefix_preferred: Duration,
    /// AdvValidLifetime, from `interval_max` on; if not `autonomous`, from 0 on.
    pub prefix_valid: Duration,
    /// The prefix's P flag: DHCPv6 prefix delegation is preferred to an address in it (RFC 9762 4).
    pub prefix_delegation: bool,
    /// AdvLinkMTU, 1280 (RFC 8200 5) to 9216 bytes; 0: none is advertised.
    pub mtu: u16,
    /// Recursive DNS servers (RFC 8106 5.1); at most 8.
    pub dns: Vec<Ipv6Addr>,
    /// DNS search list (RFC 8106 5.2).
    pub search: Vec<String>,
    /// Routes beside the default one (RFC 4191 2.3); at most 17.
    pub routes: Vec<Route>,
    /// How long `routes` hold, from `interval_max` on.
    pub route_lifetime: Duration,
    /// The NAT64 prefix (RFC 8781 4).
    pub pref64: Option<Ipv6Net>,
    /// The captive portal's API (RFC 8910 2.3).
    pub captive_portal: Option<String>,
}

/// A more specific route that is advertised (RFC 4191 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub prefix: Ipv6Net,
    /// Among the same route through several routers.
    pub preference: Preference,
}

impl RouterVariables {
    /// The options that do not depend on the port.
    pub fn options(&self) -> Vec<NdOption> {
        let lifetime = seconds(self.route_lifetime);
        // As long as there is a way to what it names; RFC 8106 5.1, RFC 8781 4: at least three times MaxRtrAdvInterval.
        let way = lifetime.max(seconds(self.router_lifetime));
        let information = way.max(seconds(self.interval_max * 3));
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

    /// The most bytes that an advertisement with these variables has, whatever its port.
    pub fn largest(&self) -> usize {
        const HEADER_ADDRESS_MTU: usize = 16 + 8 + 8;
        const PREFIX: usize = 32;
        let mut options = Vec::new();
        self.options().iter().for_each(|option| option.encode(&mut options));
        HEADER_ADDRESS_MTU + PREFIX * (1 + OLD_PREFIXES_MAX) + options.len()
    }
}

/// Whole seconds, as the wire has them.
pub(super) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Whole milliseconds, as the wire has them.
pub(super) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
