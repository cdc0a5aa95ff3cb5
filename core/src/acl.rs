//! Pure: the boot ACL, the rules that decide what a machine on a boot port can reach.
//!
//! One L3V6 ingress table is shared by all boot ports. Its rules are few and the same for every port, but for one that
//! opens a port's own gateway; a port comes under them by being in the table's port list.
//!
//! Must never: permit a machine to reach another machine, or the leaf on anything but the relay.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::names::{BootPrefix, PortName};
use crate::settings::Settings;

/// IANA protocol numbers; TCP's.
pub const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// fe80::/10 (RFC 4291 2.5.6): never routed, so it is the leaf on the machine's own port.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// ff02::/16 (RFC 4291 2.7): never routed either.
const LINK_LOCAL_MULTICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);

/// The first rule's priority; higher wins, and acl-loader's own tables use the same range (`acl_loader/main.py`).
const FIRST_PRIORITY: u32 = 9000;
/// Between two rules, so that an operator's eye finds the order in the numbers.
const PRIORITY_STEP: u32 = 10;
/// The rules that open the ports' gateways: above the one that keeps machines apart, below those that deny by type.
const GATEWAY_PRIORITY: u32 = 8000;
/// The rules from the one on that keeps machines apart.
const MACHINES_PRIORITY: u32 = 7000;
/// What the names of a port's own rules begin with.
pub const GATEWAY_RULES: &str = "GATEWAY_";
/// The last rule: what no other has permitted.
const DENY_PRIORITY: u32 = 1;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the table: upper case letters, digits and `_`.
    pub name: String,
    /// The highest that matches decides.
    pub priority: u32,
    /// What becomes of a packet that matches.
    pub action: Action,
    /// What a packet must have; a field that is not set matches everything.
    pub matches: Match,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes on.
    Forward,
    /// It is dropped.
    Drop,
}

/// What a packet must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Its next header.
    pub protocol: Option<u8>,
    /// Its ICMPv6 type.
    pub icmpv6_type: Option<u8>,
    /// Where it comes from.
    pub source: Option<Ipv6Net>,
    /// Where it goes.
    pub destination: Option<Ipv6Net>,
    /// The TCP or UDP port that it goes to.
    pub destination_port: Option<u16>,
}

/// The rules that stand in the table whatever is pushed, highest priority first.
pub fn rules(config: &Settings) -> Vec<Rule> {
    let icmp =
        |icmpv6_type| Match { protocol: Some(ICMPV6), icmpv6_type: Some(icmpv6_type), ..Match::default() };
    let supernet = config.boot.supernet;
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
        // Neighbour discovery by its destination: by its type it could be routed to another machine.
        ("ICMPV6_MULTICAST".to_owned(), Action::Forward, on_link(ICMPV6, LINK_LOCAL_MULTICAST, None)),
        ("ICMPV6_LINK_LOCAL".to_owned(), Action::Forward, on_link(ICMPV6, LINK_LOCAL, None)),
    ];
    for (tls, port) in relay_ports(config) {
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
    let dns: Vec<Ipv6Net> = config.ra.dns.iter().map(|server| Ipv6Net::new_assert(*server, 128)).collect();
    permit("DNS_UDP", Some(UDP), &dns, Some(53));
    permit("DNS_TCP", Some(TCP), &dns, Some(53));
    permit("NTP", Some(UDP), &config.acl.ntp, Some(123));
    permit("CACHE", Some(TCP), &config.acl.cache, None);
    let anycast = config.boot.anycast.map(|anycast| Ipv6Net::new_assert(anycast.address(), 128));
    for (tls, port) in relay_ports(config) {
        permit(&format!("RELAY_{tls}ANYCAST"), Some(TCP), anycast.as_slice(), Some(port));
    }
    permit("CONTROL_PLANE", None, &config.acl.control_plane, None);
    for (name, icmpv6_type) in [("ECHO_REQUEST", 128), ("ECHO_REPLY", 129)] {
        tail.push((name.to_owned(), Action::Forward, Match { source: Some(supernet), ..icmp(icmpv6_type) }));
    }

    let head = numbered(FIRST_PRIORITY, head);
    let tail = numbered(MACHINES_PRIORITY, tail);
    let deny = ("DEFAULT_RULE".to_owned(), Action::Drop, Match::default());
    head.chain(tail).chain(numbered(DENY_PRIORITY, [deny])).collect()
}

/// The rules that open a port's gateway to the relay's ports, and to ICMPv6: a machine asks whether its gateway is still
/// there, and is asked (RFC 4861 7.3), from whatever address it has. The gateway lies in the machines' own address space,
/// so it needs rules of its own above the one that keeps machines apart.
pub fn gateway_rules(config: &Settings, port: &PortName, prefix: BootPrefix) -> Vec<Rule> {
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
    let relay = relay_ports(config).map(|(tls, port)| rule(tls, TCP, Some(prefix.net()), Some(port)));
    relay.chain([rule("ICMPV6_", ICMPV6, None, None)]).collect()
}

/// The rule that lets a TCP or UDP packet through, of `rules` that stand in the order of their priorities.
pub fn permits(rules: &[Rule], protocol: u8, from: Ipv6Addr, to: Ipv6Addr, port: u16) -> Option<&Rule> {
    let is = |matches: &Match| {
        matches.icmpv6_type.is_none()
            && matches.protocol.is_none_or(|wanted| wanted == protocol)
            && matches.source.is_none_or(|net| net.contains(&from))
            && matches.destination.is_none_or(|net| net.contains(&to))
            && matches.destination_port.is_none_or(|wanted| wanted == port)
    };
    rules.iter().find(|rule| is(&rule.matches)).filter(|rule| rule.action == Action::Forward)
}

/// Whether a rule's name is one of a port's own.
pub fn is_own_rule(rule: &str, port: &PortName) -> bool {
    let what = rule
        .strip_prefix(GATEWAY_RULES)
        .and_then(|rest| rest.strip_suffix(&port.as_str().to_ascii_uppercase()));
    what.is_some_and(|what| ["", "TLS_", "ICMPV6_"].contains(&what))
}

/// The relay's TCP ports, each with what tells its rules' names apart.
fn relay_ports(config: &Settings) -> impl Iterator<Item = (&'static str, u16)> {
    let tls = config.relay.tls.as_ref().map(|tls| ("TLS_", tls.port));
    [("", config.relay.port)].into_iter().chain(tls)
}

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
