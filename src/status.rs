//! Pure: what leafboot says of each port, to metal-core and to whoever is called at night.
//!
//! Must never: say `settled` or `released` before every fact is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::Serialize;

use crate::desired::Desired;
use crate::net::{BootPrefix, PortName, VrfName};
use crate::observed::Observed;
use crate::plan::{self, Plan};
use crate::serving::{RaState, RaStates};

/// The state of all ports that leafboot has or had to do with, after one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The document that the pass was for; none before the first.
    pub generation: Option<u64>,
    /// Why SONiC's databases cannot be used now.
    pub database_error: Option<String>,
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
                advertising: ra.get(name) == Some(&RaState::Advertising),
                prefix,
                gateway: prefix.map(BootPrefix::gateway),
                waiting,
            }
        };
        Self {
            generation: desired.map(|desired| desired.generation),
            database_error: None,
            ports: names.into_iter().map(|name| (name.clone(), status(name))).collect(),
        }
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
            database_error: Some(error.to_owned()),
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
        Self { generation: Some(desired.generation), database_error: self.database_error.clone(), ports }
    }

    /// Whether the pass was for this generation or a later one, and every port is settled.
    pub fn has_settled(&self, generation: u64) -> bool {
        self.generation >= Some(generation) && self.ports.values().all(|port| port.settled)
    }
}
