//! Probes: what the leaf asks by itself while a machine waits, and what came of it. They say why a machine hangs between two
//! stages of its boot.
//!
//! Must never: hold a text of unbounded length.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What is probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// HEAD of this path on the partition cache, from the boot VRF.
    Image(String),
    /// AAAA of this name, asked of a resolver that `ra.dns` advertises, from the boot VRF.
    Name {
        /// The resolver.
        server: Ipv6Addr,
        /// The name.
        name: String,
    },
    /// A TCP connection to the host and port of an origin of the boot service, as the relay makes it.
    BootService(String),
    /// How long a certificate is still valid: the relay's own, or that of an origin.
    Certificate(String),
    /// The kernel's route from the boot VRF to this address.
    Route(IpAddr),
    /// The leaf's clock, compared with the `Date` of the server that answered last.
    Clock,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeProblem {
    /// The host refuses the connection.
    Refused,
    /// Nothing came in time.
    TimedOut,
    /// The kernel has no route, or a router on the way has none.
    NoRoute,
    /// The server answered with this status.
    Status(u16),
    /// The name has no address: NXDOMAIN, no AAAA, or an error of the resolver, by its code.
    NoAddress(String),
    /// A certificate cannot be used: not trusted, expired, not yet valid, for another name.
    Tls(String),
    /// The leaf's clock differs from the server's by this many seconds; positive: the leaf's is ahead.
    ClockDiffers(i64),
    /// Anything else, in the words of the kernel or of the library.
    Other(String),
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// How long it took, or why it failed.
    pub result: Result<Duration, ProbeProblem>,
    /// How long ago the probe ended, counted from the agent's start.
    pub at: Duration,
    /// The length of the image, in bytes, if the cache has said it.
    pub size: Option<u64>,
}

/// The last result of each probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeResults(pub BTreeMap<Probe, Probed>);

impl ProbeResults {
    /// The length of the image at this path, if the cache has said it.
    pub fn size(&self, path: &str) -> Option<u64> {
        self.0.get(&Probe::Image(path.to_owned()))?.size
    }
}

/// The longest text that a problem holds, in characters.
pub const TEXT_MAX: usize = 120;

impl Probe {
    /// The kind of probe: the label of its metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Name { .. } => "name",
            Self::BootService(_) => "boot_service",
            Self::Certificate(_) => "certificate",
            Self::Route(_) => "route",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(path) => write!(f, "{path}"),
            Self::Name { server, name } => write!(f, "{name} at {server}"),
            Self::BootService(origin) => write!(f, "{origin}"),
            Self::Certificate(of) => write!(f, "{of}"),
            Self::Route(to) => write!(f, "{to}"),
            Self::Clock => write!(f, "clock"),
        }
    }
}

impl fmt::Display for ProbeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => write!(f, "connection refused"),
            Self::TimedOut => write!(f, "no answer in time"),
            Self::NoRoute => write!(f, "no route"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoAddress(reason) => write!(f, "no address: {reason}"),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::ClockDiffers(seconds) if *seconds < 0 => {
                write!(f, "the leaf's clock is {} s behind", seconds.unsigned_abs())
            }
            Self::ClockDiffers(seconds) => write!(f, "the leaf's clock is {seconds} s ahead"),
            Self::Other(reason) => write!(f, "{reason}"),
        }
    }
}
