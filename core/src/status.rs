//! The state of each port as the API reports it, computed from one pass of the reconciler.
//!
//! Must never: report `settled` or `released` before every fact is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use serde::Serialize;

use crate::desired::{Desired, PortRows, Provenance, Reason, Rejection};
use crate::names::{BootPrefix, PortName, VrfName};
use crate::observed::Observed;
use crate::plan::{self, Plan, Waiting};
use crate::port_role::{RaState, RaStates};
use crate::refused_writes::RefusedWrites;

pub use condition::{AgentReason, Condition, RequestReason};

mod condition;

/// The state of all ports that leafboot manages or has managed since its start, after one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The generation of the document that the pass was for; none before the first document.
    pub generation: Option<u64>,
    /// Whether metal-core has pushed the document since the agent started. A restored document releases nothing.
    pub is_pushed: bool,
    /// Why SONiC's databases cannot be used now.
    pub database_error: Option<Condition>,
    /// Which of the rows that all ports share Redis refuses to write, and why. Its message is one line for any number of
    /// rows.
    pub write_error: Option<Condition>,
    /// What the anycast address waits for. It belongs to no port, so no port waits for it.
    pub anycast: Option<Condition>,
    /// Every port that leafboot manages or has managed since its start, and those that the document names and leafboot
    /// rejects.
    pub ports: BTreeMap<PortName, PortStatus>,
    /// The document's entries that name no port, by the pushed name.
    pub names: BTreeMap<String, PortStatus>,
}

/// One port's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortStatus {
    /// The port's other name, from its `PORT` row.
    pub alias: Option<String>,
    /// The port's state.
    pub state: PortState,
    /// Whether nothing is left to do or to wait for.
    pub settled: bool,
    /// Whether Router Advertisements are sent on the port.
    pub advertising: bool,
    /// The machine's /64.
    pub prefix: Option<BootPrefix>,
    /// The leaf's address on the port.
    pub gateway: Option<Ipv6Addr>,
    /// What the port waits for.
    pub waiting: Option<Condition>,
    /// Why the port is rejected, for programs.
    pub reason: Option<Reason>,
    /// Why the port is rejected, in one sentence.
    pub message: Option<String>,
}

/// A port's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// The document wants the port to boot its machine.
    Boot,
    /// The port's entry in the document cannot be used. The port keeps what it had.
    Rejected,
    /// The port is in the boot VRF and no document names it. It stays there until metal-core pushes.
    Orphaned,
    /// The port is leaving the boot VRF.
    Releasing,
    /// SONiC has nothing of leafboot's on the port.
    Released,
}

impl PortState {
    /// All states, in the order of a port's life.
    pub const ALL: [Self; 5] = [Self::Boot, Self::Rejected, Self::Orphaned, Self::Releasing, Self::Released];

    /// The state's name in the API, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Rejected => "rejected",
            Self::Orphaned => "orphaned",
            Self::Releasing => "releasing",
            Self::Released => "released",
        }
    }
}

impl PortStatus {
    /// A port that leafboot does not manage.
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

    /// Marks the port as rejected, if there is a rejection.
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
    /// The state after a pass. `before` is the state after the pass before: it names the ports that were managed earlier.
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
        names.extend(observed.ports.keys().filter(|name| pass.is_managed(name)));
        // Forget a name that only an earlier document had and that is no port of the leaf.
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
            anycast: plan.anycast.as_ref().map(|(loopback, waiting)| Condition {
                message: format!("{loopback}: {waiting}"),
                ..Condition::from(waiting)
            }),
            ports: statuses.filter(|(name, status)| !is_forgotten(name, status)).collect(),
            names: desired.map(rejected_names).unwrap_or_default(),
        }
    }

    /// Adds the rows that Redis refuses to write: a port's row to that port, and shared rows to `write_error`.
    pub fn with_refusals(mut self, refusals: &RefusedWrites) -> Self {
        const REASONS: usize = 3;
        let shared: Vec<String> = refusals.shared().iter().take(REASONS).map(ToString::to_string).collect();
        self.write_error =
            (!shared.is_empty()).then(|| Condition::new(AgentReason::WriteRefused, shared.join("; ")));
        for (port, refusal) in refusals.of_ports() {
            if let Some(status) = self.ports.get_mut(port).filter(|status| status.waiting.is_some()) {
                status.waiting = Some(Condition::new(AgentReason::WriteRefused, refusal.to_string()));
            }
        }
        self
    }

    /// The state while the databases cannot be read: nothing is known, so nothing is settled.
    pub fn without_database(&self, error: &Condition) -> Self {
        let unknown = |status: &PortStatus| PortStatus {
            settled: false,
            waiting: Some(error.clone()),
            ..status.clone()
        };
        Self {
            generation: self.generation,
            is_pushed: self.is_pushed,
            database_error: Some(error.clone()),
            write_error: self.write_error.clone(),
            anycast: self.anycast.clone(),
            ports: self.ports.iter().map(|(name, status)| (name.clone(), unknown(status))).collect(),
            names: self.names.clone(),
        }
    }

    /// The state for a document that no pass has been made for yet: no port that it changes is settled.
    pub fn pending(&self, desired: &Desired, rows: &PortRows) -> Self {
        let just_pushed =
            Some(Condition::new(AgentReason::DocumentPending, "the document was only just pushed"));
        let mut ports = self.ports.clone();
        for status in ports.values_mut().filter(|status| status.state != PortState::Released) {
            let (alias, waiting) = (status.alias.take(), just_pushed.clone());
            let state = PortState::Releasing;
            *status = PortStatus { alias, state, settled: false, waiting, ..PortStatus::RELEASED };
        }
        for name in desired.ports.keys().chain(desired.rejected.ports.keys()) {
            let prefix = desired.prefix(name);
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

    /// Every port, then every name that is no port, in the API's order.
    pub fn all(&self) -> impl Iterator<Item = (&str, &PortStatus)> {
        let ports = self.ports.iter().map(|(name, status)| (name.as_str(), status));
        ports.chain(self.names.iter().map(|(name, status)| (name.as_str(), status)))
    }

    /// Whether there is a document, the databases can be read and written, and every port is settled.
    pub fn is_settled(&self) -> bool {
        self.is_usable() && self.all().all(|(_, port)| port.settled)
    }

    /// Whether there is a document, and the databases can be read and written.
    fn is_usable(&self) -> bool {
        self.generation.is_some() && self.database_error.is_none() && self.write_error.is_none()
    }

    /// Whether the pass was for a push of this generation or of a later one.
    pub fn is_for(&self, generation: u64) -> bool {
        self.is_pushed && self.generation >= Some(generation)
    }

    /// Whether the pass was for a push of this generation or of a later one, and no port has anything left to wait for. A
    /// rejected port changes only with another push, so it counts as final.
    pub fn is_complete_for(&self, generation: u64) -> bool {
        let is_final = |port: &PortStatus| port.settled || port.state == PortState::Rejected;
        self.is_for(generation) && self.is_usable() && self.all().all(|(_, port)| is_final(port))
    }
}

/// The inputs and the result of one pass.
struct Pass<'a> {
    desired: Option<&'a Desired>,
    observed: &'a Observed,
    plan: &'a Plan,
    ra: &'a RaStates,
    vrf: &'a VrfName,
}

impl Pass<'_> {
    fn is_managed(&self, name: &PortName) -> bool {
        self.observed.ports.get(name).is_some_and(|port| plan::is_managed(port, self.vrf))
    }

    /// One port's state. `before` is its state after the pass before.
    fn status(&self, name: &PortName, before: Option<&PortStatus>) -> PortStatus {
        let row = self.observed.ports.get(name).and_then(|port| port.row.as_ref());
        let status = PortStatus {
            // A port keeps its alias while its row is gone or is being loaded.
            alias: row.and_then(|row| row.alias.clone()).or_else(|| before?.alias.clone()),
            advertising: self.ra.get(name) == Some(&RaState::Advertising),
            ..PortStatus::RELEASED
        };
        let rejection = self.desired.and_then(|desired| desired.rejected.ports.get(name));
        let prefix = self.desired.and_then(|desired| desired.prefix(name));
        // While CONFIG_DB is being loaded, a missing row proves nothing. A port that was not released before does not become
        // released now.
        let unconfirmed = before.filter(|before| {
            !self.observed.initialized && prefix.is_none() && before.state != PortState::Released
        });
        if let Some(before) = unconfirmed {
            let state = match before.state {
                PortState::Orphaned => PortState::Orphaned,
                PortState::Boot | PortState::Rejected | PortState::Releasing | PortState::Released => {
                    PortState::Releasing
                }
            };
            let waiting = Some(Condition::from(&Waiting::ConfigDbNotLoaded));
            return PortStatus { state, settled: false, waiting, ..status }.rejected(rejection);
        }
        let waiting = match (self.plan.waiting.get(name), self.plan.touches(name)) {
            (Some(waiting), _) => Some(Condition::from(waiting)),
            (None, true) => Some(Condition::new(AgentReason::RowsPending, "its rows are being written")),
            (None, false) => None,
        };
        let state = match prefix {
            Some(_) => PortState::Boot,
            None if waiting.is_some() => PortState::Releasing,
            None if self.is_managed(name) => PortState::Orphaned,
            None => PortState::Released,
        };
        let settled = match state {
            PortState::Boot => self.plan.unchanged.contains(name),
            PortState::Released => true,
            PortState::Rejected | PortState::Orphaned | PortState::Releasing => false,
        };
        // A rejected port keeps its prefix in the boot VRF, even if leafboot does not remember the document that gave it.
        let prefix = prefix.or_else(|| rejection.and_then(|_| self.address_in_vrf(name)));
        let gateway = prefix.map(BootPrefix::gateway);
        PortStatus { state, settled, prefix, gateway, waiting, ..status }.rejected(rejection)
    }

    fn address_in_vrf(&self, name: &PortName) -> Option<BootPrefix> {
        let port = self.observed.ports.get(name).filter(|port| plan::is_managed(port, self.vrf))?;
        port.address_rows.first().copied()
    }
}

/// The document's entries that name no port.
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
    fn a_rejected_port_without_an_earlier_entry_shows_its_prefix_in_the_boot_vrf() {
        let (port, prefix): (PortName, BootPrefix) =
            ("Ethernet0".parse().unwrap(), "2001:db8:b007::/64".parse().unwrap());
        let rejection = Rejection { reason: Reason::Protected, message: "it is protected".to_owned() };
        let rejected = Rejected { ports: BTreeMap::from([(port.clone(), rejection)]), ..Rejected::default() };
        let desired = Desired { provenance: Provenance::Pushed, rejected, ..Desired::before_first_push() };
        let in_vrf = observed::ObservedPort {
            base: observed::Base::Ours,
            bound_vrf: Some("Vrfboot".to_owned()),
            address_rows: BTreeSet::from([prefix]),
            ..observed::ObservedPort::default()
        };
        let observed = Observed {
            initialized: true,
            ports: BTreeMap::from([(port.clone(), in_vrf)]),
            ..Observed::default()
        };
        let (plan, ra, vrf) = (Plan::default(), RaStates::new(), "Vrfboot".parse().unwrap());
        let status = Status::new(Some(&desired), &observed, &plan, &ra, &vrf, &Status::default());
        assert_eq!(
            (status.ports[&port].state, status.ports[&port].prefix),
            (PortState::Rejected, Some(prefix))
        );
    }

    /// The status after `before`, with a document that names no port, while CONFIG_DB is being loaded.
    fn while_loading(before: &Status) -> Status {
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
        let now = while_loading(&before);
        let states: Vec<PortState> = now.ports.values().map(|port| port.state).collect();
        assert_eq!(
            states,
            [
                PortState::Releasing,
                PortState::Releasing,
                PortState::Orphaned,
                PortState::Releasing,
                PortState::Released
            ]
        );
        let settled: Vec<bool> = now.ports.values().map(|port| port.settled).collect();
        assert_eq!(settled, [false, false, false, false, true]);
        assert!(!now.is_complete_for(2));
    }

    #[test]
    fn without_a_document_or_database_nothing_is_settled() {
        assert!(!Status::default().is_settled(), "no document");
        let restored = Status { generation: Some(1), ..Status::default() };
        assert!(restored.is_settled() && !restored.is_complete_for(1), "a restored document is no push");
        let pushed = Status { is_pushed: true, ..restored };
        assert!(pushed.is_complete_for(1) && !pushed.is_complete_for(2));
        assert!(
            !pushed
                .without_database(&Condition::new(AgentReason::DatabaseUnreachable, "redis is away"))
                .is_complete_for(1)
        );
    }
}
