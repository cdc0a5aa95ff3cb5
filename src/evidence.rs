//! Collects what says why a machine hangs, while machines boot: SONiC's counters and LLDP once a second, and what probes found.
//!
//! Must never: read a database, or have anybody probed, while no machine boots.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leafboot_core::attempt::{Event, Moment, Outcome, PortHistory, Stage, Text};
use leafboot_core::counters::{PortCounters, Reading, Readings};
use leafboot_core::names::{AclName, PortName};
use leafboot_core::probe::Probe;
use leafboot_core::settings::Settings;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::attempts::Recorder;
use crate::db::counters::Counters;
use crate::kernel::clock;
use crate::relay::probes;

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two attempts to connect to the databases.
const RETRY: Duration = Duration::from_secs(10);
/// A machine that was last seen longer ago, in microseconds, no longer boots.
const SILENCE_MAX: u64 = 30 * 60 * 1_000_000;
/// The most paths that are probed.
const PATHS_MAX: usize = 8;

/// Where the evidence goes.
pub struct EvidenceOutputs {
    /// What was counted on each port where a machine boots.
    pub counters: watch::Sender<Arc<BTreeMap<PortName, PortCounters>>>,
    /// What is to be probed now.
    pub wanted: watch::Sender<BTreeSet<Probe>>,
}

/// Runs until the process ends.
pub async fn run(settings: Arc<Settings>, recorder: Arc<Recorder>, outputs: EvidenceOutputs) -> Infallible {
    let mut changes = recorder.changes();
    let mut source = CounterSource::new(&settings);
    let mut readings = Readings::default();
    let standing = if settings.relay.probes { probes::standing(&settings) } else { BTreeSet::new() };
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = clock::now().moment;
        let mut histories = recorder.histories();
        histories.retain(|_, history| is_active(history, now));
        if histories.is_empty() {
            set(&outputs.wanted, BTreeSet::new());
            set(&outputs.counters, Arc::default());
            source.close();
            let _ = changes.changed().await;
            continue;
        }
        let mut wanted = standing.clone();
        if settings.relay.probes {
            wanted.extend(paths(&histories).into_iter().map(Probe::Image));
        }
        set(&outputs.wanted, wanted);
        let reading = source.read(&histories.keys().cloned().collect()).await;
        record_lldp(&recorder, &histories, &reading);
        set(&outputs.counters, Arc::new(readings.add(&reading, &histories, now)));
        ticks.tick().await;
    }
}

fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|before| {
        let is_changed = *before != value;
        *before = value;
        is_changed
    });
}

/// Whether a machine boots on the port: its attempt goes on, and the machine was seen not long ago.
fn is_active(history: &PortHistory, now: Moment) -> bool {
    let attempt = history.current();
    let last = attempt.and_then(|attempt| attempt.stages.iter().map(|record| record.last).max());
    last.is_some_and(|last| now.since(last) < SILENCE_MAX)
}

/// The paths that machines were last redirected to, in the attempt that goes on or in the one before: a machine that resets
/// again and again is seldom at its kernel.
fn paths(histories: &BTreeMap<PortName, PortHistory>) -> BTreeSet<String> {
    let last = histories.values().flat_map(|history| history.attempts().rev().take(2));
    let redirected = last.filter_map(|attempt| {
        let record = attempt.last_stage()?;
        let request = record.detail.request()?;
        let is_image = matches!(record.stage, Stage::Kernel | Stage::Initrd | Stage::Image);
        let is_redirected = is_image && request.outcome == Outcome::Redirected;
        is_redirected.then(|| request.path.as_str().to_owned())
    });
    redirected.take(PATHS_MAX).collect()
}

fn record_lldp(recorder: &Recorder, histories: &BTreeMap<PortName, PortHistory>, reading: &Reading) {
    for (port, system) in &reading.lldp {
        let attempt = histories.get(port).and_then(PortHistory::current);
        if attempt.is_some_and(|attempt| attempt.stage(Stage::Lldp).is_none()) {
            recorder.port(port).record(&Event::Lldp(Text::new(system)));
        }
    }
}

/// SONiC's counters, over a connection that is made when it is needed.
struct CounterSource {
    database_config: PathBuf,
    acl: AclName,
    connection: Option<Counters>,
    /// No connection is tried before this time.
    retry_at: Option<Instant>,
}

impl CounterSource {
    fn new(settings: &Settings) -> Self {
        let (database_config, acl) = (settings.database_config.clone(), settings.acl.table.clone());
        Self { database_config, acl, connection: None, retry_at: None }
    }

    fn close(&mut self) {
        self.connection = None;
    }

    /// A reading; an empty one while there is none to be had.
    async fn read(&mut self, ports: &BTreeSet<PortName>) -> Reading {
        if self.connection.is_none() && self.retry_at.is_some_and(|at| at > Instant::now()) {
            return Reading::default();
        }
        let read = async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(Counters::connect(&self.database_config, &self.acl).await?),
            };
            connection.read(ports).await
        };
        match read.await {
            Ok(reading) => {
                if self.retry_at.take().is_some() {
                    info!("SONiC's counters can be read again");
                }
                reading
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    warn!(%error, "SONiC's counters cannot be read; trying again");
                }
                self.connection = None;
                self.retry_at = Some(Instant::now() + RETRY);
                Reading::default()
            }
        }
    }
}
