//! The reasons to discard a neighbour discovery packet.
//!
//! Must never: be sent to a machine. Invalid packets are discarded silently.

use std::net::Ipv6Addr;

use strum::{IntoStaticStr, VariantNames};
use thiserror::Error;

/// Why a packet is silently discarded (RFC 4861 6.1.1, 6.1.2; RFC 6980 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Invalid {
    /// The frame carries no IPv6 packet.
    #[error("it is not IPv6")]
    NotIpv6,
    /// Another header precedes the ICMPv6 message. A fragment header (44) is refused even if there is only one fragment: it
    /// hides the message from packet filters.
    #[error("header {0} is before the message")]
    Header(u8),
    /// The destination is a multicast group of neither all nodes nor all routers.
    #[error("the destination is {0}")]
    Destination(Ipv6Addr),
    /// The packet was damaged on its way.
    #[error("the checksum is wrong")]
    Checksum,
    /// A router forwarded the packet, so its sender is not on the link.
    #[error("hop limit {0} is not 255")]
    HopLimit(u8),
    /// The message has another type than the expected one.
    #[error("ICMPv6 type {0} is not the expected message")]
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
    /// A sender without an address has sent a source link-layer address option.
    #[error("a source link-layer address option from the unspecified address")]
    SourceFromUnspecified,
    /// The source of an advertisement must be link-local, and the source of a solicitation must not be multicast.
    #[error("{0} is not a valid source of the message")]
    Source(Ipv6Addr),
}

impl Invalid {
    /// The names of all reasons, without what a packet had.
    pub const NAMES: &'static [&'static str] = <Self as VariantNames>::VARIANTS;

    /// The reason's name, one of [`Self::NAMES`].
    pub fn name(self) -> &'static str {
        self.into()
    }
}
