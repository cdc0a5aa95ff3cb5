//! The `[ra]` settings, raw and checked: what every port advertises. Each value is in the range of its RFC.
//!
//! Must never: accept settings whose advertisement does not fit into one packet of the smallest IPv6 MTU.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use serde::Deserialize;
use toml::Spanned;

use super::{Checker, SettingsError, duration, or_default, unwritten};
use crate::names::{never_forwarded, without_host_bits};
use crate::nd::message::ADVERTISEMENT_MAX;
use crate::nd::options::Preference;
use crate::ra::variables::{Route, RouterVariables};

/// The least and the most. They are short: a booting machine must not wait, and it is alone on its port.
const DEFAULT_INTERVAL: (u64, &str) = (4, "10s");
/// Many times longer than a restart or an upgrade of the agent takes.
const DEFAULT_ROUTER_LIFETIME: &str = "30m";
/// Preferred and valid. RFC 9096 3.4: at most 2700 s and 5400 s for prefixes that may change.
const DEFAULT_PREFIX_LIFETIME: (u64, &str) = (2700, "90m");
const DEFAULT_MTU: u16 = 1500;
/// IANA's current default (RFC 4861 6.2.1, RFC 1700).
const DEFAULT_HOP_LIMIT: u8 = 64;
const UNSPECIFIED: &str = "0s";
/// RFC 4861 4.6.2, RFC 4191 2.3: all bits set mean infinity.
const FOR_EVER: u64 = u32::MAX as u64;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRa {
    interval_min: Option<Spanned<String>>,
    interval_max: Option<Spanned<String>>,
    delay_max: Option<Spanned<String>>,
    router_lifetime: Option<Spanned<String>>,
    preference: Option<Spanned<String>>,
    #[serde(default)]
    managed: bool,
    #[serde(default)]
    other: bool,
    #[serde(default)]
    home_agent: bool,
    hop_limit: Option<Spanned<u8>>,
    reachable_time: Option<Spanned<String>>,
    retrans_timer: Option<Spanned<String>>,
    on_link: Option<bool>,
    autonomous: Option<Spanned<bool>>,
    prefix_preferred: Option<Spanned<String>>,
    prefix_valid: Option<Spanned<String>>,
    #[serde(default)]
    prefix_delegation: bool,
    mtu: Option<Spanned<u16>>,
    dns: Option<Spanned<Vec<String>>>,
    search: Option<Spanned<Vec<String>>>,
    routes: Option<Spanned<Vec<RawRoute>>>,
    route_lifetime: Option<Spanned<String>>,
    pref64: Option<Spanned<String>>,
    captive_portal: Option<Spanned<String>>,
}

/// `"2001:db8::/32"`, or `{ prefix = "2001:db8::/32", preference = "high" }`.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawRoute {
    Prefix(String),
    Preferred(RawPreferred),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreferred {
    prefix: String,
    preference: String,
}

/// The lifetimes in seconds.
struct Times {
    interval: (u64, u64),
    router: u64,
    route: u64,
    preferred: u64,
    valid: u64,
}

impl Checker<'_> {
    pub(super) fn ra(&self, raw: RawRa) -> Result<RouterVariables, SettingsError> {
        let times = self.times(&raw)?;
        let ra = RouterVariables {
            interval_min: Duration::from_secs(times.interval.0),
            interval_max: Duration::from_secs(times.interval.1),
            router_lifetime: Duration::from_secs(times.router),
            route_lifetime: Duration::from_secs(times.route),
            prefix_preferred: Duration::from_secs(times.preferred),
            prefix_valid: Duration::from_secs(times.valid),
            // RFC 4861 10: MAX_RA_DELAY_TIME is 0.5 s.
            delay_max: self.millis("ra.delay_max", raw.delay_max, 500, "RFC 4861 6.2.6, 10")?,
            // RFC 4861 6.2.1: AdvReachableTime is at most 3,600,000 ms.
            reachable_time: self.millis(
                "ra.reachable_time",
                raw.reachable_time,
                3_600_000,
                "RFC 4861 6.2.1",
            )?,
            retrans_timer: self.millis(
                "ra.retrans_timer",
                raw.retrans_timer,
                u32::MAX.into(),
                "RFC 4861 4.2: 32 bits",
            )?,
            preference: self.router_preference(raw.preference, times.router)?,
            managed: raw.managed,
            other: raw.other,
            home_agent: raw.home_agent,
            hop_limit: *or_default(raw.hop_limit, DEFAULT_HOP_LIMIT).get_ref(),
            on_link: raw.on_link.unwrap_or(true),
            autonomous: self.autonomous(raw.autonomous, raw.managed)?,
            prefix_delegation: raw.prefix_delegation,
            mtu: self.value("ra.mtu", &or_default(raw.mtu, DEFAULT_MTU), |mtu| {
                // RFC 8200 5: no IPv6 link is smaller than 1280. 9216: the largest frame of a SONiC port.
                if matches!(mtu, 0 | 1280..=9216) {
                    Ok(*mtu)
                } else {
                    Err(format!("{mtu} is neither 0 nor between 1280 (RFC 8200 5) and 9216"))
                }
            })?,
            dns: self.value("ra.dns", &list(raw.dns), |dns| dns_servers(dns))?,
            search: self.value("ra.search", &list(raw.search), |names| {
                names.iter().map(|name| domain_name(name)).collect()
            })?,
            routes: self.value("ra.routes", &list(raw.routes), |list| routes(list))?,
            pref64: raw
                .pref64
                .map(|raw| self.value("ra.pref64", &raw, |text| nat64_prefix(text)))
                .transpose()?,
            captive_portal: raw
                .captive_portal
                .map(|raw| self.value("ra.captive_portal", &raw, |text| captive_portal(text)))
                .transpose()?,
        };
        // RFC 6980 5: neighbour discovery is never fragmented.
        match ra.largest_advertisement() {
            ..=ADVERTISEMENT_MAX => Ok(ra),
            size => Err(SettingsError::TooLarge { size, room: ADVERTISEMENT_MAX }),
        }
    }

    /// RFC 4861 6.2.1: MaxRtrAdvInterval is 4 to 1800 s, MinRtrAdvInterval 3 s to 0.75 × max. No lifetime is shorter than the
    /// interval, so that nothing expires between two advertisements.
    fn times(&self, raw: &RawRa) -> Result<Times, SettingsError> {
        let time = |raw: &Option<Spanned<String>>, default: &str| or_default(raw.clone(), default);
        let interval_max = time(&raw.interval_max, DEFAULT_INTERVAL.1);
        let max = self.seconds("ra.interval_max", &interval_max, 4, 1800, "RFC 4861 6.2.1")?;
        let interval_min = time(&raw.interval_min, &format!("{}s", (max * 3 / 4).min(DEFAULT_INTERVAL.0)));
        let rule = "RFC 4861 6.2.1: 3 s to 0.75 × interval_max";
        let min = self.seconds("ra.interval_min", &interval_min, 3, max * 3 / 4, rule)?;
        // RFC 4862 5.5.3 d: a machine forms no address in a prefix whose lifetime is 0.
        let is_autonomous = raw.autonomous.as_ref().is_none_or(|raw| *raw.get_ref());
        let least = if is_autonomous { max } else { 0 };
        let valid = time(&raw.prefix_valid, DEFAULT_PREFIX_LIFETIME.1);
        let rule = "RFC 4861 4.6.2, from interval_max on, or from 0 without ra.autonomous";
        let valid = self.seconds("ra.prefix_valid", &valid, least, FOR_EVER, rule)?;
        let preferred = time(&raw.prefix_preferred, &format!("{}s", valid.min(DEFAULT_PREFIX_LIFETIME.0)));
        let rule = "RFC 4861 6.2.1: interval_max, or 0 without ra.autonomous, to prefix_valid";
        let preferred = self.seconds("ra.prefix_preferred", &preferred, least, valid, rule)?;
        let router = self.router_lifetime(raw, max)?;
        let default = if router == 0 { DEFAULT_ROUTER_LIFETIME.to_owned() } else { format!("{router}s") };
        let route = time(&raw.route_lifetime, &default);
        let rule = "RFC 4191 2.3, from interval_max on";
        let route = self.seconds("ra.route_lifetime", &route, max, FOR_EVER, rule)?;
        Ok(Times { interval: (min, max), router, route, preferred, valid })
    }

    /// RFC 4861 6.2.1: AdvDefaultLifetime is 0 or `max` to 9000 s. With 0, machines have no default router and need `routes`. The
    /// rest of the advertisement is valid all the same (4.2).
    fn router_lifetime(&self, raw: &RawRa, max: u64) -> Result<u64, SettingsError> {
        let (key, rule) = ("ra.router_lifetime", "RFC 4861 6.2.1: 0 s, or interval_max to 9000 s");
        let written = or_default(raw.router_lifetime.clone(), DEFAULT_ROUTER_LIFETIME);
        let has_routes = raw.routes.as_ref().is_some_and(|routes| !routes.get_ref().is_empty());
        match self.seconds(key, &written, 0, 9000, rule)? {
            0 if has_routes => Ok(0),
            0 => self.value(key, &written, |text| {
                Err(format!(
                    "{text}: without a default router and without ra.routes machines reach nothing beyond their link"
                ))
            }),
            _ => self.seconds(key, &written, max, 9000, rule),
        }
    }

    /// RFC 4191 2.2: without a router lifetime the preference is medium.
    fn router_preference(
        &self,
        raw: Option<Spanned<String>>,
        lifetime: u64,
    ) -> Result<Preference, SettingsError> {
        self.value("ra.preference", &or_default(raw, "medium"), |text| {
            let preferred = preference(text)?;
            if lifetime > 0 || preferred == Preference::Medium {
                Ok(preferred)
            } else {
                Err(format!("{text} needs a default router, and with router_lifetime 0s the leaf is not one (RFC 4191 2.2)"))
            }
        })
    }

    /// RFC 4861 6.2.1: AdvAutonomousFlag. Without it machines need addresses by DHCPv6.
    fn autonomous(&self, raw: Option<Spanned<bool>>, managed: bool) -> Result<bool, SettingsError> {
        self.value("ra.autonomous", &or_default(raw, true), |autonomous| {
            if *autonomous || managed {
                Ok(*autonomous)
            } else {
                Err("false: machines get no address without ra.autonomous or ra.managed".to_owned())
            }
        })
    }

    /// A duration such as `"500ms"`, at most `most` milliseconds; 0 if it is not written.
    fn millis(
        &self,
        key: &str,
        raw: Option<Spanned<String>>,
        most: u64,
        rule: &str,
    ) -> Result<Duration, SettingsError> {
        self.value(key, &or_default(raw, UNSPECIFIED), |text| {
            let time = duration(text, "500ms")?;
            if time.subsec_nanos() % 1_000_000 != 0 {
                Err(format!("{text} is not a whole number of milliseconds"))
            } else if time <= Duration::from_millis(most) {
                Ok(time)
            } else {
                Err(format!("{text} is more than {most} ms ({rule})"))
            }
        })
    }
}

fn list<T>(raw: Option<Spanned<Vec<T>>>) -> Spanned<Vec<T>> {
    raw.unwrap_or_else(|| unwritten(Vec::new()))
}

/// RFC 4191 2.1: the fourth value, 10, is reserved and must not be sent.
fn preference(text: &str) -> Result<Preference, String> {
    match text {
        "low" => Ok(Preference::Low),
        "medium" => Ok(Preference::Medium),
        "high" => Ok(Preference::High),
        other => Err(format!("{other:?} is not low, medium or high (RFC 4191 2.1)")),
    }
}

/// At most 8 servers: no resolver asks more.
fn dns_servers(servers: &[String]) -> Result<Vec<Ipv6Addr>, String> {
    if servers.len() > 8 {
        return Err(format!("{} servers are more than 8: no resolver asks so many", servers.len()));
    }
    servers.iter().map(|server| dns_server(server)).collect()
}

/// RFC 8106 permits a link-local address. It is refused here: on a boot port it could only be the leaf, which is not a resolver,
/// and the boot ACL drops queries to it.
fn dns_server(text: &str) -> Result<Ipv6Addr, String> {
    let address: Ipv6Addr = text.parse().map_err(|_| format!("{text:?} is not an IPv6 address"))?;
    match never_forwarded(address.into()) {
        None => Ok(address),
        Some(kind) => Err(format!("{text:?} is {kind}: no machine reaches a resolver at it")),
    }
}

/// Checks a domain name, and removes its final dot. A label has 1 to 63 bytes, and the encoded name at most 255 (RFC 8106 5.2,
/// RFC 1035 3.1).
pub fn domain_name(written: &str) -> Result<String, String> {
    let name = written.strip_suffix('.').unwrap_or(written);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name.to_owned())
    } else {
        Err(format!("{written:?} is not a domain name (RFC 8106 5.2, RFC 1035 2.3.4)"))
    }
}

/// Checks the routes: no prefix twice, and at most 17 (RFC 4191 2.3, 4).
fn routes(raw: &[RawRoute]) -> Result<Vec<Route>, String> {
    let mut routes: Vec<Route> = Vec::new();
    for route in raw {
        let (text, preferred) = match route {
            RawRoute::Prefix(prefix) => (prefix, Preference::Medium),
            RawRoute::Preferred(raw) => (&raw.prefix, preference(&raw.preference)?),
        };
        let prefix = destinations(text)?;
        if routes.iter().any(|route| route.prefix == prefix) {
            return Err(format!("{prefix} is listed twice (RFC 4191 2.3)"));
        }
        routes.push(Route { prefix, preference: preferred });
    }
    if routes.len() > 17 {
        return Err(format!("{} routes are more than 17 (RFC 4191 4)", routes.len()));
    }
    Ok(routes)
}

fn network(text: &str) -> Result<Ipv6Net, String> {
    let net = text.parse().map_err(|_| format!("{text:?} is not an IPv6 prefix such as 2001:db8::/32"))?;
    without_host_bits(net).map_err(|error| error.to_string())
}

/// A prefix that a router can forward packets to.
fn destinations(text: &str) -> Result<Ipv6Net, String> {
    let net = network(text)?;
    match never_forwarded(net) {
        None => Ok(net),
        Some(kind) => Err(format!("{net} is {kind}: no router forwards packets to it")),
    }
}

/// RFC 8781 4: a NAT64 prefix has one of six lengths. RFC 6052 2.2: the bits 64 to 71 of an address in it are 0.
pub fn nat64_prefix(text: &str) -> Result<Ipv6Net, String> {
    let net = destinations(text)?;
    if !matches!(net.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) {
        Err(format!("/{} is not /96, /64, /56, /48, /40 or /32 (RFC 8781 4)", net.prefix_len()))
    } else if net.addr().octets()[8] != 0 {
        Err(format!("{net} has bits set among 64 to 71, which must be 0 (RFC 6052 2.2)"))
    } else {
        Ok(net)
    }
}

/// The URI of the portal's API (RFC 8910 2; RFC 8908 4.1: https), or the URN that says that there is no portal.
fn captive_portal(text: &str) -> Result<String, String> {
    let known = ["https://", "urn:ietf:params:capport:unrestricted"];
    if known.iter().any(|start| text.starts_with(start)) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not an https URI (RFC 8910 2, RFC 8908 4.1)"))
    }
}
