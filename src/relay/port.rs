//! What the relay has for one boot port: its lifecycle, its limits, its share of the log, its counters.
//!
//! Must never: keep anything of a machine when its port has left boot.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderMap;
use leafboot_core::names::{Mac, PortName};
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::identity::IngressIdentity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::cache::PortImages;
use super::identity_headers::IdentityHeaders;
use super::lifecycle::Lifecycle;
use super::limiter::PortLimiter;
use super::port_log::PortLog;
use super::service_state::ServiceState;
use crate::attempts::PortRecorder;
use crate::guarded::Guarded;
use crate::kernel::neighbours;
use crate::metrics::{Counter, Gauge, OneMore, Requests};

/// The relay on one boot port.
pub struct RelayPort {
    /// What it shares with the other ports.
    pub state: Arc<ServiceState>,
    /// The port's name.
    pub name: PortName,
    /// The stage of its service, and its identity.
    pub lifecycle: watch::Receiver<Lifecycle>,
    /// The images for its machines; none: they are redirected to the partition cache.
    pub images: Option<PortImages>,
    /// Its rate limit.
    pub limiter: Arc<PortLimiter>,
    /// Its share of the log.
    pub log: PortLog,
    /// Records what its machines do.
    pub attempts: Arc<PortRecorder>,
    /// Count its requests, the bytes that are sent, and the machines that are disconnected for reading too slowly.
    pub requests: Requests,
    pub(super) sent: Counter,
    pub(super) slow_client_disconnects: Counter,
    connections: Gauge,
    connection_permits: Arc<Semaphore>,
    ifindex: u32,
    identity_headers: Guarded<IdentityHeaders>,
}

impl RelayPort {
    /// The relay on the port that `lifecycle` is about. `ifindex`: the kernel's number of the port. Needs a runtime.
    pub fn new(state: &Arc<ServiceState>, ifindex: u32, lifecycle: watch::Receiver<Lifecycle>) -> Self {
        let name = lifecycle.borrow().identity.port.clone();
        let (metrics, port) = (&state.metrics, name.as_str());
        let attempts = state.attempts.port(&name);
        attempts.enter_boot();
        let log = PortLog::new(name.clone(), metrics.log_lines_left_out(port));
        Self {
            limiter: Arc::new(PortLimiter::new(&state.settings, metrics, &attempts, lifecycle.clone())),
            attempts,
            lifecycle,
            images: state.images.as_ref().map(|images| images.for_port(&name, &log)),
            log,
            requests: metrics.requests(port),
            sent: metrics.sent(port),
            slow_client_disconnects: metrics.slow_client_disconnects(port),
            connections: metrics.connections(port),
            connection_permits: Arc::new(Semaphore::new(usize::from(state.settings.connections))),
            ifindex,
            identity_headers: Guarded::default(),
            state: Arc::clone(state),
            name,
        }
    }

    /// Waits until the port may have one more connection.
    pub(super) async fn connection_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connection_permits).acquire_owned().await.ok()
    }

    /// Counts a connection as open until the returned value is dropped.
    pub(super) fn count_connection(&self) -> impl Send + use<> {
        (OneMore::of(&self.connections), self.state.connections.subscribe())
    }

    /// The machine's Ethernet address, as the kernel has it.
    pub fn mac(&self, machine: Machine) -> Option<Mac> {
        neighbours::mac(self.ifindex, machine.address)
    }

    /// The headers that name the port and `machine` in a request to an upstream.
    pub fn identity_headers(
        &self,
        identity: &Arc<IngressIdentity>,
        machine: Machine,
        now: Instant,
    ) -> HeaderMap {
        let mac = || self.mac(machine);
        self.identity_headers.with(|headers| headers.get(identity, machine, now, mac))
    }
}
