//! The wire format of the options in neighbour discovery messages. An option's length is a multiple of 8 bytes (RFC 4861 4.6).
//!
//! Must never: panic on bytes, or accept an option that its RFC requires to ignore.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::invalid::Invalid;
use crate::names::Mac;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const ROUTE_INFORMATION: u8 = 24;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
const CAPTIVE_PORTAL: u8 = 37;
const PREF64: u8 = 38;

/// A router's or route's preference over others (RFC 4191 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// `11` on the wire.
    Low,
    /// `00` on the wire.
    Medium,
    /// `01` on the wire.
    High,
}

impl Preference {
    /// The preference's bits in the flags of a header or an option.
    pub fn bits(self) -> u8 {
        match self {
            Self::Medium => 0,
            Self::High => 0x08,
            Self::Low => 0x18,
        }
    }

    /// The preference in the flags. None for the reserved value `10`.
    pub fn from_bits(flags: u8) -> Option<Self> {
        match flags & 0x18 {
            0 => Some(Self::Medium),
            0x08 => Some(Self::High),
            0x18 => Some(Self::Low),
            _ => None,
        }
    }
}

/// RFC 4861 4.6.2: on-link and autonomous; RFC 9762 4: DHCPv6 prefix delegation is preferred.
const FLAG_L: u8 = 0x80;
const FLAG_A: u8 = 0x40;
const FLAG_P: u8 = 0x10;

/// An option that leafboot sends or reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NdOption {
    /// RFC 4861 4.6.1: the sender's Ethernet address.
    SourceLinkLayerAddress(Mac),
    /// RFC 4861 4.6.2: Prefix Information.
    Prefix(PrefixInformation),
    /// RFC 4861 4.6.4: the link's MTU in bytes.
    Mtu(u32),
    /// RFC 4191 2.3: a more specific route.
    Route {
        /// The destination.
        prefix: Ipv6Net,
        /// The preference among routers that advertise the same route.
        preference: Preference,
        /// Seconds; 0: the route is gone.
        lifetime: u32,
    },
    /// RFC 8106 5.1: recursive DNS servers.
    Rdnss {
        /// Seconds; 0: the servers are gone.
        lifetime: u32,
        /// The servers in order of preference.
        servers: Vec<Ipv6Addr>,
    },
    /// RFC 8106 5.2: the DNS search list.
    Dnssl {
        /// Seconds; 0: the names are gone.
        lifetime: u32,
        /// Domain names without a final dot.
        names: Vec<String>,
    },
    /// RFC 8910 2.3: the URI of the captive portal's API.
    CaptivePortal(String),
    /// RFC 8781 4: the NAT64 prefix.
    Pref64 {
        /// Seconds, a multiple of 8; 0: the prefix is gone.
        lifetime: u16,
        /// A /96, /64, /56, /48, /40 or /32.
        prefix: Ipv6Net,
    },
}

/// The content of a Prefix Information option (RFC 4861 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// L: the addresses in it are on the link.
    pub on_link: bool,
    /// A: machines form an address in it.
    pub autonomous: bool,
    /// P: DHCPv6 prefix delegation is preferred to an address in it (RFC 9762).
    pub delegation: bool,
    /// How many seconds an address in it is valid.
    pub valid: u32,
    /// How many seconds an address in it is used for new connections.
    pub preferred: u32,
}

impl NdOption {
    /// Appends the option, padded with zeros to a multiple of 8 bytes.
    pub fn encode(&self, message: &mut Vec<u8>) {
        let start = message.len();
        message.extend([self.kind(), 0]);
        self.encode_body(message);
        message.resize(start + (message.len() - start).next_multiple_of(8), 0);
        let units = (message.len() - start) / 8;
        if let Some(length) = message.get_mut(start + 1) {
            *length = u8::try_from(units).unwrap_or(u8::MAX);
        }
    }

    /// Seconds that a machine may use what the option says; of a prefix, its valid lifetime. None for an option without a
    /// lifetime.
    pub fn lifetime(&self) -> Option<u32> {
        match self {
            Self::Prefix(information) => Some(information.valid),
            Self::Route { lifetime, .. } | Self::Rdnss { lifetime, .. } | Self::Dnssl { lifetime, .. } => {
                Some(*lifetime)
            }
            Self::Pref64 { lifetime, .. } => Some((*lifetime).into()),
            Self::SourceLinkLayerAddress(_) | Self::Mtu(_) | Self::CaptivePortal(_) => None,
        }
    }

    /// Sets each lifetime of the option to 0: machines stop using what it says.
    pub fn withdraw(&mut self) {
        match self {
            Self::Prefix(information) => (information.valid, information.preferred) = (0, 0),
            Self::Route { lifetime, .. } | Self::Rdnss { lifetime, .. } | Self::Dnssl { lifetime, .. } => {
                *lifetime = 0;
            }
            Self::Pref64 { lifetime, .. } => *lifetime = 0,
            Self::SourceLinkLayerAddress(_) | Self::Mtu(_) | Self::CaptivePortal(_) => {}
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::SourceLinkLayerAddress(_) => SOURCE_LINK_LAYER_ADDRESS,
            Self::Prefix(_) => PREFIX_INFORMATION,
            Self::Mtu(_) => MTU,
            Self::Route { .. } => ROUTE_INFORMATION,
            Self::Rdnss { .. } => RDNSS,
            Self::Dnssl { .. } => DNSSL,
            Self::CaptivePortal(_) => CAPTIVE_PORTAL,
            Self::Pref64 { .. } => PREF64,
        }
    }

    fn encode_body(&self, message: &mut Vec<u8>) {
        match self {
            Self::SourceLinkLayerAddress(mac) => message.extend(mac.0),
            Self::Prefix(information) => information.encode(message),
            Self::Mtu(mtu) => {
                message.extend([0; 2]);
                message.extend(mtu.to_be_bytes());
            }
            Self::Route { prefix, preference, lifetime } => {
                message.extend([prefix.prefix_len(), preference.bits()]);
                message.extend(lifetime.to_be_bytes());
                // RFC 4191 2.3: as many bytes of the prefix as its length needs, 0, 8 or 16.
                let needed = usize::from(prefix.prefix_len()).div_ceil(64) * 8;
                message.extend(prefix.addr().octets().iter().take(needed));
            }
            Self::Rdnss { lifetime, servers } => {
                message.extend([0; 2]);
                message.extend(lifetime.to_be_bytes());
                servers.iter().for_each(|server| message.extend(server.octets()));
            }
            Self::Dnssl { lifetime, names } => {
                message.extend([0; 2]);
                message.extend(lifetime.to_be_bytes());
                names.iter().for_each(|name| encode_name(name, message));
            }
            Self::CaptivePortal(uri) => message.extend(uri.as_bytes()),
            Self::Pref64 { lifetime, prefix } => {
                // RFC 8781 4: 13 bits of lifetime in units of 8 seconds, 3 bits of prefix length code.
                let code = PREF64_LENGTHS.iter().position(|length| *length == prefix.prefix_len());
                let code = code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
                message.extend(((lifetime & !7) | code).to_be_bytes());
                message.extend(prefix.addr().octets().iter().take(12));
            }
        }
    }

    /// Decodes one whole option. None for an unknown type, and for an option that its RFC requires to ignore.
    pub fn decode(option: &[u8]) -> Option<Self> {
        let (&[kind, _], body) = option.split_first_chunk::<2>()?;
        match kind {
            SOURCE_LINK_LAYER_ADDRESS => Some(Self::SourceLinkLayerAddress(Mac(body.try_into().ok()?))),
            PREFIX_INFORMATION => PrefixInformation::decode(body).map(Self::Prefix),
            MTU => Some(Self::Mtu(u32::from_be_bytes(body.get(2..6)?.try_into().ok()?))),
            ROUTE_INFORMATION => decode_route(body),
            RDNSS => {
                let (lifetime, addresses) = with_lifetime(body)?;
                let servers: Vec<Ipv6Addr> =
                    addresses.as_chunks::<16>().0.iter().map(|bytes| Ipv6Addr::from(*bytes)).collect();
                // RFC 8106 5.3.1: length at least 3, so at least one server.
                (!servers.is_empty()).then_some(Self::Rdnss { lifetime, servers })
            }
            DNSSL => {
                let (lifetime, names) = with_lifetime(body)?;
                Some(Self::Dnssl { lifetime, names: decode_names(names)? })
            }
            CAPTIVE_PORTAL => {
                let end = body.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                Some(Self::CaptivePortal(String::from_utf8(body.get(..end)?.to_vec()).ok()?))
            }
            PREF64 => {
                let (scaled, prefix) = body.split_first_chunk::<2>()?;
                let scaled = u16::from_be_bytes(*scaled);
                // RFC 8781 4: the codes 6 and 7 are not assigned; such an option is ignored.
                let length = *PREF64_LENGTHS.get(usize::from(scaled & 7))?;
                let prefix = network(prefix.get(..12)?, length)?;
                Some(Self::Pref64 { lifetime: scaled & !7, prefix })
            }
            _ => None,
        }
    }

    /// Whether the option is a source link-layer address, whatever its length.
    pub fn is_source_link_layer_address(option: &[u8]) -> bool {
        option.first() == Some(&SOURCE_LINK_LAYER_ADDRESS)
    }
}

/// RFC 8781 4: prefix lengths in the order of their codes.
const PREF64_LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];

impl PrefixInformation {
    fn encode(&self, message: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags =
            flag(self.on_link, FLAG_L) | flag(self.autonomous, FLAG_A) | flag(self.delegation, FLAG_P);
        message.extend([self.prefix.prefix_len(), flags]);
        message.extend(self.valid.to_be_bytes());
        message.extend(self.preferred.to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.addr().octets());
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<10>()?;
        let [length, flags, v0, v1, v2, v3, p0, p1, p2, p3] = *head;
        Some(Self {
            prefix: network(rest.get(4..20)?, length)?,
            on_link: flags & FLAG_L != 0,
            autonomous: flags & FLAG_A != 0,
            delegation: flags & FLAG_P != 0,
            valid: u32::from_be_bytes([v0, v1, v2, v3]),
            preferred: u32::from_be_bytes([p0, p1, p2, p3]),
        })
    }
}

fn decode_route(body: &[u8]) -> Option<NdOption> {
    let (&[length, flags, a, b, c, d], prefix) = body.split_first_chunk::<6>()?;
    // RFC 4191 2.3: the option is ignored if its preference is 10, or its length too small for the prefix.
    let preference = Preference::from_bits(flags)?;
    let needed = usize::from(length).div_ceil(64) * 8;
    let prefix = network(prefix.get(..needed)?, length)?;
    Some(NdOption::Route { prefix, preference, lifetime: u32::from_be_bytes([a, b, c, d]) })
}

/// A prefix from its first bytes. Bits after the prefix length are ignored (RFC 4861 4.6.2).
fn network(bytes: &[u8], length: u8) -> Option<Ipv6Net> {
    let mut octets = [0; 16];
    octets.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Ipv6Net::new(octets.into(), length).ok().map(|net| net.trunc())
}

/// Splits an option's body: two reserved bytes, four bytes of lifetime, and the rest. Returns the lifetime and the rest.
fn with_lifetime(body: &[u8]) -> Option<(u32, &[u8])> {
    let (&[_, _, a, b, c, d], rest) = body.split_first_chunk::<6>()?;
    Some((u32::from_be_bytes([a, b, c, d]), rest))
}

/// Encodes a domain name as RFC 1035 3.1 does, without compression (RFC 8106 5.2).
fn encode_name(name: &str, message: &mut Vec<u8>) {
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.push(0);
}

/// Decodes a list of names that zeros pad. None if a name runs past the end, is compressed, or has a dot inside a label.
fn decode_names(mut bytes: &[u8]) -> Option<Vec<String>> {
    let (mut names, mut name) = (Vec::new(), String::new());
    while let [length, rest @ ..] = bytes {
        let (label, after) = rest.split_at_checked(usize::from(*length))?;
        match (label, name.is_empty()) {
            ([], true) => {}
            ([], false) => names.push(std::mem::take(&mut name)),
            (label, first) => {
                if label.len() > 63 || label.contains(&b'.') {
                    return None;
                }
                if !first {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
            }
        }
        bytes = after;
    }
    name.is_empty().then_some(names)
}

/// Iterates over the options of a message. Yields each option with its header, and an error for an option that has length 0
/// or runs past the end (RFC 4861 6.1.1).
pub struct RawOptions<'a>(pub &'a [u8]);

impl<'a> Iterator for RawOptions<'a> {
    type Item = Result<&'a [u8], Invalid>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.0.first()?;
        let length = self.0.get(1).map_or(0, |units| usize::from(*units) * 8);
        let split = if length == 0 { None } else { self.0.split_at_checked(length) };
        let (option, rest) = match split {
            Some((option, rest)) => (Ok(option), rest),
            None => (Err(Invalid::OptionLength(kind)), Default::default()),
        };
        self.0 = rest;
        Some(option)
    }
}
