//! What every port's machine is doing, and what is wrong with it: computed from all that is known, published once, logged and
//! counted when it changes.
//!
//! Must never: compute a verdict itself; `leafboot_core::verdict` does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use leafboot_core::attempt::{PortHistory, Stage};
use leafboot_core::counters::PortCounters;
use leafboot_core::names::PortName;
use leafboot_core::observed::Links;
use leafboot_core::probe::ProbeResults;
use leafboot_core::status::{PortState, Status};
use leafboot_core::verdict::{
    Diagnosis, Evidence, LeafFacts, Level, PortDiagnosis, Verdict, VerdictReason, verdict,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::attempts::Recorder;
use crate::events::{EventKind, Events, PortEvent, time};
use crate::kernel::clock;
use crate::metrics::{Boot, Metrics};

/// Changes that come within this time are handled together.
const PAUSE: Duration = Duration::from_millis(50);
/// Verdicts also depend on the time.
const PERIOD: Duration = Duration::from_secs(1);
/// A port's verdict is logged at most once in this time, unless it is the first.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// What the diagnosis follows.
pub struct DiagnosisInputs {
    /// The ports' states.
    pub status: watch::Receiver<Status>,
    /// Their devices.
    pub links: watch::Receiver<Links>,
    /// What was counted.
    pub counters: watch::Receiver<Arc<BTreeMap<PortName, PortCounters>>>,
    /// What probes found.
    pub probes: watch::Receiver<Arc<ProbeResults>>,
    /// Where changed verdicts are published.
    pub events: Arc<Events>,
}

/// Runs until the process ends.
pub async fn run(
    facts: LeafFacts,
    recorder: Arc<Recorder>,
    metrics: Arc<Metrics>,
    mut inputs: DiagnosisInputs,
    diagnosis: watch::Sender<Arc<Diagnosis>>,
) -> Infallible {
    let mut changes = recorder.changes();
    let started = Instant::now();
    let mut boots = metrics.boots(&recorder.histories());
    let mut logs: BTreeMap<PortName, VerdictLog> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let histories = recorder.histories();
        let now = diagnose(&facts, &histories, &mut inputs);
        boots.update(now.iter().filter_map(|(port, diagnosis)| {
            let PortDiagnosis { stage, verdict, .. } = diagnosis;
            Some(Boot { port, history: histories.get(port)?, stage: *stage, verdict })
        }));
        logs.retain(|port, _| now.contains_key(port));
        for (port, port_diagnosis) in &now {
            logs.entry(port.clone()).or_default().log(port, port_diagnosis);
        }
        let is_booting = now.values().any(|port| port.verdict.reason != VerdictReason::NotBooting);
        let probes = if is_booting { Arc::clone(&inputs.probes.borrow()) } else { Arc::default() };
        metrics.probes(&probes, &facts.cache, started.elapsed());
        publish_changes(&diagnosis.borrow(), &now, &inputs.events);
        diagnosis.send_if_modified(|before| {
            let is_changed = **before != now;
            if is_changed {
                *before = Arc::new(now);
            }
            is_changed
        });
        let changed = async {
            tokio::select! {
                _ = inputs.status.changed() => {}
                _ = inputs.links.changed() => {}
                _ = inputs.counters.changed() => {}
                _ = inputs.probes.changed() => {}
                _ = changes.changed() => {}
            }
        };
        if is_booting {
            let _ = timeout(PERIOD, changed).await;
        } else {
            changed.await;
        }
        sleep(PAUSE).await;
    }
}

fn diagnose(
    facts: &LeafFacts,
    histories: &BTreeMap<PortName, PortHistory>,
    inputs: &mut DiagnosisInputs,
) -> Diagnosis {
    let (status, links) = (inputs.status.borrow_and_update(), inputs.links.borrow_and_update());
    let (counters, probes) = (inputs.counters.borrow_and_update(), inputs.probes.borrow_and_update());
    let (none, now) = (PortHistory::default(), clock::now().moment);
    let rates = image_rates(histories, &counters);
    let ports = status.ports.iter().map(|(name, status)| {
        let history = histories.get(name).unwrap_or(&none);
        let other_rates: Vec<f64> =
            rates.iter().filter(|(other, _)| **other != name).map(|(_, rate)| *rate).collect();
        let evidence = Evidence {
            status,
            link: links.get(name),
            history,
            counters: counters.get(name),
            probes: &probes,
            leaf: facts,
            other_rates: &other_rates,
            now,
        };
        let attempt = history.current().filter(|_| status.state != PortState::Released);
        let last = attempt.and_then(|attempt| attempt.last_stage());
        let diagnosis = PortDiagnosis {
            attempt: attempt.map(|attempt| attempt.id),
            number: attempt.map_or(0, |attempt| attempt.number),
            machine: attempt.and_then(|attempt| attempt.mac),
            stage: last.map(|last| last.stage),
            verdict: verdict(&evidence),
        };
        (name.clone(), diagnosis)
    });
    ports.collect()
}

/// Publishes the verdicts that have another reason than before.
fn publish_changes(before: &Diagnosis, now: &Diagnosis, events: &Events) {
    for (port, diagnosis) in now {
        let verdict = &diagnosis.verdict;
        if before.get(port).map(|before| before.verdict.reason) != Some(verdict.reason) {
            let event = PortEvent {
                port,
                attempt: diagnosis.attempt.map(|attempt| attempt.to_string()),
                number: diagnosis.attempt.map(|_| diagnosis.number),
                stage: diagnosis.stage.map(Stage::as_str),
                at: time(clock::now().unix_ms),
                message: None,
                verdict: Some(verdict),
            };
            events.publish(EventKind::Verdict, &event);
        }
    }
}

/// The rates at which machines receive their OS images.
fn image_rates<'a>(
    histories: &'a BTreeMap<PortName, PortHistory>,
    counters: &BTreeMap<PortName, PortCounters>,
) -> BTreeMap<&'a PortName, f64> {
    let is_at_image = |history: &PortHistory| {
        let last = history.current().and_then(|attempt| attempt.last_stage());
        last.is_some_and(|last| last.stage == Stage::Image)
    };
    let rate = |name| counters.get(name).map(|counters| counters.rate).filter(|rate| *rate > 0.0);
    let ports = histories.iter().filter(|(_, history)| is_at_image(history));
    ports.filter_map(|(name, _)| Some((name, rate(name)?))).collect()
}

/// The verdicts of one port that were logged.
#[derive(Default)]
struct VerdictLog {
    last: Option<(VerdictReason, Instant)>,
}

impl VerdictLog {
    /// Logs a verdict with another reason than the last one.
    fn log(&mut self, port: &PortName, diagnosis: &PortDiagnosis) {
        let Verdict { reason, message, level, evidence } = &diagnosis.verdict;
        if self.last.is_some_and(|(last, at)| last == *reason || at.elapsed() < LOG_PERIOD) {
            return;
        }
        let is_first = self.last.is_none();
        self.last = Some((*reason, Instant::now()));
        if is_first && *reason == VerdictReason::NotBooting {
            return;
        }
        let attempt = diagnosis.attempt.map(|attempt| attempt.to_string()).unwrap_or_default();
        let machine = diagnosis.machine.map(|mac| mac.to_string()).unwrap_or_default();
        let stage = diagnosis.stage.map_or("none", Stage::as_str);
        let (reason, evidence, number) = (reason.as_str(), evidence.join("; "), diagnosis.number);
        match level {
            Level::Fault => {
                warn!(%port, attempt, number, machine, stage, reason, evidence, "verdict: {message}");
            }
            Level::Ok | Level::Waiting => {
                info!(%port, attempt, number, machine, stage, reason, evidence, "verdict: {message}");
            }
        }
    }
}
