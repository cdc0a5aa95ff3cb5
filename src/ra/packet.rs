//! The wire format of Router Solicitations and Router Advertisements (RFC 4861 4.1, 4.2, 4.6; RFC 8106 5.1).
//!
//! Must never: panic on a packet, or take one that RFC 4861 6.1.1 says to discard.
//!
//! ```text
//!  Router Advertisement                     options, each in units of 8 bytes
//!  0       1       2               4         0       1       2
//!  +-------+-------+---------------+        +-------+-------+----------- - -
//!  |  134  |   0   |   checksum    |        | type  |length | ...
//!  +-------+-------+---------------+        +-------+-------+----------- - -
//!  |hop lim|M|O|Prf| router lifetime|        1 source link-layer address, 3 prefix information,
//!  +-------+-------+---------------+        5 MTU, 25 recursive DNS servers
//!  |        reachable time         |
//!  +-------------------------------+
//!  |         retrans timer         |
//!  +-------------------------------+
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use thiserror::Error;

use crate::config::Ra;
use crate::net::{BootPrefix, Mac};

/// ICMPv6 type of a Router Solicitation (RFC 4861 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const RDNSS: u8 = 25;
/// On-link and autonomous (RFC 4861 4.6.2): the machine forms an address in the prefix.
const L_AND_A: u8 = 0xc0;
/// The hop limit that machines are told to send with (IANA's current default, RFC 1700).
const CUR_HOP_LIMIT: u8 = 64;

/// A valid Router Solicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// The machine told its Ethernet address, so the kernel can answer it without asking for it.
    pub has_source_link_layer_address: bool,
}

/// Why a packet is silently discarded (RFC 4861 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It was forwarded, or sent from beyond the link.
    #[error("hop limit {0} is not 255")]
    HopLimit(u8),
    /// Not a Router Solicitation.
    #[error("ICMPv6 type {0} is not 133")]
    Type(u8),
    /// The code is not 0.
    #[error("ICMPv6 code {0} is not 0")]
    Code(u8),
    /// Shorter than a solicitation's 8 bytes.
    #[error("{0} bytes are fewer than 8")]
    Short(usize),
    /// An option has length 0 or runs past the packet's end.
    #[error("option {0} has length 0 or runs past the end")]
    OptionLength(u8),
    /// A machine without an address cannot have one on the link.
    #[error("a source link-layer address option from the unspecified address")]
    SourceFromUnspecified,
}

impl Solicitation {
    /// Decodes an ICMPv6 message that came from `from` with `hop_limit`. The kernel has checked its checksum
    /// (raw ICMPv6 sockets deliver no other).
    pub fn decode(message: &[u8], from: Ipv6Addr, hop_limit: u8) -> Result<Self, Invalid> {
        if hop_limit != 255 {
            return Err(Invalid::HopLimit(hop_limit));
        }
        let (&[kind, code, ..], mut options) =
            message.split_first_chunk::<8>().ok_or(Invalid::Short(message.len()))?;
        if kind != ROUTER_SOLICITATION {
            return Err(Invalid::Type(kind));
        }
        if code != 0 {
            return Err(Invalid::Code(code));
        }
        let mut has_source_link_layer_address = false;
        while let [option, rest @ ..] = options {
            let length = rest.first().map_or(0, |units| usize::from(*units) * 8);
            if length == 0 || length > options.len() {
                return Err(Invalid::OptionLength(*option));
            }
            has_source_link_layer_address |= *option == SOURCE_LINK_LAYER_ADDRESS;
            options = options.get(length..).unwrap_or_default();
        }
        if has_source_link_layer_address && from.is_unspecified() {
            return Err(Invalid::SourceFromUnspecified);
        }
        Ok(Self { has_source_link_layer_address })
    }
}

/// What a Router Advertisement says. M and O are 0: there is no DHCPv6 server, and iPXE would wait for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// How long the leaf is a default router; 0: it is none any more.
    pub router_lifetime: Duration,
    /// The port's Ethernet address.
    pub source: Mac,
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// The machine's /64.
    pub prefix: BootPrefix,
    /// How long an address in the prefix is to be used for new connections.
    pub prefix_preferred: Duration,
    /// How long an address in the prefix is valid.
    pub prefix_valid: Duration,
    /// Recursive DNS servers, the first is asked first; valid as long as the router.
    pub dns: Vec<Ipv6Addr>,
}

impl Advertisement {
    /// What a port advertises: the leaf's settings, the port's prefix and address, no more MTU than the port has.
    pub fn new(settings: &Ra, prefix: BootPrefix, source: Mac, port_mtu: u32) -> Self {
        Self {
            router_lifetime: settings.router_lifetime,
            source,
            mtu: port_mtu.min(settings.mtu.into()),
            prefix,
            prefix_preferred: settings.prefix_preferred,
            prefix_valid: settings.prefix_valid,
            dns: settings.dns.clone(),
        }
    }

    /// The same with every lifetime 0: the router goes, and what it told with it (RFC 4861 6.2.5, RFC 9096 3.5).
    pub fn ceasing(mut self) -> Self {
        self.router_lifetime = Duration::ZERO;
        self.prefix_preferred = Duration::ZERO;
        self.prefix_valid = Duration::ZERO;
        self
    }

    /// The ICMPv6 message; the kernel fills in its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let lifetime = seconds(self.router_lifetime);
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, CUR_HOP_LIMIT, 0];
        message.extend(u16::try_from(lifetime).unwrap_or(u16::MAX).to_be_bytes());
        // Reachable time and retransmission timer: 0, unspecified by this router.
        message.extend([0; 8]);
        message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        message.extend(self.source.0);
        message.extend([MTU, 1, 0, 0]);
        message.extend(self.mtu.to_be_bytes());
        message.extend([PREFIX_INFORMATION, 4, 64, L_AND_A]);
        message.extend(seconds(self.prefix_valid).to_be_bytes());
        message.extend(seconds(self.prefix_preferred).to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.net().addr().octets());
        if !self.dns.is_empty() {
            let units = self.dns.len() * 2 + 1;
            message.extend([RDNSS, u8::try_from(units).unwrap_or(u8::MAX), 0, 0]);
            message.extend(lifetime.to_be_bytes());
            for server in &self.dns {
                message.extend(server.octets());
            }
        }
        message
    }
}

/// Whole seconds, as the wire has them.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
