//! Metrics of the relay's upstreams, per origin, and the last state of each origin for the API.
//!
//! Must never: decide whether an origin is healthy: `health` does.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Counter, Gauge, Metrics};
use crate::guarded::Guarded;

/// Histogram buckets in seconds. The shortest fits a reused connection, the longest an API that mints a token.
const BUCKETS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    upstream: &'static str,
    origin: String,
}

#[derive(Debug)]
pub(super) struct UpstreamMetrics {
    first_byte: Family<OriginLabels, Histogram>,
    failures: Family<OriginLabels, Counter>,
    up: Family<OriginLabels, Gauge>,
    /// In the order in which the relay has named them.
    states: Guarded<Vec<(OriginLabels, Arc<Guarded<OriginState>>)>>,
}

/// What is known of an origin now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OriginState {
    /// False while it is ejected.
    pub is_up: bool,
    /// The time to the first byte of its last answer.
    pub first_byte: Option<Duration>,
    /// Why its last request or probe failed; none: it did not.
    pub error: Option<String>,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            first_byte: Family::new_with_constructor(histogram),
            failures: Family::default(),
            up: Family::default(),
            states: Guarded::default(),
        };
        registry.register_with_unit(
            "relay_upstream_first_byte",
            "Time from a request to the first byte of its answer",
            Unit::Seconds,
            metrics.first_byte.clone(),
        );
        registry.register(
            "relay_upstream_failures",
            "Requests and probes without a complete answer, or (but for the API) with status 502, 503 or 504",
            metrics.failures.clone(),
        );
        registry.register(
            "relay_upstream_up",
            "1 while requests are sent to an origin, 0 while it is ejected",
            metrics.up.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// The metrics of an origin, which is up at first.
    pub fn origin(&self, upstream: &'static str, origin: &str) -> OriginMetrics {
        let labels = OriginLabels { upstream, origin: origin.to_owned() };
        let state = Arc::default();
        self.upstream.states.with(|states| {
            states.retain(|(other, _)| *other != labels);
            states.push((labels.clone(), Arc::clone(&state)));
        });
        let metrics = OriginMetrics {
            state,
            first_byte: self.upstream.first_byte.get_or_create_owned(&labels),
            failures: self.upstream.failures.get_or_create_owned(&labels),
            up: self.upstream.up.get_or_create_owned(&labels),
        };
        metrics.up(true);
        metrics
    }

    /// Each origin's upstream, name and state.
    pub fn origins(&self) -> Vec<(&'static str, String, OriginState)> {
        self.upstream.states.with(|states| {
            let origin = |(labels, state): &(OriginLabels, Arc<Guarded<OriginState>>)| {
                (labels.upstream, labels.origin.clone(), state.with(|state| state.clone()))
            };
            states.iter().map(origin).collect()
        })
    }
}

/// The metrics of one origin.
#[derive(Debug)]
pub struct OriginMetrics {
    first_byte: Histogram,
    failures: Counter,
    up: Gauge,
    state: Arc<Guarded<OriginState>>,
}

impl OriginMetrics {
    /// Counts a request. Ok: the time until its answer began. Err: why it failed.
    pub fn requested(&self, result: Result<Duration, &str>) {
        match result {
            Ok(time) => {
                self.first_byte.observe(time.as_secs_f64());
                self.state.with(|state| (state.first_byte, state.error) = (Some(time), None));
            }
            Err(reason) => {
                self.failures.inc();
                self.state.with(|state| state.error = Some(reason.to_owned()));
            }
        }
    }

    /// Publishes whether the origin is up, or ejected.
    pub fn up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
        self.state.with(|state| state.is_up = is_up);
    }
}
