//! Metrics of boots: how they end, how long their stages take, and where each machine is now.
//!
//! Must never: decide what is wrong: `leafboot_core::verdict` does.

use std::collections::{BTreeMap, BTreeSet};

use leafboot_core::attempt::{PortHistory, Stage};
use leafboot_core::names::PortName;
use leafboot_core::verdict::{Level, Verdict, VerdictReason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Counter, Gauge, Metrics};

/// Histogram buckets in seconds: from a solicitation that comes at once to a large OS image over a slow link.
const BUCKETS: [f64; 12] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    port: String,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortStageLabels {
    port: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortVerdictLabels {
    port: String,
    verdict: &'static str,
    level: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct BootMetrics {
    attempts: Family<AttemptLabels, Counter>,
    stage_times: Family<StageLabel, Histogram>,
    stages: Family<PortStageLabels, Gauge>,
    verdicts: Family<PortVerdictLabels, Gauge>,
}

impl BootMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            attempts: Family::default(),
            stage_times: Family::new_with_constructor(histogram),
            stages: Family::default(),
            verdicts: Family::default(),
        };
        registry.register(
            "boot_attempts",
            "Boot attempts that have ended, by the last verdict on each",
            metrics.attempts.clone(),
        );
        registry.register_with_unit(
            "boot_stage",
            "Time from the beginning of a boot attempt until a stage is reached",
            Unit::Seconds,
            metrics.stage_times.clone(),
        );
        registry.register(
            "port_stage",
            "1 for the stage that the machine on a port has reached",
            metrics.stages.clone(),
        );
        registry.register(
            "port_verdict",
            "1 for the verdict on a port that boots a machine",
            metrics.verdicts.clone(),
        );
        metrics
    }
}

/// What is published of one port.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The port.
    pub port: &'a PortName,
    /// Its attempts.
    pub history: &'a PortHistory,
    /// The last stage of the attempt that goes on.
    pub stage: Option<Stage>,
    /// The verdict.
    pub verdict: &'a Verdict,
}

/// Counts the boots on all ports. One task has it.
#[derive(Debug)]
pub struct BootCounter {
    metrics: BootMetrics,
    ports: BTreeMap<PortName, PortBoots>,
}

/// What was counted of one port.
#[derive(Debug, Default)]
struct PortBoots {
    /// The attempts that have ended.
    ended: u64,
    /// The newest attempt whose stages were counted, and those stages.
    newest: (u64, BTreeSet<Stage>),
    /// What the gauges show.
    stage: Option<Stage>,
    verdict: Option<(VerdictReason, Level)>,
}

impl Metrics {
    /// The counter of boots. What is in `histories` was counted by the process before this one.
    pub fn boots(&self, histories: &BTreeMap<PortName, PortHistory>) -> BootCounter {
        let ports = histories.iter().map(|(port, history)| (port.clone(), PortBoots::after(history)));
        BootCounter { metrics: self.boots.clone(), ports: ports.collect() }
    }
}

impl BootCounter {
    /// Counts what is new, and publishes where all ports are. A port that is not in `boots` is not shown any more.
    pub fn update<'a>(&mut self, boots: impl Iterator<Item = Boot<'a>>) {
        let mut shown = BTreeSet::new();
        for boot in boots {
            let port = self.ports.entry(boot.port.clone()).or_default();
            port.count(&self.metrics, &boot);
            let is_booting = boot.verdict.reason != VerdictReason::NotBooting;
            let verdict = is_booting.then_some((boot.verdict.reason, boot.verdict.level));
            port.show(&self.metrics, boot.port, boot.stage, verdict);
            shown.insert(boot.port);
        }
        for (name, port) in self.ports.iter_mut().filter(|(name, _)| !shown.contains(name)) {
            port.show(&self.metrics, name, None, None);
        }
    }
}

impl PortBoots {
    fn after(history: &PortHistory) -> Self {
        let stages = history.attempts().last().into_iter().flat_map(|attempt| &attempt.stages);
        let stages = stages.map(|record| record.stage).collect();
        Self { ended: ended(history), newest: (history.total(), stages), ..Self::default() }
    }

    fn count(&mut self, metrics: &BootMetrics, boot: &Boot<'_>) {
        let ended = ended(boot.history);
        if ended > self.ended {
            let reason = self.verdict.map_or(boot.verdict.reason, |(reason, _)| reason);
            let labels = AttemptLabels { port: boot.port.to_string(), verdict: reason.as_str() };
            metrics.attempts.get_or_create(&labels).inc_by(ended - self.ended);
        }
        self.ended = ended;
        let (newest, stages) = &mut self.newest;
        for attempt in boot.history.attempts() {
            if attempt.number < *newest {
                continue;
            }
            if attempt.number != *newest {
                (*newest, *stages) = (attempt.number, BTreeSet::new());
            }
            for record in &attempt.stages {
                if stages.insert(record.stage) {
                    let seconds = record.first.since(attempt.began) as f64 / 1e6;
                    let label = StageLabel { stage: record.stage.as_str() };
                    metrics.stage_times.get_or_create(&label).observe(seconds);
                }
            }
        }
    }

    fn show(
        &mut self,
        metrics: &BootMetrics,
        port: &PortName,
        stage: Option<Stage>,
        verdict: Option<(VerdictReason, Level)>,
    ) {
        let stage_labels = |stage: Stage| PortStageLabels { port: port.to_string(), stage: stage.as_str() };
        if self.stage != stage {
            if let Some(old) = self.stage {
                metrics.stages.remove(&stage_labels(old));
            }
            if let Some(new) = stage {
                metrics.stages.get_or_create(&stage_labels(new)).set(1);
            }
            self.stage = stage;
        }
        let verdict_labels = |(reason, level): (VerdictReason, Level)| PortVerdictLabels {
            port: port.to_string(),
            verdict: reason.as_str(),
            level: level_name(level),
        };
        if self.verdict != verdict {
            if let Some(old) = self.verdict {
                metrics.verdicts.remove(&verdict_labels(old));
            }
            if let Some(new) = verdict {
                metrics.verdicts.get_or_create(&verdict_labels(new)).set(1);
            }
            self.verdict = verdict;
        }
    }
}

fn ended(history: &PortHistory) -> u64 {
    history.total() - u64::from(history.current().is_some())
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Waiting => "waiting",
        Level::Fault => "fault",
    }
}

#[cfg(test)]
mod tests {
    use leafboot_core::attempt::{Event, Moment, Now};

    use super::*;

    fn link(history: &mut PortHistory, carrier: bool, carriers: u32, seconds: u64) {
        let now = Now { moment: Moment(seconds * 1_000_000), unix_ms: seconds * 1000 };
        history.apply(&Event::Link { carrier, carriers }, now, 1);
    }

    fn solicit(history: &mut PortHistory, seconds: u64) {
        let now = Now { moment: Moment(seconds * 1_000_000), unix_ms: seconds * 1000 };
        let mac = leafboot_core::names::Mac([2, 0, 0, 0, 0, 1]);
        history.apply(&Event::Solicitation { from: "::".parse().unwrap(), mac }, now, 1);
    }

    #[test]
    fn an_attempt_counts_when_it_ends_with_its_last_verdict() {
        let metrics = Metrics::default();
        let port: PortName = "Ethernet0".parse().unwrap();
        let mut history = PortHistory::default();
        link(&mut history, true, 1, 1);
        // The process before has counted this attempt's link.
        let mut counter = metrics.boots(&BTreeMap::from([(port.clone(), history.clone())]));
        let mut update = |history: &PortHistory, stage, verdict: &Verdict| {
            counter.update([Boot { port: &port, history, stage, verdict }].into_iter());
            metrics.text()
        };
        solicit(&mut history, 4);
        let waiting = Verdict::waiting(VerdictReason::NoScriptRequest, "x");
        update(&history, Some(Stage::Solicitation), &waiting);
        let text = update(&history, Some(Stage::Solicitation), &waiting);
        for line in [
            "leafboot_port_stage{port=\"Ethernet0\",stage=\"solicitation\"} 1\n",
            "leafboot_port_verdict{port=\"Ethernet0\",verdict=\"NoScriptRequest\",level=\"waiting\"} 1\n",
            "leafboot_boot_stage_seconds_sum{stage=\"solicitation\"} 3.0\n",
            "leafboot_boot_stage_seconds_count{stage=\"solicitation\"} 1\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        assert!(
            !text.contains("leafboot_boot_attempts_total{") && !text.contains("stage=\"link\""),
            "{text}"
        );
        link(&mut history, false, 1, 9);
        let fault = Verdict::fault(VerdictReason::NoCarrier, "x");
        let text = update(&history, None, &fault);
        let ended = "leafboot_boot_attempts_total{port=\"Ethernet0\",verdict=\"NoScriptRequest\"} 1\n";
        assert!(text.contains(ended) && !text.contains("leafboot_port_stage{"), "{text}");
        // Attempts that begin and end between two updates count, too.
        for carriers in 2..5 {
            link(&mut history, true, carriers, 10);
            link(&mut history, false, carriers, 11);
        }
        let text = update(&history, None, &Verdict::ok(VerdictReason::NotBooting, "x"));
        let ended = "leafboot_boot_attempts_total{port=\"Ethernet0\",verdict=\"NoCarrier\"} 3\n";
        assert!(text.contains(ended) && !text.contains("leafboot_port_verdict{"), "{text}");
        assert!(text.contains("leafboot_boot_stage_seconds_count{stage=\"link\"} 3\n"), "{text}");
    }
}
