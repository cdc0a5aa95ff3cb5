//! The anycast address: a loopback in the boot VRF, for all ports and for none of them, so no port waits for it.
//!
//! Must never: write on a loopback that is somebody else's.

use super::{Need, Plan, Step, Subject, View, Waiting};
use crate::names::{AnycastNet, LoopbackName, VrfName};
use crate::observed::{Base, Loopback};
use crate::port_role;
use crate::rows::{self, Fields, RowKey};

impl View<'_> {
    /// What the anycast address needs, or its repair.
    pub(super) fn plan_anycast(&self, plan: &mut Plan) {
        let name = &self.config.boot.loopback;
        let remedies = self.facts.remedies;
        match self.anycast() {
            Need::Steps(steps) => plan.steps.extend(steps),
            Need::Fact(fact) => {
                let rewrite = self.rewrite_loopback(&fact);
                let waiting = plan.await_fact(Subject::Loopback, fact, rewrite, remedies);
                plan.anycast = Some((name.clone(), waiting));
            }
            Need::Nothing => {}
        }
        let loopback = &self.facts.observed.loopback;
        if remedies.renew.contains(&Subject::Loopback)
            && loopback.base != Base::Ours
            && loopback.bound.is_none()
        {
            plan.renewed.insert(Subject::Loopback);
        }
    }

    /// What the anycast address needs. It comes with the first port that boots and goes when it is retired; another
    /// address takes the place of the one before.
    fn anycast(&self) -> Need {
        let boot = &self.config.boot;
        let (Some(wanted), false) = (boot.anycast, self.desired.ports.is_empty()) else {
            return Need::Nothing;
        };
        let (name, loopback) = (&boot.loopback, &self.facts.observed.loopback);
        let is_bound = loopback.bound.as_deref() == Some(boot.vrf.as_str());
        let stays = !self.is_vrf_leaving() && !self.facts.remedies.renew.contains(&Subject::Loopback);
        match (&loopback.base, &loopback.bound) {
            (Base::Foreign(vrf), _) => Need::Fact(Waiting::UnmanagedLoopback(vrf.clone())),
            (Base::Ours, Some(_)) if is_bound && stays => match set_address(name, loopback, wanted) {
                Need::Nothing => self.why_no_anycast(wanted).map_or(Need::Nothing, Need::Fact),
                need @ (Need::Steps(_) | Need::Fact(_)) => need,
            },
            // The change of a live interface's VRF is dropped (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`), and before
            // swss #3461 a loopback kept its route in the old one: the way is through «gone».
            (Base::Ours, Some(_)) => withdraw(name, loopback, &boot.vrf),
            (Base::Absent, Some(_)) if is_bound => withdraw(name, loopback, &boot.vrf),
            (Base::Absent, Some(vrf)) => Need::Fact(Waiting::InterfaceGone(vrf.clone())),
            (Base::Absent, None) => self.set_base(wanted),
            (Base::Ours, None) => Need::Fact(self.why_no_vrf().unwrap_or(Waiting::InterfaceBound)),
        }
    }

    /// What the kernel lacks although intfmgrd has asked for all of it.
    fn why_no_anycast(&self, wanted: AnycastNet) -> Option<Waiting> {
        let link = self.facts.links.loopbacks.get(&self.config.boot.loopback);
        match link.filter(|link| port_role::is_in(link, self.vrf())) {
            None => Some(Waiting::KernelVrfBound),
            Some(link) if !link.assigned.contains(&wanted.net().into()) => {
                Some(Waiting::AnycastAssigned(wanted.to_string()))
            }
            Some(_) => None,
        }
    }

    fn set_base(&self, wanted: AnycastNet) -> Need {
        let name = &self.config.boot.loopback;
        let other =
            self.facts.observed.loopback.addresses.iter().find(|address| **address != wanted.to_string());
        if let Some(address) = other {
            let row = RowKey::LoopbackAddress(name.clone(), address.clone()).to_string();
            return Need::Fact(Waiting::UnmanagedAddress(row));
        }
        match self.why_no_vrf() {
            Some(waiting) => Need::Fact(waiting),
            None => {
                let fields = rows::interface_fields(self.vrf());
                Need::Steps(vec![Step::Set(RowKey::Loopback(name.clone()), fields)])
            }
        }
    }
}

/// The loopback is in the boot VRF: its address is next, when no other is left on it.
fn set_address(name: &LoopbackName, loopback: &Loopback, wanted: AnycastNet) -> Need {
    let wanted = wanted.to_string();
    let stale: Vec<&String> = loopback.addresses.iter().filter(|address| **address != wanted).collect();
    if !stale.is_empty() {
        return Need::Steps(stale.into_iter().map(|address| delete(name, address)).collect());
    }
    let is_written = loopback.addresses.contains(&wanted);
    // What intfmgrd has and no row says is on its way out.
    let mut going = loopback.bound_addresses.iter().filter(|address| !is_written || **address != wanted);
    if let Some(address) = going.next() {
        return Need::Fact(Waiting::UnmanagedAddressGone(address.clone()));
    }
    if !is_written {
        return Need::Steps(vec![Step::Set(RowKey::LoopbackAddress(name.clone(), wanted), Fields::new())]);
    }
    let is_bound = loopback.bound_addresses.contains(&wanted);
    if is_bound { Need::Nothing } else { Need::Fact(Waiting::AnycastBound(wanted)) }
}

/// The way out: addresses, then the base row, each when the one before is gone.
pub(super) fn withdraw(name: &LoopbackName, loopback: &Loopback, vrf: &VrfName) -> Need {
    if !loopback.addresses.is_empty() {
        return Need::Steps(loopback.addresses.iter().map(|address| delete(name, address)).collect());
    }
    if let Some(address) = loopback.bound_addresses.first() {
        return Need::Fact(Waiting::UnmanagedAddressGone(address.clone()));
    }
    match (&loopback.base, &loopback.bound) {
        (Base::Ours, _) => Need::Steps(vec![Step::Delete(RowKey::Loopback(name.clone()))]),
        (_, Some(bound)) if bound == vrf.as_str() => Need::Fact(Waiting::InterfaceGone(bound.clone())),
        _ => Need::Nothing,
    }
}

fn delete(name: &LoopbackName, address: &str) -> Step {
    Step::Delete(RowKey::LoopbackAddress(name.clone(), address.to_owned()))
}
