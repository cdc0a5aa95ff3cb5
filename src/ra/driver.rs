//! The thread that drives the advertisements of all ports: an engine and a socket for each, one queue of their times, one
//! wait.
//!
//! Must never: let one port's error reach another port, or say that a port has ceased before its machine could hear it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tracing::{debug, error, info};

use super::poller::{Bell, Ears};
use super::port::Port;
use super::socket::LARGEST;
use leafboot_core::names::PortName;
use leafboot_core::port_role::{Order, RaState, RaStates};
use leafboot_core::ra::withdrawn::Told;
use leafboot_core::settings::Settings;

/// What every port is to do. A port that is not in it is silent.
type Orders = BTreeMap<PortName, Order>;

/// The thread's orders come this way. Dropped, it ends the thread, which withdraws nothing.
pub struct Driver {
    /// None: no more orders.
    orders: Sender<Option<Orders>>,
    bell: Bell,
}

impl Driver {
    /// Starts the thread, which publishes in `states` how far the ports are. What comes out second is that it has ended.
    pub fn start(
        config: Arc<Settings>,
        told: Arc<Told>,
        states: watch::Sender<RaStates>,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let ears = Ears::new()?;
        let bell = ears.bell();
        let (orders_out, orders) = mpsc::channel();
        let (ended_out, ended) = oneshot::channel();
        thread::Builder::new().name("advertisements".to_owned()).spawn(move || {
            let _ended = ended_out;
            let ports = Ports::new(config, told, ears);
            if let Err(error) = ports.run(&orders, &states) {
                error!(%error, "cannot wait for solicitations");
            }
        })?;
        Ok((Self { orders: orders_out, bell }, ended))
    }

    /// Has the thread take these orders instead of the last ones.
    pub fn order(&self, orders: Orders) {
        self.tell(Some(orders));
    }

    fn tell(&self, orders: Option<Orders>) {
        // Nobody takes it when the thread has ended; its owner has been told of that.
        let _ = self.orders.send(orders);
        self.bell.ring();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.tell(None);
    }
}

struct Ports {
    config: Arc<Settings>,
    told: Arc<Told>,
    /// All ports' engines count their slots from here.
    epoch: Instant,
    /// Every port that has ever had an order; its key is its place.
    ports: Vec<Port>,
    keys: BTreeMap<PortName, usize>,
    /// When which port wants to act.
    times: BTreeSet<(Instant, usize)>,
    ears: Ears,
    frame: Box<[u8; LARGEST]>,
}

impl Ports {
    fn new(config: Arc<Settings>, told: Arc<Told>, ears: Ears) -> Self {
        Self {
            config,
            told,
            epoch: Instant::now(),
            ports: Vec::new(),
            keys: BTreeMap::new(),
            times: BTreeSet::new(),
            ears,
            frame: Box::new([0; LARGEST]),
        }
    }

    /// Takes the latest orders, answers what is heard, sends what is due, and again.
    fn run(mut self, orders: &Receiver<Option<Orders>>, states: &watch::Sender<RaStates>) -> io::Result<()> {
        loop {
            let heard = self.ears.hear(self.times.first().map(|(at, _)| *at))?;
            match orders.try_iter().last() {
                Some(None) => return Ok(()),
                // First every machine is told, then others hear of it; a log is slower than a packet.
                Some(Some(orders)) => {
                    let changed = self.take(&orders);
                    publish(&orders, states);
                    self.say(&changed);
                }
                None => {}
            }
            let now = Instant::now();
            for key in heard {
                self.with(key, |port, ears, frame| port.hear(ears, frame, now));
            }
            let due: Vec<usize> = self.times.range(..=(now, usize::MAX)).map(|(_, key)| *key).collect();
            for key in due {
                self.with(key, |port, ears, _| port.act(ears, now));
            }
        }
    }

    /// Hands the orders out, and does at once what they ask for; returns the ports whose order has changed.
    fn take(&mut self, orders: &Orders) -> Vec<usize> {
        let now = Instant::now();
        for name in orders.keys().filter(|name| !self.keys.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.keys.insert(name.clone(), self.ports.len());
            self.ports.push(Port::new(name, self.ports.len(), &self.config.ra, &self.told, self.epoch));
        }
        let mut changed = Vec::new();
        for key in 0..self.ports.len() {
            self.with(key, |port, ears, _| {
                if port.take(orders.get(port.name()), now) {
                    port.act(ears, now);
                    changed.push(key);
                }
            });
        }
        changed
    }

    fn say(&self, changed: &[usize]) {
        for port in changed.iter().filter_map(|key| self.ports.get(*key)) {
            let name = port.name();
            match port.order() {
                Some(Order::Serve(serving)) => info!(port = %name, prefix = %serving.prefix, "advertises"),
                Some(Order::Cease(serving)) => {
                    info!(port = %name, prefix = %serving.prefix, "ceases to advertise");
                }
                None => debug!(port = %name, "is silent"),
            }
        }
    }

    /// Lets a port do something, and notes when it wants to act next.
    fn with(&mut self, key: usize, doing: impl FnOnce(&mut Port, &Ears, &mut [u8; LARGEST])) {
        let Some(port) = self.ports.get_mut(key) else { return };
        let before = port.wake();
        doing(port, &self.ears, &mut self.frame);
        let after = port.wake();
        if before != after {
            before.map(|at| self.times.remove(&(at, key)));
            after.map(|at| self.times.insert((at, key)));
        }
    }
}

/// Says how far the ports are. A machine that cannot be told that its router goes has lost it anyway: the release goes
/// on, the rest is tried.
fn publish(orders: &Orders, states: &watch::Sender<RaStates>) {
    let state = |order: &Order| match order {
        Order::Serve(_) => RaState::Advertising,
        Order::Cease(_) => RaState::Ceased,
    };
    let after: RaStates = orders.iter().map(|(port, order)| (port.clone(), state(order))).collect();
    states.send_if_modified(|states| {
        let changed = *states != after;
        *states = after;
        changed
    });
}
