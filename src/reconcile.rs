//! The reconciler. A push, a changed row, the kernel or a timer starts a pass. A pass reads SONiC's databases, makes the plan,
//! writes its steps, and publishes each port's state. It is level-triggered: the plan does not depend on earlier passes.
//!
//! Must never: end because a database is unreachable, or let one port's fault delay another port.

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

/// The longest time between two passes. A pass without an event finds the changes of FLUSHDB and of lost events.
const PASS_AGAIN: Duration = Duration::from_secs(5);
/// The pause between two attempts to connect to the databases.
const RECONNECT: Duration = Duration::from_secs(1);
/// The shortest time between two writes of the same step. A step comes again when SONiC is slow or another program undoes it.
/// SONiC's daemons retry after a second (`cfgmgr/intfmgrd.cpp: SELECT_TIMEOUT`, swss e6b0c5b5d), so an earlier write would
/// only keep them busy.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// The states that the reconciler watches.
#[derive(Clone)]
pub struct ReconcilerInputs {
    /// The desired state; none if metal-core has never pushed a document.
    pub desired: watch::Receiver<Option<Desired>>,
    /// The kernel's devices.
    pub links: watch::Receiver<Links>,
    /// How far each port's Router Advertisements are.
    pub ra: watch::Receiver<RaStates>,
}

/// What the reconciler publishes.
pub struct ReconcilerOutputs {
    /// Every port's state after the last pass.
    pub status: watch::Sender<Status>,
    /// The leaf's `PORT` rows; none while CONFIG_DB cannot be read.
    pub ports: watch::Sender<Option<PortRows>>,
    /// The desired ports without a router interface in the ASIC, as of the last pass.
    pub unrouted: watch::Sender<BTreeSet<PortName>>,
    /// The metrics of ports and repairs.
    pub metrics: Arc<Metrics>,
}

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WakeReason {
    Connected,
    Desired,
    Links,
    Advertisements,
    Row,
    Timer,
    /// The connection to a database is lost.
    Lost,
}

/// The steps written in the last [`WRITE_AGAIN`], by row, with the time of each.
#[derive(Default)]
struct RecentWrites(BTreeMap<RowKey, Vec<(Step, Instant)>>);

/// The state that the reconciler keeps between passes, also when a connection is lost.
#[derive(Default)]
struct PassMemory {
    written: RecentWrites,
    refusals: RefusedWrites,
    repairs: Repairs,
    uplinks: Uplinks,
    /// A denying rule of the boot ACL has been missing for too long, and the log says so.
    evict_ports: bool,
}

impl PassMemory {
    /// When the next refused write or repair is due.
    fn next(&self) -> Option<std::time::Instant> {
        let repair = || self.repairs.next(Instant::now().into_std());
        self.refusals.next().or_else(repair)
    }
}

impl RecentWrites {
    /// The steps that were not written in the last [`WRITE_AGAIN`].
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

/// Writes the steps of one pass.
struct StepWriter<'a> {
    db: &'a mut Db,
    refusals: &'a mut RefusedWrites,
    written: &'a mut RecentWrites,
}

impl StepWriter<'_> {
    /// Writes the plan's steps that are due, and logs each.
    async fn write(&mut self, steps: &[Step], woke: WakeReason) -> Result<(), DbError> {
        let now = Instant::now();
        self.refusals.forget(steps, now.into_std());
        let mut steps = self.written.due(self.refusals.due(steps, now.into_std()));
        if steps.is_empty() {
            return Ok(());
        }
        let refused = self.db.apply(&steps).await?;
        let refused_rows: BTreeSet<RowKey> = refused.iter().map(|refused| refused.key.clone()).collect();
        for refusal in self.refusals.record(&steps, refused, now.into_std()) {
            warn!(%refusal, "Redis refused a write to CONFIG_DB; leafboot tries again after a pause");
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
pub async fn run(settings: &Settings, mut inputs: ReconcilerInputs, outputs: ReconcilerOutputs) {
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
            warn!(error, reason, "SONiC's databases cannot be used; the boot ACL stays as it is");
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

/// Makes passes over one connection until it is lost.
async fn run_connected(
    mut db: Db,
    settings: &Settings,
    inputs: &mut ReconcilerInputs,
    outputs: &ReconcilerOutputs,
    memory: &mut PassMemory,
) -> Result<(), DbError> {
    info!(database_config = %Path::display(&settings.database_config), "connected to SONiC's databases");
    let mut woke = WakeReason::Connected;
    while woke != WakeReason::Lost {
        pass(&mut db, settings, inputs, outputs, memory, woke).await?;
        let sooner = memory.next().map(|again| again.saturating_duration_since(std::time::Instant::now()));
        woke = wake(&mut db, inputs, PASS_AGAIN.min(sooner.unwrap_or(PASS_AGAIN))).await;
    }
    Ok(())
}

/// Waits for the next reason to make a pass, at most `pass_again`.
async fn wake(db: &mut Db, inputs: &mut ReconcilerInputs, pass_again: Duration) -> WakeReason {
    // A closed channel means that the process is ending. Then the timer wakes the reconciler.
    tokio::select! {
        Ok(()) = inputs.desired.changed() => WakeReason::Desired,
        Ok(()) = inputs.links.changed() => WakeReason::Links,
        Ok(()) = inputs.ra.changed() => WakeReason::Advertisements,
        alive = db.changed() => if alive { WakeReason::Row } else { WakeReason::Lost },
        () = sleep(pass_again) => WakeReason::Timer,
    }
}

/// Makes one pass: reads the databases, makes the plan, writes its steps, publishes the states.
async fn pass(
    db: &mut Db,
    settings: &Settings,
    inputs: &mut ReconcilerInputs,
    outputs: &ReconcilerOutputs,
    memory: &mut PassMemory,
    woke: WakeReason,
) -> Result<(), DbError> {
    let vrf = &settings.boot.vrf;
    // The snapshot is dropped before the plan is made. On a large leaf it is the largest thing in memory.
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
                "a denying rule of the boot ACL is missing: all ports leave the boot VRF until it is back"
            ),
            false => info!("all denying rules of the boot ACL are back: ports may enter the boot VRF again"),
        }
    }
    let facts =
        Facts { desired: desired.as_ref(), observed: &observed, links: &links, ra: &ra, remedies: &remedies };
    let plan = Plan::new(facts, settings);
    StepWriter { db, refusals: &mut memory.refusals, written: &mut memory.written }
        .write(&plan.steps, woke)
        .await?;
    let attempts = memory.repairs.record(&plan, &remedies, Instant::now().into_std());
    log_repairs(&attempts, &outputs.metrics);
    let ports = observed.initialized.then(|| observed.port_rows());
    if let (Some(ports), None) = (&ports, outputs.ports.borrow().as_ref()) {
        warn_of_unknown_ports(&settings.boot, ports);
    }
    outputs.ports.send_replace(ports);
    let unrouted = unrouted(desired.as_ref(), &observed);
    outputs.unrouted.send_if_modified(|before| std::mem::replace(before, unrouted.clone()) != unrouted);
    publish(outputs, |before| {
        Status::new(desired.as_ref(), &observed, &plan, &ra, vrf, before).with_refusals(&memory.refusals)
    });
    Ok(())
}

/// Logs and counts the repairs that have begun.
fn log_repairs(attempts: &[RepairAttempt], metrics: &Metrics) {
    for RepairAttempt { subject, number, fact, is_recreation } in attempts {
        let fact = fact.as_ref().map(ToString::to_string).unwrap_or_default();
        match is_recreation {
            false => {
                warn!(%subject, attempt = number, fact, "repair: writing the row of a missing fact again")
            }
            true => {
                warn!(%subject, attempt = number, fact, "repair: recreating what a missing fact belongs to")
            }
        }
        metrics.repaired(*is_recreation);
    }
}

/// The desired ports without a router interface in the ASIC.
fn unrouted(desired: Option<&Desired>, observed: &Observed) -> BTreeSet<PortName> {
    let is_routed = |port: &&PortName| observed.ports.get(*port).is_some_and(|port| port.router_interface);
    let desired = desired.into_iter().flat_map(|desired| desired.ports.keys());
    desired.filter(|port| !is_routed(port)).cloned().collect()
}

/// Warns of names in `boot.protected` that are no ports of the leaf.
fn warn_of_unknown_ports(boot: &Boot, ports: &PortRows) {
    for name in boot.protected.iter().filter(|name| desired::resolve(name, ports).is_none()) {
        warn!(
            reason = desired::unknown_port_message(name, ports),
            "boot.protected has a name that protects nothing"
        );
    }
}

/// Publishes a new status, and logs each port whose state has changed.
fn publish(
    ReconcilerOutputs { status, metrics, .. }: &ReconcilerOutputs,
    new: impl FnOnce(&Status) -> Status,
) {
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
        assert!(
            written.due(vec![step("Ethernet0")]).is_empty(),
            "another row's write in between changes nothing"
        );
        let other = Step::DeleteAgain(RowKey::Interface("Ethernet0".parse().unwrap()));
        assert_eq!(written.due(vec![other.clone()]).len(), 1);
        written.record(&[other]);
        assert!(
            written.due(vec![step("Ethernet0")]).is_empty(),
            "another step of the same row in between changes nothing"
        );
    }
}
