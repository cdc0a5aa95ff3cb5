//! Drives the advertisements of all ports: an engine and a socket for each, one queue of their times, one wait.
//!
//! Must never: let one port's error reach another port, or say that a port has ceased before its machine could hear it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, error, info};

use super::port::Port;
use super::socket::{Ears, LARGEST};
use crate::config::Config;
use crate::desired::Desired;
use crate::net::PortName;
use crate::observed::Links;
use crate::serving::{self, Order, RaState, RaStates};

/// Follows the ports' orders until the process ends.
pub async fn run(
    config: Arc<Config>,
    mut desired: watch::Receiver<Option<Desired>>,
    mut links: watch::Receiver<Links>,
    states: watch::Sender<RaStates>,
) {
    let mut driver = match Driver::new(config) {
        Ok(driver) => driver,
        Err(error) => return error!(%error, "cannot wait for solicitations"),
    };
    loop {
        let orders = serving::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &driver.config.boot.vrf,
        );
        // First every machine is told, then others hear of it; a log is slower than a packet.
        let changed = driver.take(&orders);
        publish(&orders, &states);
        driver.say(&changed);
        tokio::select! {
            biased;
            changed = links.changed() => if changed.is_err() { return },
            changed = desired.changed() => if changed.is_err() { return },
            error = driver.work() => return error!(%error, "cannot wait for solicitations"),
        }
    }
}

/// Says how far the ports are. A machine that cannot be told that its router goes has lost it anyway: the release goes
/// on, the rest is tried.
fn publish(orders: &BTreeMap<PortName, Order>, states: &watch::Sender<RaStates>) {
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

struct Driver {
    config: Arc<Config>,
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

impl Driver {
    fn new(config: Arc<Config>) -> io::Result<Self> {
        Ok(Self {
            config,
            epoch: Instant::now(),
            ports: Vec::new(),
            keys: BTreeMap::new(),
            times: BTreeSet::new(),
            ears: Ears::new()?,
            frame: Box::new([0; LARGEST]),
        })
    }

    /// Hands the orders out, and does at once what they ask for; returns the ports whose order has changed.
    fn take(&mut self, orders: &BTreeMap<PortName, Order>) -> Vec<usize> {
        let now = Instant::now();
        for name in orders.keys().filter(|name| !self.keys.contains_key(*name)).cloned().collect::<Vec<_>>() {
            self.keys.insert(name.clone(), self.ports.len());
            self.ports.push(Port::new(name, self.ports.len(), &self.config.ra, self.epoch));
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

    /// Sends what is due, answers what is heard, and again. All that it knows is in `self`: it can be dropped at any
    /// wait. Returns only with an error.
    async fn work(&mut self) -> io::Error {
        loop {
            let clock = async {
                match self.times.first() {
                    Some((at, _)) => sleep_until((*at).into()).await,
                    None => std::future::pending().await,
                }
            };
            let heard = tokio::select! {
                biased;
                heard = self.ears.heard() => heard,
                () = clock => Ok(Vec::new()),
            };
            let heard = match heard {
                Ok(heard) => heard,
                Err(error) => return error,
            };
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
