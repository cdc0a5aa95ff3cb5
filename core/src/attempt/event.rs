//! What the agent sees of a machine on a port.
//!
//! Must never: hold anything of a request but its kind, its path and what became of it.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::stage::RequestRecord;
use super::text::Text;
use crate::names::Mac;
use crate::relay::ipxe::ScriptImages;
use crate::relay::kinds::Kind;

/// Something that was seen on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The port's carrier is there or not. `carriers`: how often the port has got one.
    Link {
        /// Whether there is a carrier.
        carrier: bool,
        /// Another value means that the carrier was away in between.
        carriers: u32,
    },
    /// A valid Router Solicitation.
    Solicitation {
        /// Its source; `::` if the machine has no address yet.
        from: Ipv6Addr,
        /// The frame's source.
        mac: Mac,
    },
    /// The last solicitations were answered, the first of them after so many microseconds.
    SolicitationAnswered {
        /// Microseconds.
        us: u32,
    },
    /// The machine has used an address.
    Address {
        /// The address.
        address: Ipv6Addr,
        /// The Ethernet address that the kernel has for it.
        mac: Option<Mac>,
    },
    /// A request was answered.
    Request(RequestEvent),
    /// A TLS handshake failed: the reason in words.
    HandshakeFailed(Text),
    /// The machine exceeds a limit.
    RateLimited(Limit),
    /// LLDP has heard a system of this name.
    Lldp(Text),
    /// The port has left boot.
    Released,
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEvent {
    /// Its kind.
    pub kind: Kind,
    /// What is recorded of it.
    pub record: RequestRecord,
    /// The images that an answered boot script names.
    pub images: Option<ScriptImages>,
}

/// Which limit a machine exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// `relay.requests`.
    Requests,
    /// `relay.connections`.
    Connections,
    /// `relay.min_rate`.
    MinRate,
    /// Router Solicitations.
    Solicitations,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "relay.requests",
            Self::Connections => "relay.connections",
            Self::MinRate => "relay.min_rate",
            Self::Solicitations => "Router Solicitations",
        })
    }
}
