//! Pure: what leafboot says of each port, to metal-core and to whoever is called at night.
//!
//! Must never: say `settled` or `released` before every fact is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::Serialize;

use crate::desired::{Desired, Provenance};
use crate::net::{BootPrefix, PortName, VrfName};
use crate::observed::Observed;
use crate::plan::{self, Plan, Waiting};
use crate::refusals::Refusals;
use crate::serving::{RaState, RaStates};

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
    /// Every port that is or was ours since the agent started.
    pub ports: BTreeMap<PortName, PortStatus>,
}

/// One port's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortStatus {
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
}

/// Where a port stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// It is to boot.
    Boot,
    /// It is in the boot VRF, but no document has named it: kept until metal-core pushes.
    Held,
    /// It is on its way out.
    Releasing,
    /// Nothing of it is ours.
    Released,
}

impl PortState {
    /// In the order that a port goes through them.
    pub const ALL: [Self; 4] = [Self::Boot, Self::Held, Self::Releasing, Self::Released];

    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Held => "held",
            Self::Releasing => "releasing",
            Self::Released => "released",
        }
    }
}

impl PortStatus {
    /// A port with which leafboot has nothing to do.
    pub const RELEASED: Self = Self {
        state: PortState::Released,
        settled: true,
        advertising: false,
        prefix: None,
        gateway: None,
        waiting: None,
    };
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
        let wanted = |name: &PortName| desired.and_then(|desired| desired.ports.get(name)).copied();
        let held = |name: &PortName| observed.ports.get(name).is_some_and(|port| plan::holds(port, vrf));
        let mut names: BTreeSet<&PortName> = before.ports.keys().collect();
        names.extend(desired.iter().flat_map(|desired| desired.ports.keys()));
        names.extend(plan.waiting.keys());
        names.extend(observed.ports.keys().filter(|name| held(name)));
        let status = |name: &PortName| {
            let advertising = ra.get(name) == Some(&RaState::Advertising);
            // While CONFIG_DB is being loaded its rows say nothing: what was not released is not.
            let unseen = before.ports.get(name).filter(|before| {
                !observed.initialized && wanted(name).is_none() && before.state != PortState::Released
            });
            if let Some(before) = unseen {
                let state = match before.state {
                    PortState::Held => PortState::Held,
                    PortState::Boot | PortState::Releasing | PortState::Released => PortState::Releasing,
                };
                let waiting = Some(Waiting::ConfigDb.to_string());
                return PortStatus { state, settled: false, advertising, waiting, ..PortStatus::RELEASED };
            }
            let waiting = match (plan.waiting.get(name), plan.touches(name)) {
                (Some(waiting), _) => Some(waiting.to_string()),
                (None, true) => Some("its rows are being written".to_owned()),
                (None, false) => None,
            };
            let prefix = wanted(name);
            let state = match prefix {
                Some(_) => PortState::Boot,
                None if waiting.is_some() => PortState::Releasing,
                None if held(name) => PortState::Held,
                None => PortState::Released,
            };
            PortStatus {
                state,
                settled: match state {
                    PortState::Boot => plan.unchanged.contains(name),
                    PortState::Released => true,
                    PortState::Held | PortState::Releasing => false,
                },
                advertising,
                prefix,
                gateway: prefix.map(BootPrefix::gateway),
                waiting,
            }
        };
        Self {
            generation: desired.map(|desired| desired.generation),
            is_pushed: desired.is_some_and(|desired| desired.provenance == Provenance::Pushed),
            database_error: None,
            write_error: None,
            anycast: plan.anycast.as_ref().map(|(loopback, waiting)| format!("{loopback}: {waiting}")),
            ports: names.into_iter().map(|name| (name.clone(), status(name))).collect(),
        }
    }

    /// The same, with the rows that Redis refuses to write: each is shown where it is missed, on its port or beside them
    /// all.
    pub fn with_refusals(mut self, refusals: &Refusals) -> Self {
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
        }
    }

    /// The ports as a document that no pass has been made for will have them: nothing of it is settled.
    pub fn pending(&self, desired: &Desired) -> Self {
        let pending = |state, prefix: Option<BootPrefix>| PortStatus {
            state,
            settled: false,
            advertising: false,
            prefix,
            gateway: prefix.map(BootPrefix::gateway),
            waiting: Some("the document was only just pushed".to_owned()),
        };
        let mut ports = self.ports.clone();
        for status in ports.values_mut().filter(|status| status.state != PortState::Released) {
            *status = pending(PortState::Releasing, None);
        }
        let wanted = desired.ports.iter();
        ports.extend(wanted.map(|(name, prefix)| (name.clone(), pending(PortState::Boot, Some(*prefix)))));
        Self { generation: Some(desired.generation), ports, ..self.clone() }
    }

    /// Whether a document was pushed, the databases could be read, and every port is settled.
    pub fn is_settled(&self) -> bool {
        let is_seen =
            self.generation.is_some() && self.database_error.is_none() && self.write_error.is_none();
        is_seen && self.ports.values().all(|port| port.settled)
    }

    /// Whether the pass was for a push of this generation or of a later one.
    pub fn is_of(&self, generation: u64) -> bool {
        self.is_pushed && self.generation >= Some(generation)
    }

    /// Whether it was, and all is settled.
    pub fn has_settled(&self, generation: u64) -> bool {
        self.is_of(generation) && self.is_settled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the ports of `before` when a document without ports stands and CONFIG_DB is being loaded.
    fn unloaded(before: &Status) -> Status {
        let desired = Desired {
            generation: 2,
            provenance: Provenance::Pushed,
            ports: BTreeMap::new(),
            old: BTreeMap::new(),
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
            [PortState::Releasing, PortState::Held, PortState::Releasing, PortState::Released]
        );
        let settled: Vec<bool> = now.ports.values().map(|port| port.settled).collect();
        assert_eq!(settled, [false, false, false, true]);
        assert!(!now.has_settled(2));
    }

    #[test]
    fn what_was_not_seen_is_not_settled() {
        assert!(!Status::default().is_settled(), "no document");
        let restored = Status { generation: Some(1), ..Status::default() };
        assert!(restored.is_settled() && !restored.has_settled(1), "a memory's pass is no push's");
        let seen = Status { is_pushed: true, ..restored };
        assert!(seen.has_settled(1) && !seen.has_settled(2));
        assert!(!seen.without_database("redis is away").has_settled(1));
    }
}
