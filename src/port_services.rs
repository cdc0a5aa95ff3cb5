//! Publishes what each port must do, and runs the services that have sockets on each served port.
//!
//! [`publish_roles`] is the only place that computes the roles of all ports. Router Advertisements follow them on their
//! own thread. A service with TCP listeners or UDP sockets is a [`PortService`]: [`PortServices`] starts, updates and
//! stops it port by port. systemd keeps its sockets over a restart of the process.
//!
//! Must never: leave a socket open on a port that must not serve.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::systemd::{self, Inherited};
use leafboot_core::desired::{Desired, Provenance};
use leafboot_core::names::{BootPrefix, PortName, VrfName};
use leafboot_core::observed::Links;
use leafboot_core::port_role::{self, PortRole, Serving};

/// The pause between attempts to open a socket.
const RETRY: Duration = Duration::from_millis(500);

/// What every port must do, computed from one snapshot of all inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRoles {
    /// The role of each port that has one. The other ports are silent.
    pub roles: BTreeMap<PortName, PortRole>,
    /// The ports that the document wants to boot, whether they can be served now or not.
    pub desired: BTreeMap<PortName, BootPrefix>,
    /// Whether metal-core has pushed the document to this process. Until then, metal-core may want a port that the
    /// document does not name.
    pub is_pushed: bool,
}

/// The inputs of the roles.
pub struct RoleInputs {
    /// What metal-core wants.
    pub desired: watch::Receiver<Option<Desired>>,
    /// What the kernel has.
    pub links: watch::Receiver<Links>,
    /// The desired ports that the ASIC has no router interface on.
    pub unrouted: watch::Receiver<BTreeSet<PortName>>,
}

/// Publishes all roles whenever one changes. Ends when the sender of an input is dropped.
pub async fn publish_roles(vrf: &VrfName, mut inputs: RoleInputs, roles: watch::Sender<PortRoles>) {
    loop {
        let now = inputs.roles(vrf);
        roles.send_if_modified(|before| {
            let is_changed = *before != now;
            *before = now;
            is_changed
        });
        let changed = tokio::select! {
            changed = inputs.links.changed() => changed,
            changed = inputs.desired.changed() => changed,
            changed = inputs.unrouted.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

impl RoleInputs {
    fn roles(&mut self, vrf: &VrfName) -> PortRoles {
        let desired = self.desired.borrow_and_update();
        let (links, unrouted) = (self.links.borrow_and_update(), self.unrouted.borrow_and_update());
        PortRoles {
            roles: port_role::port_roles(desired.as_ref(), &links, &unrouted, vrf),
            desired: desired.as_ref().map(Desired::prefixes).unwrap_or_default(),
            is_pushed: desired.as_ref().is_some_and(|desired| desired.provenance == Provenance::Pushed),
        }
    }
}

/// One socket that a service has on each port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceSocket {
    /// The service, for the log and for systemd: lower-case letters only.
    pub service: &'static str,
    /// The TCP or UDP port.
    pub number: u16,
}

impl fmt::Display for ServiceSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.service, self.number)
    }
}

impl ServiceSocket {
    /// The name by which systemd keeps the socket of a port.
    fn name(&self, port: &PortName) -> String {
        format!("{self}-{port}")
    }

    /// The port whose socket has this name; none: it is not one of these sockets.
    fn port(&self, name: &str) -> Option<PortName> {
        name.strip_prefix(&self.to_string())?.strip_prefix('-')?.parse().ok()
    }
}

/// The port of the kept socket with this name, if it is one of `sockets`.
fn port_of(sockets: &[ServiceSocket], name: &str) -> Option<PortName> {
    sockets.iter().find_map(|socket| socket.port(name))
}

/// Takes these sockets out of all sockets that the last process left.
pub fn take_inherited(all: &mut Inherited, sockets: &[ServiceSocket]) -> Inherited {
    all.split(|name| port_of(sockets, name).is_some())
}

/// Why a service stops on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It has lost its link, its device or its address, and may be served again.
    Interrupted,
    /// It is no longer in boot.
    Released,
}

/// A service that runs on every served port.
pub trait PortService: 'static {
    /// The handle of the service on one port. The task of each socket has a clone.
    type Port: Clone + Send + 'static;

    /// The sockets that the service has on each port. They are always the same.
    fn sockets(&self) -> Vec<ServiceSocket>;

    /// Starts the service on a port. Called again, after `stop`, when the port's device or prefix has changed.
    fn start(&self, port: &PortName, serving: &Serving) -> Self::Port;

    /// Stops the service on a port. The caller closes its sockets.
    fn stop(&self, port: &Self::Port, reason: StopReason);

    /// Opens a socket on the port's device.
    fn open_socket(port: &PortName, socket: ServiceSocket) -> io::Result<Socket>;

    /// Serves the opened socket until it fails, or until the future is dropped.
    fn serve(
        port: Self::Port,
        socket: ServiceSocket,
        opened: Socket,
    ) -> impl Future<Output = io::Error> + Send + 'static;
}

/// One service on all ports.
pub struct PortServices<S: PortService> {
    service: S,
    sockets: Vec<ServiceSocket>,
    inherited: Inherited,
    ports: BTreeMap<PortName, Running<S::Port>>,
}

/// The service on a port that is served.
struct Running<P> {
    ifindex: u32,
    prefix: BootPrefix,
    port: P,
    /// One per socket.
    tasks: Vec<AbortHandle>,
}

impl<P> Running<P> {
    /// Whether the service was started for this device and prefix. A new carrier or link-local address needs no
    /// restart.
    fn is_for(&self, serving: &Serving) -> bool {
        (self.ifindex, self.prefix) == (serving.ifindex, serving.prefix)
    }

    fn close(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl<S: PortService> PortServices<S> {
    /// A service that runs on no port yet. `inherited`: its sockets that the last process left.
    pub fn new(service: S, inherited: Inherited) -> Self {
        Self { sockets: service.sockets(), service, inherited, ports: BTreeMap::new() }
    }

    /// The ports that are served.
    pub fn ports(&self) -> impl Iterator<Item = &S::Port> {
        self.ports.values().map(|running| &running.port)
    }

    /// Starts and stops the service port by port. Needs a runtime.
    pub fn apply(&mut self, roles: &PortRoles) {
        let Self { service, sockets, inherited, ports } = self;
        ports.retain(|name, running| match roles.roles.get(name) {
            Some(PortRole::Serve(serving)) if running.is_for(serving) => true,
            _ => {
                let is_desired = roles.desired.contains_key(name);
                service.stop(
                    &running.port,
                    if is_desired { StopReason::Interrupted } else { StopReason::Released },
                );
                running.close();
                // systemd must not pass the socket to the next process.
                sockets.iter().for_each(|socket| systemd::forget(&socket.name(name)));
                false
            }
        });
        for (name, role) in &roles.roles {
            if let PortRole::Serve(serving) = role
                && !ports.contains_key(name)
            {
                let port = service.start(name, serving);
                let task = |socket: &ServiceSocket| {
                    let kept = inherited.take(&socket.name(name), name);
                    tokio::spawn(run_socket::<S>(name.clone(), port.clone(), *socket, kept)).abort_handle()
                };
                let tasks = sockets.iter().map(task).collect();
                let (ifindex, prefix) = (serving.ifindex, serving.prefix);
                ports.insert(name.clone(), Running { ifindex, prefix, port, tasks });
            }
        }
        // Closes the inherited sockets of ports that were released while no process ran.
        if roles.is_pushed {
            inherited
                .retain(|name| port_of(sockets, name).is_some_and(|port| roles.desired.contains_key(&port)));
        }
    }

    /// Closes all sockets because the process ends. systemd keeps them open for the next process.
    pub fn close(&self) {
        self.ports.values().for_each(Running::close);
    }
}

/// Keeps one socket of a port open and served until its task is aborted. After an error it opens the socket again. An
/// error affects no other socket.
async fn run_socket<S: PortService>(
    name: PortName,
    port: S::Port,
    socket: ServiceSocket,
    mut kept: Option<Socket>,
) {
    let key = socket.name(&name);
    let mut is_reported = false;
    loop {
        let open = || {
            // systemd may still have a socket that is bound to a removed device.
            systemd::forget(&key);
            S::open_socket(&name, socket)
        };
        let error = match kept.take().map_or_else(open, Ok) {
            Ok(opened) => {
                systemd::keep(&key, &opened);
                info!(port = %name, service = socket.service, number = socket.number, "service listens on the port");
                is_reported = false;
                S::serve(port.clone(), socket, opened).await
            }
            Err(error) => error,
        };
        systemd::forget(&key);
        if is_reported {
            debug!(port = %name, %socket, %error, "service still cannot listen on the port");
        } else {
            warn!(port = %name, %socket, %error, "service cannot listen on the port; trying again");
        }
        is_reported = true;
        sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests;
