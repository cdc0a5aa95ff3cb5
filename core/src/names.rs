//! Checked types for the names and addresses of the domain: a value of one of these types is always valid.
//!
//! Must never: know a database, a socket or a clock.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::printable::Printable;

pub use address_kind::{never_connected, never_forwarded};
pub use anycast::{AnycastNet, LoopbackName};
pub use origin::{HttpOrigin, OriginError};

mod address_kind;
mod anycast;
mod origin;

/// Longest name of a kernel network device in bytes (Linux `IFNAMSIZ` less its terminator).
const DEVICE_NAME_MAX: usize = 15;

/// Why a text is not a valid name. The message says what a valid name looks like.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a front-panel port's SONiC name.
    #[error(
        "\"{}\" is not a front-panel port: expected Ethernet followed by digits, at most 15 characters",
        Printable(.0)
    )]
    Port(String),
    /// Not an ACL table's name.
    #[error("\"{}\" is not an ACL table's name: expected 1 to 32 upper case letters, digits or _", Printable(.0))]
    Acl(String),
    /// Not a loopback's name.
    #[error("\"{}\" is not a loopback's name: expected Loopback followed by 1 to 3 digits", Printable(.0))]
    Loopback(String),
    /// Not a VRF name that SONiC accepts.
    #[error(
        "\"{}\" is not a VRF name: expected Vrf followed by letters, digits, - or _, at most 15 characters",
        Printable(.0)
    )]
    Vrf(String),
}

/// A front-panel port by its SONiC name (`Ethernet4`). Ports are ordered by their number: `Ethernet8` comes before
/// `Ethernet12`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(String);

impl PortName {
    /// The name as SONiC and the kernel spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for PortName {
    fn cmp(&self, other: &Self) -> Ordering {
        // A longer number is a larger number, unless it begins with zeros. SONiC has no such names.
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for PortName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<String> for PortName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        let digits = name.strip_prefix("Ethernet").unwrap_or_default();
        let legal =
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && name.len() <= DEVICE_NAME_MAX;
        if legal { Ok(Self(name)) } else { Err(NameError::Port(name)) }
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name.to_owned())
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.0
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A VRF's name. SONiC accepts only names that start with `Vrf` (`cfgmgr/intfmgr.cpp: IntfMgr::isIntfStateOk`), and the
/// kernel limits the length of device names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VrfName(String);

impl VrfName {
    /// The name as SONiC and the kernel spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VrfName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let tail = name.strip_prefix("Vrf").unwrap_or_default();
        let legal = !tail.is_empty()
            && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && name.len() <= DEVICE_NAME_MAX;
        if legal { Ok(Self(name.to_owned())) } else { Err(NameError::Vrf(name.to_owned())) }
    }
}

impl fmt::Display for VrfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An ACL table's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclName(String);

impl AclName {
    /// The name as SONiC spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AclName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let letters = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let legal = (1..=32).contains(&name.len()) && letters;
        if legal { Ok(Self(name.to_owned())) } else { Err(NameError::Acl(name.to_owned())) }
    }
}

impl fmt::Display for AclName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a prefix that can be used for booting machines.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Not an IPv6 prefix at all.
    #[error("\"{}\" is not an IPv6 prefix such as 2001:db8:b007::/64", Printable(.0))]
    Syntax(String),
    /// Bits after the prefix length are set.
    #[error("{0} has bits set after its prefix length: did you mean {1}?")]
    HostBits(Ipv6Net, Ipv6Net),
    /// A port's prefix must be a /64: otherwise SLAAC forms no address (RFC 4862 5.5.3 d).
    #[error("{0} is not a /64: machines form their address by SLAAC, which needs 64 bits")]
    NotSlash64(Ipv6Net),
    /// A leaf's prefix must hold at least one /64.
    #[error("{0} is longer than /64: it must hold a /64 for each port")]
    TooLong(Ipv6Net),
    /// An anycast address that no machine could reach.
    #[error(
        "{0} is the first address of its prefix, and caclmgrd drops packets to it: write a /127 or shorter with a later address, such as 2001:db8:ffff:1::1/127"
    )]
    Dropped(Ipv6Net),
    /// Multicast, link-local, loopback or unspecified space.
    #[error("{0} is not unicast address space that a machine could use beyond its link")]
    NotUnicast(Ipv6Net),
}

/// Returns the prefix unless bits after its length are set: then the author probably meant another prefix.
pub fn without_host_bits(net: Ipv6Net) -> Result<Ipv6Net, PrefixError> {
    if net.trunc() == net { Ok(net) } else { Err(PrefixError::HostBits(net, net.trunc())) }
}

/// Parses a prefix that has no host bits and lies in unicast space (global or unique local).
fn parse_prefix(text: &str) -> Result<Ipv6Net, PrefixError> {
    let net = without_host_bits(text.parse().map_err(|_| PrefixError::Syntax(text.to_owned()))?)?;
    // RFC 4291 2.4: 2000::/3 is global unicast; RFC 4193 3.1: fc00::/7 is unique local.
    let first = net.addr().octets()[0];
    let unicast = net.prefix_len() >= 7 && (first & 0xe0 == 0x20 || first & 0xfe == 0xfc);
    if unicast { Ok(net) } else { Err(PrefixError::NotUnicast(net)) }
}

/// One port's /64 for booting machines, without host bits, in unicast space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootPrefix(Ipv6Net);

impl BootPrefix {
    /// The prefix as a network.
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The leaf's address on the port, `<prefix>::1`.
    pub fn gateway(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0.addr().to_bits() | 1)
    }

    /// The gateway with its prefix length, as an interface carries it: `<prefix>::1/64`.
    pub fn gateway_net(self) -> Ipv6Net {
        Ipv6Net::new_assert(self.gateway(), 64)
    }

    /// The boot prefix that has this gateway address. None if the address is not of the form `<prefix>::1/64`.
    pub fn of_gateway(address: Ipv6Net) -> Option<Self> {
        let prefix: Self = address.trunc().to_string().parse().ok()?;
        (prefix.gateway_net() == address).then_some(prefix)
    }
}

impl FromStr for BootPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net = parse_prefix(text)?;
        if net.prefix_len() == 64 { Ok(Self(net)) } else { Err(PrefixError::NotSlash64(net)) }
    }
}

impl TryFrom<String> for BootPrefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<BootPrefix> for String {
    fn from(prefix: BootPrefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for BootPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The leaf's share of the boot supernet: a prefix of at most 64 bits. Each port gets a /64 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafPrefix(Ipv6Net);

impl LeafPrefix {
    /// The prefix as a network.
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The /64 number `index`, counted from 0. None if the leaf's prefix is too small.
    pub fn nth(self, index: u32) -> Option<BootPrefix> {
        let room = 1u128 << (64 - self.0.prefix_len()).min(32);
        (u128::from(index) < room).then(|| {
            let bits = self.0.addr().to_bits() | (u128::from(index) << 64);
            BootPrefix(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 64))
        })
    }
}

impl FromStr for LeafPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net = parse_prefix(text)?;
        if net.prefix_len() <= 64 { Ok(Self(net)) } else { Err(PrefixError::TooLong(net)) }
    }
}

impl fmt::Display for LeafPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ethernet address (IEEE 802 EUI-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn port_names_are_front_panel_ports_only() {
        for good in ["Ethernet0", "Ethernet120"] {
            assert_eq!(good.parse::<PortName>().unwrap().as_str(), good);
        }
        for bad in ["", "Ethernet", "Ethernet0.10", "PortChannel1", "ethernet0", "Ethernet00000000", "Eth1/1"]
        {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_ordered_by_number() {
        let names = ["Ethernet0", "Ethernet4", "Ethernet8", "Ethernet12", "Ethernet100", "Ethernet120"];
        let ports: BTreeSet<PortName> = names.iter().rev().map(|name| name.parse().unwrap()).collect();
        assert_eq!(ports.iter().map(PortName::as_str).collect::<Vec<_>>(), names);
    }

    #[test]
    fn vrf_names_are_what_sonic_and_the_kernel_accept() {
        assert!("Vrfboot".parse::<VrfName>().is_ok());
        for bad in ["Vrf", "vrfboot", "VrfBoot-with-16ch", "Vrf boot", "Vrf|x"] {
            assert!(bad.parse::<VrfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_boot_prefix_is_a_unicast_slash_64_and_knows_its_gateway() {
        let prefix: BootPrefix = "2001:db8:b007::/64".parse().unwrap();
        assert_eq!(prefix.gateway_net().to_string(), "2001:db8:b007::1/64");
        assert_eq!(BootPrefix::of_gateway(prefix.gateway_net()), Some(prefix));
        assert_eq!(BootPrefix::of_gateway("2001:db8:b007::2/64".parse().unwrap()), None);
        assert_eq!(BootPrefix::of_gateway("2001:db8:b007::1/80".parse().unwrap()), None);
        for bad in ["2001:db8::/63", "2001:db8::1/64", "fe80::/64", "ff02::/64", "::/64", "10.0.0.0/8", "x"] {
            assert!(bad.parse::<BootPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_leaf_prefix_has_numbered_slash_64s() {
        let leaf: LeafPrefix = "2001:db8:b007::/57".parse().unwrap();
        assert_eq!(leaf.nth(0).unwrap().to_string(), "2001:db8:b007::/64");
        assert_eq!(leaf.nth(127).unwrap().to_string(), "2001:db8:b007:7f::/64");
        assert_eq!(leaf.nth(128), None);
        let one: LeafPrefix = "2001:db8:b007::/64".parse().unwrap();
        assert_eq!((one.nth(0).is_some(), one.nth(1)), (true, None));
        assert!("2001:db8::/65".parse::<LeafPrefix>().is_err());
    }
}
