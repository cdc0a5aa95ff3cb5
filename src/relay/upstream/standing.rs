//! How an upstream's origins stand: gives `health` the time and the news, and says in the log and in metrics when one is
//! set aside, and why, and when it is asked again.
//!
//! Must never: decide who is asked: `health` does.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use crate::metrics::{Metrics, OriginMetrics};
use leafboot_core::relay::health::Health;
use leafboot_core::settings::relay;

/// An upstream's origins, by their index.
pub struct Standing {
    upstream: &'static str,
    origins: Vec<String>,
    health: watch::Sender<Health>,
    /// What its times are counted from.
    started: Instant,
    metrics: Vec<OriginMetrics>,
}

impl Standing {
    /// All are well. `upstream` is its name in logs and metrics.
    pub fn new(upstream: &'static str, settings: &relay::Upstream, metrics: &Metrics) -> Self {
        let origins: Vec<String> = settings.origins.iter().map(ToString::to_string).collect();
        let health = watch::Sender::new(Health::new(settings.order, origins.len()));
        let metrics = origins.iter().map(|origin| metrics.origin(upstream, origin)).collect();
        Self { upstream, origins, health, started: Instant::now(), metrics }
    }

    /// The origins in the order in which they are tried.
    pub fn choose(&self) -> Vec<usize> {
        let mut order = Vec::new();
        self.health.send_if_modified(|health| {
            order = health.choose();
            false
        });
        order
    }

    /// Waits until the time aside of some origins is over: each is to be probed once now.
    pub async fn due(&self) -> Vec<usize> {
        let mut health = self.health.subscribe();
        loop {
            let next = health.borrow_and_update().next_due().map(|due| self.started + due);
            tokio::select! {
                // The sender is `self`'s.
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

    /// An origin's answer began after `first_byte`: it has yet to come through.
    pub fn begins(&self, index: usize, first_byte: Duration) {
        self.count(index, Some(first_byte));
    }

    /// An origin's answer is through.
    pub fn answered(&self, index: usize) {
        self.learn(index, |health| health.answered(index));
    }

    /// An origin gave no answer, one that broke, or one that says that it does not work; `reason`: which.
    pub fn failed(&self, index: usize, reason: &str) {
        self.count(index, None);
        let now = self.started.elapsed();
        if self.learn(index, |health| health.failed(index, now)) {
            warn!(upstream = self.upstream, origin = self.origins.get(index), reason, "set aside: it fails");
        }
    }

    /// A probe is over.
    pub fn probed(&self, index: usize, outcome: Result<(), String>) {
        let origin = self.origins.get(index);
        let is_reached = outcome.is_ok();
        if let Err(reason) = outcome {
            debug!(upstream = self.upstream, origin, reason, "still set aside");
            self.count(index, None);
        }
        let now = self.started.elapsed();
        self.learn(index, |health| health.probed(index, is_reached, now));
    }

    fn count(&self, index: usize, first_byte: Option<Duration>) {
        if let Some(metrics) = self.metrics.get(index) {
            metrics.asked(first_byte);
        }
    }

    /// Takes news of an origin; whether it is set aside with them.
    fn learn(&self, index: usize, news: impl FnOnce(&mut Health)) -> bool {
        let (mut before, mut after) = (true, true);
        self.health.send_if_modified(|health| {
            before = health.is_well(index);
            news(health);
            after = health.is_well(index);
            // When it is due may have changed.
            !after
        });
        if before != after
            && let Some(metrics) = self.metrics.get(index)
        {
            metrics.up(after);
        }
        if after && !before {
            info!(upstream = self.upstream, origin = self.origins.get(index), "asked again");
        }
        before && !after
    }
}
