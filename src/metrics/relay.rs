//! Metrics of the relay's server side, per port: requests, connections and limits.
//!
//! Must never: have a label that a machine can choose.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Counter, Gauge, Metrics, PortLabel, Seconds};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    port: String,
    kind: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    port: String,
    reason: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct RelayMetrics {
    requests: Family<RequestLabels, Counter>,
    sent: Family<PortLabel, Counter>,
    connections: Family<PortLabel, Gauge>,
    slow_client_disconnects: Family<PortLabel, Counter>,
    rate_limited: Family<PortLabel, Seconds>,
    muted: Family<PortLabel, Seconds>,
    handshake_failures: Family<HandshakeLabels, Counter>,
    log_lines_left_out: Family<PortLabel, Counter>,
}

impl RelayMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "relay_requests",
            "Requests of machines that were answered, by port, kind of request and class of status or own script",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "relay_sent",
            "Bytes sent to the machines of a port, with HTTP heads and without TLS",
            Unit::Bytes,
            metrics.sent.clone(),
        );
        registry.register(
            "relay_connections",
            "Open connections of a port's machines",
            metrics.connections.clone(),
        );
        registry.register(
            "relay_slow_client_disconnects",
            "Connections that were closed because the machine read more slowly than relay.min_rate",
            metrics.slow_client_disconnects.clone(),
        );
        registry.register_with_unit(
            "relay_rate_limited",
            "How long work for a port's machines was delayed because it exceeded relay.requests",
            Unit::Seconds,
            metrics.rate_limited.clone(),
        );
        registry.register_with_unit(
            "relay_muted",
            "How long a port was muted because its machines kept exceeding relay.requests",
            Unit::Seconds,
            metrics.muted.clone(),
        );
        registry.register(
            "relay_handshake_failures",
            "TLS handshakes of a port's machines that failed, by reason",
            metrics.handshake_failures.clone(),
        );
        registry.register(
            "relay_log_lines_left_out",
            "Log lines about a port's machines that were left out because they exceeded the port's share of the log",
            metrics.log_lines_left_out.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The counters of a port's answered requests.
    pub fn requests(&self, port: &str) -> Requests {
        Requests { port: port.to_owned(), all: self.relay.requests.clone() }
    }

    /// The counter of the bytes that are sent to a port's machines.
    pub fn sent(&self, port: &str) -> Counter {
        self.relay.sent.get_or_create_owned(&PortLabel::of(port))
    }

    /// The gauge of a port's open connections.
    pub fn connections(&self, port: &str) -> Gauge {
        self.relay.connections.get_or_create_owned(&PortLabel::of(port))
    }

    /// The counter of a port's connections that are closed because the machine reads too slowly.
    pub fn slow_client_disconnects(&self, port: &str) -> Counter {
        self.relay.slow_client_disconnects.get_or_create_owned(&PortLabel::of(port))
    }

    /// The counter of the time for which a port's work was delayed by its rate limit.
    pub fn rate_limited(&self, port: &str) -> Seconds {
        self.relay.rate_limited.get_or_create_owned(&PortLabel::of(port))
    }

    /// The counter of the time for which a port was muted.
    pub fn muted(&self, port: &str) -> Seconds {
        self.relay.muted.get_or_create_owned(&PortLabel::of(port))
    }

    /// Counts a TLS handshake that failed. `reason` is one of a few fixed words.
    pub fn handshake_failed(&self, port: &str, reason: &'static str) {
        self.relay.handshake_failures.get_or_create(&HandshakeLabels { port: port.to_owned(), reason }).inc();
    }

    /// The counter of the log lines about a port's machines that were left out.
    pub fn log_lines_left_out(&self, port: &str) -> Counter {
        self.relay.log_lines_left_out.get_or_create_owned(&PortLabel::of(port))
    }
}

/// A script that leafboot gives out although the boot service has given none. Its status is 200, because iPXE runs no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnScript {
    /// It prints why, and asks again.
    Error,
    /// The last good one.
    Stale,
}

/// The counters of one port's answered requests.
#[derive(Debug)]
pub struct Requests {
    port: String,
    all: Family<RequestLabels, Counter>,
}

impl Requests {
    /// Counts a request that was answered with `status`, or with a script of leafboot's own. `kind` is none if no route
    /// matched.
    pub fn answered(&self, kind: Option<&'static str>, status: u16, own: Option<OwnScript>) {
        let status = match (own, status) {
            (Some(OwnScript::Error), _) => "error_script",
            (Some(OwnScript::Stale), _) => "stale_script",
            (None, 100..200) => "1xx",
            (None, 200..300) => "2xx",
            (None, 300..400) => "3xx",
            (None, 400..500) => "4xx",
            (None, _) => "5xx",
        };
        let labels = RequestLabels { port: self.port.clone(), kind: kind.unwrap_or("none"), status };
        self.all.get_or_create(&labels).inc();
    }
}
