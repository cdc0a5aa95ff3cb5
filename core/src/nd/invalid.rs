//! Why a packet of neighbour discovery is discarded.
//!
//! Must never: be an answer to a machine: invalid packets are discarded silently.

use std::net::Ipv6Addr;

use thiserror::Error;

/// Why a packet is silently discarded (RFC 4861 6.1.1, 6.1.2; RFC 6980 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// The frame carries something else.
    #[error("it is not IPv6")]
    NotIpv6,
    /// Between IPv6 header and message stands another one, such as that of a fragment (44), be it the only one: it hides
    /// what it carries from those who filter.
    #[error("header {0} stands before the message")]
    Header(u8),
    /// To a multicast group of others.
    #[error("it is for {0}")]
    Destination(Ipv6Addr),
    /// Damaged on its way.
    #[error("its checksum is wrong")]
    Checksum,
    /// It was forwarded, or sent from beyond the link.
    #[error("hop limit {0} is not 255")]
    HopLimit(u8),
    /// Neither solicitation nor advertisement, or not the one that is wanted.
    #[error("ICMPv6 type {0} is another message")]
    Type(u8),
    /// The code is not 0.
    #[error("ICMPv6 code {0} is not 0")]
    Code(u8),
    /// Shorter than a solicitation's 8 bytes or an advertisement's 16.
    #[error("{0} bytes are too few")]
    Short(usize),
    /// An option has length 0 or runs past the packet's end.
    #[error("option {0} has length 0 or runs past the end")]
    OptionLength(u8),
    /// A machine without an address cannot have one on the link.
    #[error("a source link-layer address option from the unspecified address")]
    SourceFromUnspecified,
    /// Routers advertise from a link-local address; nobody solicits from a multicast one.
    #[error("{0} is no source of such a message")]
    Source(Ipv6Addr),
}
