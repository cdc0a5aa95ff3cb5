//! The reconciler: woken by a push, a row, the kernel or the clock, it observes, plans and applies, and publishes
//! what it saw. Level-triggered: a pass needs nothing of the pass before.
//!
//! Must never: end because a database is away, or let one port's trouble hold back another's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::db::{Db, DbError};
use crate::kernel::routes;
use crate::metrics::Metrics;
use leafboot_core::desired::{self, Desired, PortRows};
use leafboot_core::names::PortName;
use leafboot_core::observed::{Links, Observed};
use leafboot_core::plan::{self, Facts, Plan, RepairAttempt, Repairs, Step};
use leafboot_core::port_role::RaStates;
use leafboot_core::refused_writes::RefusedWrites;
use leafboot_core::rows::RowKey;
use leafboot_core::settings::{Boot, Settings};
use leafboot_core::status::{AgentReason, Condition, Status};
use leafboot_core::uplinks::Uplinks;

/// FLUSHDB and lost events are found by looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between attempts to reach databases that are away.
const RECONNECT: Duration = Duration::from_secs(1);
/// The same steps again and again: SONiC is slow, or somebody undoes them. Its daemons look again after a second
/// (`cfgmgr/intfmgrd.cpp: SELECT_TIMEOUT`), so sooner is of no use and keeps them from their work.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// What the reconciler follows.
#[derive(Clone)]
pub struct Inputs {
    /// What metal-core wants.
    pub desired: watch::Receiver<Option<Desired>>,
    /// What the kernel shows.
    pub links: watch::Receiver<Links>,
    /// How far the advertisements are.
    pub ra: watch::Receiver<RaStates>,
}

/// What the reconciler publishes.
pub struct Outputs {
    /// Every port's state after the last pass.
    pub status: watch::Sender<Status>,
    /// The leaf's ports; none while CONFIG_DB cannot be read.
    pub ports: watch::Sender<Option<PortRows>>,
    /// The desired ports that the ASIC has no router interface on, as the last pass has seen it.
    pub unrouted: watch::Sender<BTreeSet<PortName>>,
    /// Where the ports are counted.
    pub metrics: Arc<Metrics>,
}

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woke {
    Connected,
    Desired,
    Links,
    Advertisements,
    Row,
    Timer,
    /// The subscription ended: the databases are gone.
    Lost,
}

/// What was written of each row, and when: within [`WRITE_AGAIN`].
#[derive(Default)]
struct RecentWrites(BTreeMap<RowKey, Vec<(Step, Instant)>>);

/// What outlives a pass, and a connection too.
#[derive(Default)]
struct PassMemory {
    written: RecentWrites,
    refusals: RefusedWrites,
    repairs: Repairs,
    uplinks: Uplinks,
    /// A denying rule has been missing for too long.
    evict_ports: bool,
}

impl PassMemory {
    /// When something may be tried that may not be tried now.
    fn next(&self) -> Option<std::time::Instant> {
        let repair = || self.repairs.next(Instant::now().into_std());
        self.refusals.next().or_else(repair)
    }
}

impl RecentWrites {
    /// The steps that are to be written now: not those that were written a moment ago.
    fn due(&mut self, steps: Vec<Step>) -> Vec<Step> {
        self.0.values_mut().for_each(|written| written.retain(|(_, at)| at.elapsed() < WRITE_AGAIN));
        self.0.retain(|_, written| !written.is_empty());
        let is_written =
            |step: &Step| self.0.get(step.key()).into_iter().flatten().any(|(last, _)| last == step);
        steps.into_iter().filter(|step| !is_written(step)).collect()
    }

    fn record(&mut self, steps: &[Step]) {
        let now = Instant::now();
        for step in steps {
            self.0.entry(step.key().clone()).or_default().push((step.clone(), now));
        }
    }
}

/// Where a pass writes, and what it knows of the writes before.
struct Writer<'a> {
    db: &'a mut Db,
    refusals: &'a mut RefusedWrites,
    written: &'a mut RecentWrites,
}

impl Writer<'_> {
    /// Writes those of a plan's steps whose time has come.
    async fn write(&mut self, steps: &[Step], woke: Woke) -> Result<(), DbError> {
        let now = Instant::now();
        self.refusals.forget(steps, now.into_std());
        let mut steps = self.written.due(self.refusals.due(steps, now.into_std()));
        if steps.is_empty() {
            return Ok(());
        }
        let refused = self.db.apply(&steps).await?;
        let refused_rows: BTreeSet<RowKey> = refused.iter().map(|refused| refused.key.clone()).collect();
        for refusal in self.refusals.record(&steps, refused, now.into_std()) {
            warn!(%refusal, "a write is refused; it is tried again after a pause");
        }
        steps.retain(|step| !refused_rows.contains(step.key()));
        for step in &steps {
            info!(%step, ?woke, "wrote CONFIG_DB");
        }
        self.written.record(&steps);
        Ok(())
    }
}

/// Reconciles until the process ends.
pub async fn run(settings: &Settings, mut inputs: Inputs, outputs: Outputs) {
    let mut memory = PassMemory::default();
    loop {
        let error = match Db::connect(&settings.database_config).await {
            Ok(db) => match run_connected(db, settings, &mut inputs, &outputs, &mut memory).await {
                Ok(()) => Condition::new(
                    AgentReason::DatabaseUnreachable,
                    "the connection to SONiC's databases was lost",
                ),
                Err(error) => condition(&error),
            },
            Err(error) => condition(&error),
        };
        outputs.ports.send_replace(None);
        let is_new = outputs.status.borrow().database_error.as_ref() != Some(&error);
        if is_new {
            let Condition { reason, message: error, .. } = &error;
            warn!(error, reason, "the databases cannot be used; isolation stays as it is");
        }
        outputs.status.send_modify(|status| *status = status.without_database(&error));
        outputs.metrics.ports(&outputs.status.borrow());
        sleep(RECONNECT).await;
    }
}

/// Why the databases cannot be used, for the API.
fn condition(error: &DbError) -> Condition {
    let reason = match error {
        DbError::ConfigFile { .. } | DbError::PasswordFile { .. } | DbError::ConfigContent { .. } => {
            AgentReason::DatabaseConfigUnusable
        }
        DbError::Connect { .. } | DbError::Command { .. } => AgentReason::DatabaseUnreachable,
    };
    Condition::new(reason, error.to_string())
}

/// Passes over one connection, until it is lost.
async fn run_connected(
    mut db: Db,
    settings: &Settings,
    inputs: &mut Inputs,
    outputs: &Outputs,
    memory: &mut PassMemory,
) -> Result<(), DbError> {
    info!(database_config = %Path::display(&settings.database_config), "connected to SONiC's databases");
    let mut woke = Woke::Connected;
    while woke != Woke::Lost {
        pass(&mut db, settings, inputs, outputs, memory, woke).await?;
        let sooner = memory.next().map(|again| again.saturating_duration_since(std::time::Instant::now()));
        woke = wake(&mut db, inputs, LOOK_AGAIN.min(sooner.unwrap_or(LOOK_AGAIN))).await;
    }
    Ok(())
}

/// Waits for a reason to look again, at most so long.
async fn wake(db: &mut Db, inputs: &mut Inputs, look_again: Duration) -> Woke {
    // A closed channel means that the process is ending: then the timer is reason enough.
    tokio::select! {
        Ok(()) = inputs.desired.changed() => Woke::Desired,
        Ok(()) = inputs.links.changed() => Woke::Links,
        Ok(()) = inputs.ra.changed() => Woke::Advertisements,
        alive = db.changed() => if alive { Woke::Row } else { Woke::Lost },
        () = sleep(look_again) => Woke::Timer,
    }
}

/// Observe, plan, apply, publish.
async fn pass(
    db: &mut Db,
    settings: &Settings,
    inputs: &mut Inputs,
    outputs: &Outputs,
    memory: &mut PassMemory,
    woke: Woke,
) -> Result<(), DbError> {
    let vrf = &settings.boot.vrf;
    // The rows are gone before the plan is made: on a large leaf they are the largest thing that this process holds.
    let observed = Observed::new(&db.snapshot().await?, settings);
    let uplinks = memory.uplinks.update(settings, &observed, routes::to, Instant::now().into_std());
    let desired = inputs.desired.borrow_and_update().clone();
    let is_in_vrf =
        |port: &PortName| observed.ports.get(port).is_some_and(|port| plan::is_managed(port, vrf));
    let desired = desired.map(|desired| desired.reject_uplinks(&uplinks, is_in_vrf));
    let links = inputs.links.borrow_and_update().clone();
    let ra = inputs.ra.borrow_and_update().clone();
    let remedies = memory.repairs.remedies(Instant::now().into_std(), memory.refusals.is_empty());
    if remedies.evict_ports != memory.evict_ports {
        memory.evict_ports = remedies.evict_ports;
        match memory.evict_ports {
            true => warn!(
                "a denying rule of the boot ACL stays away: the ports leave the boot VRF until it is back"
            ),
            false => info!("the boot ACL's denying rules are back: the ports may be in the boot VRF"),
        }
    }
    let facts =
        Facts { desired: desired.as_ref(), observed: &observed, links: &links, ra: &ra, remedies: &remedies };
    let plan = Plan::new(facts, settings);
    Writer { db, refusals: &mut memory.refusals, written: &mut memory.written }
        .write(&plan.steps, woke)
        .await?;
    let attempts = memory.repairs.record(&plan, &remedies, Instant::now().into_std());
    log_repairs(&attempts, &outputs.metrics);
    let ports = observed.initialized.then(|| observed.port_rows());
    if let (Some(ports), None) = (&ports, outputs.ports.borrow().as_ref()) {
        warn_of_unknown(&settings.boot, ports);
    }
    outputs.ports.send_replace(ports);
    let unrouted = unrouted(desired.as_ref(), &observed);
    outputs.unrouted.send_if_modified(|before| std::mem::replace(before, unrouted.clone()) != unrouted);
    publish(outputs, |before| {
        Status::new(desired.as_ref(), &observed, &plan, &ra, vrf, before).with_refusals(&memory.refusals)
    });
    Ok(())
}

/// Logs which repairs have begun, and counts them.
fn log_repairs(attempts: &[RepairAttempt], metrics: &Metrics) {
    for RepairAttempt { subject, number, fact, is_recreation } in attempts {
        let fact = fact.as_ref().map(ToString::to_string).unwrap_or_default();
        match is_recreation {
            false => warn!(%subject, attempt = number, fact, "repairing: the row is written again"),
            true => warn!(%subject, attempt = number, fact, "repairing: it is taken out and made again"),
        }
        metrics.repaired(*is_recreation);
    }
}

/// The desired ports that the ASIC has no router interface on.
fn unrouted(desired: Option<&Desired>, observed: &Observed) -> BTreeSet<PortName> {
    let is_routed = |port: &&PortName| observed.ports.get(*port).is_some_and(|port| port.router_interface);
    let desired = desired.into_iter().flat_map(|desired| desired.ports.keys());
    desired.filter(|port| !is_routed(port)).cloned().collect()
}

/// A misspelt name protects nothing.
fn warn_of_unknown(boot: &Boot, ports: &PortRows) {
    for name in boot.protected.iter().filter(|name| desired::resolve(name, ports).is_none()) {
        warn!(
            reason = desired::unknown_port_message(name, ports),
            "boot.protected protects nothing with this name"
        );
    }
}

/// Publishes a new status and logs what changed of each port.
fn publish(Outputs { status, metrics, .. }: &Outputs, new: impl FnOnce(&Status) -> Status) {
    let new = new(&status.borrow());
    metrics.ports(&new);
    if status.borrow().anycast != new.anycast {
        let waiting = new.anycast.as_ref().map_or("nothing", |condition| &condition.message);
        info!(waiting, "boot.anycast: what it waits for has changed");
    }
    for (port, now) in &new.ports {
        if status.borrow().ports.get(port) != Some(now) {
            let waiting = now.waiting.as_ref().map(|condition| condition.message.as_str());
            let waiting = waiting.or(now.message.as_deref()).unwrap_or_default();
            let state = now.state.as_str();
            info!(%port, state, settled = now.settled, advertising = now.advertising, waiting, "port state changed");
        }
    }
    status.send_replace(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_again_only_after_a_while_whatever_else_is_written() {
        let step = |name: &str| Step::Delete(RowKey::Interface(name.parse().unwrap()));
        let mut written = RecentWrites::default();
        written.record(&[step("Ethernet0")]);
        assert_eq!(written.due(vec![step("Ethernet0"), step("Ethernet4")]), [step("Ethernet4")]);
        written.record(&[step("Ethernet4")]);
        assert!(written.due(vec![step("Ethernet0")]).is_empty(), "two writers in turns are no news");
        let other = Step::DeleteAgain(RowKey::Interface("Ethernet0".parse().unwrap()));
        assert_eq!(written.due(vec![other.clone()]).len(), 1);
        written.record(&[other]);
        assert!(written.due(vec![step("Ethernet0")]).is_empty(), "nor are two steps of one row");
    }
}
