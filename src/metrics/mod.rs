//! The metrics of leafboot, and their text for a scraper. Each metric's name, labels and meaning are in one of the
//! files below and nowhere else.
//!
//! Must never: have a label with a value that a machine can choose.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::registry::Registry;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

mod advertisements;
mod agent;
mod boots;
mod certificates;
mod format;
mod images;
mod ports;
mod probes;
mod process;
mod relay;
mod upstream;

pub use advertisements::{Discarded, RaCounters, Sent};
pub use boots::Boot;
pub use format::Format;
pub use images::CacheState;
pub use relay::{OwnScript, Requests};
pub use upstream::{OriginMetrics, OriginState};

/// Counts time, in seconds.
pub type Seconds = Counter<f64, AtomicU64>;

/// The label of a metric per port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: String,
}

impl PortLabel {
    fn of(port: &str) -> Self {
        Self { port: port.to_owned() }
    }
}

/// The agent's metrics, shared by its tasks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process_registry: Registry,
    agent: agent::AgentMetrics,
    boots: boots::BootMetrics,
    probes: probes::ProbeMetrics,
    advertisements: advertisements::RaMetrics,
    certificates: certificates::CertificateMetrics,
    process: process::ProcessMetrics,
    ports: ports::PortMetrics,
    relay: relay::RelayMetrics,
    images: images::ImageMetrics,
    upstream: upstream::UpstreamMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("leafboot");
        let mut process_registry = Registry::with_prefix("process");
        Self {
            agent: agent::AgentMetrics::register(&mut registry),
            ports: ports::PortMetrics::register(&mut registry),
            boots: boots::BootMetrics::register(&mut registry),
            probes: probes::ProbeMetrics::register(&mut registry),
            advertisements: advertisements::RaMetrics::register(&mut registry),
            relay: relay::RelayMetrics::register(&mut registry),
            images: images::ImageMetrics::register(&mut registry),
            upstream: upstream::UpstreamMetrics::register(&mut registry),
            certificates: certificates::CertificateMetrics::register(&mut registry),
            process: process::ProcessMetrics::register(&mut process_registry),
            registry,
            process_registry,
        }
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        self.images.update();
        self.ports.update();
        self.advertisements.update();
        self.certificates.update();
        self.process.update();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &self.process_registry);
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// All metrics in a text format.
    pub fn text_as(&self, format: Format) -> String {
        match format {
            Format::OpenMetrics => self.text(),
            Format::Classic => format::classic(&self.text()),
        }
    }
}

/// Adds one to a gauge for as long as it lives.
#[derive(Debug)]
pub struct OneMore(Gauge);

impl OneMore {
    /// Adds one to `gauge`.
    pub fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn metrics_are_written_with_their_labels() {
        let metrics = Metrics::default();
        let requests = metrics.requests("Ethernet0");
        for (kind, status) in
            [(Some("script"), 200), (Some("script"), 204), (None, 404), (Some("script"), 503)]
        {
            requests.answered(kind, status, None);
        }
        requests.answered(Some("script"), 200, Some(OwnScript::Error));
        metrics.sent("Ethernet0").inc_by(7);
        metrics.rate_limited("Ethernet0").inc_by(1.5);
        metrics.slow_client_disconnects("Ethernet0").inc();
        metrics.origin("boot_service", "http://a").requested(Ok(Duration::from_millis(20)));
        let text = metrics.text();
        for line in [
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"2xx\"} 2",
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"error_script\"} 1",
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"5xx\"} 1",
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"none\",status=\"4xx\"} 1",
            "leafboot_relay_sent_bytes_total{port=\"Ethernet0\"} 7",
            "leafboot_relay_rate_limited_seconds_total{port=\"Ethernet0\"} 1.5",
            "leafboot_relay_slow_client_disconnects_total{port=\"Ethernet0\"} 1",
            "leafboot_relay_upstream_first_byte_seconds_count{upstream=\"boot_service\",origin=\"http://a\"} 1",
            "leafboot_relay_upstream_failures_total{upstream=\"boot_service\",origin=\"http://a\"} 0",
            "leafboot_relay_upstream_up{upstream=\"boot_service\",origin=\"http://a\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
