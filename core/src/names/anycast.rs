//! Checked types for the relay's anycast address, which every leaf has on a loopback in the boot VRF.
//!
//! Must never: accept an address that SONiC or IPv6 gives another meaning.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;

use super::{NameError, PrefixError, parse_prefix};

/// A loopback's name. SONiC's YANG model accepts at most three digits (`sonic-loopback-interface.yang`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoopbackName(String);

impl LoopbackName {
    /// The name as SONiC and the kernel spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LoopbackName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let digits = name.strip_prefix("Loopback").unwrap_or_default();
        let legal = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if legal { Ok(Self(name.to_owned())) } else { Err(NameError::Loopback(name.to_owned())) }
    }
}

impl fmt::Display for LoopbackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An anycast address with its prefix length, as the loopback carries it.
///
/// The address is not the first one of its prefix, because caclmgrd drops packets to that one. So the prefix is not a /128
/// (`scripts/caclmgrd: generate_block_ip2me_traffic_iptables_commands`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnycastNet(Ipv6Net);

impl AnycastNet {
    /// The address with its prefix length.
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// The address alone.
    pub fn address(self) -> Ipv6Addr {
        self.0.addr()
    }
}

impl FromStr for AnycastNet {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let net: Ipv6Net = text.parse().map_err(|_| PrefixError::Syntax(text.to_owned()))?;
        parse_prefix(&net.trunc().to_string())?;
        if net.addr() == net.network() { Err(PrefixError::Dropped(net)) } else { Ok(Self(net)) }
    }
}

impl fmt::Display for AnycastNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_caclmgrd_drops_is_refused() {
        let taken: AnycastNet = "2001:db8:ffff:1::1/127".parse().unwrap();
        assert_eq!(taken.address().to_string(), "2001:db8:ffff:1::1");
        for text in ["2001:db8:ffff:1::1/128", "2001:db8:ffff:1::/127", "2001:db8:ffff:1::2/127"] {
            let error = text.parse::<AnycastNet>().unwrap_err().to_string();
            assert!(error.contains("caclmgrd drops"), "{error}");
        }
        for text in ["fe80::1/64", "ff02::1/64", "::1/127", "2001:db8::1", "192.0.2.1/31"] {
            assert!(text.parse::<AnycastNet>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_names_follow_sonics_yang_model() {
        assert!("Loopback0".parse::<LoopbackName>().is_ok() && "Loopback999".parse::<LoopbackName>().is_ok());
        for name in ["Loopback", "Loopback1000", "loopback1", "Loopback1a", "Ethernet0"] {
            assert!(name.parse::<LoopbackName>().is_err(), "{name}");
        }
    }
}
