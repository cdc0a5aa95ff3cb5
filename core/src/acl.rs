//! The boot ACL: the rules that decide what a machine on a boot port can reach.
//!
//! All boot ports share one L3V6 ingress table. Its rules are few and the same for every port, except the rules that open a
//! port's own gateway. SONiC binds the table to the ports in its port list.
//!
//! Must never: permit a machine to reach another machine, or to reach the leaf on anything but the relay.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::names::{BootPrefix, PortName};
use crate::settings::Settings;

/// TCP's IANA protocol number.
pub const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// fe80::/10 (RFC 4291 2.5.6). It is never routed, so it is the leaf on the machine's own port.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// ff02::/16 (RFC 4291 2.7). It is never routed either.
const LINK_LOCAL_MULTICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);

/// The first rule's priority. A higher priority wins. acl-loader's own tables use the same range (sonic-utilities 691b1bbc,
/// `acl_loader/main.py`).
const FIRST_PRIORITY: u32 = 9000;
/// The distance between the priorities of two rules, so that operators see the order in the numbers.
const PRIORITY_STEP: u32 = 10;
/// The priority of the rules that open the ports' gateways: above `DENY_MACHINES`, below the rules that deny by ICMPv6 type.
const GATEWAY_PRIORITY: u32 = 8000;
/// The priority of `DENY_MACHINES`. The rules after it follow in steps.
const MACHINES_PRIORITY: u32 = 7000;
/// The prefix of the names of a port's own rules.
pub const GATEWAY_RULES: &str = "GATEWAY_";
/// The priority of the last rule, which denies everything that no other rule permits.
const DENY_PRIORITY: u32 = 1;

/// One rule of the boot ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the table: upper case letters, digits and `_`.
    pub name: String,
    /// The matching rule with the highest priority decides.
    pub priority: u32,
    /// What the ASIC does with a packet that matches.
    pub action: Action,
    /// What a packet must have. An unset field matches everything.
    pub matches: Match,
}

/// What the ASIC does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Forwards it.
    Forward,
    /// Drops it.
    Drop,
}

/// What a packet must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The next header, by IANA number.
    pub protocol: Option<u8>,
    /// The ICMPv6 type.
    pub icmpv6_type: Option<u8>,
    /// The source address.
    pub source: Option<Ipv6Net>,
    /// The destination address.
    pub destination: Option<Ipv6Net>,
    /// The TCP or UDP destination port.
    pub destination_port: Option<u16>,
}

/// The rules that all ports share, highest priority first. They follow from the settings alone.
pub fn rules(settings: &Settings) -> Vec<Rule> {
    let icmp =
        |icmpv6_type| Match { protocol: Some(ICMPV6), icmpv6_type: Some(icmpv6_type), ..Match::default() };
    let supernet = settings.boot.supernet;
    let to = |protocol, destination, port| Match {
        protocol,
        icmpv6_type: None,
        source: Some(supernet),
        destination: Some(destination),
        destination_port: port,
    };
    let on_link = |protocol, destination, port| Match {
        protocol: Some(protocol),
        icmpv6_type: None,
        source: None,
        destination: Some(destination),
        destination_port: port,
    };
    let mut head = vec![
        // A machine is no router (RFC 4861 4.2, 4.5).
        ("DENY_ROUTER_ADVERTISEMENT".to_owned(), Action::Drop, icmp(134)),
        ("DENY_REDIRECT".to_owned(), Action::Drop, icmp(137)),
        // Neighbour discovery is matched by destination. Matched by type, it could be routed to another machine.
        ("ICMPV6_MULTICAST".to_owned(), Action::Forward, on_link(ICMPV6, LINK_LOCAL_MULTICAST, None)),
        ("ICMPV6_LINK_LOCAL".to_owned(), Action::Forward, on_link(ICMPV6, LINK_LOCAL, None)),
    ];
    for (tls, port) in relay_ports(settings) {
        head.push((format!("RELAY_{tls}LINK_LOCAL"), Action::Forward, on_link(TCP, LINK_LOCAL, Some(port))));
    }

    let mut tail = vec![(
        "DENY_MACHINES".to_owned(),
        Action::Drop,
        Match { destination: Some(supernet), ..Match::default() },
    )];
    let mut permit = |name: &str, protocol, destinations: &[Ipv6Net], port| {
        for (number, destination) in destinations.iter().enumerate() {
            tail.push((format!("{name}_{number}"), Action::Forward, to(protocol, *destination, port)));
        }
    };
    let dns: Vec<Ipv6Net> = settings.ra.dns.iter().map(|server| Ipv6Net::new_assert(*server, 128)).collect();
    permit("DNS_UDP", Some(UDP), &dns, Some(53));
    permit("DNS_TCP", Some(TCP), &dns, Some(53));
    permit("NTP", Some(UDP), &settings.acl.ntp, Some(123));
    permit("CACHE", Some(TCP), &settings.acl.cache, None);
    let anycast = settings.boot.anycast.map(|anycast| Ipv6Net::new_assert(anycast.address(), 128));
    for (tls, port) in relay_ports(settings) {
        permit(&format!("RELAY_{tls}ANYCAST"), Some(TCP), anycast.as_slice(), Some(port));
    }
    permit("CONTROL_PLANE", None, &settings.acl.control_plane, None);
    for (name, icmpv6_type) in [("ECHO_REQUEST", 128), ("ECHO_REPLY", 129)] {
        tail.push((name.to_owned(), Action::Forward, Match { source: Some(supernet), ..icmp(icmpv6_type) }));
    }

    let head = numbered(FIRST_PRIORITY, head);
    let tail = numbered(MACHINES_PRIORITY, tail);
    let deny = ("DEFAULT_RULE".to_owned(), Action::Drop, Match::default());
    head.chain(tail).chain(numbered(DENY_PRIORITY, [deny])).collect()
}

/// The rules that open a port's gateway for the relay's ports and for ICMPv6. Machine and gateway probe each other's
/// reachability (RFC 4861 7.3) from any of their addresses. The gateway lies in `boot.supernet`, so its rules need a higher
/// priority than `DENY_MACHINES`.
pub fn gateway_rules(settings: &Settings, port: &PortName, prefix: BootPrefix) -> Vec<Rule> {
    let rule = |what: &str, protocol, source, destination_port| Rule {
        name: format!("{GATEWAY_RULES}{what}{}", port.as_str().to_ascii_uppercase()),
        priority: GATEWAY_PRIORITY,
        action: Action::Forward,
        matches: Match {
            protocol: Some(protocol),
            icmpv6_type: None,
            source,
            destination: Some(Ipv6Net::new_assert(prefix.gateway(), 128)),
            destination_port,
        },
    };
    let relay = relay_ports(settings).map(|(tls, port)| rule(tls, TCP, Some(prefix.net()), Some(port)));
    relay.chain([rule("ICMPV6_", ICMPV6, None, None)]).collect()
}

/// The rule that permits a TCP or UDP packet, if one does. `rules` are in the order of their priorities.
pub fn permits(rules: &[Rule], protocol: u8, from: Ipv6Addr, to: Ipv6Addr, port: u16) -> Option<&Rule> {
    let applies = |matches: &Match| {
        matches.icmpv6_type.is_none()
            && matches.protocol.is_none_or(|wanted| wanted == protocol)
            && matches.source.is_none_or(|net| net.contains(&from))
            && matches.destination.is_none_or(|net| net.contains(&to))
            && matches.destination_port.is_none_or(|wanted| wanted == port)
    };
    rules.iter().find(|rule| applies(&rule.matches)).filter(|rule| rule.action == Action::Forward)
}

/// Whether a rule's name is that of one of the port's own rules.
pub fn is_own_rule(rule: &str, port: &PortName) -> bool {
    let kind = rule
        .strip_prefix(GATEWAY_RULES)
        .and_then(|rest| rest.strip_suffix(&port.as_str().to_ascii_uppercase()));
    kind.is_some_and(|kind| ["", "TLS_", "ICMPV6_"].contains(&kind))
}

/// The relay's TCP ports. The text is the part of a rule's name for that port.
fn relay_ports(settings: &Settings) -> impl Iterator<Item = (&'static str, u16)> {
    let tls = settings.relay.tls.as_ref().map(|tls| ("TLS_", tls.port));
    [("", settings.relay.port)].into_iter().chain(tls)
}

/// The rules with priorities in steps, from `first` down.
fn numbered(
    first: u32,
    rules: impl IntoIterator<Item = (String, Action, Match)>,
) -> impl Iterator<Item = Rule> {
    let priorities = (0..).map(move |number| first.saturating_sub(number * PRIORITY_STEP));
    rules.into_iter().zip(priorities).map(|((name, action, matches), priority)| Rule {
        name,
        priority,
        action,
        matches,
    })
}

/// The rules as a table for review, highest priority first.
pub fn table(rules: &[Rule]) -> String {
    let head = format!("{:>8}  {:<26} {:<8} match\n", "priority", "rule", "action");
    rules.iter().fold(head, |text, rule| {
        let action = match rule.action {
            Action::Forward => "forward",
            Action::Drop => "drop",
        };
        text + format!("{:>8}  {:<26} {action:<8} {}", rule.priority, rule.name, rule.matches).trim_end()
            + "\n"
    })
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.map(|protocol| match protocol {
            TCP => "TCP".to_owned(),
            UDP => "UDP".to_owned(),
            ICMPV6 => "ICMPv6".to_owned(),
            other => format!("protocol {other}"),
        });
        let words = [
            protocol,
            self.icmpv6_type.map(|kind| format!("type {kind}")),
            self.source.map(|source| format!("from {source}")),
            self.destination.map(|destination| format!("to {destination}")),
            self.destination_port.map(|port| format!("port {port}")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        if words.is_empty() { f.write_str("everything else") } else { f.write_str(&words.join(" ")) }
    }
}

#[cfg(test)]
mod tests;
