//! Metrics of the process, by the names that all of Prometheus' client libraries use.
//!
//! Must never: read `/proc` except for a scrape.

use std::sync::atomic::AtomicU64;

use prometheus_client::registry::{Registry, Unit};

use super::{Gauge, Seconds, gauge};
use crate::kernel::process;

#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    resident: Gauge,
    virtual_memory: Gauge,
    cpu: Seconds,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Gauge<f64, AtomicU64>,
}

impl ProcessMetrics {
    /// `registry`: one without leafboot's prefix.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_with_unit(
            "resident_memory",
            "Resident memory",
            Unit::Bytes,
            metrics.resident.clone(),
        );
        registry.register_with_unit(
            "virtual_memory",
            "Virtual memory",
            Unit::Bytes,
            metrics.virtual_memory.clone(),
        );
        registry.register_with_unit("cpu", "User and system CPU time", Unit::Seconds, metrics.cpu.clone());
        registry.register("open_fds", "Open file descriptors", metrics.open_fds.clone());
        registry.register("max_fds", "The limit of open file descriptors", metrics.max_fds.clone());
        registry.register("threads", "Threads", metrics.threads.clone());
        registry.register_with_unit(
            "start_time",
            "When the process started, since the Unix epoch",
            Unit::Seconds,
            metrics.start.clone(),
        );
        metrics
    }

    /// Reads `/proc`. What it does not have keeps its last value.
    pub(super) fn update(&self) {
        let usage = process::usage();
        let set = |to: &Gauge, value: Option<u64>| {
            value.into_iter().for_each(|value| {
                to.set(gauge(value));
            });
        };
        set(&self.resident, usage.resident);
        set(&self.virtual_memory, usage.virtual_memory);
        set(&self.open_fds, usage.open_fds);
        set(&self.max_fds, usage.max_fds);
        set(&self.threads, usage.threads);
        if let Some(cpu) = usage.cpu {
            self.cpu.inner().store(cpu.as_secs_f64().to_bits(), std::sync::atomic::Ordering::Relaxed);
        }
        if let Some(started) = usage.started {
            self.start.set(started.as_secs_f64());
        }
    }
}
