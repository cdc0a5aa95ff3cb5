//! Pure: from what is desired and what is observed, the steps that may be done now and what is waited for, and why.
//! Every ordering rule stands here, with the SONiC function that forces it.
//!
//! Must never: hold a step whose fact is not there yet, or a step on a row that is not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::desired::{Desired, Origin};
use crate::net::{BootPrefix, PortName, VrfName};
use crate::observed::{Base, Link, Links, Observed, Port, Vrf};
use crate::rows::{Fields, RowKey};
use crate::serving::{self, Order, RaState, RaStates};

/// What to do now, and what to wait for. A level, not a difference: the same facts always give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Writes to CONFIG_DB that may be done now, in this order.
    pub steps: Vec<Step>,
    /// Ports that need a fact first.
    pub waiting: BTreeMap<PortName, Waiting>,
    /// Desired ports that have all they need.
    pub unchanged: BTreeSet<PortName>,
}

/// One write of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes the whole row.
    Set(RowKey, Fields),
    /// Deletes the row.
    Delete(RowKey),
}

/// The fact that a port waits for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Waiting {
    /// CONFIG_DB is not loaded.
    #[error("CONFIG_DB is not loaded: CONFIG_DB_INITIALIZED is not 1")]
    ConfigDb,
    /// The port has no `PORT` row any more.
    #[error("CONFIG_DB has no PORT row of it")]
    PortRow,
    /// The port is a VLAN member.
    #[error("it is a member of {0}: VLAN_MEMBER|{0}|<port> must go first")]
    VlanMember(String),
    /// The port is a LAG member.
    #[error("it is a member of {0}: PORTCHANNEL_MEMBER|{0}|<port> must go first")]
    LagMember(String),
    /// Somebody else's base row stands on the port.
    #[error("its INTERFACE row is somebody else's (vrf_name {0:?})")]
    ForeignInterface(String),
    /// Somebody else's address row stands on the port.
    #[error("somebody else's row {0} is in the way")]
    ForeignAddress(String),
    /// portsyncd has not made the port.
    #[error("STATE_DB does not show the port ready (PORT_TABLE)")]
    PortReady,
    /// The VRF is being made or unmade.
    #[error("STATE_DB does not show {0} ready (VRF_TABLE, VRF_OBJECT_TABLE)")]
    VrfReady(VrfName),
    /// A VRF of the same name is still being removed.
    #[error("STATE_DB still shows the {0} that was deleted before")]
    VrfGone(VrfName),
    /// intfmgrd still has the port's earlier interface.
    #[error("intfmgrd still has its earlier interface (STATE_DB INTERFACE_TABLE, vrf {0:?})")]
    InterfaceGone(String),
    /// orchagent still has the port's earlier router interface.
    #[error("the ASIC still has its earlier router interface (ASIC_DB)")]
    RouterInterfaceGone,
    /// intfmgrd has not taken the base row.
    #[error("intfmgrd has not bound it to the VRF (STATE_DB INTERFACE_TABLE)")]
    InterfaceBound,
    /// intfmgrd still has an address that was withdrawn.
    #[error("intfmgrd still has the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressGone(BootPrefix),
    /// Another port still has the prefix.
    #[error("{0} still has the prefix {1}")]
    PrefixTaken(PortName, BootPrefix),
    /// intfmgrd has not taken the address row.
    #[error("intfmgrd has not taken the address {} (STATE_DB INTERFACE_TABLE)", .0.gateway_net())]
    AddressBound(BootPrefix),
    /// orchagent has not made the router interface.
    #[error("the ASIC has no router interface on it (ASIC_DB)")]
    RouterInterface,
    /// The kernel does not have the port in the VRF.
    #[error("the kernel does not have it in the boot VRF")]
    KernelVrf,
    /// The kernel does not have the gateway's address.
    #[error("the kernel does not have the gateway {} on it", .0.gateway_net())]
    KernelGateway(BootPrefix),
    /// The machine has not been told that the router goes.
    #[error("its machine has not been told that the router goes (final Router Advertisement)")]
    FinalAdvertisement,
}

/// What one port needs: the next step, a fact, or nothing.
enum Need {
    Steps(Vec<Step>),
    Fact(Waiting),
    Nothing,
}

impl Plan {
    /// The plan for `vrf`. Without a desired state nothing is done: an agent that knows of no order leaves the
    /// isolation as it is.
    pub fn new(
        desired: Option<&Desired>,
        observed: &Observed,
        links: &Links,
        ra: &RaStates,
        vrf: &VrfName,
    ) -> Self {
        let Some(desired) = desired else {
            return Self::default();
        };
        let mut plan = Self::default();
        if !observed.initialized {
            plan.waiting = desired.ports.keys().map(|port| (port.clone(), Waiting::ConfigDb)).collect();
            return plan;
        }
        let view = View { observed, links, ra, vrf, desired };
        plan.steps.extend(view.vrf_step());
        for (name, port) in &observed.ports {
            let want = desired.ports.get(name).copied();
            let need = match want {
                Some(prefix) => view.enter(name, port, prefix),
                None if desired.origin == Origin::Pushed => view.leave(name, port),
                None => Need::Nothing,
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
    /// The port that the step is about; none for the VRF.
    pub fn port(&self) -> Option<&PortName> {
        let (Self::Set(key, _) | Self::Delete(key)) = self;
        match key {
            RowKey::Vrf(_) => None,
            RowKey::Interface(port) | RowKey::Address(port, _) => Some(port),
        }
    }
}

/// Whether a port is ours now, by its row or by what intfmgrd has made of it.
pub fn holds(port: &Port, vrf: &VrfName) -> bool {
    port.base == Base::Ours || port.bound.as_deref() == Some(vrf.as_str())
}

/// What is left to do to remove the boot VRF itself, which no port's release does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retirement {
    /// Ports are in it: they are released first.
    InUse(BTreeSet<PortName>),
    /// Its row may go now.
    Delete(Step),
    /// Its row is gone; vrfmgrd or orchagent still have it.
    Going,
    /// Nothing of it is left in SONiC's databases.
    Gone,
}

impl Retirement {
    /// How far the removal of `vrf` is. orchagent keeps a VRF for ever that something is in
    /// (`orchagent/vrforch.cpp: VRFOrch::delOperation`), so its row goes only when no port is.
    pub fn new(observed: &Observed, vrf: &VrfName) -> Self {
        let ports = observed.ports.iter().filter(|(_, port)| holds(port, vrf));
        let ports: BTreeSet<PortName> = ports.map(|(name, _)| name.clone()).collect();
        let Vrf { row, in_kernel, in_asic } = observed.vrf;
        if !ports.is_empty() {
            Self::InUse(ports)
        } else if row {
            Self::Delete(Step::Delete(RowKey::Vrf(vrf.clone())))
        } else if in_kernel || in_asic {
            Self::Going
        } else {
            Self::Gone
        }
    }
}

/// Everything a port's need is judged by.
struct View<'a> {
    observed: &'a Observed,
    links: &'a Links,
    ra: &'a RaStates,
    vrf: &'a VrfName,
    desired: &'a Desired,
}

impl View<'_> {
    fn set(&self, key: RowKey) -> Step {
        let fields = key.fields(self.vrf);
        Step::Set(key, fields)
    }

    /// The VRF's row, as soon as a port wants it.
    ///
    /// `cfgmgr/vrfmgr.cpp: VrfMgr::doTask` puts a SET behind a pending DEL first and runs the DEL later, so a VRF
    /// that is still going must be gone before it is written again.
    fn vrf_step(&self) -> Option<Step> {
        let vrf = &self.observed.vrf;
        let wanted = !self.desired.ports.is_empty() && !vrf.row && !vrf.in_kernel && !vrf.in_asic;
        wanted.then(|| self.set(RowKey::Vrf(self.vrf.clone())))
    }

    /// What a port needs that is to boot.
    fn enter(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Need {
        // `cfgmgr/vlanmgr.cpp: VlanMgr::removeHostVlanMember` takes the port out of whatever master it has, our VRF
        // too, when the membership goes later.
        if let Some(vlan) = &port.vlan {
            return Need::Fact(Waiting::VlanMember(vlan.clone()));
        }
        if let Some(lag) = &port.lag {
            return Need::Fact(Waiting::LagMember(lag.clone()));
        }
        match (&port.base, port.bound.as_deref()) {
            (Base::Foreign(vrf), _) => Need::Fact(Waiting::ForeignInterface(vrf.clone())),
            (Base::Absent, bound) => self.enter_without_base(name, port, bound),
            (Base::Ours, None) => Need::Fact(self.why_unbound(port)),
            (Base::Ours, Some(bound)) if bound == self.vrf.as_str() => self.enter_bound(name, port, prefix),
            // `cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask` drops a change of vrf_name for good («can not change
            // to … directly, skipping»): the row says ours and nothing will happen. The way is through «gone».
            (Base::Ours, Some(_)) => self.withdraw(name, port),
        }
    }

    /// Nothing of ours is in CONFIG_DB but perhaps addresses; the base row comes when all traces are gone.
    fn enter_without_base(&self, name: &PortName, port: &Port, bound: Option<&str>) -> Need {
        // Our base row was deleted by hand: intfmgrd cannot let go while the address stands
        // (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`, getIntfIpCount).
        if bound == Some(self.vrf.as_str()) && !port.addresses.is_empty() {
            return self.withdraw(name, port);
        }
        if let Some(address) = port.addresses.first() {
            let row = RowKey::Address(name.clone(), *address).to_string();
            return Need::Fact(Waiting::ForeignAddress(row));
        }
        if let Some(row) = port.other_addresses.first() {
            return Need::Fact(Waiting::ForeignAddress(row.clone()));
        }
        // A SET before STATE_DB's row is gone is dropped (`IntfMgr::doIntfGeneralTask`); one before the router
        // interface is gone merges with its DEL, and that stays in the old VRF (`consumer_state_table_pops.lua`).
        if let Some(bound) = bound {
            return Need::Fact(Waiting::InterfaceGone(bound.to_owned()));
        }
        if port.router_interface {
            return Need::Fact(Waiting::RouterInterfaceGone);
        }
        match self.why_unready(port) {
            Some(waiting) => Need::Fact(waiting),
            None => Need::Steps(vec![self.set(RowKey::Interface(name.clone()))]),
        }
    }

    /// intfmgrd has bound the port to the boot VRF; the address is next.
    fn enter_bound(&self, name: &PortName, port: &Port, prefix: BootPrefix) -> Need {
        if port.addresses.iter().any(|address| *address != prefix) {
            return self.withdraw_addresses(name, port, Some(prefix));
        }
        if let Some(old) = port.bound_addresses.iter().find(|address| **address != prefix) {
            return Need::Fact(Waiting::AddressGone(*old));
        }
        if !port.addresses.contains(&prefix) {
            // The row was deleted by hand and intfmgrd has not followed yet.
            if port.bound_addresses.contains(&prefix) {
                return Need::Fact(Waiting::AddressGone(prefix));
            }
            return match self.other_with(name, prefix) {
                Some(other) => Need::Fact(Waiting::PrefixTaken(other.clone(), prefix)),
                None => Need::Steps(vec![self.set(RowKey::Address(name.clone(), prefix))]),
            };
        }
        if !port.bound_addresses.contains(&prefix) {
            return Need::Fact(Waiting::AddressBound(prefix));
        }
        if !port.router_interface {
            return Need::Fact(Waiting::RouterInterface);
        }
        // intfmgrd writes «ok» for what it asked for, not for what the kernel did (`IntfMgr::doIntfAddrTask`).
        match self.links.get(name) {
            Some(link) if serving::is_in(link, self.vrf) => {
                if serving::has_gateway(link, prefix) {
                    Need::Nothing
                } else {
                    Need::Fact(Waiting::KernelGateway(prefix))
                }
            }
            Some(_) | None => Need::Fact(Waiting::KernelVrf),
        }
    }

    /// Another port that has the prefix: in one VRF orchagent retries the second of two overlapping addresses for ever
    /// (`orchagent/intfsorch.cpp: IntfsOrch::setIntf`), and for a while two machines would be one.
    fn other_with(&self, name: &PortName, prefix: BootPrefix) -> Option<&PortName> {
        let mut others = self.observed.ports.iter().filter(|(other, _)| *other != name);
        let has = |port: &Port| port.addresses.contains(&prefix) || port.bound_addresses.contains(&prefix);
        others.find(|(_, port)| has(port)).map(|(other, _)| other)
    }

    /// What a port needs that is not to boot: nothing, unless it is still ours.
    fn leave(&self, name: &PortName, port: &Port) -> Need {
        if holds(port, self.vrf) {
            return match &port.base {
                Base::Foreign(vrf) => Need::Fact(Waiting::ForeignInterface(vrf.clone())),
                Base::Ours | Base::Absent => self.withdraw(name, port),
            };
        }
        // The rows are gone and intfmgrd has let go, but whoever writes the port's next row before the ASIC has let
        // go gets a router interface in the old VRF (`consumer_state_table_pops.lua` merges DEL and SET).
        let traces = port.base == Base::Absent && port.bound.is_none() && port.router_interface;
        if traces { Need::Fact(Waiting::RouterInterfaceGone) } else { Need::Nothing }
    }

    /// The way out: addresses, then the base row, each when the one before is gone.
    fn withdraw(&self, name: &PortName, port: &Port) -> Need {
        if !port.addresses.is_empty() {
            return self.withdraw_addresses(name, port, None);
        }
        if let Some(row) = port.other_addresses.first() {
            return Need::Fact(Waiting::ForeignAddress(row.clone()));
        }
        if let Some(address) = port.bound_addresses.first() {
            return Need::Fact(Waiting::AddressGone(*address));
        }
        match (&port.base, &port.bound) {
            (Base::Ours, _) => Need::Steps(vec![Step::Delete(RowKey::Interface(name.clone()))]),
            (_, bound) => Need::Fact(Waiting::InterfaceGone(bound.clone().unwrap_or_default())),
        }
    }

    /// Deletes the port's address rows but `keep`, once its machine has been told.
    fn withdraw_addresses(&self, name: &PortName, port: &Port, keep: Option<BootPrefix>) -> Need {
        if self.must_cease(name) {
            return Need::Fact(Waiting::FinalAdvertisement);
        }
        let stale = port.addresses.iter().filter(|address| Some(**address) != keep);
        Need::Steps(stale.map(|address| Step::Delete(RowKey::Address(name.clone(), *address))).collect())
    }

    /// Whether the port still advertises, or its machine can be told that it ceases and has not been.
    fn must_cease(&self, name: &PortName) -> bool {
        let order = |link: &Link| serving::order(Some(self.desired), name, link, self.vrf);
        match (self.ra.get(name), self.links.get(name).and_then(order)) {
            (Some(RaState::Advertising), _) => true,
            (Some(RaState::Ceased), _) => false,
            (None, order) => matches!(order, Some(Order::Cease(_))),
        }
    }

    /// Why intfmgrd cannot have bound the port yet.
    fn why_unbound(&self, port: &Port) -> Waiting {
        self.why_unready(port).unwrap_or(Waiting::InterfaceBound)
    }

    /// Port and VRF must be there before a port goes into the VRF (`IntfMgr::isIntfStateOk`).
    fn why_unready(&self, port: &Port) -> Option<Waiting> {
        let vrf = &self.observed.vrf;
        if !port.ready {
            Some(Waiting::PortReady)
        } else if !vrf.row && (vrf.in_kernel || vrf.in_asic) {
            Some(Waiting::VrfGone(self.vrf.clone()))
        } else if !vrf.in_kernel || !vrf.in_asic {
            Some(Waiting::VrfReady(self.vrf.clone()))
        } else {
            None
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(key, fields) => {
                write!(f, "set {key}")?;
                fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
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
        for (port, waiting) in &self.waiting {
            writeln!(f, "{port} waits: {waiting}")?;
        }
        for port in &self.unchanged {
            writeln!(f, "{port} has all it needs")?;
        }
        Ok(())
    }
}
