//! Recognises kinds of addresses (RFC 4291, RFC 6890) that no setting can use.
//!
//! Must never: guess what a network routes. It names the kinds of addresses that cannot work, and accepts any other.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The blocks of IPv6 addresses to which no router forwards unicast packets. Smaller blocks come first.
const NEVER_FORWARDED: [(Ipv6Net, &str); 6] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "the unspecified address (RFC 4291 2.5.2)"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "the loopback address (RFC 4291 2.5.3)"),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96), "IPv4-compatible (RFC 4291 2.5.5.1)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "IPv4-mapped (RFC 4291 2.5.5.2)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local (RFC 4291 2.5.6)"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast (RFC 4291 2.7)"),
];

/// If no router forwards unicast packets to the whole prefix: the name of its block. None for every other prefix. A prefix that
/// only contains such a block, such as `::/0`, counts as another prefix.
pub fn never_forwarded(net: Ipv6Net) -> Option<&'static str> {
    NEVER_FORWARDED.iter().find(|(block, _)| block.contains(&net)).map(|(_, kind)| *kind)
}

/// If no end of a TCP connection can have the address: the kind of the address. None for every other address. `::1` counts as
/// another address, because a server may run on the leaf itself.
pub fn never_connected(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V6(address) if address.is_loopback() => None,
        // This includes link-local addresses: they say nothing about the link, and settings have no zone.
        IpAddr::V6(address) => never_forwarded(address.into()),
        IpAddr::V4(address) if address.is_unspecified() => Some("the unspecified address (RFC 6890 2.2.2)"),
        IpAddr::V4(address) if address.is_multicast() => Some("multicast (RFC 5771 3)"),
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address (RFC 6890 2.2.2)"),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_ends_at_its_first_and_last_address() {
        let kind = |text: &str| never_forwarded(text.parse().unwrap());
        for (net, expected) in [
            ("::/128", Some("unspecified")),
            ("::1/128", Some("loopback")),
            ("::2/128", Some("IPv4-compatible")),
            ("::c000:201/128", Some("IPv4-compatible")),
            ("::ffff:0:0/96", Some("IPv4-mapped")),
            ("::ffff:c000:201/128", Some("IPv4-mapped")),
            ("::fffe:0:0/128", None),
            ("::1:0:0:0/128", None),
            ("64:ff9b::/96", None),
            ("fc00::/7", None),
            ("fe7f::/16", None),
            ("fe80::/10", Some("link-local")),
            ("febf:ffff::1/128", Some("link-local")),
            ("fec0::/10", None),
            ("ff00::/8", Some("multicast")),
            ("ff02::fb/128", Some("multicast")),
            ("fe00::/7", None),
            ("::/0", None),
            ("2001:db8::/32", None),
        ] {
            assert_eq!(kind(net).is_some(), expected.is_some(), "{net}: {:?}", kind(net));
            assert!(kind(net).unwrap_or_default().contains(expected.unwrap_or_default()), "{net}");
        }
    }

    #[test]
    fn a_connection_needs_an_address_of_one_host() {
        let kind = |text: &str| never_connected(text.parse().unwrap());
        for bad in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::ffff:192.0.2.1", "fe80::1", "ff05::1"]
        {
            assert!(kind(bad).is_some(), "{bad}");
        }
        for good in ["192.0.2.1", "127.0.0.1", "::1", "2001:db8::1", "fd00::1", "64:ff9b::192.0.2.1"] {
            assert_eq!(kind(good), None, "{good}");
        }
    }
}
