//! The anycast address, on a loopback in the boot VRF. It belongs to no port, so no port waits for it.
//!
//! Must never: write on an unmanaged loopback.

use super::{Context, Plan, Progress, Step, Subject, Waiting};
use crate::names::{AnycastNet, LoopbackName, VrfName};
use crate::observed::{Base, Loopback};
use crate::port_role;
use crate::rows::{self, Fields, RowKey};

impl Context<'_> {
    /// Plans the anycast address and its repair.
    pub(super) fn plan_anycast(&self, plan: &mut Plan) {
        let name = &self.settings.boot.loopback;
        let remedies = self.facts.remedies;
        match self.anycast() {
            Progress::Steps(steps) => plan.steps.extend(steps),
            Progress::Waits(fact) => {
                let rewrite = self.rewrite_loopback(&fact);
                let waiting = plan.await_fact(Subject::Loopback, fact, rewrite, remedies);
                plan.anycast = Some((name.clone(), waiting));
            }
            Progress::Done => {}
        }
        let loopback = &self.facts.observed.loopback;
        if remedies.recreate.contains(&Subject::Loopback)
            && loopback.base != Base::Ours
            && loopback.bound_vrf.is_none()
        {
            plan.removed.insert(Subject::Loopback);
        }
    }

    /// How far the anycast address is. It is added with the first desired port, and `leafboot retire` removes it. A new address
    /// replaces the old one.
    fn anycast(&self) -> Progress {
        let boot = &self.settings.boot;
        let (Some(wanted), false) = (boot.anycast, self.desired.ports.is_empty()) else {
            return Progress::Done;
        };
        let (name, loopback) = (&boot.loopback, &self.facts.observed.loopback);
        let is_bound = loopback.bound_vrf.as_deref() == Some(boot.vrf.as_str());
        let stays = !self.is_vrf_leaving() && !self.facts.remedies.recreate.contains(&Subject::Loopback);
        match (&loopback.base, &loopback.bound_vrf) {
            (Base::Unmanaged(vrf), _) => Progress::Waits(Waiting::UnmanagedLoopback(vrf.clone())),
            (Base::Ours, Some(_)) if is_bound && stays => match set_address(name, loopback, wanted) {
                Progress::Done => self.kernel_address_blocker(wanted).map_or(Progress::Done, Progress::Waits),
                progress @ (Progress::Steps(_) | Progress::Waits(_)) => progress,
            },
            // intfmgrd ignores a change of a live interface's VRF (`cfgmgr/intfmgr.cpp: IntfMgr::doIntfGeneralTask`), and before
            // swss #3461 a loopback kept its route in the old VRF. So the interface must be removed first.
            (Base::Ours, Some(_)) => remove_loopback(name, loopback, &boot.vrf),
            (Base::Absent, Some(_)) if is_bound => remove_loopback(name, loopback, &boot.vrf),
            (Base::Absent, Some(vrf)) => Progress::Waits(Waiting::InterfaceGone(vrf.clone())),
            (Base::Absent, None) => self.set_base(wanted),
            (Base::Ours, None) => Progress::Waits(self.vrf_blocker().unwrap_or(Waiting::InterfaceBound)),
        }
    }

    /// The fact that is missing in the kernel although intfmgrd reports the address.
    fn kernel_address_blocker(&self, wanted: AnycastNet) -> Option<Waiting> {
        let link = self.facts.links.loopbacks.get(&self.settings.boot.loopback);
        match link.filter(|link| port_role::is_in(link, self.vrf())) {
            None => Some(Waiting::KernelVrfBound),
            Some(link) if !link.assigned_addresses.contains(&wanted.net().into()) => {
                Some(Waiting::AnycastAssigned(wanted.to_string()))
            }
            Some(_) => None,
        }
    }

    fn set_base(&self, wanted: AnycastNet) -> Progress {
        let name = &self.settings.boot.loopback;
        let other =
            self.facts.observed.loopback.address_rows.iter().find(|address| **address != wanted.to_string());
        if let Some(address) = other {
            let row = RowKey::LoopbackAddress(name.clone(), address.clone()).to_string();
            return Progress::Waits(Waiting::UnmanagedAddress(row));
        }
        match self.vrf_blocker() {
            Some(waiting) => Progress::Waits(waiting),
            None => {
                let fields = rows::interface_fields(self.vrf());
                Progress::Steps(vec![Step::Set(RowKey::Loopback(name.clone()), fields)])
            }
        }
    }
}

/// Sets the address of a loopback that is in the boot VRF, and deletes all other addresses before.
fn set_address(name: &LoopbackName, loopback: &Loopback, wanted: AnycastNet) -> Progress {
    let wanted = wanted.to_string();
    let stale: Vec<&String> = loopback.address_rows.iter().filter(|address| **address != wanted).collect();
    if !stale.is_empty() {
        return Progress::Steps(stale.into_iter().map(|address| delete(name, address)).collect());
    }
    let is_written = loopback.address_rows.contains(&wanted);
    // intfmgrd is still removing an address that has no row.
    let mut without_row =
        loopback.bound_addresses.iter().filter(|address| !is_written || **address != wanted);
    if let Some(address) = without_row.next() {
        return Progress::Waits(Waiting::UnmanagedAddressGone(address.clone()));
    }
    if !is_written {
        return Progress::Steps(vec![Step::Set(
            RowKey::LoopbackAddress(name.clone(), wanted),
            Fields::new(),
        )]);
    }
    let is_bound = loopback.bound_addresses.contains(&wanted);
    if is_bound { Progress::Done } else { Progress::Waits(Waiting::AnycastBound(wanted)) }
}

/// Removes the loopback: first its addresses, then its base row, each step when the one before has taken effect.
pub(super) fn remove_loopback(name: &LoopbackName, loopback: &Loopback, vrf: &VrfName) -> Progress {
    if !loopback.address_rows.is_empty() {
        return Progress::Steps(loopback.address_rows.iter().map(|address| delete(name, address)).collect());
    }
    if let Some(address) = loopback.bound_addresses.first() {
        return Progress::Waits(Waiting::UnmanagedAddressGone(address.clone()));
    }
    match (&loopback.base, &loopback.bound_vrf) {
        (Base::Ours, _) => Progress::Steps(vec![Step::Delete(RowKey::Loopback(name.clone()))]),
        (_, Some(bound)) if bound == vrf.as_str() => Progress::Waits(Waiting::InterfaceGone(bound.clone())),
        _ => Progress::Done,
    }
}

fn delete(name: &LoopbackName, address: &str) -> Step {
    Step::Delete(RowKey::LoopbackAddress(name.clone(), address.to_owned()))
}
