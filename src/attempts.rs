//! Records what is seen of each port's machine: the boot attempts of all ports. The relay and the advertisements' thread record
//! events at once; others read copies, and `task` logs and saves them.
//!
//! Must never: wait. A port's attempts are locked for some microseconds, and no port waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;

use leafboot_core::attempt::{Attempt, AttemptId, Changes, Event, PortHistory};
use leafboot_core::names::PortName;
use leafboot_core::relay::kinds::Kind;
use tokio::sync::watch;

use crate::guarded::Guarded;
use crate::kernel::clock;

pub mod file;
mod publisher;
pub mod task;

/// The attempts of all ports.
#[derive(Debug, Default)]
pub struct Recorder {
    ports: Guarded<BTreeMap<PortName, Arc<PortRecorder>>>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

/// The attempts of one port.
#[derive(Debug)]
pub struct PortRecorder {
    state: Guarded<PortState>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct PortState {
    history: PortHistory,
    /// Counts what has changed in the history.
    version: u64,
    /// Nothing is recorded while the port does not boot.
    is_in_boot: bool,
}

impl Recorder {
    /// The recorder of all ports, with the attempts of the run before.
    pub fn new(kept: BTreeMap<PortName, PortHistory>) -> Self {
        let recorder = Self::default();
        for (name, history) in kept {
            recorder.port(&name).state.with(|state| state.history = history);
        }
        recorder
    }

    /// The recorder of one port.
    pub fn port(&self, name: &PortName) -> Arc<PortRecorder> {
        self.ports.with(|ports| match ports.get(name) {
            Some(port) => Arc::clone(port),
            None => {
                let port = PortRecorder { state: Guarded::default(), changes: self.changes.clone() };
                Arc::clone(ports.entry(name.clone()).or_insert(Arc::new(port)))
            }
        })
    }

    /// The recorder of one port, if anything was asked of it yet.
    pub fn get(&self, name: &PortName) -> Option<Arc<PortRecorder>> {
        self.ports.with(|ports| ports.get(name).cloned())
    }

    /// A copy of every port's attempts, as they are now. Each port is locked for its own copy only.
    pub fn histories(&self) -> BTreeMap<PortName, PortHistory> {
        self.ports().into_iter().map(|(name, port)| (name, port.history())).collect()
    }

    /// Copies of the attempts of the ports where something has changed since the last call. `seen` is the caller's: it begins
    /// empty.
    pub fn changed_since(&self, seen: &mut BTreeMap<PortName, u64>) -> BTreeMap<PortName, PortHistory> {
        let changed = |(name, port): (PortName, Arc<PortRecorder>)| {
            let before = seen.get(&name).copied().unwrap_or_default();
            let (history, version) = port
                .state
                .with(|state| (state.version != before).then(|| (state.history.clone(), state.version)))?;
            seen.insert(name.clone(), version);
            Some((name, history))
        };
        self.ports().into_iter().filter_map(changed).collect()
    }

    /// The recorders of all ports that have one.
    pub fn ports(&self) -> Vec<(PortName, Arc<PortRecorder>)> {
        self.ports.with(|ports| ports.iter().map(|(name, port)| (name.clone(), Arc::clone(port))).collect())
    }

    /// Changes with every event. The value means nothing.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl PortRecorder {
    /// A copy of the port's attempts.
    pub fn history(&self) -> PortHistory {
        self.state.with(|state| state.history.clone())
    }

    /// Copies of the attempts that have ended and have a higher number than `number`, the newest last.
    pub fn ended_after(&self, number: u64) -> Vec<Attempt> {
        let is_later = |attempt: &&Attempt| attempt.number > number && !attempt.is_open();
        self.state.with(|state| state.history.attempts().filter(is_later).cloned().collect())
    }

    /// Reads the port's attempts without a copy. `read` must be short: the port's events wait for it.
    pub fn read<R>(&self, read: impl FnOnce(&PortHistory) -> R) -> R {
        self.state.with(|state| read(&state.history))
    }

    /// The port begins or goes on to boot: from now on events are recorded.
    pub fn enter_boot(&self) {
        self.state.with(|state| state.is_in_boot = true);
    }

    /// The port has left boot. Its attempt ends, and events are no longer recorded.
    pub fn leave_boot(&self) {
        self.record(&Event::Released);
        self.state.with(|state| state.is_in_boot = false);
    }

    /// The port's carrier, as the kernel has it. Recorded only when something has changed.
    pub fn link(&self, carrier: bool, carriers: u32) {
        let is_known = self.state.with(|state| state.history.knows_link(carrier, carriers));
        if !is_known {
            self.record(&Event::Link { carrier, carriers });
        }
    }

    /// Records an event, if the port boots.
    pub fn record(&self, event: &Event) {
        let (now, random) = (clock::now(), fastrand::u128(..));
        let is_recorded = self.state.with(|state| {
            if state.is_in_boot {
                state.history.apply(event, now, random);
                state.version += 1;
            }
            state.is_in_boot
        });
        if is_recorded {
            self.report();
        }
    }

    /// The attempt that a request of this kind belongs to, before it is forwarded, and whether the attempt knows an address
    /// of its machine. A request on a port that no longer boots has an attempt of its own, which is not recorded.
    pub fn begin_request(&self, kind: Kind) -> (AttemptId, bool) {
        let (now, random) = (clock::now(), fastrand::u128(..));
        let (id, knows_address, changes) = self.state.with(|state| {
            if !state.is_in_boot {
                return (AttemptId::new(random), true, Changes::default());
            }
            let (id, changes) = state.history.begin_request(kind, now, random);
            state.version += u64::from(changes != Changes::default());
            (id, state.history.knows_address(), changes)
        });
        if changes != Changes::default() {
            self.report();
        }
        (id, knows_address)
    }

    /// The attempt that goes on.
    pub fn current(&self) -> Option<AttemptId> {
        self.state.with(|state| state.history.current().map(|attempt| attempt.id))
    }

    fn report(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_on_a_port_that_does_not_boot() {
        let recorder = Recorder::default();
        let port = recorder.port(&"Ethernet0".parse().unwrap());
        let carrier = Event::Link { carrier: true, carriers: 1 };
        port.record(&carrier);
        let (first, _) = port.begin_request(Kind::Script);
        assert_ne!(first, port.begin_request(Kind::Script).0);
        assert_eq!(port.history(), PortHistory::default());
        port.enter_boot();
        port.record(&carrier);
        let current = port.current().unwrap();
        assert_eq!(port.begin_request(Kind::Script), (current, false));
        port.leave_boot();
        assert!(port.current().is_none());
        assert_eq!(recorder.histories().len(), 1);
    }
}
