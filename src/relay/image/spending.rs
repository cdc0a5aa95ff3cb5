//! What images spend: the budget, with the time counted that it holds them back.
//!
//! Must never: decide how much that is: `budget` does.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Metrics, Seconds};
use leafboot_core::names::PortName;
use leafboot_core::relay::shaper::Budget;
use leafboot_core::settings::relay::CacheBudget;

/// The leaf's budget, as one port spends of it. A clone is the same port's.
#[derive(Debug, Clone)]
pub struct Spending {
    budget: Budget,
    metrics: Arc<Metrics>,
    /// How long transfers for everybody were held back.
    transfers: Seconds,
    /// How long the port's images were, for bytes and for packets.
    rate: Seconds,
    packets: Seconds,
}

impl Spending {
    /// No port's yet: `for_port` gives it to ports, whose waits are told apart.
    pub fn new(limits: &CacheBudget, metrics: &Arc<Metrics>) -> Self {
        let transfers = metrics.transfer_waits();
        let (rate, packets) = Default::default();
        Self { budget: Budget::new(limits), metrics: Arc::clone(metrics), transfers, rate, packets }
    }

    /// Another port's, of the same leaf's budget.
    pub fn for_port(&self, port: &PortName) -> Self {
        let waits = |limit| self.metrics.image_waits(port.as_str(), limit);
        Self {
            budget: self.budget.for_port(),
            rate: waits("rate"),
            packets: waits("packets"),
            ..self.clone()
        }
    }

    /// How long `bytes` must wait that go to the port's machine.
    pub fn send(&self, bytes: usize, now: Duration) -> Duration {
        counted(&self.rate, self.budget.send(bytes, now))
    }

    /// The port's machine went away before `bytes` were sent that were granted.
    pub fn unsent(&self, bytes: usize) {
        self.budget.unsent(bytes);
    }

    /// How long to wait after `bytes` came from the cache for everybody.
    pub fn fetch(&self, bytes: usize, now: Duration) -> Duration {
        counted(&self.transfers, self.budget.fetch(bytes, now))
    }

    /// How long to wait before the cache is asked for something for the port's machine alone, of which it will send
    /// `bytes` at once.
    pub fn ask_alone(&self, bytes: usize, now: Duration) -> Duration {
        counted(&self.packets, self.budget.ask_alone(bytes, now))
    }

    /// Of `bytes` that were paid for the cache sent `came` only.
    pub fn unfetched(&self, bytes: usize, came: usize) {
        self.budget.unfetched(bytes, came);
    }

    /// How long to wait after `bytes` came from the cache for the port's machine alone.
    pub fn fetch_alone(&self, bytes: usize, now: Duration) -> Duration {
        counted(&self.packets, self.budget.fetch_alone(bytes, now))
    }
}

fn counted(waits: &Seconds, wait: Duration) -> Duration {
    if !wait.is_zero() {
        waits.inc_by(wait.as_secs_f64());
    }
    wait
}
