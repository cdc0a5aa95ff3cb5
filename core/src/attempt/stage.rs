//! The stages of a boot, and what is recorded of each.
//!
//! Must never: record a query, a header or a body: they may hold secrets.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::Moment;
use super::text::Text;

/// A stage of a boot, in the order of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The port has a carrier.
    Link,
    /// Firmware or iPXE has solicited a router.
    Solicitation,
    /// The machine has used an address of the port's prefix.
    Address,
    /// iPXE has asked for the boot script.
    Script,
    /// iPXE has asked for the kernel.
    Kernel,
    /// iPXE has asked for an initrd.
    Initrd,
    /// Linux has solicited a router.
    Linux,
    /// LLDP has heard the machine.
    Lldp,
    /// metal-hammer has asked for its token.
    Token,
    /// metal-hammer has asked for an OS image.
    Image,
    /// The port has left boot: the machine is installed.
    Released,
}

impl Stage {
    /// All stages in their order.
    pub const ALL: [Self; 11] = [
        Self::Link,
        Self::Solicitation,
        Self::Address,
        Self::Script,
        Self::Kernel,
        Self::Initrd,
        Self::Linux,
        Self::Lldp,
        Self::Token,
        Self::Image,
        Self::Released,
    ];

    /// The stage's name in the API, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Solicitation => "solicitation",
            Self::Address => "address",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Linux => "linux",
            Self::Lldp => "lldp",
            Self::Token => "token",
            Self::Image => "image",
            Self::Released => "released",
        }
    }
}

/// What is known of one stage of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: Stage,
    /// When it was first seen.
    pub first: Moment,
    /// When it was last seen.
    pub last: Moment,
    /// How often it was seen.
    pub count: u32,
    /// What was seen last.
    pub detail: Detail,
}

/// What was seen of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// A carrier.
    Link,
    /// A Router Solicitation.
    Solicitation {
        /// Who has sent it.
        solicitor: Solicitor,
        /// After how many microseconds it was answered; none: it was not.
        answered_us: Option<u32>,
    },
    /// An address of the machine.
    Address(Ipv6Addr),
    /// A request.
    Request(Box<RequestRecord>),
    /// The system name that LLDP has heard.
    Lldp(Text),
    /// The port has left boot.
    Released,
}

/// What is recorded of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The request's id, as in the log: 16 hexadecimal digits.
    pub request: Text,
    /// The path without its query.
    pub path: Text,
    /// Milliseconds until the answer's head was ready.
    pub ms: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The upstream's answer went to the machine.
    Answered {
        /// Its status.
        status: u16,
    },
    /// The machine was sent to the partition cache.
    Redirected,
    /// leafboot itself has refused the request.
    Refused {
        /// The status of the refusal.
        status: u16,
    },
    /// There was no answer that the machine could use: it got an error script, 502 or 503.
    Failed {
        /// What kind of problem.
        problem: UpstreamProblem,
        /// The problem in words.
        reason: Text,
    },
}

/// Why an upstream's answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProblem {
    /// No connection: refused, no route, no address for its name.
    Unreachable,
    /// No answer in time.
    Silent,
    /// The connection broke.
    BrokeOff,
    /// An answer with this status, of no use.
    Status(u16),
    /// An answer that is not what was asked for: no iPXE script, not HTTP.
    Unusable,
    /// The port or the process ends.
    Ending,
}

/// Who has sent a Router Solicitation, as far as it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solicitor {
    /// UEFI firmware: it solicits from `::`. iPXE and Linux solicit from a link-local address.
    Firmware,
    /// iPXE, or firmware with an address: before a kernel was asked for.
    Ipxe,
    /// Linux: after a kernel was asked for.
    Linux,
}

impl Detail {
    /// What is recorded of a request, if it was one.
    pub fn request(&self) -> Option<&RequestRecord> {
        if let Self::Request(request) = self { Some(request) } else { None }
    }
}

impl Outcome {
    /// Whether the machine got what it asked for.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Answered { status } => (200..400).contains(status),
            Self::Redirected => true,
            Self::Refused { .. } | Self::Failed { .. } => false,
        }
    }
}

impl fmt::Display for Solicitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "iPXE",
            Self::Linux => "Linux",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status } => write!(f, "{status}"),
            Self::Redirected => write!(f, "307"),
            Self::Refused { status } => write!(f, "refused with {status}"),
            Self::Failed { reason, .. } => write!(f, "{reason}"),
        }
    }
}

impl fmt::Display for StageRecord {
    /// What was seen of the stage, in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Detail::Link => write!(f, "carrier"),
            Detail::Solicitation { solicitor, answered_us: Some(us) } => {
                write!(f, "{solicitor}, answered in {}.{} ms", us / 1000, us % 1000 / 100)
            }
            Detail::Solicitation { solicitor, answered_us: None } => write!(f, "{solicitor}, not answered"),
            Detail::Address(address) => write!(f, "{address}"),
            Detail::Request(request) => write!(f, "{} in {} ms", request.outcome, request.ms),
            Detail::Lldp(system) => write!(f, "{system}"),
            Detail::Released => write!(f, "the port has left boot"),
        }
    }
}
