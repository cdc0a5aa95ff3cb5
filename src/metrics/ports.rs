//! Metrics of the ports and of the agent's state.
//!
//! Must never: decide when a port is settled: `status` does.

use std::collections::BTreeMap;
use std::time::Instant;

use leafboot_core::names::PortName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Counter, Gauge, Metrics, Seconds, gauge};
use crate::guarded::Guarded;
use leafboot_core::status::{PortState, PortStatus, Status};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortStateLabels {
    port: String,
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
    times: Family<PortStateLabels, Seconds>,
    /// Each port's state, and until when its time is counted.
    states: Guarded<BTreeMap<PortName, (PortState, Instant)>>,
}

impl PortMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "ports",
            "Ports that the document names, or that leafboot has had since its start, by state",
            metrics.by_state.clone(),
        );
        registry.register_with_unit(
            "port_state",
            "How long a port has been in each state but released",
            Unit::Seconds,
            metrics.times.clone(),
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

    /// Counts the time in the ports' states up to now.
    pub(super) fn update(&self) {
        let now = Instant::now();
        self.states.with(|states| {
            for (port, (state, since)) in states {
                let seconds = now.saturating_duration_since(*since).as_secs_f64();
                *since = now;
                let labels = PortStateLabels { port: port.to_string(), state: state.as_str() };
                self.times.get_or_create(&labels).inc_by(seconds);
            }
        });
    }

    /// From now on the ports are in these states.
    fn enter(&self, status: &Status) {
        self.update();
        let now = Instant::now();
        let managed = status.ports.iter().filter(|(_, port)| port.state != PortState::Released);
        let managed = managed.map(|(name, port)| (name.clone(), (port.state, now)));
        self.states.with(|states| *states = managed.collect());
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
        self.ports.enter(status);
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

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::status::PortStatus;

    #[test]
    fn the_time_in_a_state_is_counted_until_the_state_ends() {
        let metrics = Metrics::default();
        let status = |state| {
            let port = PortStatus { state, ..PortStatus::RELEASED };
            Status { ports: [("Ethernet0".parse().unwrap(), port)].into(), ..Status::default() }
        };
        let seconds = |state: &str| -> Option<f64> {
            let series =
                format!("leafboot_port_state_seconds_total{{port=\"Ethernet0\",state=\"{state}\"}} ");
            metrics.text().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
        };
        metrics.ports(&status(PortState::Boot));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(seconds("boot").unwrap() >= 0.02);
        metrics.ports(&status(PortState::Releasing));
        let booted = seconds("boot").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        metrics.ports(&status(PortState::Released));
        assert!(seconds("releasing").unwrap() >= 0.02 && seconds("boot") == Some(booted));
        assert_eq!(seconds("released"), None);
    }
}
