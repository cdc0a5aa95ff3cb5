//! Metrics of the agent itself: its build, and when metal-core last pushed.
//!
//! Must never: have an age. A timestamp stays right when nothing updates it.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Gauge, Metrics};

/// The version and, in brackets, the revision.
const VERSION: &str = env!("LEAFBOOT_VERSION");

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    revision: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct AgentMetrics {
    build: Family<BuildLabels, Gauge>,
    last_push: Gauge<f64, AtomicU64>,
}

impl AgentMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("build_info", "1, with the version and the revision", metrics.build.clone());
        registry.register_with_unit(
            "last_push_timestamp",
            "When metal-core last pushed a document that was accepted, since the Unix epoch; 0: not since the start",
            Unit::Seconds,
            metrics.last_push.clone(),
        );
        let (version, revision) = VERSION.split_once(" (").unwrap_or((VERSION, ""));
        let labels = BuildLabels { version, revision: revision.trim_end_matches(')') };
        metrics.build.get_or_create(&labels).set(1);
        metrics
    }
}

impl Metrics {
    /// metal-core has pushed a document, and it was accepted.
    pub fn pushed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.agent.last_push.set(now.as_secs_f64());
    }
}
