//! Runs the relay on every port that is served, until the process ends.
//!
//! Must never: abort an image because the process ends while it may still be complete within `DRAIN`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::connection::GRACE;
use super::lifecycle::{Lifecycle, ServiceStage};
use super::listener;
use super::port::RelayPort;
use super::probes::Prober;
use super::service_state::ServiceState;
use super::tls::TlsError;
use crate::attempts::Recorder;
use crate::metrics::Metrics;
use crate::port_services::{PortRoles, PortService, PortServices, ServiceSocket, StopReason};
use crate::systemd::Inherited;
use leafboot_core::attempt::AttemptId;
use leafboot_core::names::PortName;
use leafboot_core::port_role::Serving;
use leafboot_core::probe::{Probe, ProbeResults};
use leafboot_core::relay::identity::IngressIdentity;
use leafboot_core::settings::{RelaySettings, Settings};

/// How long a process that must end waits for images that are being sent.
const DRAIN: Duration = Duration::from_secs(60);
/// The names of the service: HTTP without TLS, and with it.
const HTTP: &str = "http";
const HTTPS: &str = "https";

/// The inputs of the relay.
pub struct RelayInputs {
    /// What each port must do.
    pub roles: watch::Receiver<PortRoles>,
    /// True when the process must end.
    pub stop: watch::Receiver<bool>,
    /// The sockets that the last process left.
    pub inherited: Inherited,
    /// Records what machines do.
    pub attempts: Arc<Recorder>,
    /// What is to be probed.
    pub wanted: watch::Receiver<BTreeSet<Probe>>,
    /// What came of it.
    pub probed: watch::Sender<Arc<ProbeResults>>,
}

/// The relay's sockets on each port.
pub fn sockets(settings: &RelaySettings) -> Vec<ServiceSocket> {
    let http = ServiceSocket { service: HTTP, number: settings.port };
    let https = settings.tls.as_ref().map(|tls| ServiceSocket { service: HTTPS, number: tls.port });
    [Some(http), https].into_iter().flatten().collect()
}

/// Serves until the process must end, and then until the requests under way are complete, or their time is over.
pub async fn run(
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    inputs: RelayInputs,
) -> Result<(), TlsError> {
    let RelayInputs { mut roles, mut stop, inherited, attempts, wanted, probed } = inputs;
    let state = Arc::new(ServiceState::new(&settings.relay, &metrics, &attempts)?);
    tokio::spawn(Prober::new(&settings, &state)?.run(wanted, probed));
    let service = RelayService { leaf: settings.leaf.clone(), state: Arc::clone(&state) };
    let mut services = PortServices::new(service, inherited);
    // Until when images may still be sent; none: the process need not end.
    let mut drain_until = None;
    loop {
        {
            let roles = roles.borrow_and_update();
            if let Some(scripts) = &state.scripts {
                scripts.with(|scripts| scripts.set_ports(&roles.desired));
            }
            services.apply(&roles);
        }
        if drain_until.is_some() {
            services.ports().for_each(|port| port.enter(ServiceStage::Draining));
        }
        tokio::select! {
            changed = roles.changed() => if changed.is_err() { return Ok(()) },
            _ = stop.wait_for(|stop| *stop), if drain_until.is_none() => drain_until = Some(Instant::now() + DRAIN),
            // No image is left, so the next process may take over: it accepts the requests that now wait.
            () = state.image_transfers.closed(), if drain_until.is_some() => break,
            () = sleep_until(drain_until.unwrap_or_else(Instant::now)), if drain_until.is_some() => {
                warn!(seconds = DRAIN.as_secs(), "images are still being sent; their machines have to boot again");
                break;
            }
        }
    }
    // No more connections are accepted, and each ends with the request that is under way.
    services.close();
    services.ports().for_each(|port| port.enter(ServiceStage::Stopping));
    let _ = timeout(GRACE, state.connections.closed()).await;
    Ok(())
}

/// The relay as a service on ports.
struct RelayService {
    leaf: String,
    state: Arc<ServiceState>,
}

/// The relay on one port.
#[derive(Clone)]
struct RelayOnPort {
    lifecycle: watch::Sender<Lifecycle>,
    port: Arc<RelayPort>,
}

impl RelayOnPort {
    fn enter(&self, stage: ServiceStage) {
        self.lifecycle.send_if_modified(|now| std::mem::replace(&mut now.stage, stage) != stage);
    }
}

impl PortService for RelayService {
    type Port = RelayOnPort;

    fn sockets(&self) -> Vec<ServiceSocket> {
        sockets(&self.state.settings)
    }

    fn start(&self, port: &PortName, serving: &Serving) -> RelayOnPort {
        let identity = IngressIdentity {
            leaf: self.leaf.clone(),
            port: port.clone(),
            prefix: serving.prefix,
            attempt: AttemptId::new(fastrand::u128(..)),
        };
        let lifecycle = watch::Sender::new(Lifecycle::begin(identity));
        let port = Arc::new(RelayPort::new(&self.state, serving.ifindex, lifecycle.subscribe()));
        RelayOnPort { lifecycle, port }
    }

    fn stop(&self, port: &RelayOnPort, reason: StopReason) {
        port.enter(match reason {
            StopReason::Interrupted => ServiceStage::Interrupted,
            StopReason::Released => ServiceStage::Released,
        });
    }

    fn open_socket(port: &PortName, socket: ServiceSocket) -> io::Result<Socket> {
        Ok(listener::open(port, socket.number)?.into())
    }

    async fn serve(port: RelayOnPort, socket: ServiceSocket, opened: Socket) -> io::Error {
        listener::serve(opened.into(), port.port, socket.service == HTTPS).await
    }
}
