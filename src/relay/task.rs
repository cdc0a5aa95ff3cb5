//! Runs a relay server on each port that serves a machine, ends it with the port, and ends all with the process.
//!
//! Must never: leave a listener on a port that is not to serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::connection::GRACE;
use super::server::{self, Phase, Service, Shared, Stage};
use super::tls::TlsError;
use crate::metrics::Metrics;
use crate::systemd::{self, Inherited};
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName};
use leafboot_core::observed::Links;
use leafboot_core::port_role::{self, Order, Serving};
use leafboot_core::relay::identity::Claim;
use leafboot_core::session::Session;
use leafboot_core::settings::Settings;

/// Between attempts to listen on a port.
const RETRY: Duration = Duration::from_millis(500);
/// How long a process that is to end waits for images that are under way.
const DRAIN: Duration = Duration::from_secs(60);

/// What the relay follows.
pub struct Inputs {
    /// What metal-core wants.
    pub desired: watch::Receiver<Option<Desired>>,
    /// What the kernel has.
    pub links: watch::Receiver<Links>,
    /// The ports that the ASIC has no router interface on.
    pub unrouted: watch::Receiver<BTreeSet<PortName>>,
    /// True when the process is to end.
    pub stop: watch::Receiver<bool>,
    /// The listeners of the last process.
    pub inherited: Inherited,
}

/// A port that is served.
struct Port {
    ifindex: u32,
    prefix: BootPrefix,
    session: Session,
    phase: watch::Sender<Phase>,
    /// One per listener.
    tasks: Vec<(u16, AbortHandle)>,
}

impl Port {
    /// Whether it still stands where it should: a carrier that comes and goes, or another link-local address, leave it.
    fn serves(&self, serving: &Serving) -> bool {
        (self.ifindex, self.prefix) == (serving.ifindex, serving.prefix)
    }

    /// Another machine may be on the port when its carrier has returned.
    fn follow(&mut self, serving: &Serving) {
        if self.session.follow(serving.carriers, fastrand::u64(..)) {
            let session = self.session.id();
            self.phase.send_modify(|phase| phase.follow(session));
        }
    }

    fn enter(&self, stage: Stage) {
        self.phase.send_if_modified(|phase| std::mem::replace(&mut phase.stage, stage) != stage);
    }

    /// Closes its listeners. Requests that are under way go on for their grace.
    fn close(&self) {
        for (_, task) in &self.tasks {
            task.abort();
        }
    }

    /// Ends the port for good, at this stage: nobody is to listen there after this process either.
    fn release(&self, port: &PortName, stage: Stage) {
        self.enter(stage);
        self.close();
        for (tcp_port, _) in &self.tasks {
            systemd::forget(port, *tcp_port);
        }
    }
}

/// Follows the ports' orders until the process is to end, and then until what is under way has come through.
pub async fn run(config: Arc<Settings>, metrics: Arc<Metrics>, inputs: Inputs) -> Result<(), TlsError> {
    let Inputs { mut desired, mut links, mut unrouted, mut stop, mut inherited } = inputs;
    let shared = Arc::new(Shared::new(&config.relay, &metrics)?);
    // The last process may have had other settings.
    let tcp_ports = [Some(config.relay.port), config.relay.tls.as_ref().map(|tls| tls.port)];
    inherited.retain(|_, tcp_port| tcp_ports.contains(&Some(tcp_port)));
    let mut ports: BTreeMap<PortName, Port> = BTreeMap::new();
    // Until when images may still come through; none: the process is not to end.
    let mut ends = None;
    loop {
        let orders = port_role::orders(
            desired.borrow_and_update().as_ref(),
            &links.borrow_and_update(),
            &unrouted.borrow_and_update(),
            &config.boot.vrf,
        );
        if let Some(scripts) = &shared.scripts {
            scripts
                .with(|scripts| scripts.follow(desired.borrow().iter().flat_map(|desired| &desired.ports)));
        }
        ports.retain(|name, port| match orders.get(name) {
            Some(Order::Serve(serving)) if port.serves(serving) => {
                port.follow(serving);
                true
            }
            _ => {
                let is_wanted =
                    desired.borrow().as_ref().is_some_and(|desired| desired.ports.contains_key(name));
                port.release(name, if is_wanted { Stage::Interrupted } else { Stage::Released });
                false
            }
        });
        for (name, order) in orders {
            if let Order::Serve(serving) = order {
                ports
                    .entry(name)
                    .or_insert_with_key(|name| start(name, &serving, &config.leaf, &shared, &mut inherited));
            }
        }
        // A port that was released while nobody ran is not to be listened on.
        if let Some(pushed) =
            desired.borrow().as_ref().filter(|desired| desired.provenance == Provenance::Pushed)
        {
            inherited.retain(|port, _| pushed.ports.contains_key(port));
        }
        if ends.is_some() {
            ports.values().for_each(|port| port.enter(Stage::Drains));
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return Ok(()) },
            changed = links.changed() => if changed.is_err() { return Ok(()) },
            changed = unrouted.changed() => if changed.is_err() { return Ok(()) },
            _ = stop.wait_for(|stop| *stop), if ends.is_none() => ends = Some(Instant::now() + DRAIN),
            // A token request does not wait behind an image for the next process.
            () = shared.streams.closed(), if ends.is_some() => break,
            () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => {
                warn!(seconds = DRAIN.as_secs(), "images are still under way; their machines have to boot again");
                break;
            }
        }
    }
    end(&ports, &shared).await;
    Ok(())
}

/// Takes no more connections, and lets each end with the request that is under way. systemd keeps the listeners.
async fn end(ports: &BTreeMap<PortName, Port>, shared: &Shared) {
    for port in ports.values() {
        port.close();
        port.enter(Stage::Stops);
    }
    let _ = timeout(GRACE, shared.open.closed()).await;
}

fn start(
    name: &PortName,
    serving: &Serving,
    leaf: &str,
    shared: &Arc<Shared>,
    inherited: &mut Inherited,
) -> Port {
    let session = Session::begin(serving.carriers, fastrand::u64(..));
    let claim =
        Claim { leaf: leaf.to_owned(), port: name.clone(), prefix: serving.prefix, session: session.id() };
    let phase = watch::Sender::new(Phase::begin(claim));
    let service = Arc::new(Service::new(shared, serving.ifindex, phase.subscribe()));
    let plain = (shared.settings.port, false);
    let tls = shared.settings.tls.as_ref().map(|tls| (tls.port, true));
    let listener = |(tcp_port, is_tls)| {
        let listening = listen(Arc::clone(&service), tcp_port, is_tls, inherited.take(name, tcp_port));
        (tcp_port, tokio::spawn(listening).abort_handle())
    };
    let tasks = [Some(plain), tls].into_iter().flatten().map(listener).collect();
    Port { ifindex: serving.ifindex, prefix: serving.prefix, session, phase, tasks }
}

/// Listens on one port until its task is aborted: an error is this port's alone, and is tried again.
async fn listen(
    service: Arc<Service>,
    tcp_port: u16,
    tls: bool,
    mut inherited: Option<std::net::TcpListener>,
) {
    let port = &service.port;
    let mut is_told = false;
    loop {
        let anew = || {
            // One on a device that is gone may still be kept.
            systemd::forget(port, tcp_port);
            server::listen(port, tcp_port)
        };
        let error = match inherited.take().map_or_else(anew, Ok) {
            Ok(listener) => {
                systemd::keep(port, tcp_port, &listener);
                info!(%port, tcp_port, tls, "relays");
                is_told = false;
                server::serve(listener, Arc::clone(&service), tls).await
            }
            Err(error) => error,
        };
        systemd::forget(port, tcp_port);
        if is_told {
            debug!(%port, tcp_port, %error, "still cannot relay");
        } else {
            warn!(%port, tcp_port, %error, "cannot relay; trying again");
        }
        is_told = true;
        sleep(RETRY).await;
    }
}
