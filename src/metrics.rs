//! What leafboot counts: every metric's name, labels and meaning stand here and nowhere else.
//!
//! Must never: have a label that a machine can choose.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

/// From a kept connection on the leaf to an API that mints a token.
const SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    port: String,
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    upstream: &'static str,
    origin: String,
}

/// The agent's metrics. Tasks share it; counting is an atomic addition.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    sent: Family<PortLabel, Counter>,
    connections: Family<PortLabel, Gauge>,
    over_budget: Family<PortLabel, Counter>,
    first_byte: Family<OriginLabels, Histogram>,
    failures: Family<OriginLabels, Counter>,
    well: Family<OriginLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("leafboot"),
            requests: Family::default(),
            sent: Family::default(),
            connections: Family::default(),
            over_budget: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            failures: Family::default(),
            well: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "relay_requests",
            "Requests of machines that were answered, by the port, the kind of route and the status' class",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "relay_sent",
            "What was sent to the machines of a port, heads and TLS included",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "relay_connections",
            "Connections that the machines of a port have open",
            self.connections.clone(),
        );
        registry.register(
            "relay_over_budget",
            "Requests that were turned away because the port asked more often than relay.requests",
            self.over_budget.clone(),
        );
        registry.register_with_unit(
            "relay_upstream_first_byte",
            "From a request to the first byte of its answer",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        registry.register(
            "relay_upstream_failures",
            "Requests and probes that an origin did not answer, or with 502, 503 or 504",
            self.failures.clone(),
        );
        registry.register(
            "relay_upstream_well",
            "1 while an origin is asked, 0 while it is set aside",
            self.well.clone(),
        );
    }

    /// All metrics in OpenMetrics' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A request was answered; `kind` is none where no route was found.
    pub fn answered(&self, port: &str, kind: Option<&'static str>, status: u16) {
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        let labels = RequestLabels { port: port.to_owned(), kind: kind.unwrap_or("none"), status };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts what is sent to a port's machines.
    pub fn sent(&self, port: &str) -> Counter {
        self.sent.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// Counts a port's open connections.
    pub fn connections(&self, port: &str) -> Gauge {
        self.connections.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// A request was turned away because its port asks too often.
    pub fn over_budget(&self, port: &str) {
        self.over_budget.get_or_create(&PortLabel { port: port.to_owned() }).inc();
    }

    /// An origin answered; none of `after`: it did not.
    pub fn asked(&self, upstream: &'static str, origin: &str, after: Option<Duration>) {
        let labels = OriginLabels { upstream, origin: origin.to_owned() };
        match after {
            Some(after) => self.first_byte.get_or_create(&labels).observe(after.as_secs_f64()),
            None => {
                self.failures.get_or_create(&labels).inc();
            }
        }
    }

    /// Whether an origin is asked, or set aside.
    pub fn well(&self, upstream: &'static str, origin: &str, is_well: bool) {
        self.well
            .get_or_create(&OriginLabels { upstream, origin: origin.to_owned() })
            .set(i64::from(is_well));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_with_their_labels() {
        let metrics = Metrics::default();
        metrics.answered("Ethernet0", Some("script"), 200);
        metrics.sent("Ethernet0").inc_by(7);
        metrics.asked("boot_service", "http://a", Some(Duration::from_millis(20)));
        metrics.well("boot_service", "http://a", true);
        let text = metrics.text();
        for line in [
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"2xx\"} 1",
            "leafboot_relay_sent_bytes_total{port=\"Ethernet0\"} 7",
            "leafboot_relay_upstream_well{upstream=\"boot_service\",origin=\"http://a\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
