//! The thread that sends the Router Advertisements of all ports. It has an engine and a socket per port, one queue of
//! deadlines, and one wait for all. It is a thread of its own so that neither a large push nor a slow database delays
//! an answer.
//!
//! Must never: let one port's error affect another port, or publish that a port has ceased before it has tried to send
//! the final advertisement.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tracing::{debug, error, info};

use super::poller::{Poller, Waker};
use super::port::RaPort;
use super::socket::FRAME_MAX;
use crate::attempts::Recorder;
use crate::metrics::Metrics;
use crate::port_services::PortRoles;
use leafboot_core::names::PortName;
use leafboot_core::port_role::{PortRole, RaState, RaStates};
use leafboot_core::ra::withdrawn::WithdrawnOptions;
use leafboot_core::settings::Settings;

/// The role of every port. A port that is not in it is silent.
type Roles = BTreeMap<PortName, PortRole>;

/// Starts the thread, and passes it the ports' roles until the process or the thread ends. Publishes in `states`
/// whether each port advertises. `withdrawn`: the options that only earlier settings advertised. Dropping the future
/// ends the thread.
pub async fn run(
    settings: Arc<Settings>,
    withdrawn: Arc<WithdrawnOptions>,
    attempts: Arc<Recorder>,
    metrics: Arc<Metrics>,
    mut roles: watch::Receiver<PortRoles>,
    states: watch::Sender<RaStates>,
) {
    let (thread, mut ended) = match Thread::start(settings, withdrawn, attempts, metrics, states) {
        Ok(started) => started,
        Err(error) => return error!(%error, "cannot start the Router Advertisement thread"),
    };
    loop {
        thread.send(Some(roles.borrow_and_update().roles.clone()));
        tokio::select! {
            changed = roles.changed() => if changed.is_err() { return },
            _ = &mut ended => return,
        }
    }
}

/// The running thread's channel. Dropping it ends the thread, which sends no final advertisements.
struct Thread {
    /// None: the thread must end.
    roles: Sender<Option<Roles>>,
    waker: Waker,
}

impl Thread {
    /// Starts the thread. The receiver resolves when it has ended.
    fn start(
        settings: Arc<Settings>,
        withdrawn: Arc<WithdrawnOptions>,
        attempts: Arc<Recorder>,
        metrics: Arc<Metrics>,
        states: watch::Sender<RaStates>,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (roles_out, roles) = mpsc::channel();
        let (ended_out, ended) = oneshot::channel();
        thread::Builder::new().name("advertisements".to_owned()).spawn(move || {
            let _ended = ended_out;
            let ports = RaPorts::new(settings, withdrawn, attempts, metrics, poller);
            if let Err(error) = ports.run(&roles, &states) {
                error!(%error, "cannot wait for Router Solicitations");
            }
        })?;
        Ok((Self { roles: roles_out, waker }, ended))
    }

    fn send(&self, roles: Option<Roles>) {
        // This fails only if the thread has ended. `run` learns of that from `ended`.
        let _ = self.roles.send(roles);
        self.waker.wake();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.send(None);
    }
}

/// All ports of the thread.
struct RaPorts {
    settings: Arc<Settings>,
    withdrawn: Arc<WithdrawnOptions>,
    attempts: Arc<Recorder>,
    metrics: Arc<Metrics>,
    /// All ports' engines count their slots from here.
    epoch: Instant,
    /// Every port that has ever had a role; its key is its index.
    ports: Vec<RaPort>,
    keys: BTreeMap<PortName, usize>,
    /// When which port must act next.
    deadlines: BTreeSet<(Instant, usize)>,
    poller: Poller,
    frame: Box<[u8; FRAME_MAX]>,
}

impl RaPorts {
    fn new(
        settings: Arc<Settings>,
        withdrawn: Arc<WithdrawnOptions>,
        attempts: Arc<Recorder>,
        metrics: Arc<Metrics>,
        poller: Poller,
    ) -> Self {
        Self {
            settings,
            withdrawn,
            attempts,
            metrics,
            epoch: Instant::now(),
            ports: Vec::new(),
            keys: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            poller,
            frame: Box::new([0; FRAME_MAX]),
        }
    }

    /// Waits, applies the latest roles, answers what was received, and sends what is due; again and again.
    fn run(mut self, roles: &Receiver<Option<Roles>>, states: &watch::Sender<RaStates>) -> io::Result<()> {
        loop {
            let received = self.poller.wait(self.deadlines.first().map(|(at, _)| *at))?;
            match roles.try_iter().last() {
                Some(None) => return Ok(()),
                // Machines get their advertisements before the states are published. Logging is last: it is slower.
                Some(Some(roles)) => {
                    let changed = self.apply(&roles);
                    publish(&roles, states);
                    self.log_roles(&changed);
                }
                None => {}
            }
            let now = Instant::now();
            for key in received {
                self.with(key, |port, poller, frame| port.receive(poller, frame, now));
            }
            let due: Vec<usize> = self.deadlines.range(..=(now, usize::MAX)).map(|(_, key)| *key).collect();
            for key in due {
                self.with(key, |port, poller, _| port.send_due(poller, now));
            }
        }
    }

    /// Gives each port its role, and lets those whose role has changed act at once. Returns their keys.
    fn apply(&mut self, roles: &Roles) -> Vec<usize> {
        let now = Instant::now();
        for name in roles.keys().filter(|name| !self.keys.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.keys.insert(name.clone(), self.ports.len());
            let (attempts, counters) = (self.attempts.port(&name), self.metrics.advertisements(&name));
            self.ports.push(RaPort::new(
                name,
                self.ports.len(),
                &self.settings.ra,
                &self.withdrawn,
                self.epoch,
                attempts,
                counters,
            ));
        }
        let mut changed = Vec::new();
        for key in 0..self.ports.len() {
            self.with(key, |port, poller, _| {
                if port.set_role(roles.get(port.name()), now) {
                    port.send_due(poller, now);
                    changed.push(key);
                }
            });
        }
        changed
    }

    fn log_roles(&self, changed: &[usize]) {
        for port in changed.iter().filter_map(|key| self.ports.get(*key)) {
            let name = port.name();
            match port.role() {
                Some(PortRole::Serve(serving)) => {
                    info!(port = %name, prefix = %serving.prefix, "port sends Router Advertisements");
                }
                Some(PortRole::Cease(serving)) => {
                    info!(port = %name, prefix = %serving.prefix, "port sends its final Router Advertisements");
                }
                None => debug!(port = %name, "port sends no Router Advertisements"),
            }
        }
    }

    /// Calls `action` with a port, and updates the queue of deadlines.
    fn with(&mut self, key: usize, action: impl FnOnce(&mut RaPort, &Poller, &mut [u8; FRAME_MAX])) {
        let Some(port) = self.ports.get_mut(key) else { return };
        let before = port.deadline();
        action(port, &self.poller, &mut self.frame);
        let after = port.deadline();
        if before != after {
            before.map(|at| self.deadlines.remove(&(at, key)));
            after.map(|at| self.deadlines.insert((at, key)));
        }
    }
}

/// Publishes whether each port advertises. A port counts as ceased even if its final advertisement cannot be sent: then
/// the machine has lost its router anyway, and the release must not wait. The thread goes on trying.
fn publish(roles: &Roles, states: &watch::Sender<RaStates>) {
    let state = |role: &PortRole| match role {
        PortRole::Serve(_) => RaState::Advertising,
        PortRole::Cease(_) => RaState::Ceased,
    };
    let after: RaStates = roles.iter().map(|(port, role)| (port.clone(), state(role))).collect();
    states.send_if_modified(|states| {
        let is_changed = *states != after;
        *states = after;
        is_changed
    });
}
