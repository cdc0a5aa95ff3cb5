//! Pure: what leafboot says of each port, to metal-core and to whoever is called at night.
//!
//! Must never: say `settled` or `released` before every fact is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::Serialize;

use crate::desired::{Desired, PortRows, Provenance, Reason, Rejection};
use crate::names::{BootPrefix, PortName, VrfName};
use crate::observed::Observed;
use crate::plan::{self, Plan, Waiting};
use crate::port_role::{RaState, RaStates};
use crate::refused_writes::RefusedWrites;

/// The state of all ports that leafboot has or had to do with, after one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The document that the pass was for; none before the first.
    pub generation: Option<u64>,
    /// Whether metal-core had said it since the agent started: a memory's word releases nothing.
    pub is_pushed: bool,
    /// Why SONiC's databases cannot be used now.
    pub database_error: Option<String>,
    /// Which rows that all ports share Redis refuses to write, and why: one line, whatever their number.
    pub write_error: Option<String>,
    /// What the anycast address waits for. It is no port's, so it keeps none from being settled.
    pub anycast: Option<String>,
    /// Every port that is or was ours since the agent started, and those that the document names and cannot be.
    pub ports: BTreeMap<PortName, PortStatus>,
    /// What the document names and is no port at all, by the name that was pushed.
    pub names: BTreeMap<String, PortStatus>,
}

/// One port's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortStatus {
    /// The port's other name, as its `PORT` row has it.
    pub alias: Option<String>,
    /// Where the port stands.
    pub state: PortState,
    /// Nothing is left to do or to wait for.
    pub settled: bool,
    /// Router Advertisements are sent on it.
    pub advertising: bool,
    /// The machine's /64.
    pub prefix: Option<BootPrefix>,
    /// The leaf's address on the port.
    pub gateway: Option<Ipv6Addr>,
    /// What is waited for.
    pub waiting: Option<String>,
    /// Why the port is rejected.
    pub reason: Option<Reason>,
    /// The same in one sentence.
    pub message: Option<String>,
}

/// Where a port stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// It is to boot.
    Boot,
    /// Its entry in the document cannot be. It keeps what it had.
    Rejected,
    /// It is in the boot VRF, but no document has named it: kept until metal-core pushes.
    Held,
    /// It is on its way out.
    Releasing,
    /// Nothing of it is ours.
    Released,
}

impl PortState {
    /// In the order that a port goes through them.
    pub const ALL: [Self; 5] = [Self::Boot, Self::Rejected, Self::Held, Self::Releasing, Self::Released];

    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Rejected => "rejected",
            Self::Held => "held",
            Self::Releasing => "releasing",
            Self::Released => "released",
        }
    }
}

impl PortStatus {
    /// A port with which leafboot has nothing to do.
    pub const RELEASED: Self = Self {
        alias: None,
        state: PortState::Released,
        settled: true,
        advertising: false,
        prefix: None,
        gateway: None,
        waiting: None,
        reason: None,
        message: None,
    };

    /// The same port, if it is rejected for that.
    fn rejected(self, rejection: Option<&Rejection>) -> Self {
        let Some(Rejection { reason, message }) = rejection else { return self };
        Self {
            state: PortState::Rejected,
            settled: false,
            reason: Some(*reason),
            message: Some(message.clone()),
            ..self
        }
    }
}

impl Status {
    /// The state after a pass; `before` names the ports that were ours earlier.
    pub fn new(
        desired: Option<&Desired>,
        observed: &Observed,
        plan: &Plan,
        ra: &RaStates,
        vrf: &VrfName,
        before: &Self,
    ) -> Self {
        let pass = Pass { desired, observed, plan, ra, vrf };
        let mut names: BTreeSet<&PortName> = before.ports.keys().collect();
        names.extend(desired.iter().flat_map(|desired| desired.ports.keys()));
        names.extend(desired.iter().flat_map(|desired| desired.rejected.ports.keys()));
        names.extend(plan.waiting.keys());
        names.extend(observed.ports.keys().filter(|name| pass.holds(name)));
        // Whom only a document has named, and no leaf has, is forgotten with that document.
        let is_forgotten = |name: &PortName, status: &PortStatus| {
            let was_rejected =
                before.ports.get(name).is_some_and(|before| before.state == PortState::Rejected);
            was_rejected && status.state == PortState::Released && !observed.ports.contains_key(name)
        };
        let statuses =
            names.into_iter().map(|name| (name.clone(), pass.status(name, before.ports.get(name))));
        Self {
            generation: desired.map(|desired| desired.generation),
            is_pushed: desired.is_some_and(|desired| desired.provenance == Provenance::Pushed),
            database_error: None,
            write_error: None,
            anycast: plan.anycast.as_ref().map(|(loopback, waiting)| format!("{loopback}: {waiting}")),
            ports: statuses.filter(|(name, status)| !is_forgotten(name, status)).collect(),
            names: desired.map(rejected_names).unwrap_or_default(),
        }
    }

    /// The same, with the rows that Redis refuses to write: each is shown where it is missed, on its port or beside them
    /// all.
    pub fn with_refusals(mut self, refusals: &RefusedWrites) -> Self {
        const REASONS: usize = 3;
        let shared: Vec<String> = refusals.shared().iter().take(REASONS).map(ToString::to_string).collect();
        self.write_error = (!shared.is_empty()).then(|| shared.join("; "));
        for (port, refusal) in refusals.of_ports() {
            if let Some(status) = self.ports.get_mut(port).filter(|status| status.waiting.is_some()) {
                status.waiting = Some(refusal.to_string());
            }
        }
        self
    }

    /// The same ports while the databases cannot be read: nothing is known, so nothing is settled.
    pub fn without_database(&self, error: &str) -> Self {
        let unknown = |status: &PortStatus| PortStatus {
            settled: false,
            waiting: Some(error.to_owned()),
            ..status.clone()
        };
        Self {
            generation: self.generation,
            is_pushed: self.is_pushed,
            database_error: Some(error.to_owned()),
            write_error: self.write_error.clone(),
            anycast: self.anycast.clone(),
            ports: self.ports.iter().map(|(name, status)| (name.clone(), unknown(status))).collect(),
            names: self.names.clone(),
        }
    }

    /// The ports as a document that no pass has been made for will have them: nothing of it is settled.
    pub fn pending(&self, desired: &Desired, rows: &PortRows) -> Self {
        let just_pushed = Some("the document was only just pushed".to_owned());
        let mut ports = self.ports.clone();
        for status in ports.values_mut().filter(|status| status.state != PortState::Released) {
            let (alias, waiting) = (status.alias.take(), just_pushed.clone());
            let state = PortState::Releasing;
            *status = PortStatus { alias, state, settled: false, waiting, ..PortStatus::RELEASED };
        }
        for name in desired.ports.keys().chain(desired.rejected.ports.keys()) {
            let prefix = desired.ports.get(name).copied();
            let status = PortStatus {
                alias: rows.get(name).and_then(|row| row.alias.clone()),
                state: PortState::Boot,
                settled: false,
                prefix,
                gateway: prefix.map(BootPrefix::gateway),
                waiting: just_pushed.clone(),
                ..PortStatus::RELEASED
            };
            ports.insert(name.clone(), status.rejected(desired.rejected.ports.get(name)));
        }
        let generation = Some(desired.generation);
        Self { generation, ports, names: rejected_names(desired), ..self.clone() }
    }

    /// Every port, and every name that is none, in the order of answers.
    pub fn all(&self) -> impl Iterator<Item = (&str, &PortStatus)> {
        let ports = self.ports.iter().map(|(name, status)| (name.as_str(), status));
        ports.chain(self.names.iter().map(|(name, status)| (name.as_str(), status)))
    }

    /// Whether a document was pushed, the databases could be read, and every port is settled.
    pub fn is_settled(&self) -> bool {
        self.is_seen() && self.all().all(|(_, port)| port.settled)
    }

    fn is_seen(&self) -> bool {
        self.generation.is_some() && self.database_error.is_none() && self.write_error.is_none()
    }

    /// Whether the pass was for a push of this generation or of a later one.
    pub fn is_of(&self, generation: u64) -> bool {
        self.is_pushed && self.generation >= Some(generation)
    }

    /// Whether it was, and nothing is left to wait for: a rejected port changes with another push only.
    pub fn is_done(&self, generation: u64) -> bool {
        let is_final = |port: &PortStatus| port.settled || port.state == PortState::Rejected;
        self.is_of(generation) && self.is_seen() && self.all().all(|(_, port)| is_final(port))
    }
}

/// What one pass has seen.
struct Pass<'a> {
    desired: Option<&'a Desired>,
    observed: &'a Observed,
    plan: &'a Plan,
    ra: &'a RaStates,
    vrf: &'a VrfName,
}

impl Pass<'_> {
    fn holds(&self, name: &PortName) -> bool {
        self.observed.ports.get(name).is_some_and(|port| plan::holds(port, self.vrf))
    }

    /// One port's state, which was `before`.
    fn status(&self, name: &PortName, before: Option<&PortStatus>) -> PortStatus {
        let row = self.observed.ports.get(name).and_then(|port| port.row.as_ref());
        let status = PortStatus {
            // A port whose row is gone, or is being loaded, still is known by the alias that it had.
            alias: row.and_then(|row| row.alias.clone()).or_else(|| before?.alias.clone()),
            advertising: self.ra.get(name) == Some(&RaState::Advertising),
            ..PortStatus::RELEASED
        };
        let rejection = self.desired.and_then(|desired| desired.rejected.ports.get(name));
        let prefix = self.desired.and_then(|desired| desired.ports.get(name)).copied();
        // While CONFIG_DB is being loaded its rows say nothing: what was not released is not.
        let unseen = before.filter(|before| {
            !self.observed.initialized && prefix.is_none() && before.state != PortState::Released
        });
        if let Some(before) = unseen {
            let state = match before.state {
                PortState::Held => PortState::Held,
                PortState::Boot | PortState::Rejected | PortState::Releasing | PortState::Released => {
                    PortState::Releasing
                }
            };
            let waiting = Some(Waiting::ConfigDb.to_string());
            return PortStatus { state, settled: false, waiting, ..status }.rejected(rejection);
        }
        let waiting = match (self.plan.waiting.get(name), self.plan.touches(name)) {
            (Some(waiting), _) => Some(waiting.to_string()),
            (None, true) => Some("its rows are being written".to_owned()),
            (None, false) => None,
        };
        let state = match prefix {
            Some(_) => PortState::Boot,
            None if waiting.is_some() => PortState::Releasing,
            None if self.holds(name) => PortState::Held,
            None => PortState::Released,
        };
        let settled = match state {
            PortState::Boot => self.plan.unchanged.contains(name),
            PortState::Released => true,
            PortState::Rejected | PortState::Held | PortState::Releasing => false,
        };
        // A rejected port keeps what it has in the boot VRF, whether or not a document is remembered that gave it that.
        let prefix = prefix.or_else(|| rejection.and_then(|_| self.address_in_vrf(name)));
        let gateway = prefix.map(BootPrefix::gateway);
        PortStatus { state, settled, prefix, gateway, waiting, ..status }.rejected(rejection)
    }

    fn address_in_vrf(&self, name: &PortName) -> Option<BootPrefix> {
        let port = self.observed.ports.get(name).filter(|port| plan::holds(port, self.vrf))?;
        port.addresses.first().copied()
    }
}

/// What a document names and is no port.
fn rejected_names(desired: &Desired) -> BTreeMap<String, PortStatus> {
    let names = desired.rejected.names.iter();
    names.map(|(name, rejection)| (name.clone(), PortStatus::RELEASED.rejected(Some(rejection)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Rejected;
    use crate::observed;

    #[test]
    fn a_rejected_port_that_nobody_remembers_shows_what_it_has_in_the_boot_vrf() {
        let (port, prefix): (PortName, BootPrefix) =
            ("Ethernet0".parse().unwrap(), "2001:db8:b007::/64".parse().unwrap());
        let rejection = Rejection { reason: Reason::Protected, message: "it is protected".to_owned() };
        let rejected = Rejected { ports: BTreeMap::from([(port.clone(), rejection)]), ..Rejected::default() };
        let desired = Desired { provenance: Provenance::Pushed, rejected, ..Desired::unknown() };
        let held = observed::Port {
            base: observed::Base::Ours,
            bound: Some("Vrfboot".to_owned()),
            addresses: BTreeSet::from([prefix]),
            ..observed::Port::default()
        };
        let observed = Observed {
            initialized: true,
            ports: BTreeMap::from([(port.clone(), held)]),
            ..Observed::default()
        };
        let (plan, ra, vrf) = (Plan::default(), RaStates::new(), "Vrfboot".parse().unwrap());
        let status = Status::new(Some(&desired), &observed, &plan, &ra, &vrf, &Status::default());
        assert_eq!(
            (status.ports[&port].state, status.ports[&port].prefix),
            (PortState::Rejected, Some(prefix))
        );
    }

    /// What is said of the ports of `before` when a document without ports stands and CONFIG_DB is being loaded.
    fn unloaded(before: &Status) -> Status {
        let desired = Desired {
            generation: 2,
            provenance: Provenance::Pushed,
            ports: BTreeMap::new(),
            old: BTreeMap::new(),
            rejected: Rejected::default(),
        };
        let (observed, plan, ra) = (Observed::default(), Plan::default(), RaStates::new());
        let vrf = "Vrfboot".parse().unwrap();
        Status::new(Some(&desired), &observed, &plan, &ra, &vrf, before)
    }

    #[test]
    fn nothing_is_released_while_config_db_is_being_loaded() {
        let state =
            |state| PortStatus { state, settled: state == PortState::Released, ..PortStatus::RELEASED };
        let ports = PortState::ALL
            .iter()
            .enumerate()
            .map(|(at, was)| (format!("Ethernet{at}").parse().unwrap(), state(*was)));
        let before = Status { generation: Some(1), ports: ports.collect(), ..Status::default() };
        let now = unloaded(&before);
        let states: Vec<PortState> = now.ports.values().map(|port| port.state).collect();
        assert_eq!(
            states,
            [
                PortState::Releasing,
                PortState::Releasing,
                PortState::Held,
                PortState::Releasing,
                PortState::Released
            ]
        );
        let settled: Vec<bool> = now.ports.values().map(|port| port.settled).collect();
        assert_eq!(settled, [false, false, false, false, true]);
        assert!(!now.is_done(2));
    }

    #[test]
    fn what_was_not_seen_is_not_settled() {
        assert!(!Status::default().is_settled(), "no document");
        let restored = Status { generation: Some(1), ..Status::default() };
        assert!(restored.is_settled() && !restored.is_done(1), "a memory's pass is no push's");
        let seen = Status { is_pushed: true, ..restored };
        assert!(seen.is_done(1) && !seen.is_done(2));
        assert!(!seen.without_database("redis is away").is_done(1));
    }
}
