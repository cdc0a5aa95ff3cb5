//! Boot attempts. An attempt is one machine's try to boot on one port: its stages, when each was reached, and how.
//!
//! `history` has the rules that begin and end an attempt. `event` is what the agent sees, `stage` what is recorded of it,
//! `kept` the files that survive a restart, `spans` an attempt as a trace. Time is an argument.
//!
//! Must never: let two machines share an attempt, or hold more of what a machine sends than [`text::TEXT_MAX`] characters of a
//! text.

use serde::{Deserialize, Serialize};

use crate::names::Mac;

pub use event::{Event, Limit, RequestEvent};
pub use history::{Changes, PortHistory};
pub use id::AttemptId;
pub use kept::{KeptAttempts, KeptAttemptsError};
pub use spans::spans;
pub use stage::{Detail, Outcome, RequestRecord, Solicitor, Stage, StageRecord, UpstreamProblem};
pub use text::Text;

mod event;
mod history;
mod id;
mod kept;
mod spans;
mod stage;
mod text;

/// A moment: microseconds of the kernel's clock that counts from the leaf's boot (`CLOCK_BOOTTIME`). It goes on over a
/// restart of leafboot, and never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// The microseconds from `earlier` to this moment; 0 if that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Now, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For durations.
    pub moment: Moment,
    /// For people: milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// Why an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptEnd {
    /// The port lost its carrier.
    Carrier,
    /// The port left boot.
    Released,
    /// The machine began anew without a loss of the carrier.
    Next,
    /// The leaf was restarted.
    LeafRestarted,
}

/// One machine's try to boot on one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its identifier.
    pub id: AttemptId,
    /// Counts the port's attempts since it is in boot, from 1.
    pub number: u64,
    /// When it began.
    pub began: Moment,
    /// When it began, for people: milliseconds since the Unix epoch.
    pub began_unix_ms: u64,
    /// When and why it ended; none: it goes on.
    pub end: Option<(Moment, AttemptEnd)>,
    /// The machine's Ethernet address. Only the machine says so: it may lie.
    #[serde(with = "id::mac")]
    pub mac: Option<Mac>,
    /// The stages that were reached, in their order, at most one record each.
    pub stages: Vec<StageRecord>,
}

impl Attempt {
    /// The record of a stage, if the stage was reached.
    pub fn stage(&self, stage: Stage) -> Option<&StageRecord> {
        self.stages.iter().find(|record| record.stage == stage)
    }

    /// The last stage that was reached.
    pub fn last_stage(&self) -> Option<&StageRecord> {
        self.stages.last()
    }

    /// Whether the attempt goes on.
    pub fn is_open(&self) -> bool {
        self.end.is_none()
    }
}
