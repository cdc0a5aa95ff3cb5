//! What leafboot counts: every metric's name, labels and meaning stand here and nowhere else.
//!
//! Must never: have a label that a machine can choose.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

use leafboot_core::status::{PortState, PortStatus, Status};

/// Counts time.
pub type Seconds = Counter<f64, AtomicU64>;

/// From a kept connection on the leaf to an API that mints a token.
const SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepairLabel {
    kind: &'static str,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReaderLabels {
    port: String,
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    port: String,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    port: String,
    reason: &'static str,
}

/// One more in a gauge for as long as it lives.
#[derive(Debug)]
pub struct OneMore(Gauge);

impl OneMore {
    /// Counts itself.
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

/// What the shared images are at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShelfState {
    /// Bytes of memory that are theirs.
    pub taken: u64,
    /// Bytes that they may have.
    pub limit: u64,
    /// Images that are on their way from the cache.
    pub transfers: usize,
}

/// Memory goes back without a word, so the shelf is looked at when somebody asks.
struct Look(Box<dyn Fn() -> ShelfState + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(f)
    }
}

/// The agent's metrics. Tasks share it; counting is an atomic addition.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ports: Family<StateLabel, Gauge>,
    ports_advertising: Gauge,
    settled: Gauge,
    state_saved: Gauge,
    repairs: Family<RepairLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    sent: Family<PortLabel, Counter>,
    connections: Family<PortLabel, Gauge>,
    waited: Family<PortLabel, Seconds>,
    muted: Family<PortLabel, Seconds>,
    handshake_failures: Family<HandshakeLabels, Counter>,
    lines_left_out: Family<PortLabel, Counter>,
    cut: Family<PortLabel, Counter>,
    image_memory: Gauge,
    image_memory_limit: Gauge,
    image_transfers: Gauge,
    image_readers: Family<ReaderLabels, Gauge>,
    image_waits: Family<WaitLabels, Seconds>,
    transfer_waits: Seconds,
    shelf: OnceLock<Look>,
    first_byte: Family<OriginLabels, Histogram>,
    failures: Family<OriginLabels, Counter>,
    well: Family<OriginLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("leafboot"),
            ports: Family::default(),
            ports_advertising: Gauge::default(),
            settled: Gauge::default(),
            state_saved: Gauge::default(),
            repairs: Family::default(),
            requests: Family::default(),
            sent: Family::default(),
            connections: Family::default(),
            waited: Family::default(),
            muted: Family::default(),
            handshake_failures: Family::default(),
            lines_left_out: Family::default(),
            cut: Family::default(),
            image_memory: Gauge::default(),
            image_memory_limit: Gauge::default(),
            image_transfers: Gauge::default(),
            image_readers: Family::default(),
            image_waits: Family::default(),
            transfer_waits: Seconds::default(),
            shelf: OnceLock::new(),
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
        self.register_ports();
        let registry = &mut self.registry;
        registry.register(
            "relay_requests",
            "Requests of machines that were answered, by the port, the kind of route and the status' class",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "relay_sent",
            "What was sent to the machines of a port, heads included and TLS not",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "relay_connections",
            "Connections that the machines of a port have open",
            self.connections.clone(),
        );
        registry.register(
            "relay_cut",
            "Connections that were cut because the machine read more slowly than relay.min_rate",
            self.cut.clone(),
        );
        self.register_limits();
        self.register_images();
        let registry = &mut self.registry;
        registry.register_with_unit(
            "relay_upstream_first_byte",
            "From a request to the first byte of its answer",
            Unit::Seconds,
            self.first_byte.clone(),
        );
        registry.register(
            "relay_upstream_failures",
            "Requests and probes that an origin did not answer to the end, or (not an api's) with 502, 503 or 504",
            self.failures.clone(),
        );
        registry.register(
            "relay_upstream_well",
            "1 while an origin is asked, 0 while it is set aside",
            self.well.clone(),
        );
    }

    fn register_ports(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "ports",
            "Ports that are or were leafboot's since its start, or that the document names, by their state",
            self.ports.clone(),
        );
        registry.register(
            "ports_advertising",
            "Ports on which Router Advertisements are sent",
            self.ports_advertising.clone(),
        );
        registry.register(
            "settled",
            "1 while a document is there, SONiC's databases can be read and every port is settled",
            self.settled.clone(),
        );
        registry.register(
            "repairs",
            "Attempts to bring back what SONiC's databases promise and the kernel or the ASIC does not have",
            self.repairs.clone(),
        );
        registry.register(
            "state_saved",
            "1 while state.directory has the last document that was taken",
            self.state_saved.clone(),
        );
    }

    fn register_limits(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "relay_waited",
            "How long what a port's machines asked for waited because it was more than relay.requests allows",
            Unit::Seconds,
            self.waited.clone(),
        );
        registry.register_with_unit(
            "relay_muted",
            "How long a port was muted because its machines went on asking for more than relay.requests allows",
            Unit::Seconds,
            self.muted.clone(),
        );
        registry.register(
            "relay_handshake_failures",
            "TLS handshakes of a port's machines that failed, by their reason",
            self.handshake_failures.clone(),
        );
        registry.register(
            "relay_log_lines_left_out",
            "Lines about a port's machines that the log had no room for",
            self.lines_left_out.clone(),
        );
    }

    fn register_images(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "relay_image_memory",
            "Memory that shared images have",
            Unit::Bytes,
            self.image_memory.clone(),
        );
        registry.register_with_unit(
            "relay_image_memory_limit",
            "Memory that they may have: relay.cache.memory",
            Unit::Bytes,
            self.image_memory_limit.clone(),
        );
        registry.register(
            "relay_image_transfers",
            "Images that are on their way from the partition cache for everybody",
            self.image_transfers.clone(),
        );
        registry.register(
            "relay_image_readers",
            "Answers with an image that are on their way to a port's machines: of a shared transfer, or of one alone",
            self.image_readers.clone(),
        );
        registry.register_with_unit(
            "relay_image_wait",
            "How long relay.cache.budget held back a port's images: for bytes (rate), for packets of transfers alone",
            Unit::Seconds,
            self.image_waits.clone(),
        );
        registry.register_with_unit(
            "relay_transfer_wait",
            "How long relay.cache.budget.packets held back transfers for everybody",
            Unit::Seconds,
            self.transfer_waits.clone(),
        );
    }

    /// All metrics in OpenMetrics' text format.
    pub fn text(&self) -> String {
        if let Some(Look(look)) = self.shelf.get() {
            let state = look();
            self.image_memory.set(gauge(state.taken));
            self.image_memory_limit.set(gauge(state.limit));
            self.image_transfers.set(gauge(state.transfers as u64));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// How the ports stand now.
    pub fn ports(&self, status: &Status) {
        let count = |is: &dyn Fn(&PortStatus) -> bool| {
            gauge(status.all().filter(|(_, port)| is(port)).count() as u64)
        };
        for state in PortState::ALL {
            let label = StateLabel { state: state.as_str() };
            self.ports.get_or_create(&label).set(count(&|port| port.state == state));
        }
        self.ports_advertising.set(count(&|port| port.advertising));
        self.settled.set(i64::from(status.is_settled()));
    }

    /// A repair has begun: the subject goes out and comes again, or only its row is written again.
    pub fn repaired(&self, is_renewal: bool) {
        let kind = if is_renewal { "renew" } else { "rewrite" };
        self.repairs.get_or_create(&RepairLabel { kind }).inc();
    }

    /// Whether the last document is kept.
    pub fn state_saved(&self, is_saved: bool) {
        self.state_saved.set(i64::from(is_saved));
    }

    /// Counts the requests of a port's machines that are answered.
    pub fn requests(&self, port: &str) -> Requests {
        Requests { port: port.to_owned(), all: self.requests.clone(), used: Vec::new() }
    }

    /// Counts what is sent to a port's machines.
    pub fn sent(&self, port: &str) -> Counter {
        self.sent.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// Counts a port's open connections.
    pub fn connections(&self, port: &str) -> Gauge {
        self.connections.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// Counts how long what a port's machines asked for waited.
    pub fn waited(&self, port: &str) -> Seconds {
        self.waited.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// Counts how long a port was muted.
    pub fn muted(&self, port: &str) -> Seconds {
        self.muted.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// A handshake failed; `reason` is one of a few.
    pub fn handshake_failed(&self, port: &str, reason: &'static str) {
        self.handshake_failures.get_or_create(&HandshakeLabels { port: port.to_owned(), reason }).inc();
    }

    /// Counts the lines about a port's machines that the log had no room for.
    pub fn lines_left_out(&self, port: &str) -> Counter {
        self.lines_left_out.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// Counts a port's connections that are cut because the machine reads too slowly.
    pub fn cut(&self, port: &str) -> Counter {
        self.cut.get_or_create_owned(&PortLabel { port: port.to_owned() })
    }

    /// How the shared images' state is learnt, any time. Only the first of several is asked.
    pub fn watch_shelf(&self, look: impl Fn() -> ShelfState + Send + Sync + 'static) {
        let _ = self.shelf.set(Look(Box::new(look)));
    }

    /// Counts the images that are on their way to a port's machines; `source`: `shared` or `alone`.
    pub fn image_readers(&self, port: &str, source: &'static str) -> Gauge {
        self.image_readers.get_or_create_owned(&ReaderLabels { port: port.to_owned(), source })
    }

    /// Counts how long a port's images wait for a `limit`: `rate` or `packets`.
    pub fn image_waits(&self, port: &str, limit: &'static str) -> Seconds {
        self.image_waits.get_or_create_owned(&WaitLabels { port: port.to_owned(), limit })
    }

    /// Counts how long transfers for everybody wait.
    pub fn transfer_waits(&self) -> Seconds {
        self.transfer_waits.clone()
    }

    /// Counts what an origin does, which is asked from now on.
    pub fn origin(&self, upstream: &'static str, origin: &str) -> OriginMetrics {
        let labels = OriginLabels { upstream, origin: origin.to_owned() };
        let metrics = OriginMetrics {
            first_byte: self.first_byte.get_or_create_owned(&labels),
            failures: self.failures.get_or_create_owned(&labels),
            well: self.well.get_or_create_owned(&labels),
        };
        metrics.well(true);
        metrics
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What is counted of one port's requests.
#[derive(Debug)]
pub struct Requests {
    port: String,
    all: Family<RequestLabels, Counter>,
    /// By kind and status, those that were needed: to look one up by its labels costs more than to count.
    used: Vec<(&'static str, &'static str, Counter)>,
}

impl Requests {
    /// A request was answered; `kind` is none where no route was found, or looked for.
    pub fn answered(&mut self, kind: Option<&'static str>, status: u16) {
        let kind = kind.unwrap_or("none");
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        if let Some((.., counter)) = self.used.iter().find(|used| (used.0, used.1) == (kind, status)) {
            counter.inc();
            return;
        }
        let labels = RequestLabels { port: self.port.clone(), kind, status };
        let counter = self.all.get_or_create_owned(&labels);
        counter.inc();
        self.used.push((kind, status, counter));
    }
}

/// What is counted of one origin.
#[derive(Debug)]
pub struct OriginMetrics {
    first_byte: Histogram,
    failures: Counter,
    well: Gauge,
}

impl OriginMetrics {
    /// `after`: from request to answer; none: there was none, or it broke.
    pub fn asked(&self, after: Option<Duration>) {
        match after {
            Some(after) => self.first_byte.observe(after.as_secs_f64()),
            None => {
                self.failures.inc();
            }
        }
    }

    /// Whether it is asked, or set aside.
    pub fn well(&self, is_well: bool) {
        self.well.set(i64::from(is_well));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_with_their_labels() {
        let metrics = Metrics::default();
        let mut requests = metrics.requests("Ethernet0");
        for (kind, status) in
            [(Some("script"), 200), (Some("script"), 204), (None, 404), (Some("script"), 503)]
        {
            requests.answered(kind, status);
        }
        metrics.sent("Ethernet0").inc_by(7);
        metrics.origin("boot_service", "http://a").asked(Some(Duration::from_millis(20)));
        let text = metrics.text();
        for line in [
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"2xx\"} 2",
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"script\",status=\"5xx\"} 1",
            "leafboot_relay_requests_total{port=\"Ethernet0\",kind=\"none\",status=\"4xx\"} 1",
            "leafboot_relay_sent_bytes_total{port=\"Ethernet0\"} 7",
            "leafboot_relay_upstream_first_byte_seconds_count{upstream=\"boot_service\",origin=\"http://a\"} 1",
            "leafboot_relay_upstream_failures_total{upstream=\"boot_service\",origin=\"http://a\"} 0",
            "leafboot_relay_upstream_well{upstream=\"boot_service\",origin=\"http://a\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }
}
