//! Runs a relay server on each port that serves a machine, and ends it with the port.
//!
//! Must never: leave a listener on a port that is not to serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::claim::Claim;
use super::server::{self, Service, Shared};
use crate::config::Config;
use crate::desired::Desired;
use crate::net::{BootPrefix, PortName};
use crate::observed::Links;
use crate::serving::{self, Order, Serving};

/// Between attempts to listen on a port.
const RETRY: Duration = Duration::from_millis(500);

/// A port that is served; dropping it closes its listener. Requests that are under way end by themselves.
struct Listener {
    ifindex: u32,
    prefix: BootPrefix,
    task: AbortHandle,
}

impl Listener {
    /// Whether it still stands where it should: a carrier that comes and goes, or another link-local address, leave it.
    fn serves(&self, serving: &Serving) -> bool {
        (self.ifindex, self.prefix) == (serving.ifindex, serving.prefix)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the ports' orders until the process ends.
pub async fn run(
    config: Arc<Config>,
    mut desired: watch::Receiver<Option<Desired>>,
    mut links: watch::Receiver<Links>,
) {
    let shared = match Shared::new(&config.relay) {
        Ok(shared) => Arc::new(shared),
        Err(error) => return error!(%error, "cannot relay"),
    };
    let mut listeners: BTreeMap<PortName, Listener> = BTreeMap::new();
    loop {
        let orders = serving::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &config.boot.vrf,
        );
        listeners.retain(|port, listener| {
            matches!(orders.get(port), Some(Order::Serve(serving)) if listener.serves(serving))
        });
        for (port, order) in orders {
            if let Order::Serve(serving) = order {
                listeners.entry(port).or_insert_with_key(|port| start(port, &serving, &config.leaf, &shared));
            }
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            changed = links.changed() => if changed.is_err() { return },
        }
    }
}

fn start(port: &PortName, serving: &Serving, leaf: &str, shared: &Arc<Shared>) -> Listener {
    let claim = Claim { leaf: leaf.to_owned(), port: port.clone(), prefix: serving.prefix };
    let service = Arc::new(Service { claim, shared: Arc::clone(shared) });
    Listener {
        ifindex: serving.ifindex,
        prefix: serving.prefix,
        task: tokio::spawn(listen(service)).abort_handle(),
    }
}

/// Listens on one port until its listener is dropped: an error is this port's alone, and is tried again.
async fn listen(service: Arc<Service>) {
    let Claim { port, .. } = &service.claim;
    loop {
        let error = match server::listen(port, service.shared.settings.port) {
            Ok(listener) => {
                info!(%port, tcp_port = service.shared.settings.port, "relays");
                server::serve(listener, Arc::clone(&service)).await
            }
            Err(error) => error,
        };
        warn!(%port, %error, "cannot relay; trying again");
        sleep(RETRY).await;
    }
}
