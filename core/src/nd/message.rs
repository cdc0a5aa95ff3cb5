//! The wire format of Router Solicitations and Router Advertisements (RFC 4861 4.1, 4.2, 6.1; RFC 4191 2.2; RFC 6980).
//!
//! Must never: panic on a packet, or accept one that RFC 4861 6.1 or RFC 6980 5 requires to discard.
//!
//! ```text
//!  Router Advertisement                     options (`options`), each in units of 8 bytes
//!  0       1       2               4         0       1       2
//!  +-------+-------+---------------+        +-------+-------+----------- - -
//!  |  134  |   0   |   checksum    |        | type  |length | ...
//!  +-------+-------+---------------+        +-------+-------+----------- - -
//!  |hop lim|MOHPrf | router lifetime|
//!  +-------+-------+---------------+
//!  |        reachable time         |
//!  +-------------------------------+
//!  |         retrans timer         |
//!  +-------------------------------+
//! ```

use ipnet::Ipv6Net;

use super::frame::Envelope;
use super::invalid::Invalid;
use super::options::{NdOption, Preference, PrefixInformation, RawOptions};

/// ICMPv6 type of a Router Solicitation (RFC 4861 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a Router Advertisement (RFC 4861 4.2).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// The most bytes of an advertisement. Every IPv6 link carries packets of 1280 bytes (RFC 8200 5), and the IPv6 header takes
/// 40 of them. Neighbour discovery is never fragmented (RFC 6980 5).
pub const ADVERTISEMENT_MAX: usize = 1280 - 40;

/// RFC 4861 4.2, RFC 6275 7.1.
const FLAG_M: u8 = 0x80;
const FLAG_O: u8 = 0x40;
const FLAG_H: u8 = 0x20;

/// Checks that an ICMPv6 message is a valid Router Solicitation. The reserved field and unknown options are ignored (RFC
/// 4861 6.1.1).
pub fn check_solicitation(message: &[u8], envelope: &Envelope) -> Result<(), Invalid> {
    let (_, options) = header::<8>(message, ROUTER_SOLICITATION, envelope)?;
    let from = envelope.from.address;
    if from.is_multicast() {
        return Err(Invalid::Source(from));
    }
    for option in RawOptions(options) {
        if NdOption::is_source_link_layer_address(option?) && from.is_unspecified() {
            return Err(Invalid::SourceFromUnspecified);
        }
    }
    Ok(())
}

/// Does the checks that both messages need. Returns the fixed part and the options.
fn header<'a, const FIXED: usize>(
    message: &'a [u8],
    kind: u8,
    envelope: &Envelope,
) -> Result<(&'a [u8; FIXED], &'a [u8]), Invalid> {
    if envelope.hop_limit != 255 {
        return Err(Invalid::HopLimit(envelope.hop_limit));
    }
    match message {
        [other, ..] if *other != kind => Err(Invalid::Type(*other)),
        [_, code, ..] if *code != 0 => Err(Invalid::Code(*code)),
        _ => message.split_first_chunk::<FIXED>().ok_or(Invalid::Short(message.len())),
    }
}

/// A Router Advertisement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// The hop limit that machines send with; 0: unspecified.
    pub hop_limit: u8,
    /// M: addresses come by DHCPv6.
    pub managed: bool,
    /// O: other settings come by DHCPv6.
    pub other: bool,
    /// H: the router is a home agent.
    pub home_agent: bool,
    /// The sender's preference among several default routers.
    pub preference: Preference,
    /// How many seconds the sender is a default router; 0: it is not one. The lifetime does not apply to the rest of the
    /// message (RFC 4861 4.2).
    pub router_lifetime: u16,
    /// Milliseconds; 0: unspecified.
    pub reachable_time: u32,
    /// Milliseconds; 0: unspecified.
    pub retrans_timer: u32,
    /// The options, in the order on the wire.
    pub options: Vec<NdOption>,
}

impl Advertisement {
    /// The final advertisement, with every lifetime 0: the router and all that it advertised go (RFC 4861 6.2.5; RFC 9096 3.5;
    /// RFC 4191 4; RFC 8106 5.1; RFC 8781 4). With router lifetime 0 the preference must be medium (RFC 4191 2.2).
    pub fn ceasing(mut self) -> Self {
        self.router_lifetime = 0;
        self.preference = Preference::Medium;
        self.options.iter_mut().for_each(NdOption::withdraw);
        self
    }

    /// Encodes the ICMPv6 message. The checksum is 0: `frame::encode` sets it.
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.managed, FLAG_M)
            | flag(self.other, FLAG_O)
            | flag(self.home_agent, FLAG_H)
            | self.preference.bits();
        let mut message = Vec::with_capacity(256);
        message.extend([ROUTER_ADVERTISEMENT, 0, 0, 0, self.hop_limit, flags]);
        message.extend(self.router_lifetime.to_be_bytes());
        message.extend(self.reachable_time.to_be_bytes());
        message.extend(self.retrans_timer.to_be_bytes());
        self.options.iter().for_each(|option| option.encode(&mut message));
        message
    }

    /// Decodes and checks an ICMPv6 message (RFC 4861 6.1.2). Unknown options and options with invalid content are left out.
    pub fn decode(message: &[u8], envelope: &Envelope) -> Result<Self, Invalid> {
        let (fixed, options) = header::<16>(message, ROUTER_ADVERTISEMENT, envelope)?;
        let from = envelope.from.address;
        if !from.is_unicast_link_local() {
            return Err(Invalid::Source(from));
        }
        let [_, _, _, _, hop_limit, flags, l0, l1, r0, r1, r2, r3, t0, t1, t2, t3] = *fixed;
        let options: Vec<&[u8]> = RawOptions(options).collect::<Result<_, _>>()?;
        Ok(Self {
            hop_limit,
            managed: flags & FLAG_M != 0,
            other: flags & FLAG_O != 0,
            home_agent: flags & FLAG_H != 0,
            // RFC 4191 2.2: the reserved value is taken as medium.
            preference: Preference::from_bits(flags).unwrap_or(Preference::Medium),
            router_lifetime: u16::from_be_bytes([l0, l1]),
            reachable_time: u32::from_be_bytes([r0, r1, r2, r3]),
            retrans_timer: u32::from_be_bytes([t0, t1, t2, t3]),
            options: options.into_iter().filter_map(NdOption::decode).collect(),
        })
    }

    /// The fields in which a received advertisement contradicts this one (RFC 4861 6.2.7). An unspecified field contradicts
    /// nothing.
    pub fn contradictions(&self, received: &Self) -> Vec<&'static str> {
        let differ = |own: u32, other: u32| own != other && own != 0 && other != 0;
        let mtu = |of: &Self| {
            of.options
                .iter()
                .find_map(|option| if let NdOption::Mtu(mtu) = option { Some(*mtu) } else { None })
        };
        let lifetimes = received.prefix_informations().any(|other| {
            self.prefix_informations().any(|own| {
                own.prefix == other.prefix && (own.valid, own.preferred) != (other.valid, other.preferred)
            })
        });
        let found = [
            ("hop limit", differ(self.hop_limit.into(), received.hop_limit.into())),
            ("M", self.managed != received.managed),
            ("O", self.other != received.other),
            ("reachable time", differ(self.reachable_time, received.reachable_time)),
            ("retrans timer", differ(self.retrans_timer, received.retrans_timer)),
            ("MTU", differ(mtu(self).unwrap_or(0), mtu(received).unwrap_or(0))),
            ("prefix lifetimes", lifetimes),
        ];
        found.iter().filter(|(_, differs)| *differs).map(|(what, _)| *what).collect()
    }

    /// The prefixes of its Prefix Information options.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv6Net> {
        self.prefix_informations().map(|information| information.prefix)
    }

    fn prefix_informations(&self) -> impl Iterator<Item = &PrefixInformation> {
        self.options.iter().filter_map(|option| {
            if let NdOption::Prefix(information) = option { Some(information) } else { None }
        })
    }
}

#[cfg(test)]
mod tests;
