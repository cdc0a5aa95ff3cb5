//! How an upstream's origins stand: gives `health` the time and the news, and says in the log and in metrics when one is
//! set aside and when it is asked again.
//!
//! Must never: decide who is asked: `health` does.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::health::Health;
use crate::config::relay;
use crate::metrics::{Metrics, OriginMetrics};

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

    /// The origins in the order in which they are tried, and those that are to be probed beside.
    pub fn choose(&self) -> (Vec<usize>, Vec<usize>) {
        let (mut order, mut due) = (Vec::new(), Vec::new());
        self.health.send_if_modified(|health| {
            due = health.due(self.started.elapsed());
            order = health.choose();
            false
        });
        (order, due)
    }

    /// An origin's answer began after `first_byte`: it has yet to come through.
    pub fn begins(&self, index: usize, first_byte: Duration) {
        self.count(index, Some(first_byte));
    }

    /// An origin's answer is through.
    pub fn answered(&self, index: usize) {
        self.learn(index, |health, _| health.answered(index));
    }

    /// An origin gave no answer, one that broke, or one that says that it does not work.
    pub fn failed(&self, index: usize) {
        self.count(index, None);
        self.learn(index, |health, now| health.failed(index, now));
    }

    /// A probe is over.
    pub fn probed(&self, index: usize, is_reached: bool) {
        if !is_reached {
            self.count(index, None);
        }
        self.learn(index, |health, now| health.probed(index, is_reached, now));
    }

    fn count(&self, index: usize, first_byte: Option<Duration>) {
        if let Some(metrics) = self.metrics.get(index) {
            metrics.asked(first_byte);
        }
    }

    fn learn(&self, index: usize, news: impl FnOnce(&mut Health, Duration)) {
        let (mut before, mut after) = (true, true);
        self.health.send_if_modified(|health| {
            before = health.is_well(index);
            news(health, self.started.elapsed());
            after = health.is_well(index);
            false
        });
        if before == after {
            return;
        }
        let (upstream, origin) = (self.upstream, self.origins.get(index));
        match after {
            true => info!(upstream, origin, "asked again"),
            false => warn!(upstream, origin, "set aside: it fails"),
        }
        if let Some(metrics) = self.metrics.get(index) {
            metrics.well(after);
        }
    }
}
