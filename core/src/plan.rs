//! Pure: from what is desired and what is observed, the steps that may be done now and what is waited for, and why.
//! Every ordering rule stands here (`plan/acl`, `plan/enter`, `plan/leave`), with the SONiC function that forces it.
//!
//! Must never: hold a step whose fact is not there yet, or a step on a row that is not ours. On a port that metal-core has
//! just pushed, the port's own claims are ours to clear away; on any other port nothing is.

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
use crate::observed::{Base, Links, Observed, Port};
use crate::port_role::RaStates;
use crate::rows::{Fields, RowKey};
use crate::settings::Settings;

use self::acl::Guard;
pub use self::repair::{Attempt, Remedies, Repairs, Subject};
pub use self::retire::Retirement;
pub use self::waiting::Waiting;

/// What to do now, and what to wait for. A level, not a difference: the same facts always give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Writes to CONFIG_DB that may be done now, in this order.
    pub steps: Vec<Step>,
    /// Ports that need a fact first.
    pub waiting: BTreeMap<PortName, Waiting>,
    /// The fact that the anycast address needs first.
    pub anycast: Option<(LoopbackName, Waiting)>,
    /// Desired ports that have all they need.
    pub unchanged: BTreeSet<PortName>,
    /// The facts that are missing and that a repair may bring back, or that keep ports isolated.
    pub missing: BTreeMap<Subject, Waiting>,
    /// What was taken out to come again, and is out.
    pub renewed: BTreeSet<Subject>,
}

/// All that a plan follows from but the settings.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What metal-core wants; none: nothing was ever pushed.
    pub desired: Option<&'a Desired>,
    /// What SONiC's databases say.
    pub observed: &'a Observed,
    /// What the kernel has.
    pub links: &'a Links,
    /// How far the advertisements are.
    pub ra: &'a RaStates,
    /// What is to be repaired.
    pub remedies: &'a Remedies,
}

/// One write of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes the row's fields.
    Set(RowKey, Fields),
    /// Takes fields out of the row.
    Clear(RowKey, BTreeSet<String>),
    /// Deletes the row.
    Delete(RowKey),
    /// Has Redis announce once more that the row is gone, unless it is there: nobody hears of rows that FLUSHDB takes away.
    DeleteAgain(RowKey),
}

/// What one port needs: the next step, a fact, or nothing.
enum Need {
    Steps(Vec<Step>),
    Fact(Waiting),
    Nothing,
}

impl Plan {
    /// The plan for what `config` names. Without a desired state no port moves: an agent that knows of no document keeps the
    /// ports that are in the boot VRF behind the boot ACL, and says what SONiC still has of ports that were on their way out.
    pub fn new(facts: Facts<'_>, config: &Settings) -> Self {
        match facts.desired {
            Some(desired) => Self::of(desired, facts, config),
            None => {
                let mut plan = Self::of(&Desired::unknown(), facts, config);
                // Ports that are in the boot VRF stay behind the ACL, whoever has put them there.
                plan.steps.retain(|step| step.key().is_acl());
                Self { steps: plan.steps, waiting: plan.waiting, missing: plan.missing, ..Self::default() }
            }
        }
    }

    fn of(desired: &Desired, facts: Facts<'_>, config: &Settings) -> Self {
        let mut plan = Self::default();
        let Facts { observed, remedies, .. } = facts;
        if !observed.initialized {
            plan.waiting =
                desired.ports.keys().map(|port| (port.clone(), Waiting::ConfigDbNotLoaded)).collect();
            return plan;
        }
        let (guard, steps) = Guard::new(desired, observed, remedies, config);
        plan.steps = steps;
        plan.missing.clone_from(&guard.missing);
        plan.renewed.clone_from(&guard.renewed);
        let view = View { facts, config, desired, guard };
        view.plan_vrf(&mut plan);
        view.plan_anycast(&mut plan);
        for (name, port) in &observed.ports {
            let want = desired.ports.get(name).copied();
            let need = match want {
                Some(prefix) => view.enter(name, port, prefix),
                None if desired.releases(name) => view.leave(name, port),
                // Nobody has ordered that it go; what SONiC still has of a port that was on its way out is seen.
                None if holds(port, &config.boot.vrf) => Need::Nothing,
                None => view.remains(name, port),
            };
            match need {
                Need::Steps(steps) => plan.steps.extend(steps),
                Need::Fact(fact) => {
                    let fact = view.unless_blocked(name, fact);
                    let subject = Subject::Port(name.clone());
                    let rewrite = view.rewrite(name, &fact);
                    let waiting = plan.await_fact(subject, fact, rewrite, remedies);
                    plan.waiting.insert(name.clone(), waiting);
                }
                Need::Nothing if want.is_some() => {
                    plan.unchanged.insert(name.clone());
                }
                Need::Nothing => {}
            }
            if view.is_renewed(name, port) {
                plan.renewed.insert(Subject::Port(name.clone()));
            }
        }
        let unknown = desired.ports.keys().filter(|name| !observed.ports.contains_key(name));
        plan.waiting.extend(unknown.map(|name| (name.clone(), Waiting::PortRowMissing)));
        plan
    }

    /// Notes that a fact is missing which `rewrite` may bring back, and writes that if it is due; what to say of it.
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

    /// Whether a step of the plan is about this port.
    pub fn touches(&self, port: &PortName) -> bool {
        self.steps.iter().any(|step| step.port() == Some(port))
    }
}

impl Step {
    /// The row that the step is about.
    pub fn key(&self) -> &RowKey {
        let (Self::Set(key, _) | Self::Clear(key, _) | Self::Delete(key) | Self::DeleteAgain(key)) = self;
        key
    }

    /// The port that the step is about; none for a row that all ports share.
    pub fn port(&self) -> Option<&PortName> {
        self.key().port()
    }

    /// The row that must stand before this step is done.
    pub fn needs(&self) -> Option<RowKey> {
        match self {
            Self::Set(key, _) => key.needs(),
            Self::Clear(..) | Self::Delete(_) | Self::DeleteAgain(_) => None,
        }
    }
}

/// Whether a port is ours now, by its row or by what intfmgrd has made of it.
pub fn holds(port: &Port, vrf: &VrfName) -> bool {
    port.base == Base::Ours || port.bound.as_deref() == Some(vrf.as_str())
}

/// Whether the ASIC still has something of a port that no row of ours and no fact speaks of any more. Somebody's next row
/// may be there already: its router interface is not before intfmgrd says so.
fn has_traces(port: &Port) -> bool {
    port.base != Base::Ours && port.bound.is_none() && port.router_interface
}

/// Everything a port's need is judged by.
struct View<'a> {
    facts: Facts<'a>,
    config: &'a Settings,
    desired: &'a Desired,
    guard: Guard<'a>,
}

impl View<'_> {
    fn vrf(&self) -> &VrfName {
        &self.config.boot.vrf
    }

    /// What the VRF needs: its row, or its repair.
    fn plan_vrf(&self, plan: &mut Plan) {
        let Facts { observed, remedies, .. } = self.facts;
        plan.steps.extend(self.vrf_step());
        if self.desired.ports.is_empty() {
            return;
        }
        let row = || RowKey::Vrf(self.vrf().clone());
        let vrf = &observed.vrf;
        // vrfmgrd withdraws VRF_TABLE when it begins to delete (`cfgmgr/vrfmgr.cpp: VrfMgr::doTask`): it has not heard yet.
        let is_unheard = !vrf.row && vrf.in_kernel && vrf.in_asic;
        if is_unheard {
            let rewrite = Some(Step::DeleteAgain(row()));
            plan.await_fact(Subject::Vrf, Waiting::VrfGone(self.vrf().clone()), rewrite, remedies);
        } else if vrf.row
            && let Some(fact @ Waiting::VrfDeviceDown(_)) = self.why_vrf_unusable()
        {
            let rewrite = Some(Step::Set(row(), Fields::new()));
            plan.await_fact(Subject::Vrf, fact, rewrite, remedies);
        }
        if remedies.renew.contains(&Subject::Vrf) {
            let holds_any = observed.ports.values().any(|port| holds(port, self.vrf()));
            let is_empty = !holds_any && observed.loopback.bound.as_deref() != Some(self.vrf().as_str());
            if vrf.row && is_empty {
                plan.steps.push(Step::Delete(row()));
            } else if !vrf.row && !vrf.in_kernel && !vrf.in_asic {
                plan.renewed.insert(Subject::Vrf);
            }
        }
    }

    /// Says what keeps intfmgrd from a port's rows, if a row before them does.
    fn unless_blocked(&self, name: &PortName, fact: Waiting) -> Waiting {
        let row = RowKey::Interface(name.clone()).to_string();
        match &self.facts.observed.unreadable {
            Some(before) if *before < row && fact.is_of_intfmgrd() => {
                Waiting::IntfmgrdBlocked(before.clone())
            }
            Some(_) | None => fact,
        }
    }

    /// Why nothing is routed in the VRF whose device vrfmgrd has made.
    fn why_vrf_unusable(&self) -> Option<Waiting> {
        let name = || self.vrf().clone();
        match self.facts.links.vrfs.get(self.vrf().as_str()) {
            _ if !self.facts.observed.vrf.in_kernel => None,
            Some(true) => None,
            Some(false) => Some(Waiting::VrfDeviceDown(name())),
            None => Some(Waiting::VrfDeviceDeleted(name())),
        }
    }

    /// The VRF's row, as soon as a port wants it.
    ///
    /// `cfgmgr/vrfmgr.cpp: VrfMgr::doTask` puts a SET behind a pending DEL first and runs the DEL later, so a VRF
    /// that is still going must be gone before it is written again. A base row that already names the VRF, perhaps from
    /// an old save, takes effect the moment that the VRF is there: its port must be under the ACL before.
    fn vrf_step(&self) -> Option<Step> {
        let vrf = &self.facts.observed.vrf;
        let is_wanted = !self.desired.ports.is_empty() && !vrf.row && !vrf.in_kernel && !vrf.in_asic;
        let is_open = |(name, port): (&PortName, &Port)| {
            port.base == Base::Ours && self.guard.why_unguarded(name, port).is_some()
        };
        let opens_a_port = self.facts.observed.ports.iter().any(is_open);
        (is_wanted && !opens_a_port).then(|| Step::Set(RowKey::Vrf(self.vrf().clone()), Fields::new()))
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
