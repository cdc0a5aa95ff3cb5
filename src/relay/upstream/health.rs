//! Monitors the health of an upstream's origins: passes events to the rules of `leafboot_core::relay::health`, and logs
//! and counts when an origin is ejected, with the reason, and when it is restored.
//!
//! Must never: decide which origin a request is sent to: the rules do.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use crate::metrics::{Metrics, OriginMetrics};
use leafboot_core::relay::health::Health;
use leafboot_core::settings::relay;

/// An upstream's origins, by their index in the settings.
pub struct HealthMonitor {
    upstream: &'static str,
    origins: Vec<String>,
    health: watch::Sender<Health>,
    /// `health` counts time from here.
    started: Instant,
    metrics: Vec<OriginMetrics>,
}

impl HealthMonitor {
    /// All origins are up. `upstream` is the upstream's name in logs and metrics.
    pub fn new(upstream: &'static str, settings: &relay::UpstreamSettings, metrics: &Metrics) -> Self {
        let origins: Vec<String> = settings.origins.iter().map(ToString::to_string).collect();
        let health = watch::Sender::new(Health::new(settings.order, origins.len()));
        let metrics = origins.iter().map(|origin| metrics.origin(upstream, origin)).collect();
        Self { upstream, origins, health, started: Instant::now(), metrics }
    }

    /// The origins in the order in which a request tries them.
    pub fn choose(&self) -> Vec<usize> {
        let mut order = Vec::new();
        self.health.send_if_modified(|health| {
            order = health.choose();
            false
        });
        order
    }

    /// Waits until ejected origins are due for a probe, and returns them. Each must be probed once now.
    pub async fn due(&self) -> Vec<usize> {
        let mut health = self.health.subscribe();
        loop {
            let next = health.borrow_and_update().next_due().map(|due| self.started + due);
            tokio::select! {
                // `self` has the sender, so this is never an error.
                _ = health.changed() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    let mut due = Vec::new();
                    self.health.send_if_modified(|health| {
                        due = health.due(self.started.elapsed());
                        false
                    });
                    return due;
                }
            }
        }
    }

    /// The head of an origin's answer came after `first_byte`. Its body is not complete yet.
    pub fn head_arrived(&self, index: usize, first_byte: Duration) {
        self.count(index, Ok(first_byte));
    }

    /// An origin's answer is complete.
    pub fn answered(&self, index: usize) {
        self.update(index, |health| health.answered(index));
    }

    /// An origin gave no answer, a broken one, or one that says that it does not work. `reason` says which.
    pub fn failed(&self, index: usize, reason: &str) {
        self.count(index, Err(reason));
        let now = self.started.elapsed();
        if self.update(index, |health| health.failed(index, now)) {
            warn!(
                upstream = self.upstream,
                origin = self.origins.get(index),
                reason,
                "upstream origin ejected"
            );
        }
    }

    /// A probe has ended.
    pub fn probed(&self, index: usize, outcome: Result<(), String>) {
        let origin = self.origins.get(index);
        let is_reached = outcome.is_ok();
        if let Err(reason) = outcome {
            debug!(upstream = self.upstream, origin, reason, "upstream origin stays ejected");
            self.count(index, Err(&reason));
        }
        let now = self.started.elapsed();
        self.update(index, |health| health.probed(index, is_reached, now));
    }

    fn count(&self, index: usize, result: Result<Duration, &str>) {
        if let Some(metrics) = self.metrics.get(index) {
            metrics.requested(result);
        }
    }

    /// Changes an origin's health. Logs and publishes an ejection's end. Returns whether the origin was ejected by
    /// this.
    fn update(&self, index: usize, change: impl FnOnce(&mut Health)) -> bool {
        let (mut before, mut after) = (true, true);
        self.health.send_if_modified(|health| {
            before = health.is_up(index);
            change(health);
            after = health.is_up(index);
            // Its next probe may be due at another time.
            !after
        });
        if before != after
            && let Some(metrics) = self.metrics.get(index)
        {
            metrics.up(after);
        }
        if after && !before {
            info!(upstream = self.upstream, origin = self.origins.get(index), "upstream origin restored");
        }
        before && !after
    }
}
