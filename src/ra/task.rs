//! Drives the advertisements: one engine and one socket for each port that serves a machine, and the final
//! advertisement of each port that ceases.
//!
//! Must never: let one port's error reach another port. A port's driver is dropped whole when its order changes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};
use tracing::{debug, info, trace, warn};

use super::engine::{Destination, Engine};
use super::packet::{Advertisement, Solicitation};
use super::socket::{RaSocket, Received};
use crate::config::{Config, Ra};
use crate::desired::Desired;
use crate::net::PortName;
use crate::observed::Links;
use crate::serving::{self, Order, RaState, RaStates, Serving};

/// The pause after a port's first error, and the longest one.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A port that advertises; dropping it stops it, silently.
struct Driver {
    serving: Serving,
    task: AbortHandle,
}

impl Drop for Driver {
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
    let mut drivers = BTreeMap::new();
    loop {
        let orders = serving::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &config.boot.vrf,
        );
        let new = follow(&orders, &mut drivers, &states.borrow().clone(), &config);
        states.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            changed = links.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts, keeps and stops drivers as ordered; returns every port's state after it.
fn follow(
    orders: &BTreeMap<PortName, Order>,
    drivers: &mut BTreeMap<PortName, Driver>,
    before: &RaStates,
    config: &Arc<Config>,
) -> RaStates {
    drivers.retain(|port, driver| {
        let keep = matches!(orders.get(port), Some(Order::Serve(serving)) if *serving == driver.serving);
        if !keep {
            debug!(%port, "stops advertising");
        }
        keep
    });
    let mut states = RaStates::new();
    for (port, order) in orders {
        let state = match order {
            Order::Serve(serving) => {
                drivers.entry(port.clone()).or_insert_with(|| start(port, serving, config));
                RaState::Advertising
            }
            Order::Cease(serving) => {
                if before.get(port) != Some(&RaState::Ceased) {
                    cease(port, serving, &config.ra);
                }
                RaState::Ceased
            }
        };
        states.insert(port.clone(), state);
    }
    states
}

fn start(port: &PortName, serving: &Serving, config: &Arc<Config>) -> Driver {
    info!(%port, prefix = %serving.prefix, "advertises");
    let drive = drive(port.clone(), serving.clone(), Arc::clone(config));
    Driver { serving: serving.clone(), task: tokio::spawn(drive).abort_handle() }
}

/// Tells the port's machine that the router goes. One that cannot be told any more has lost it anyway.
fn cease(port: &PortName, serving: &Serving, settings: &Ra) {
    let message = advertisement(serving, settings).ceasing().encode();
    match RaSocket::open(port, serving).and_then(|socket| socket.multicast(&message)) {
        Ok(()) => info!(%port, prefix = %serving.prefix, "ceased: final advertisement sent"),
        Err(error) => warn!(%port, %error, "ceased: the final advertisement could not be sent"),
    }
}

fn advertisement(serving: &Serving, settings: &Ra) -> Advertisement {
    Advertisement::new(settings, serving.prefix, serving.mac, serving.mtu)
}

/// One port, until its driver is dropped: an error is this port's alone, and is tried again.
async fn drive(port: PortName, serving: Serving, config: Arc<Config>) {
    let message = advertisement(&serving, &config.ra).encode();
    let mut engine = Engine::new(&config.ra, Instant::now());
    let mut pause = RETRY.0;
    loop {
        let begun = Instant::now();
        let Err(error) = advertise(&port, &serving, &mut engine, &message).await;
        if begun.elapsed() > RETRY.1 {
            pause = RETRY.0;
        }
        if pause == RETRY.0 {
            warn!(%port, %error, "cannot advertise; trying again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

/// One port over one socket; returns only with an error.
async fn advertise(
    port: &PortName,
    serving: &Serving,
    engine: &mut Engine,
    message: &[u8],
) -> Result<std::convert::Infallible, io::Error> {
    let socket = RaSocket::open(port, serving)?;
    loop {
        let destination = tokio::select! {
            received = socket.receive() => answer(port, &received?, engine),
            () = sleep_until(engine.deadline().into()) => engine.due(Instant::now(), fastrand::u32(..)),
        };
        match destination {
            Some(Destination::AllNodes) => socket.multicast(message)?,
            Some(Destination::Machine(address)) => {
                // The address is the machine's choice: if it is a bad one, only its answer is lost.
                if let Err(error) = socket.send(address, message) {
                    trace!(%port, %address, %error, "cannot answer");
                }
            }
            None => {}
        }
    }
}

fn answer(port: &PortName, received: &Received, engine: &mut Engine) -> Option<Destination> {
    let Received { from, hop_limit, message } = received;
    match Solicitation::decode(message, *from, *hop_limit) {
        Ok(solicitation) => {
            trace!(%port, %from, "solicited");
            let told = solicitation.has_source_link_layer_address;
            engine.solicited(*from, told, Instant::now(), fastrand::u32(..))
        }
        Err(reason) => {
            trace!(%port, %from, %reason, "discarded a solicitation");
            None
        }
    }
}
