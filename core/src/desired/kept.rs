//! The desired state's copy on disk, as text.
//!
//! Must never: come back as an order, or prolong what is withdrawn.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Desired, DocumentError, OldPrefix, Provenance, Rejected, WITHDRAWN_FOR};
use crate::names::{BootPrefix, PortName};

/// The copy's shape. What was rejected is not kept: the next push is judged anew.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    generation: u64,
    ports: BTreeMap<PortName, BootPrefix>,
    #[serde(default)]
    old: BTreeMap<PortName, Vec<KeptOld>>,
}

/// An old prefix, and until when in seconds of the Unix epoch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptOld {
    prefix: BootPrefix,
    until: u64,
}

/// The same moment on both clocks: one that never jumps and one that outlives the process.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For this run.
    pub instant: Instant,
    /// Since the Unix epoch.
    pub unix: Duration,
}

impl Desired {
    /// The text to keep for the next run.
    pub fn to_kept(&self, now: Now) -> String {
        let kept = |old: &OldPrefix| {
            let left = old.until.saturating_duration_since(now.instant);
            (!left.is_zero()).then(|| KeptOld { prefix: old.prefix, until: (now.unix + left).as_secs() })
        };
        let old = self.old.iter().map(|(port, old)| (port.clone(), old.iter().filter_map(kept).collect()));
        let kept = Kept { generation: self.generation, ports: self.ports.clone(), old: old.collect() };
        serde_json::json!(kept).to_string()
    }

    /// Reads a kept text back, as a memory. A clock that was set back prolongs nothing beyond what is ever kept.
    pub fn from_kept(text: &str, now: Now) -> Result<Self, DocumentError> {
        let kept: Kept = serde_json::from_str(text).map_err(|e| DocumentError::Shape(e.to_string()))?;
        let still = |old: KeptOld| {
            let left = Duration::from_secs(old.until).saturating_sub(now.unix).min(WITHDRAWN_FOR);
            (!left.is_zero()).then(|| OldPrefix { prefix: old.prefix, until: now.instant + left })
        };
        let old = kept.old.into_iter().map(|(port, old)| (port, old.into_iter().filter_map(still).collect()));
        Ok(Self {
            generation: kept.generation,
            provenance: Provenance::Restored,
            ports: kept.ports,
            old: old.collect(),
            rejected: Rejected::default(),
        })
    }
}
