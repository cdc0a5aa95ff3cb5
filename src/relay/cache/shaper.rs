//! The shaper of one port's images: the core's traffic shaper with a clock, and metrics of the time for which images were
//! delayed.
//!
//! Must never: decide how long to wait: the core's shaper does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::guarded::Guarded;
use crate::metrics::{Metrics, Seconds};
use leafboot_core::names::PortName;
use leafboot_core::relay::shaper::{LeafShaper, PortShaper};
use leafboot_core::settings::relay::CacheBudget;

/// The limits of the leaf and of one port. A clone shares what was used of them.
#[derive(Clone)]
pub struct Shaper {
    leaf: Arc<Guarded<LeafShaper>>,
    port: Arc<Guarded<PortShaper>>,
    /// How long shared transfers were delayed.
    shared_waits: Seconds,
    /// How long the port's images were delayed by byte limits.
    rate_waits: Seconds,
    /// How long the port's images were delayed by packet limits.
    packet_waits: Seconds,
}

impl Shaper {
    /// The shaper of one port, which shares the limits of its `leaf`.
    pub fn new(
        leaf: &Arc<Guarded<LeafShaper>>,
        limits: &CacheBudget,
        port: &PortName,
        metrics: &Metrics,
    ) -> Self {
        let waits = |limit| metrics.image_waits(port.as_str(), limit);
        Self {
            leaf: Arc::clone(leaf),
            port: Arc::new(Guarded::new(PortShaper::new(limits))),
            shared_waits: metrics.transfer_waits(),
            rate_waits: waits("rate"),
            packet_waits: waits("packets"),
        }
    }

    /// Charges `bytes` to be sent to the port's machine. Returns how long to wait before they are sent.
    pub fn send(&self, bytes: usize) -> Duration {
        counted(&self.rate_waits, self.with(|leaf, port, now| leaf.send(port, bytes, now)))
    }

    /// Takes back a charge of `send`: `bytes` were not sent.
    pub fn refund_send(&self, bytes: usize) {
        self.with(|leaf, port, _| leaf.refund_send(port, bytes));
    }

    /// Charges `bytes` that came in a shared transfer. Returns how long to wait before more is received.
    pub fn shared(&self, bytes: usize) -> Duration {
        counted(&self.shared_waits, self.leaf.with(|leaf| leaf.shared(bytes, Instant::now())))
    }

    /// Charges `bytes` that the partition cache will send at once in an unshared transfer. Returns how long to wait before
    /// the request.
    pub fn begin_unshared(&self, bytes: usize) -> Duration {
        counted(&self.packet_waits, self.with(|leaf, port, now| leaf.begin_unshared(port, bytes, now)))
    }

    /// Takes back a part of a charge of `begin_unshared`: of `bytes` only `received` will come.
    pub fn refund_unshared(&self, bytes: usize, received: usize) {
        self.with(|leaf, port, _| leaf.refund_unshared(port, bytes, received));
    }

    /// Charges `bytes` that came in an unshared transfer. Returns how long to wait before they are sent on.
    pub fn unshared(&self, bytes: usize) -> Duration {
        counted(&self.packet_waits, self.with(|leaf, port, now| leaf.unshared(port, bytes, now)))
    }

    fn with<T>(&self, doing: impl FnOnce(&mut LeafShaper, &mut PortShaper, Instant) -> T) -> T {
        self.leaf.with(|leaf| self.port.with(|port| doing(leaf, port, Instant::now())))
    }
}

/// Adds `wait` to a metric.
fn counted(waits: &Seconds, wait: Duration) -> Duration {
    if !wait.is_zero() {
        waits.inc_by(wait.as_secs_f64());
    }
    wait
}
