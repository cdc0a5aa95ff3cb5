//! Pure: from what is desired and what is observed, the steps that may be done now and what is waited for, and why.
//! Every ordering rule stands here (`plan/acl`, `plan/enter`, `plan/leave`), with the SONiC function that forces it.
//!
//! Must never: hold a step whose fact is not there yet, or a step on a row that is not ours. On a port that metal-core has
//! just pushed, the port's own claims are ours to clear away; on any other port nothing is.

mod acl;
mod acl_rules;
mod anycast;
mod enter;
mod leave;
mod retire;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::Config;
use crate::desired::Desired;
use crate::net::{LoopbackName, PortName, VrfName};
use crate::observed::{Base, Links, Observed, Port};
use crate::rows::{Fields, RowKey};
use crate::serving::RaStates;

use self::acl::Guard;
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
}

/// What one port needs: the next step, a fact, or nothing.
enum Need {
    Steps(Vec<Step>),
    Fact(Waiting),
    Nothing,
}

impl Plan {
    /// The plan for what `config` names. Without a desired state nothing is done: an agent that knows of no order
    /// leaves the isolation as it is, and says what SONiC still has of ports that were on their way out.
    pub fn new(
        desired: Option<&Desired>,
        observed: &Observed,
        links: &Links,
        ra: &RaStates,
        config: &Config,
    ) -> Self {
        match desired {
            Some(desired) => Self::of(desired, observed, links, ra, config),
            None => {
                let plan = Self::of(&Desired::unknown(), observed, links, ra, config);
                Self { waiting: plan.waiting, ..Self::default() }
            }
        }
    }

    fn of(desired: &Desired, observed: &Observed, links: &Links, ra: &RaStates, config: &Config) -> Self {
        let mut plan = Self::default();
        if !observed.initialized {
            plan.waiting = desired.ports.keys().map(|port| (port.clone(), Waiting::ConfigDb)).collect();
            return plan;
        }
        let (guard, steps) = Guard::new(desired, observed, config);
        plan.steps = steps;
        let view = View { observed, links, ra, config, desired, guard };
        plan.steps.extend(view.vrf_step());
        match view.anycast() {
            Need::Steps(steps) => plan.steps.extend(steps),
            Need::Fact(waiting) => plan.anycast = Some((config.boot.loopback.clone(), waiting)),
            Need::Nothing => {}
        }
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
                Need::Fact(waiting) => {
                    plan.waiting.insert(name.clone(), waiting);
                }
                Need::Nothing if want.is_some() => {
                    plan.unchanged.insert(name.clone());
                }
                Need::Nothing => {}
            }
        }
        let unknown = desired.ports.keys().filter(|name| !observed.ports.contains_key(name));
        plan.waiting.extend(unknown.map(|name| (name.clone(), Waiting::PortRow)));
        plan
    }

    /// Whether a step of the plan is about this port.
    pub fn touches(&self, port: &PortName) -> bool {
        self.steps.iter().any(|step| step.port() == Some(port))
    }
}

impl Step {
    /// The row that the step is about.
    pub fn key(&self) -> &RowKey {
        let (Self::Set(key, _) | Self::Clear(key, _) | Self::Delete(key)) = self;
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
            Self::Clear(..) | Self::Delete(_) => None,
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
    observed: &'a Observed,
    links: &'a Links,
    ra: &'a RaStates,
    config: &'a Config,
    desired: &'a Desired,
    guard: Guard<'a>,
}

impl View<'_> {
    fn vrf(&self) -> &VrfName {
        &self.config.boot.vrf
    }

    /// The VRF's row, as soon as a port wants it.
    ///
    /// `cfgmgr/vrfmgr.cpp: VrfMgr::doTask` puts a SET behind a pending DEL first and runs the DEL later, so a VRF
    /// that is still going must be gone before it is written again. A base row that already names the VRF, perhaps from
    /// an old save, takes effect the moment that the VRF is there: its port must be under the ACL before.
    fn vrf_step(&self) -> Option<Step> {
        let vrf = &self.observed.vrf;
        let is_wanted = !self.desired.ports.is_empty() && !vrf.row && !vrf.in_kernel && !vrf.in_asic;
        let is_open = |(name, port): (&PortName, &Port)| {
            port.base == Base::Ours && self.guard.why_unguarded(name, port).is_some()
        };
        let opens_a_port = self.observed.ports.iter().any(is_open);
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
