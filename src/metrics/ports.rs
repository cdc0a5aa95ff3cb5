//! Metrics of the ports and of the agent's state.
//!
//! Must never: decide when a port is settled: `status` does.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Counter, Gauge, Metrics, gauge};
use leafboot_core::status::{PortState, PortStatus, Status};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepairLabel {
    kind: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct PortMetrics {
    by_state: Family<StateLabel, Gauge>,
    advertising: Gauge,
    settled: Gauge,
    state_saved: Gauge,
    repairs: Family<RepairLabel, Counter>,
}

impl PortMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "ports",
            "Ports that the document names, or that leafboot has had since its start, by state",
            metrics.by_state.clone(),
        );
        registry.register(
            "ports_advertising",
            "Ports on which Router Advertisements are sent",
            metrics.advertising.clone(),
        );
        registry.register(
            "settled",
            "1 while there is a document, SONiC's databases can be read and every port is settled",
            metrics.settled.clone(),
        );
        registry.register(
            "repairs",
            "Repairs of what SONiC's databases promise and the kernel or the ASIC does not have",
            metrics.repairs.clone(),
        );
        registry.register(
            "state_saved",
            "1 while state.directory has the last document that was accepted",
            metrics.state_saved.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Publishes the state of all ports.
    pub fn ports(&self, status: &Status) {
        let count = |is: &dyn Fn(&PortStatus) -> bool| {
            gauge(status.all().filter(|(_, port)| is(port)).count() as u64)
        };
        for state in PortState::ALL {
            let label = StateLabel { state: state.as_str() };
            self.ports.by_state.get_or_create(&label).set(count(&|port| port.state == state));
        }
        self.ports.advertising.set(count(&|port| port.advertising));
        self.ports.settled.set(i64::from(status.is_settled()));
    }

    /// Counts a repair that has begun. `is_recreation`: the rows are deleted and written anew; otherwise one row is
    /// written again.
    pub fn repaired(&self, is_recreation: bool) {
        let kind = if is_recreation { "recreate" } else { "rewrite" };
        self.ports.repairs.get_or_create(&RepairLabel { kind }).inc();
    }

    /// Publishes whether the last document is in the state file.
    pub fn state_saved(&self, is_saved: bool) {
        self.ports.state_saved.set(i64::from(is_saved));
    }
}
