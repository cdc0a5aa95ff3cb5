//! Metrics of the probes that leafboot makes while a machine waits.
//!
//! Must never: have an image's path as a label. A machine chooses it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use leafboot_core::probe::{Probe, ProbeResults};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

use super::{Gauge, Metrics};

/// A result that is older says nothing about now: each probe is made every 10 s while a machine waits for it.
const AGE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ProbeLabels {
    probe: &'static str,
    /// From the settings.
    target: String,
}

#[derive(Debug, Default)]
pub(super) struct ProbeMetrics {
    success: Family<ProbeLabels, Gauge>,
    seconds: Family<ProbeLabels, Gauge<f64, AtomicU64>>,
}

impl ProbeMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "probe_success",
            "1 if the last probe succeeded. There are probes only while a machine waits",
            metrics.success.clone(),
        );
        registry.register_with_unit(
            "probe",
            "How long the last probe took that succeeded",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Publishes the last results. Those of the images that machines wait for are one: all must succeed. `cache`: the
    /// partition cache's name. `now`: the time since the agent's start.
    pub fn probes(&self, results: &ProbeResults, cache: &str, now: Duration) {
        let mut all: BTreeMap<ProbeLabels, (bool, f64)> = BTreeMap::new();
        let is_recent = |at: Duration| now.saturating_sub(at) < AGE_MAX;
        for (probe, probed) in results.0.iter().filter(|(_, probed)| is_recent(probed.at)) {
            let target = match probe {
                Probe::Image(_) => cache.to_owned(),
                Probe::Name { .. }
                | Probe::BootService(_)
                | Probe::Certificate(_)
                | Probe::Route(_)
                | Probe::Clock => probe.to_string(),
            };
            let labels = ProbeLabels { probe: probe.kind(), target };
            let (is_good, seconds) = all.entry(labels).or_insert((true, 0.0));
            *is_good &= probed.result.is_ok();
            *seconds = probed.result.as_ref().map_or(*seconds, |took| seconds.max(took.as_secs_f64()));
        }
        self.probes.success.clear();
        self.probes.seconds.clear();
        for (labels, (is_good, seconds)) in all {
            self.probes.success.get_or_create(&labels).set(i64::from(is_good));
            if is_good {
                self.probes.seconds.get_or_create(&labels).set(seconds);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use leafboot_core::probe::{ProbeProblem, Probed};

    use super::*;

    #[test]
    fn an_images_path_is_no_label() {
        let metrics = Metrics::default();
        let probed = |result| Probed { result, at: Duration::ZERO, size: None };
        let results = [
            (Probe::Image("/a".to_owned()), probed(Ok(Duration::from_millis(20)))),
            (Probe::Image("/b".to_owned()), probed(Err(ProbeProblem::Status(404)))),
            (Probe::BootService("http://a".to_owned()), probed(Ok(Duration::from_millis(250)))),
        ];
        let results = ProbeResults(results.into());
        metrics.probes(&results, "http://cache", Duration::from_secs(5));
        let text = metrics.text();
        for line in [
            "leafboot_probe_success{probe=\"image\",target=\"http://cache\"} 0\n",
            "leafboot_probe_success{probe=\"boot_service\",target=\"http://a\"} 1\n",
            "leafboot_probe_seconds{probe=\"boot_service\",target=\"http://a\"} 0.25\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        assert!(!text.contains("leafboot_probe_seconds{probe=\"image\""), "{text}");
        metrics.probes(&results, "http://cache", Duration::from_secs(60));
        assert!(!metrics.text().contains("leafboot_probe_success{"), "no machine waits any more");
    }
}
