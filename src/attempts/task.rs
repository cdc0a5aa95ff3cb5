//! Follows the ports' roles and links into the recorder, logs each stage that a machine reaches, and saves the attempts.
//!
//! A machine that begins anew again and again is logged as a summary. The stages of every attempt are in the API all the same.
//!
//! Must never: write a port's file more than once in two seconds, or log more than some lines a minute about one port.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use leafboot_core::attempt::{Attempt, AttemptId, PortHistory, Stage};
use leafboot_core::names::PortName;
use leafboot_core::observed::Links;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Recorder;
use super::file::AttemptsFile;
use super::publisher::Publisher;
use crate::events::Events;
use crate::port_services::PortRoles;

/// Between two writes of a file.
const SAVE_PERIOD: Duration = Duration::from_secs(2);
/// Events that come within this time are handled together.
const PAUSE: Duration = Duration::from_millis(50);
/// So many attempts of a port are logged stage by stage within [`SUMMARY_PERIOD`]. The others are summarised.
const ATTEMPTS_LOGGED: usize = 3;
/// Between two summaries.
const SUMMARY_PERIOD: Duration = Duration::from_secs(60);

/// What the task follows.
pub struct AttemptInputs {
    /// Which ports boot.
    pub roles: watch::Receiver<PortRoles>,
    /// Their carriers.
    pub links: watch::Receiver<Links>,
    /// Where what is new is published.
    pub events: Arc<Events>,
}

/// Runs until the process ends.
pub async fn run(recorder: Arc<Recorder>, file: AttemptsFile, mut inputs: AttemptInputs) -> Infallible {
    let (mut changes, mut booting) = (recorder.changes(), BTreeSet::new());
    let (mut logs, mut saver) = (BTreeMap::new(), Saver::new(file));
    let mut publisher = Publisher::knowing(&recorder.histories());
    let mut seen = BTreeMap::new();
    loop {
        follow(&recorder, &mut booting, &inputs.roles.borrow_and_update(), &inputs.links.borrow_and_update());
        let has_changed = changes.has_changed().unwrap_or_default();
        changes.mark_unchanged();
        if has_changed {
            let histories = recorder.changed_since(&mut seen);
            for (port, history) in &histories {
                publisher.publish(port, history, &inputs.events);
                logs.entry(port.clone()).or_insert_with(PortLog::default).log(port, history);
            }
            saver.changed(histories.into_keys());
        }
        saver.save_if_due(&recorder);
        tokio::select! {
            _ = inputs.roles.changed() => {}
            _ = inputs.links.changed() => {}
            // Seen by `has_changed`, together with what comes within the pause.
            _ = changes.changed() => changes.mark_changed(),
            () = sleep_until(saver.due.unwrap_or_else(Instant::now)), if saver.due.is_some() => {}
        }
        sleep(PAUSE).await;
    }
}

/// Passes the ports' boot states and carriers on to the recorder.
fn follow(recorder: &Recorder, booting: &mut BTreeSet<PortName>, roles: &PortRoles, links: &Links) {
    for name in roles.desired.keys() {
        let port = recorder.port(name);
        port.enter_boot();
        booting.insert(name.clone());
        if let Some(link) = links.get(name) {
            port.link(link.carrier, link.carrier_ups);
        }
    }
    // Until metal-core has pushed, a port that the document does not name may still be in boot.
    if roles.is_pushed {
        booting.retain(|name| {
            let is_desired = roles.desired.contains_key(name);
            if !is_desired {
                recorder.port(name).leave_boot();
            }
            is_desired
        });
    }
}

/// Saves the attempts of a port some time after they have changed.
struct Saver {
    file: AttemptsFile,
    /// The ports whose files are older than their attempts.
    unsaved: BTreeSet<PortName>,
    due: Option<Instant>,
    is_failing: bool,
}

impl Saver {
    fn new(file: AttemptsFile) -> Self {
        Self { file, unsaved: BTreeSet::new(), due: None, is_failing: false }
    }

    fn changed(&mut self, ports: impl Iterator<Item = PortName>) {
        self.unsaved.extend(ports);
        self.due.get_or_insert_with(|| Instant::now() + SAVE_PERIOD);
    }

    fn save_if_due(&mut self, recorder: &Recorder) {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        self.due = None;
        while let Some(port) = self.unsaved.pop_first() {
            if let Err(error) = self.file.save(&port, recorder.port(&port).history()) {
                if !self.is_failing {
                    warn!(%port, %error, "boot attempts: a file cannot be written; trying again");
                }
                self.is_failing = true;
                self.unsaved.insert(port);
                self.due = Some(Instant::now() + SUMMARY_PERIOD);
                return;
            }
        }
        if self.is_failing {
            self.is_failing = false;
            info!("boot attempts: the files are saved again");
        }
    }
}

/// What was logged of one port.
#[derive(Default)]
struct PortLog {
    attempt: Option<AttemptId>,
    stages: BTreeSet<Stage>,
    /// When the attempts that were logged stage by stage began.
    logged: Vec<Instant>,
    /// The port's attempts when a summary was last logged, and when that was.
    summarised: Option<(u64, Instant)>,
}

impl PortLog {
    fn log(&mut self, port: &PortName, history: &PortHistory) {
        let Some(attempt) = history.attempts().last() else { return };
        if self.attempt != Some(attempt.id) {
            self.attempt = Some(attempt.id);
            self.stages.clear();
            self.logged.retain(|at| at.elapsed() < SUMMARY_PERIOD);
            if self.logged.len() < ATTEMPTS_LOGGED {
                self.logged.push(Instant::now());
                self.summarised = None;
            } else {
                self.summarise(port, history);
                self.stages.extend(Stage::ALL);
            }
        }
        for record in &attempt.stages {
            if self.stages.insert(record.stage) {
                let ms = record.first.since(attempt.began) / 1000;
                let (stage, number) = (record.stage.as_str(), attempt.number);
                info!(%port, attempt = %attempt.id, number, stage, ms, seen = %record, "boot stage reached");
            }
        }
    }

    /// Logs how many attempts there were since the last summary.
    fn summarise(&mut self, port: &PortName, history: &PortHistory) {
        let (total, at) = *self.summarised.get_or_insert((history.total() - 1, Instant::now()));
        let last = history.attempts().rev().nth(1).and_then(Attempt::last_stage);
        if at.elapsed() >= SUMMARY_PERIOD {
            let (attempts, seconds) = (history.total() - total, at.elapsed().as_secs());
            let stage = last.map_or("none", |record| record.stage.as_str());
            warn!(%port, attempts, seconds, stage, "the machine begins its boot again and again");
            self.summarised = Some((history.total(), Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests;
