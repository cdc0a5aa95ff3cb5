//! The verdicts. `docs/operations.md` has a paragraph for each: what it means, and its cure.
//!
//! Must never: have a reason that depends on data. Names and numbers go into the message.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantNames};

/// What a verdict is about. The names are part of the API.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    IntoStaticStr,
    EnumString,
    VariantNames,
)]
pub enum VerdictReason {
    /// The port does not boot a machine.
    NotBooting,
    /// The port's entry in the document is rejected.
    Rejected,
    /// SONiC has not done what the port needs.
    WaitingForSonic,
    /// The port is administratively down.
    AdminDown,
    /// The port has no carrier.
    NoCarrier,
    /// The machine has not solicited a router.
    NoSolicitation,
    /// The machine has solicited a router, and has not asked for the boot script.
    NoScriptRequest,
    /// The machine uses an address of a prefix that the port no longer has.
    StaleAddress,
    /// A name that the machine needs is not resolved.
    NameNotResolved,
    /// The boot service cannot be reached, or does not answer.
    BootServiceDown,
    /// The boot service answers with an error.
    BootServiceRefuses,
    /// The boot service gives no iPXE script.
    NoBootScript,
    /// The machine has its boot script, and has not asked for the kernel.
    KernelNotFetched,
    /// The partition cache refuses connections, or answers with an error.
    CacheRefuses,
    /// The partition cache does not have the image.
    CacheNotFound,
    /// The partition cache does not answer.
    CacheSilent,
    /// There is no route from the boot VRF to the partition cache.
    CacheNoRoute,
    /// The boot ACL drops the machine's packets.
    AclDrops,
    /// The machine has its kernel, and Linux has not solicited a router.
    LinuxSilent,
    /// Linux runs, and metal-hammer has not asked for its token.
    NoTokenRequest,
    /// The token request was refused.
    TokenRefused,
    /// The machine begins its boot again and again.
    RebootLoop,
    /// The boot goes on.
    Booting,
    /// An image is on its way to the machine.
    ImageTransfer,
    /// An image is on its way, much more slowly than on the leaf's other ports.
    SlowImage,
    /// The machine has its OS image, and waits until metal-core releases the port.
    Installed,
    /// The machine's TLS handshake with the relay fails.
    TlsHandshake,
    /// The machine exceeds a limit.
    RateLimited,
}

/// How serious a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// There is nothing to do.
    Ok,
    /// Something is awaited that usually comes.
    Waiting,
    /// Something is wrong.
    Fault,
}

/// The verdict on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What it is about.
    pub reason: VerdictReason,
    /// One line for people, of at most 200 characters.
    pub message: String,
    /// How serious it is.
    pub level: Level,
    /// What shows it: at most three lines.
    pub evidence: Vec<String>,
}

const MESSAGE_MAX: usize = 200;
const EVIDENCE_MAX: usize = 3;

impl Verdict {
    /// A verdict without evidence.
    pub fn new(level: Level, reason: VerdictReason, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = if message.chars().count() > MESSAGE_MAX {
            message.chars().take(MESSAGE_MAX - 1).chain(['…']).collect()
        } else {
            message
        };
        Self { reason, message, level, evidence: Vec::new() }
    }

    /// Nothing to do.
    pub fn ok(reason: VerdictReason, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, reason, message)
    }

    /// Something is awaited.
    pub fn waiting(reason: VerdictReason, message: impl Into<String>) -> Self {
        Self::new(Level::Waiting, reason, message)
    }

    /// Something is wrong.
    pub fn fault(reason: VerdictReason, message: impl Into<String>) -> Self {
        Self::new(Level::Fault, reason, message)
    }

    /// Adds a line of evidence, if there is room.
    #[must_use]
    pub fn with(mut self, evidence: impl Into<String>) -> Self {
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(evidence.into());
        }
        self
    }

    /// Adds lines of evidence, as far as there is room.
    #[must_use]
    pub fn with_all(self, evidence: impl IntoIterator<Item = String>) -> Self {
        evidence.into_iter().fold(self, Self::with)
    }
}

impl VerdictReason {
    /// The reason's name in the API, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
