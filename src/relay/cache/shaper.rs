//! The shaper of one port's images: the pure traffic shaper with a clock, and metrics of the time that it holds images
//! back.
//!
//! Must never: decide how long to wait: the core's shaper does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{Metrics, Seconds};
use leafboot_core::names::PortName;
use leafboot_core::relay::shaper::Budget;
use leafboot_core::settings::relay::CacheBudget;

/// The limits of the leaf and of one port. A clone has the same limits and shares what was used of them.
#[derive(Debug, Clone)]
pub struct Shaper {
    budget: Budget,
    started: Instant,
    metrics: Arc<Metrics>,
    /// How long shared transfers were held back.
    shared_waits: Seconds,
    /// How long the port's images were held back by byte limits and by packet limits.
    rate_waits: Seconds,
    packet_waits: Seconds,
}

impl Shaper {
    /// The leaf's shaper. Ports use the one that `for_port` returns.
    pub fn new(limits: &CacheBudget, metrics: &Arc<Metrics>) -> Self {
        Self {
            budget: Budget::new(limits),
            started: Instant::now(),
            metrics: Arc::clone(metrics),
            shared_waits: metrics.transfer_waits(),
            rate_waits: Seconds::default(),
            packet_waits: Seconds::default(),
        }
    }

    /// A port's shaper: the leaf's limits are shared, the port's are its own.
    pub fn for_port(&self, port: &PortName) -> Self {
        let waits = |limit| self.metrics.image_waits(port.as_str(), limit);
        Self {
            budget: self.budget.for_port(),
            rate_waits: waits("rate"),
            packet_waits: waits("packets"),
            ..self.clone()
        }
    }

    /// Accounts for `bytes` to be sent to the port's machine. Returns how long to wait before they are sent.
    pub fn send(&self, bytes: usize) -> Duration {
        counted(&self.rate_waits, self.budget.send(bytes, self.started.elapsed()))
    }

    /// Gives back `bytes` that `send` accounted for and that were not sent.
    pub fn refund_send(&self, bytes: usize) {
        self.budget.unsent(bytes);
    }

    /// Accounts for `bytes` that a shared transfer received. Returns how long to wait before it receives more.
    pub fn shared(&self, bytes: usize) -> Duration {
        counted(&self.shared_waits, self.budget.fetch(bytes, self.started.elapsed()))
    }

    /// Accounts for `bytes` that the partition cache will send at once in an unshared transfer. Returns how long to wait
    /// before the request.
    pub fn begin_unshared(&self, bytes: usize) -> Duration {
        counted(&self.packet_waits, self.budget.ask_alone(bytes, self.started.elapsed()))
    }

    /// Gives back the difference: `begin_unshared` accounted for `bytes`, and only `received` will come.
    pub fn refund_unshared(&self, bytes: usize, received: usize) {
        self.budget.unfetched(bytes, received);
    }

    /// Accounts for `bytes` that an unshared transfer received. Returns how long to wait before it receives more.
    pub fn unshared(&self, bytes: usize) -> Duration {
        counted(&self.packet_waits, self.budget.fetch_alone(bytes, self.started.elapsed()))
    }
}

/// Adds `wait` to a metric.
fn counted(waits: &Seconds, wait: Duration) -> Duration {
    if !wait.is_zero() {
        waits.inc_by(wait.as_secs_f64());
    }
    wait
}
