//! Warnings about combinations of valid settings with which machines may fail to boot, or may reach destinations that must be
//! closed to them.
//!
//! Must never: refuse settings. A leaf in service must start after an upgrade that brings a new warning. `settings` refuses
//! values that are invalid by themselves.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::acl::{self, Rule, TCP};
use crate::names::HttpOrigin;
use crate::settings::Settings;
use crate::settings::relay::{CacheMode, UpstreamSettings};

/// A warning about the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Machines may fail to boot.
    Fails(String),
    /// Machines may reach destinations that must be closed to them, or claim the identity of another port.
    Open(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Fails(reason) => write!(f, "machines may fail to boot: {reason}"),
            Warning::Open(reason) => write!(f, "open: {reason}"),
        }
    }
}

/// All warnings about these settings.
pub fn warnings(settings: &Settings) -> Vec<Warning> {
    let review = Review { settings, rules: acl::rules(settings) };
    let found = [review.cache(), review.machines_space(), review.anycast(), review.advertisements()];
    let found = found.into_iter().chain([review.upstreams(), review.boot_service()]);
    found.flatten().collect()
}

/// The settings, and the boot ACL's rules that follow from them.
struct Review<'a> {
    settings: &'a Settings,
    rules: Vec<Rule>,
}

impl Review<'_> {
    /// Whether machines can reach the server that images are redirected to.
    fn cache(&self) -> Vec<Warning> {
        let Settings { acl, ra, relay, .. } = self.settings;
        if relay.cache.mode == CacheMode::Proxy {
            return Vec::new();
        }
        let name = &relay.cache.name;
        let warning = |reason: &str| {
            Warning::Fails(format!("relay.cache.mode redirects machines to {name}, and {reason}"))
        };
        let is_permitted = match name.host().parse() {
            Ok(IpAddr::V6(address)) => self.lets_through(address, name.port()).is_some(),
            Ok(IpAddr::V4(_)) => return vec![warning("machines have no IPv4")],
            Err(_) => acl.cache.iter().chain(&acl.control_plane).next().is_some(),
        };
        let mut warnings = Vec::new();
        if !is_permitted {
            warnings.push(warning("neither acl.cache nor acl.control_plane permits it"));
        }
        if address(name).is_none() && ra.dns.is_empty() {
            warnings.push(warning("ra.dns names no server that resolves it"));
        }
        warnings
    }

    /// Servers in `boot.supernet`: the boot ACL denies machines all of it.
    fn machines_space(&self) -> Vec<Warning> {
        let Settings { acl, ra, boot, .. } = self.settings;
        let dns: Vec<Ipv6Net> = ra.dns.iter().map(|server| Ipv6Net::new_assert(*server, 128)).collect();
        let lists = [
            ("acl.cache", &acl.cache),
            ("acl.control_plane", &acl.control_plane),
            ("acl.ntp", &acl.ntp),
            ("ra.dns", &dns),
        ];
        let all = lists.iter().flat_map(|(key, nets)| nets.iter().map(move |net| (key, net)));
        let inside = all.filter(|(_, net)| boot.supernet.contains(*net));
        let reason = |key, net| {
            format!(
                "{key} {net} lies in boot.supernet {}, and the boot ACL denies machines that space",
                boot.supernet
            )
        };
        inside.map(|(key, net)| Warning::Fails(reason(key, net))).collect()
    }

    /// The anycast address: machines may reach only the relay at it.
    fn anycast(&self) -> Vec<Warning> {
        let Settings { acl, boot, .. } = self.settings;
        let Some(anycast) = boot.anycast.map(|anycast| anycast.address()) else {
            return Vec::new();
        };
        let lists = [("acl.cache", &acl.cache), ("acl.control_plane", &acl.control_plane)];
        let holding = lists.iter().filter(|(_, nets)| nets.iter().any(|net| net.contains(&anycast)));
        holding
            .map(|(key, _)| {
                let reason = format!("boot.anycast {anycast} lies in {key}");
                Warning::Open(format!(
                    "{reason}: machines reach the leaf's other services at this address, too"
                ))
            })
            .collect()
    }

    /// Advertisements that iPXE cannot use.
    fn advertisements(&self) -> Vec<Warning> {
        let ra = &self.settings.ra;
        let mut warnings = Vec::new();
        for (key, _) in [("ra.managed", ra.managed), ("ra.other", ra.other)].iter().filter(|(_, set)| *set) {
            warnings.push(Warning::Fails(format!(
                "{key}: iPXE fails without a DHCPv6 server, and the boot ACL drops what machines send to one"
            )));
        }
        if ra.router_lifetime.is_zero() {
            let reason =
                "ra.router_lifetime 0s: iPXE ignores ra.routes, and then reaches nothing beyond its link";
            warnings.push(Warning::Fails(reason.to_owned()));
        }
        warnings
    }

    /// All servers behind the relay.
    fn upstreams(&self) -> Vec<Warning> {
        let Settings { boot, relay, .. } = self.settings;
        let proxied =
            (relay.cache.mode == CacheMode::Proxy).then_some(("relay.cache", &relay.cache.upstream));
        let api = relay.api.as_ref().map(|api| ("relay.api", api));
        let all = [("relay.boot_service", &relay.boot_service)].into_iter().chain(proxied).chain(api);
        let mut warnings = Vec::new();
        for (key, UpstreamSettings { origins, source, device, .. }) in all {
            let is_gateway = |source: &IpAddr| matches!(source, IpAddr::V6(a) if boot.supernet.contains(a));
            let through_vrf = source.is_none() && device.as_deref() == Some(boot.vrf.as_str());
            if through_vrf || source.as_ref().is_some_and(is_gateway) {
                let which = if through_vrf { "device" } else { "source" };
                warnings.push(Warning::Fails(format!(
                    "{key}.{which}: connections use the gateway address of some port, and break when that port is released"
                )));
            }
            let machines = origins
                .iter()
                .filter(|origin| address(origin).is_some_and(|address| boot.supernet.contains(&address)));
            warnings.extend(machines.map(|origin| {
                Warning::Open(format!(
                    "{key} {origin} lies in boot.supernet: a machine may answer instead of the server"
                ))
            }));
        }
        warnings
    }

    /// The boot service trusts the relay's identity headers. A machine that reaches the boot service directly can send them
    /// itself, unless the boot service authenticates leaves by their certificates.
    fn boot_service(&self) -> Vec<Warning> {
        let Settings { relay, .. } = self.settings;
        let knows_leaves = |origin: &&HttpOrigin| origin.is_tls() && relay.boot_service.identity.is_some();
        let mut warnings = Vec::new();
        for origin in relay.boot_service.origins.iter().filter(|origin| !knows_leaves(origin)) {
            let by = match address(origin) {
                Some(address) => {
                    self.lets_through(address, origin.port()).map(|rule| format!("by the boot ACL's {rule}"))
                }
                None => (relay.cache.mode == CacheMode::Redirect
                    && origin.host().eq_ignore_ascii_case(relay.cache.name.host()))
                .then(|| "as relay.cache.name".to_owned()),
            };
            warnings.extend(by.map(|by| {
                let reason = format!("machines reach relay.boot_service {origin} without the relay, {by}");
                Warning::Open(format!("{reason}: they can claim to be on any leaf and port"))
            }));
        }
        warnings
    }

    /// The boot ACL's rule that permits machines to connect to this TCP port.
    fn lets_through(&self, to: Ipv6Addr, port: u16) -> Option<&str> {
        let from = self.settings.boot.supernet.addr();
        acl::permits(&self.rules, TCP, from, to, port).map(|rule| rule.name.as_str())
    }
}

/// The IPv6 address of an origin. None for a name or an IPv4 address.
fn address(origin: &HttpOrigin) -> Option<Ipv6Addr> {
    origin.host().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings without a warning.
    const GOOD: &str = r#"leaf = "leaf01"
[boot]
prefix = "2001:db8:b007::/57"
protected = []
supernet = "2001:db8:b000::/36"
anycast = "2001:db8:ffff:1::1/127"
[acl]
cache = ["2001:db8:ffff::90"]
control_plane = ["2001:db8:cafe::/48"]
ntp = ["2001:db8:ffff::123"]
[ra]
dns = ["2001:db8:ffff::53"]
[relay]
[relay.boot_service]
origins = ["http://[2001:db8:ffff::80]:8080"]
[relay.cache]
name = "http://images.metal-stack.io"
"#;

    /// The warnings after `from` is replaced by `to` in the settings.
    fn warnings_with(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "{from}");
        let settings = Settings::parse(&GOOD.replace(from, to)).unwrap();
        warnings(&settings).iter().map(Warning::to_string).collect()
    }

    #[test]
    fn good_settings_have_no_warnings() {
        assert_eq!(warnings_with("leaf01", "leaf02"), Vec::<String>::new());
        let known = "origins = [\"https://[2001:db8:ffff::80]\"]\n\
             tls = { certificate = \"/leaf.crt\", key = \"/leaf.key\" }\n";
        let known = format!("[relay.boot_service]\n{known}");
        let text = GOOD.replace("ffff::90", "ffff::80");
        let text =
            text.replace("[relay.boot_service]\norigins = [\"http://[2001:db8:ffff::80]:8080\"]\n", &known);
        assert_eq!(
            warnings(&Settings::parse(&text).unwrap()),
            [],
            "a boot service knows leaves by their certificates"
        );
    }

    #[test]
    fn the_annotated_example_has_no_warnings() {
        let example = include_str!("../../sonic/leafboot.toml");
        assert_eq!(warnings(&Settings::parse(example).unwrap()), []);
    }

    #[test]
    fn every_warning_is_given() {
        let to = "machines may fail to boot: relay.cache.mode redirects machines to http://images.metal-stack.io, and";
        let cases = [
            ("cache = [\"2001:db8:ffff::90\"]\ncontrol_plane = [\"2001:db8:cafe::/48\"]", "", format!("{to} neither acl.cache nor acl.control_plane permits it")),
            ("dns = [\"2001:db8:ffff::53\"]", "", format!("{to} ra.dns names no server that resolves it")),
            ("http://images.metal-stack.io", "http://192.0.2.1", "machines may fail to boot: relay.cache.mode redirects machines to http://192.0.2.1, and machines have no IPv4".to_owned()),
            ("http://images.metal-stack.io", "http://[2001:db8:b007::9]", "machines may fail to boot: relay.cache.mode redirects machines to http://[2001:db8:b007::9], and neither acl.cache nor acl.control_plane permits it".to_owned()),
            ("\"2001:db8:ffff::90\"", "\"2001:db8:ffff::90\", \"2001:db8:b001::/48\"", "machines may fail to boot: acl.cache 2001:db8:b001::/48 lies in boot.supernet 2001:db8:b000::/36, and the boot ACL denies machines that space".to_owned()),
            ("2001:db8:cafe::/48", "2001:db8:b001::/48", "machines may fail to boot: acl.control_plane 2001:db8:b001::/48 lies".to_owned()),
            ("2001:db8:ffff::123", "2001:db8:b001::123", "machines may fail to boot: acl.ntp 2001:db8:b001::123/128 lies".to_owned()),
            ("2001:db8:ffff::53", "2001:db8:b001::53", "machines may fail to boot: ra.dns 2001:db8:b001::53/128 lies".to_owned()),
            ("\"2001:db8:ffff::90\"", "\"2001:db8:ffff:1::/64\"", "open: boot.anycast 2001:db8:ffff:1::1 lies in acl.cache: machines reach".to_owned()),
            ("2001:db8:cafe::/48", "2001:db8:ffff:1::/64", "open: boot.anycast 2001:db8:ffff:1::1 lies in acl.control_plane: machines reach".to_owned()),
            ("[ra]\n", "[ra]\nmanaged = true\n", "machines may fail to boot: ra.managed: iPXE fails without a DHCPv6 server".to_owned()),
            ("[ra]\n", "[ra]\nother = true\n", "machines may fail to boot: ra.other: iPXE fails".to_owned()),
            ("[ra]\n", "[ra]\nrouter_lifetime = \"0s\"\nroutes = [\"2001:db8::/32\"]\n", "machines may fail to boot: ra.router_lifetime 0s: iPXE ignores ra.routes".to_owned()),
            ("[relay.boot_service]\n", "[relay.boot_service]\ndevice = \"Vrfboot\"\n", "machines may fail to boot: relay.boot_service.device: connections use the gateway".to_owned()),
            ("[relay.boot_service]\n", "[relay.boot_service]\nsource = \"2001:db8:b007::1\"\n", "machines may fail to boot: relay.boot_service.source: connections use the gateway".to_owned()),
            ("2001:db8:ffff::80", "2001:db8:b007::80", "open: relay.boot_service http://[2001:db8:b007::80]:8080 lies in boot.supernet: a machine may answer".to_owned()),
            ("2001:db8:ffff::90", "2001:db8:ffff::/120", "open: machines reach relay.boot_service http://[2001:db8:ffff::80]:8080 without the relay, by the boot ACL's CACHE_0: they can".to_owned()),
            ("2001:db8:ffff::80", "2001:db8:cafe::80", "open: machines reach relay.boot_service http://[2001:db8:cafe::80]:8080 without the relay, by the boot ACL's CONTROL_PLANE_0: they can".to_owned()),
            ("[2001:db8:ffff::80]", "images.metal-stack.io", "open: machines reach relay.boot_service http://images.metal-stack.io:8080 without the relay, as relay.cache.name: they can".to_owned()),
        ];
        for (from, to, expected) in cases {
            let found = warnings_with(from, to);
            assert!(found.iter().any(|warning| warning.starts_with(&expected)), "{to:?} gave {found:#?}");
        }
    }

    #[test]
    fn all_warnings_are_reported() {
        let found =
            warnings_with("[ra]\ndns = [\"2001:db8:ffff::53\"]", "[ra]\nmanaged = true\nother = true");
        assert_eq!(found.len(), 3, "{found:#?}");
    }
}
