//! Metrics of the Router Advertisements, per port.
//!
//! Must never: make the advertisements' thread wait. It adds to atomic counters; a scrape reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leafboot_core::names::PortName;
use leafboot_core::nd::invalid::Invalid;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Counter, Metrics, PortLabel};
use crate::guarded::Guarded;

/// Why a good frame is discarded. A bad one has the reason in [`Invalid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// The machine exceeds its rate limit.
    RateLimit,
    /// Another router's advertisement.
    Rogue,
    /// The frame is not valid.
    Invalid(Invalid),
}

/// Which advertisement was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// To all nodes.
    Multicast,
    /// To the machine that has solicited it.
    Answer,
    /// One of the last, with router lifetime 0.
    Final,
    /// From the port's former link-local address, with router lifetime 0.
    FormerAddress,
}

/// The reasons that [`Invalid`] does not have.
const OTHER_REASONS: [&str; 2] = ["rate_limit", "rogue"];
const REASONS: usize = Invalid::NAMES.len() + OTHER_REASONS.len();
const KINDS: [&str; 4] = ["multicast", "answer", "final", "former_address"];

/// The counters of one port.
#[derive(Debug, Default)]
pub struct RaCounters {
    solicitations: AtomicU64,
    sent: [AtomicU64; KINDS.len()],
    discarded: [AtomicU64; REASONS],
}

impl RaCounters {
    /// A valid solicitation has come.
    pub fn solicited(&self) {
        self.solicitations.fetch_add(1, Ordering::Relaxed);
    }

    /// An advertisement was sent.
    pub fn sent(&self, sent: Sent) {
        let index = match sent {
            Sent::Multicast => 0,
            Sent::Answer => 1,
            Sent::Final => 2,
            Sent::FormerAddress => 3,
        };
        add(self.sent.get(index));
    }

    /// A frame was discarded.
    pub fn discarded(&self, discarded: Discarded) {
        let reason = match discarded {
            Discarded::RateLimit => OTHER_REASONS[0],
            Discarded::Rogue => OTHER_REASONS[1],
            Discarded::Invalid(invalid) => invalid.name(),
        };
        add(reasons().position(|known| known == reason).and_then(|index| self.discarded.get(index)));
    }
}

fn add(counter: Option<&AtomicU64>) {
    counter.into_iter().for_each(|counter| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
}

fn reasons() -> impl Iterator<Item = &'static str> {
    Invalid::NAMES.iter().copied().chain(OTHER_REASONS)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SentLabels {
    port: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiscardLabels {
    port: String,
    reason: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct RaMetrics {
    ports: Guarded<BTreeMap<PortName, Arc<RaCounters>>>,
    solicitations: Family<PortLabel, Counter>,
    sent: Family<SentLabels, Counter>,
    discarded: Family<DiscardLabels, Counter>,
}

impl RaMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "ra_solicitations",
            "Valid Router Solicitations of a port's machines",
            metrics.solicitations.clone(),
        );
        registry.register(
            "ra_sent",
            "Router Advertisements that were sent, by kind: to all nodes, an answer to one machine, a final one",
            metrics.sent.clone(),
        );
        registry.register(
            "ra_discarded",
            "Router Solicitations and Router Advertisements of a port's machines that were discarded, by reason",
            metrics.discarded.clone(),
        );
        metrics
    }

    /// Copies the threads' counters.
    pub(super) fn update(&self) {
        let ports: Vec<(PortName, Arc<RaCounters>)> = self.ports.with(|ports| {
            ports.iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
        });
        for (name, counters) in ports {
            let port = name.as_str();
            copy(&counters.solicitations, &self.solicitations.get_or_create(&PortLabel::of(port)));
            for (kind, counter) in KINDS.into_iter().zip(&counters.sent) {
                let labels = SentLabels { port: port.to_owned(), kind };
                copy(counter, &self.sent.get_or_create(&labels));
            }
            for (reason, counter) in reasons().zip(&counters.discarded) {
                // A reason that has never occurred has no series.
                if counter.load(Ordering::Relaxed) > 0 {
                    let labels = DiscardLabels { port: port.to_owned(), reason };
                    copy(counter, &self.discarded.get_or_create(&labels));
                }
            }
        }
    }
}

fn copy(from: &AtomicU64, to: &Counter) {
    to.inner().store(from.load(Ordering::Relaxed), Ordering::Relaxed);
}

impl Metrics {
    /// The counters of a port's advertisements.
    pub fn advertisements(&self, port: &PortName) -> Arc<RaCounters> {
        self.advertisements.ports.with(|ports| Arc::clone(ports.entry(port.clone()).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_reason() {
        let metrics = Metrics::default();
        let counters = metrics.advertisements(&"Ethernet0".parse().unwrap());
        counters.solicited();
        counters.sent(Sent::Answer);
        counters.discarded(Discarded::Invalid(Invalid::HopLimit(64)));
        counters.discarded(Discarded::Invalid(Invalid::HopLimit(1)));
        counters.discarded(Discarded::Rogue);
        let text = metrics.text();
        for line in [
            "leafboot_ra_solicitations_total{port=\"Ethernet0\"} 1",
            "leafboot_ra_sent_total{port=\"Ethernet0\",kind=\"answer\"} 1",
            "leafboot_ra_sent_total{port=\"Ethernet0\",kind=\"final\"} 0",
            "leafboot_ra_discarded_total{port=\"Ethernet0\",reason=\"hop_limit\"} 2",
            "leafboot_ra_discarded_total{port=\"Ethernet0\",reason=\"rogue\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        assert!(!text.contains("reason=\"checksum\""), "{text}");
    }
}
