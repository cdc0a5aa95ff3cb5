//! Metrics of the relay's image cache.
//!
//! Must never: read the cache's state except for a scrape.

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Gauge, Metrics, Seconds, gauge};

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

/// The cache's state at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheState {
    /// Bytes of memory that its entries use.
    pub used: u64,
    /// Bytes of memory that they may use.
    pub limit: u64,
    /// Shared transfers from the partition cache that are under way.
    pub transfers: usize,
}

/// Returns the cache's state. Called for each scrape: entries free their memory when their last reader ends, and
/// nothing else learns of that.
struct StateSource(Box<dyn Fn() -> CacheState + Send + Sync>);

impl fmt::Debug for StateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(f)
    }
}

#[derive(Debug, Default)]
pub(super) struct ImageMetrics {
    memory: Gauge,
    memory_limit: Gauge,
    transfers: Gauge,
    readers: Family<ReaderLabels, Gauge>,
    waits: Family<WaitLabels, Seconds>,
    transfer_waits: Seconds,
    state: OnceLock<StateSource>,
}

impl ImageMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "relay_image_memory",
            "Memory that shared images use",
            Unit::Bytes,
            metrics.memory.clone(),
        );
        registry.register_with_unit(
            "relay_image_memory_limit",
            "Memory that shared images may use: relay.cache.memory",
            Unit::Bytes,
            metrics.memory_limit.clone(),
        );
        registry.register(
            "relay_image_transfers",
            "Shared transfers from the partition cache that are under way",
            metrics.transfers.clone(),
        );
        registry.register(
            "relay_image_readers",
            "Images that are being sent to a port's machines, by source: a shared transfer, or an unshared one",
            metrics.readers.clone(),
        );
        registry.register_with_unit(
            "relay_image_wait",
            "How long relay.cache.budget delayed a port's images: for bytes (rate), for packets of unshared transfers",
            Unit::Seconds,
            metrics.waits.clone(),
        );
        registry.register_with_unit(
            "relay_transfer_wait",
            "How long relay.cache.budget.packets delayed shared transfers",
            Unit::Seconds,
            metrics.transfer_waits.clone(),
        );
        metrics
    }

    /// Sets the gauges from the cache's state.
    pub(super) fn update(&self) {
        if let Some(StateSource(state)) = self.state.get() {
            let state = state();
            self.memory.set(gauge(state.used));
            self.memory_limit.set(gauge(state.limit));
            self.transfers.set(gauge(state.transfers as u64));
        }
    }
}

impl Metrics {
    /// Sets the function that returns the cache's state. It is called whenever metrics are read. A second call of this
    /// function has no effect.
    pub fn watch_cache(&self, state: impl Fn() -> CacheState + Send + Sync + 'static) {
        let _ = self.images.state.set(StateSource(Box::new(state)));
    }

    /// The gauge of the images that are being sent to a port's machines. `source` is `shared` or `unshared`.
    pub fn image_readers(&self, port: &str, source: &'static str) -> Gauge {
        self.images.readers.get_or_create_owned(&ReaderLabels { port: port.to_owned(), source })
    }

    /// The counter of the time for which a `limit` (`rate` or `packets`) delayed a port's images.
    pub fn image_waits(&self, port: &str, limit: &'static str) -> Seconds {
        self.images.waits.get_or_create_owned(&WaitLabels { port: port.to_owned(), limit })
    }

    /// The counter of the time for which shared transfers were delayed.
    pub fn transfer_waits(&self) -> Seconds {
        self.images.transfer_waits.clone()
    }
}
