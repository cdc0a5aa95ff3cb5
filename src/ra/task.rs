//! Drives the advertisements: one engine and one socket for each port, in a task of its own that follows its order.
//!
//! Must never: let one port's error reach another port, or say that a port has ceased before its machine could hear it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::sleep_until;
use tracing::{debug, info, trace, warn};

use super::engine::{Destination, Engine, Send};
use super::packet::{Advertisement, ROUTER_ADVERTISEMENT, Solicitation};
use super::socket::{RaSocket, Received};
use crate::config::Config;
use crate::desired::Desired;
use crate::net::PortName;
use crate::observed::Links;
use crate::serving::{self, Order, RaState, RaStates};

/// The pause after a port's first error, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A port's task and its orders; dropping it stops it, silently.
struct Port {
    orders: watch::Sender<Option<Order>>,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the ports' orders until the process ends.
pub async fn run(
    config: Arc<Config>,
    mut desired: watch::Receiver<Option<Desired>>,
    mut links: watch::Receiver<Links>,
    states: watch::Sender<RaStates>,
) {
    let mut ports = BTreeMap::new();
    loop {
        let orders = serving::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &config.boot.vrf,
        );
        publish(&orders, &states);
        hand_out(orders, &mut ports, &config, &states);
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            changed = links.changed() => if changed.is_err() { return },
        }
    }
}

/// Publishes what follows from the orders alone; that a port has ceased, its own task says.
fn publish(orders: &BTreeMap<PortName, Order>, states: &watch::Sender<RaStates>) {
    states.send_if_modified(|states| {
        let after: RaStates = orders
            .iter()
            .filter_map(|(port, order)| match order {
                Order::Serve(_) => Some((port.clone(), RaState::Advertising)),
                Order::Cease(_) => states.get(port).map(|before| (port.clone(), *before)),
            })
            .collect();
        let changed = *states != after;
        *states = after;
        changed
    });
}

/// Tells every port's task its order, where that has changed.
fn hand_out(
    mut orders: BTreeMap<PortName, Order>,
    ports: &mut BTreeMap<PortName, Port>,
    config: &Arc<Config>,
    states: &watch::Sender<RaStates>,
) {
    for (name, port) in &*ports {
        let order = orders.remove(name);
        port.orders.send_if_modified(|before| {
            let changed = *before != order;
            *before = order;
            changed
        });
    }
    for (name, order) in orders {
        let (sender, receiver) = watch::channel(Some(order));
        let driver = Driver::new(name.clone(), config, states.clone());
        let task = tokio::spawn(driver.follow(receiver)).abort_handle();
        ports.insert(name, Port { orders: sender, task });
    }
}

/// One port: its errors are its own.
struct Driver {
    port: PortName,
    engine: Engine,
    socket: Option<RaSocket>,
    states: watch::Sender<RaStates>,
    /// After an error: the next pause, and until when nothing is tried.
    pause: Duration,
    retry_at: Option<Instant>,
    /// While the port's machine sends too much.
    deaf_until: Option<Instant>,
}

impl Driver {
    fn new(port: PortName, config: &Arc<Config>, states: watch::Sender<RaStates>) -> Self {
        let engine = Engine::new(&config.ra, Instant::now());
        Self { port, engine, socket: None, states, pause: RETRY.0, retry_at: None, deaf_until: None }
    }

    /// Follows the port's orders until its sender is gone.
    async fn follow(mut self, mut orders: watch::Receiver<Option<Order>>) {
        loop {
            let order = orders.borrow_and_update().clone();
            self.take(order.as_ref());
            // First every port tells its machine, then each says so: a log is slower than a packet.
            yield_now().await;
            self.say(order.as_ref());
            tokio::select! {
                biased;
                changed = orders.changed() => if changed.is_err() { return },
                never = self.work(order.as_ref()) => match never {},
            }
        }
    }

    /// Does at once what an order asks for.
    fn take(&mut self, order: Option<&Order>) {
        let now = Instant::now();
        self.engine.order(order, now);
        let ifindex = order.map(|order| match order {
            Order::Serve(serving) | Order::Cease(serving) => serving.ifindex,
        });
        if self.socket.as_ref().map(RaSocket::ifindex) != ifindex {
            self.socket = None;
        }
        (self.pause, self.retry_at) = (RETRY.0, None);
        self.act(order, now);
    }

    fn say(&self, order: Option<&Order>) {
        let port = &self.port;
        match order {
            Some(Order::Serve(serving)) => info!(%port, prefix = %serving.prefix, "advertises"),
            Some(Order::Cease(serving)) => info!(%port, prefix = %serving.prefix, "ceases to advertise"),
            None => debug!(%port, "is silent"),
        }
    }

    /// Sends what is due, listens, and again. All that it knows is in `self`: it can be dropped at any wait.
    async fn work(&mut self, order: Option<&Order>) -> Infallible {
        loop {
            let wake =
                [self.retry_at.or(self.engine.deadline()), self.deaf_until].into_iter().flatten().min();
            let heard = async {
                match &self.socket {
                    Some(socket) if self.deaf_until.is_none() => socket.receive().await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            let clock = async {
                match wake {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let heard = tokio::select! {
                biased;
                received = heard => Some(received),
                () = clock => None,
            };
            let now = Instant::now();
            match heard {
                Some(Ok(received)) => self.hear(&received, now),
                Some(Err(error)) => self.failed(&error, now),
                None => self.deaf_until = self.deaf_until.filter(|until| *until > now),
            }
            self.act(order, now);
        }
    }

    /// Opens the socket where that is to be, and sends what is due.
    fn act(&mut self, order: Option<&Order>, now: Instant) {
        self.retry_at = self.retry_at.filter(|at| *at > now);
        if self.retry_at.is_none()
            && let Err(error) = self.send(order, now)
        {
            self.failed(&error, now);
        }
        // A machine that cannot be told any more has lost its router anyway: the release goes on, the rest is tried.
        if let Some(Order::Cease(_)) = order {
            self.states.send_if_modified(|states| {
                states.insert(self.port.clone(), RaState::Ceased) != Some(RaState::Ceased)
            });
        }
    }

    fn send(&mut self, order: Option<&Order>, now: Instant) -> io::Result<()> {
        let socket = match (&mut self.socket, order) {
            (_, None) => return Ok(()),
            (Some(socket), _) => socket,
            (closed, Some(Order::Serve(serving) | Order::Cease(serving))) => {
                closed.insert(RaSocket::open(&self.port, serving.ifindex)?)
            }
        };
        while let Some(send) = self.engine.due(now, fastrand::u32(..)) {
            let Some((from, advertisement)) = self.engine.advertisement(send, now) else { break };
            let message = advertisement.encode();
            let forgiven = match send {
                Send::Current(Destination::AllNodes) | Send::Final => {
                    if let Err(error) = socket.multicast(from, &message) {
                        self.engine.unsent(now);
                        return Err(error);
                    }
                    self.pause = RETRY.0;
                    Ok(())
                }
                // The address is the machine's choice: if it is a bad one, only its answer is lost.
                Send::Current(Destination::Machine(machine)) => socket.send(from, machine, &message),
                Send::Former(_) => socket.multicast_from_former(from, &message),
            };
            if let Err(error) = forgiven {
                trace!(port = %self.port, ?send, %error, "cannot send");
            }
        }
        Ok(())
    }

    /// Closes the socket; it is opened again after a pause, which grows.
    fn failed(&mut self, error: &io::Error, now: Instant) {
        if self.pause == RETRY.0 {
            warn!(port = %self.port, %error, "cannot advertise; trying again");
        }
        self.socket = None;
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    fn hear(&mut self, received: &Received, now: Instant) {
        let Received { envelope, message } = received;
        let (port, from) = (&self.port, envelope.from);
        if !self.engine.hears(now) {
            // Not listened to, the kernel drops what comes without waking anybody.
            self.deaf_until = Some(now + self.engine.deaf_for());
            if let Some(socket) = &self.socket {
                socket.drain();
            }
            return;
        }
        if message.first() == Some(&ROUTER_ADVERTISEMENT) {
            if let Ok(rogue) = Advertisement::decode(message, envelope)
                && self.engine.reports_rogue(now)
            {
                let prefixes: Vec<String> = rogue.prefixes().map(|prefix| prefix.to_string()).collect();
                let lifetime = rogue.router_lifetime;
                warn!(%port, %from, lifetime, prefixes = prefixes.join(" "), "rogue Router Advertisement");
            }
            return;
        }
        match Solicitation::decode(message, envelope) {
            Ok(solicitation) => {
                trace!(%port, %from, "solicited");
                let told = solicitation.has_source_link_layer_address;
                self.engine.solicited(from, told, now, fastrand::u32(..));
            }
            Err(reason) => trace!(%port, %from, %reason, "discarded a message"),
        }
    }
}
