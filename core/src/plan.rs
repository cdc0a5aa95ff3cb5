//! The plan, computed from the desired and the observed state: the steps that may be done now, and what ports wait for.
//! `plan/acl`, `plan/enter` and `plan/leave` have every ordering rule, each with the SONiC function that forces it.
//!
//! SONiC's sources were read at swss e6b0c5b5d, swss-common 85a39d80 and host-services c2a4cdfe (`scripts/caclmgrd`);
//! `docs/sonic.md` lists them by release.
//!
//! Must never: contain a step whose facts are not there yet, or a step on an unmanaged row. The one exception are the rows on a
//! port that metal-core has just pushed: the push says that the port is leafboot's.

mod acl;
mod acl_rules;
mod addresses;
mod anycast;
mod enter;
mod leave;
mod repair;
mod retire;
mod rewrite;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::desired::Desired;
use crate::names::{LoopbackName, PortName, VrfName};
use crate::observed::{Base, Links, Observed, ObservedPort};
use crate::port_role::RaStates;
use crate::rows::{Fields, RowKey};
use crate::settings::Settings;

use self::acl::AclState;
pub use self::repair::{Remedies, RepairAttempt, Repairs, Subject};
pub use self::retire::Retirement;
pub use self::waiting::Waiting;

/// What to do now, and what to wait for. The plan is level-triggered: the same facts always give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Writes to CONFIG_DB that may be done now, in this order.
    pub steps: Vec<Step>,
    /// The fact that each port waits for. A port that waits for nothing is not in it.
    pub waiting: BTreeMap<PortName, Waiting>,
    /// The fact that the anycast address waits for.
    pub anycast: Option<(LoopbackName, Waiting)>,
    /// The desired ports that are complete.
    pub unchanged: BTreeSet<PortName>,
    /// The missing facts that a repair may bring back, and a missing denying rule of the boot ACL.
    pub missing: BTreeMap<Subject, Waiting>,
    /// The subjects that a repair recreates and that SONiC has removed by now.
    pub removed: BTreeSet<Subject>,
}

/// Everything that a plan is computed from, apart from the settings.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The desired state; none if metal-core has never pushed a document.
    pub desired: Option<&'a Desired>,
    /// The rows and facts in SONiC's databases.
    pub observed: &'a Observed,
    /// The kernel's devices.
    pub links: &'a Links,
    /// How far each port's Router Advertisements are.
    pub ra: &'a RaStates,
    /// What to repair in this pass.
    pub remedies: &'a Remedies,
}

/// One write to one row of CONFIG_DB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sets these fields of the row.
    Set(RowKey, Fields),
    /// Deletes these fields of the row.
    Clear(RowKey, BTreeSet<String>),
    /// Deletes the row.
    Delete(RowKey),
    /// Announces the row's deletion again, unless the row is there. SONiC's daemons get no event of rows that FLUSHDB deletes.
    DeleteAgain(RowKey),
}

/// How far a port or the loopback is on its way into the boot VRF, or out of it.
enum Progress {
    /// These steps are next.
    Steps(Vec<Step>),
    /// This fact must come before the next step.
    Waits(Waiting),
    /// Nothing is left to do.
    Done,
}

impl Plan {
    /// Computes the plan. Without a desired state no port enters or leaves the boot VRF. The plan then only keeps the boot ACL
    /// on the ports in the boot VRF, and says what SONiC still has of ports that were on their way out.
    pub fn new(facts: Facts<'_>, settings: &Settings) -> Self {
        match facts.desired {
            Some(desired) => Self::of(desired, facts, settings),
            None => {
                let mut plan = Self::of(&Desired::before_first_push(), facts, settings);
                // Ports that are in the boot VRF stay behind the ACL, also those that leafboot has not put there.
                plan.steps.retain(|step| step.key().is_acl());
                Self { steps: plan.steps, waiting: plan.waiting, missing: plan.missing, ..Self::default() }
            }
        }
    }

    fn of(desired: &Desired, facts: Facts<'_>, settings: &Settings) -> Self {
        let mut plan = Self::default();
        let Facts { observed, remedies, .. } = facts;
        if !observed.initialized {
            plan.waiting =
                desired.ports.keys().map(|port| (port.clone(), Waiting::ConfigDbNotLoaded)).collect();
            return plan;
        }
        let (acl, steps) = AclState::new(desired, observed, remedies, settings);
        plan.steps = steps;
        plan.missing.clone_from(&acl.missing);
        plan.removed.clone_from(&acl.removed);
        let context = Context { facts, settings, desired, acl };
        context.plan_vrf(&mut plan);
        context.plan_anycast(&mut plan);
        for (name, port) in &observed.ports {
            let prefix = desired.prefix(name);
            let progress = match prefix {
                Some(prefix) => context.enter(name, port, prefix),
                None if desired.releases(name) => context.leave(name, port),
                // No document releases this port. If it was on its way out, say what SONiC still has of it.
                None if is_managed(port, &settings.boot.vrf) => Progress::Done,
                None => context.await_removal(name, port),
            };
            match progress {
                Progress::Steps(steps) => plan.steps.extend(steps),
                Progress::Waits(fact) => {
                    let fact = context.or_intfmgrd_blocked(name, fact);
                    let subject = Subject::Port(name.clone());
                    let rewrite = context.rewrite(name, &fact);
                    let waiting = plan.await_fact(subject, fact, rewrite, remedies);
                    plan.waiting.insert(name.clone(), waiting);
                }
                Progress::Done if prefix.is_some() => {
                    plan.unchanged.insert(name.clone());
                }
                Progress::Done => {}
            }
            if context.is_removed(name, port) {
                plan.removed.insert(Subject::Port(name.clone()));
            }
        }
        let unknown = desired.ports.keys().filter(|name| !observed.ports.contains_key(name));
        plan.waiting.extend(unknown.map(|name| (name.clone(), Waiting::PortRowMissing)));
        plan
    }

    /// Records a missing fact that the step `rewrite` may bring back, and adds that step if it is due. Returns the fact to show.
    fn await_fact(
        &mut self,
        subject: Subject,
        fact: Waiting,
        rewrite: Option<Step>,
        remedies: &Remedies,
    ) -> Waiting {
        let Some(step) = rewrite else { return fact };
        if remedies.rewrite.contains(&subject) {
            self.steps.push(step);
        }
        let attempt = remedies.attempts.get(&subject).copied();
        self.missing.insert(subject, fact.clone());
        match attempt {
            Some(attempt) => Waiting::Repairing { attempt, fact: Box::new(fact) },
            None => fact,
        }
    }

    /// Whether the plan has a step for this port.
    pub fn touches(&self, port: &PortName) -> bool {
        self.steps.iter().any(|step| step.port() == Some(port))
    }
}

impl Step {
    /// The row that the step writes.
    pub fn key(&self) -> &RowKey {
        let (Self::Set(key, _) | Self::Clear(key, _) | Self::Delete(key) | Self::DeleteAgain(key)) = self;
        key
    }

    /// The port that the row belongs to; none for a row that all ports share.
    pub fn port(&self) -> Option<&PortName> {
        self.key().port()
    }

    /// The row that must be in CONFIG_DB before this step is done.
    pub fn needs(&self) -> Option<RowKey> {
        match self {
            Self::Set(key, _) => key.needs(),
            Self::Clear(..) | Self::Delete(_) | Self::DeleteAgain(_) => None,
        }
    }
}

/// Whether leafboot manages the port: its base row names the boot VRF, or intfmgrd has bound it to the boot VRF.
pub fn is_managed(port: &ObservedPort, vrf: &VrfName) -> bool {
    port.base == Base::Ours || port.bound_vrf.as_deref() == Some(vrf.as_str())
}

/// Whether the ASIC still has the router interface of a port that no row of leafboot and no fact of intfmgrd names any more.
/// An unmanaged row may be there already. Its own router interface comes only after intfmgrd has bound the port.
fn has_leftover_interface(port: &ObservedPort) -> bool {
    port.base != Base::Ours && port.bound_vrf.is_none() && port.router_interface
}

/// Everything that a port's progress depends on.
struct Context<'a> {
    facts: Facts<'a>,
    settings: &'a Settings,
    desired: &'a Desired,
    acl: AclState<'a>,
}

impl Context<'_> {
    fn vrf(&self) -> &VrfName {
        &self.settings.boot.vrf
    }

    /// Plans the VRF's row and its repair.
    fn plan_vrf(&self, plan: &mut Plan) {
        let Facts { observed, remedies, .. } = self.facts;
        plan.steps.extend(self.vrf_step());
        if self.desired.ports.is_empty() {
            return;
        }
        let row = || RowKey::Vrf(self.vrf().clone());
        let vrf = &observed.vrf;
        // vrfmgrd deletes its VRF_TABLE row when it begins to delete the VRF (`cfgmgr/vrfmgr.cpp: VrfMgr::doTask`), so here it
        // has not seen the deletion yet.
        let is_deletion_unseen = !vrf.row && vrf.in_kernel && vrf.in_asic;
        if is_deletion_unseen {
            let rewrite = Some(Step::DeleteAgain(row()));
            plan.await_fact(Subject::Vrf, Waiting::VrfGone(self.vrf().clone()), rewrite, remedies);
        } else if vrf.row
            && let Some(fact @ Waiting::VrfDeviceDown(_)) = self.vrf_device_blocker()
        {
            let rewrite = Some(Step::Set(row(), Fields::new()));
            plan.await_fact(Subject::Vrf, fact, rewrite, remedies);
        }
        if remedies.recreate.contains(&Subject::Vrf) {
            let is_used = observed.ports.values().any(|port| is_managed(port, self.vrf()));
            let is_empty = !is_used && observed.loopback.bound_vrf.as_deref() != Some(self.vrf().as_str());
            if vrf.row && is_empty {
                plan.steps.push(Step::Delete(row()));
            } else if !vrf.row && !vrf.in_kernel && !vrf.in_asic {
                plan.removed.insert(Subject::Vrf);
            }
        }
    }

    /// The fact to show: `fact`, or `IntfmgrdBlocked` if an unreadable row before the port's rows keeps intfmgrd from `fact`.
    fn or_intfmgrd_blocked(&self, name: &PortName, fact: Waiting) -> Waiting {
        let row = RowKey::Interface(name.clone()).to_string();
        match &self.facts.observed.unreadable {
            Some(before) if *before < row && fact.is_of_intfmgrd() => {
                Waiting::IntfmgrdBlocked(before.clone())
            }
            Some(_) | None => fact,
        }
    }

    /// The fact that keeps the kernel from routing in the VRF although vrfmgrd has created its device.
    fn vrf_device_blocker(&self) -> Option<Waiting> {
        let name = || self.vrf().clone();
        match self.facts.links.vrfs.get(self.vrf().as_str()) {
            _ if !self.facts.observed.vrf.in_kernel => None,
            Some(true) => None,
            Some(false) => Some(Waiting::VrfDeviceDown(name())),
            None => Some(Waiting::VrfDeviceDeleted(name())),
        }
    }

    /// The step that writes the VRF's row, as soon as a port is to boot.
    ///
    /// `cfgmgr/vrfmgr.cpp: VrfMgr::doTask` runs a SET before a pending DEL, so a VRF that is being deleted must be gone before
    /// its row is written again. A base row that already names the VRF, perhaps from an old save, takes effect the moment that
    /// the VRF is there, so its port must be behind the ACL before.
    fn vrf_step(&self) -> Option<Step> {
        let vrf = &self.facts.observed.vrf;
        let is_wanted = !self.desired.ports.is_empty() && !vrf.row && !vrf.in_kernel && !vrf.in_asic;
        let is_exposed = |(name, port): (&PortName, &ObservedPort)| {
            port.base == Base::Ours && self.acl.isolation_blocker(name, port).is_some()
        };
        let exposes_a_port = self.facts.observed.ports.iter().any(is_exposed);
        (is_wanted && !exposes_a_port).then(|| Step::Set(RowKey::Vrf(self.vrf().clone()), Fields::new()))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(key, fields) => {
                write!(f, "set {key}")?;
                fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Clear(key, fields) => {
                write!(f, "clear {key}")?;
                fields.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Delete(key) => write!(f, "delete {key}"),
            Self::DeleteAgain(key) => write!(f, "announce that {key} is gone"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        if let Some((loopback, waiting)) = &self.anycast {
            writeln!(f, "{loopback} waits: {waiting}")?;
        }
        for (port, waiting) in &self.waiting {
            writeln!(f, "{port} waits: {waiting}")?;
        }
        for port in &self.unchanged {
            writeln!(f, "{port} has all it needs")?;
        }
        Ok(())
    }
}
