//! The isolation gap: a port that is open to a machine in the boot VRF while the boot ACL is not enforced on it.
//!
//! Owns: what is watched, and every gap that was seen.
//! Must never: look at CONFIG_DB or STATE_DB. Only the kernel and the ASIC count: a rule is enforced while its ASIC
//! entry exists, not while STATE_DB calls it Active.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::asic::Asic;
use super::kernel::Link;

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watch {
    /// The boot VRF.
    pub vrf: String,
    /// The boot ACL: the name of its ACL_TABLE.
    pub acl_table: String,
    /// The rules whose absence counts: each of them must be enforced on a port that is open. Name those that deny; a
    /// missing rule that permits harms the port's own machine alone. With none given, any rule at all will do.
    pub rules: BTreeSet<String>,
}

/// In which way a port is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opening {
    /// The kernel has it in the VRF with a global address.
    KernelAddress,
    /// The ASIC has a router interface on it in the VRF, with an address or yet without.
    RouterInterface,
    /// The ASIC routes it in the VRF, but the kernel has its address elsewhere: the switch answers it from there.
    OutsideVrf,
    /// The ASIC has a router interface on it in the VRF, and bridges it as well: no router ACL helps there.
    BridgePort,
}

/// A gap that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The port.
    pub port: String,
    /// In which way it was open.
    pub opening: Opening,
    /// The step after which it was seen first.
    pub step: u64,
    /// What was done in that step.
    pub after: String,
    /// It opened while SONiC replayed CONFIG_DB after a start: no agent could have prevented it.
    pub in_replay: bool,
    /// The step after which it was gone.
    pub closed: Option<u64>,
    /// When it was seen first.
    pub opened_at: Instant,
    /// When it was seen to be gone.
    pub closed_at: Option<Instant>,
}

impl Gap {
    /// How long it was open, or has been until now.
    pub fn duration(&self) -> Duration {
        self.closed_at.unwrap_or_else(Instant::now).saturating_duration_since(self.opened_at)
    }
}

/// The observer.
#[derive(Debug, Default)]
pub struct Isolation {
    watch: Option<Watch>,
    gaps: Vec<Gap>,
    steps: u64,
    /// SONiC has just started and has not read all of CONFIG_DB yet.
    pub replaying: bool,
}

impl Isolation {
    /// Watches this from now on, and forgets every gap.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
        self.gaps.clear();
    }

    /// Is anything watched?
    pub fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    /// Every gap since the watch began.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Looks at the switch after something was done.
    pub fn look(&mut self, asic: &Asic, links: &BTreeMap<String, Link>, done: &str) {
        self.steps += 1;
        let Some(watch) = &self.watch else { return };
        let now = Instant::now();
        let open = openings(watch, asic, links);
        for gap in self.gaps.iter_mut().filter(|gap| gap.closed.is_none()) {
            if !open.contains(&(gap.port.clone(), gap.opening)) {
                gap.closed = Some(self.steps);
                gap.closed_at = Some(now);
                let (port, opening, ms) = (&gap.port, gap.opening, gap.duration().as_millis());
                eprintln!("isolation closed: {port}: {opening:?} after {ms} ms, by {done}");
            }
        }
        for (port, opening) in open {
            let is_known = |gap: &Gap| gap.closed.is_none() && gap.port == port && gap.opening == opening;
            if !self.gaps.iter().any(is_known) {
                let when = if self.replaying { " (replay)" } else { "" };
                eprintln!("isolation: {port}: {opening:?} after {done}{when}");
                self.gaps.push(Gap {
                    port,
                    opening,
                    step: self.steps,
                    after: done.to_owned(),
                    in_replay: self.replaying,
                    closed: None,
                    opened_at: now,
                    closed_at: None,
                });
            }
        }
    }
}

fn openings(watch: &Watch, asic: &Asic, links: &BTreeMap<String, Link>) -> BTreeSet<(String, Opening)> {
    let routed = asic.routed_in(&watch.vrf);
    let bridged = asic.bridged();
    let enforced = asic.enforced();
    let is_isolated = |port: &str| {
        let rules = enforced.get(port).and_then(|tables| tables.get(&watch.acl_table));
        rules.is_some_and(|rules| !rules.is_empty() && watch.rules.is_subset(rules))
    };
    let in_kernel = links
        .iter()
        .filter(|(_, link)| link.is_port && !link.addresses.is_empty())
        .filter(|(_, link)| link.master.as_deref() == Some(watch.vrf.as_str()))
        .map(|(port, _)| (port.clone(), Opening::KernelAddress));
    let in_asic = routed.iter().map(|port| (port.clone(), Opening::RouterInterface));
    let unguarded = in_kernel.chain(in_asic).filter(|(port, _)| !is_isolated(port));
    let elsewhere = links
        .iter()
        .filter(|(port, link)| routed.contains(*port) && !link.addresses.is_empty())
        .filter(|(_, link)| link.master.as_deref() != Some(watch.vrf.as_str()))
        .map(|(port, _)| (port.clone(), Opening::OutsideVrf));
    let both = routed.intersection(&bridged).map(|port| (port.clone(), Opening::BridgePort));
    unguarded.chain(elsewhere).chain(both).collect()
}
