//! The relay's listener on one boot port, and what its requests need. It is bound to the port's device, so the kernel
//! says where a request came in.
//!
//! Must never: believe an address or a header.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderMap;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::rustls::ServerConfig;

use super::cache::{Images, PortImages};
use super::connection;
use super::gate::Gate;
use super::log::Log;
use super::tls::{self, Reloaded, TlsError};
use super::upstream::{Buffers, Options, Upstream};
use super::vouched::Vouched;
use crate::accept;
use crate::guarded::Guarded;
use crate::kernel::neighbours;
use crate::metrics::{Counter, Gauge, Metrics, Requests};
use leafboot_core::names::PortName;
use leafboot_core::relay::identity::{Claim, Machine};
use leafboot_core::relay::port_limits::Work;
use leafboot_core::relay::stale_script::StaleScripts;
use leafboot_core::session::SessionId;
use leafboot_core::settings::Relay;
use leafboot_core::settings::relay::CacheMode;

/// Connections that the kernel holds until they are taken; what a restart has room for.
const BACKLOG: i32 = 64;
/// What the kernel may hold of an answer, in bytes: bounds memory, and iPXE hangs on more in flight (ipxe issue 1023).
const SEND_BUFFER: usize = 128 * 1024;
/// What the kernel may hold of what a machine sends ahead, in bytes: it has little to say, and a leaf has many ports.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// A machine that is gone without a word is noticed after two of these.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unread by a machine before the kernel gives its connection up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// What the servers of all ports share.
pub struct Shared {
    /// The relay's settings.
    pub settings: Relay,
    /// Answers scripts and tokens.
    pub boot_service: Upstream,
    /// metal-apiserver.
    pub api: Option<Upstream>,
    /// Where they go through the relay.
    images: Option<Images>,
    /// Where redirects lead, as text.
    pub cache_name: String,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The certificate of the TLS listeners.
    pub tls: Option<Reloaded<ServerConfig>>,
    /// What the relay's times are counted from.
    pub started: Instant,
    /// The last known good scripts; none: they are not remembered.
    pub scripts: Option<Guarded<StaleScripts>>,
    /// Has a receiver for every image that is under way.
    pub streams: watch::Sender<()>,
    /// Has a receiver for every connection.
    pub open: watch::Sender<()>,
}

impl Shared {
    /// Everything that the settings name; nothing is connected to yet. Needs a runtime.
    pub fn new(settings: &Relay, metrics: &Arc<Metrics>) -> Result<Self, TlsError> {
        let upstream = |name, is_ejected_by_status, settings| {
            let options = Options { name, buffers: Buffers::MANY, host: None, is_ejected_by_status };
            Upstream::new(options, settings, metrics)
        };
        let is_proxied = settings.cache.mode == CacheMode::Proxy;
        Ok(Self {
            boot_service: upstream("boot_service", true, &settings.boot_service)?,
            api: settings.api.as_ref().map(|api| upstream("api", false, api)).transpose()?,
            images: is_proxied.then(|| Images::new(&settings.cache, metrics)).transpose()?,
            tls: settings.tls.as_ref().map(|tls| tls::server(&tls.identity)).transpose()?,
            cache_name: settings.cache.name.to_string(),
            metrics: Arc::clone(metrics),
            settings: settings.clone(),
            started: Instant::now(),
            scripts: settings.remember.map(|age_max| Guarded::new(StaleScripts::new(age_max))),
            streams: watch::Sender::new(()),
            open: watch::Sender::new(()),
        })
    }
}

/// How far a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It serves its machine.
    Serves,
    /// The process is to end when the images that are under way have come through: no new ones.
    Drains,
    /// The process ends: each connection with the request that is under way.
    Stops,
    /// The port lost its link, its device or its address, and may serve again.
    Interrupted,
    /// The port is not in boot any more.
    Released,
}

/// What a port's connections follow.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Where requests come in.
    pub claim: Arc<Claim>,
    /// How far the port is.
    pub stage: Stage,
}

impl Phase {
    /// The port begins to serve.
    pub fn begin(claim: Claim) -> Self {
        Self { claim: Arc::new(claim), stage: Stage::Serves }
    }

    /// Whether its connections are to end.
    pub fn ends(&self) -> bool {
        matches!(self.stage, Stage::Stops | Stage::Interrupted | Stage::Released)
    }

    /// Another session begins.
    pub fn follow(&mut self, session: SessionId) {
        self.claim = Arc::new(Claim { session, ..Claim::clone(&self.claim) });
    }
}

/// What a port's server needs for each request.
pub struct Service {
    /// What it shares with the other ports'.
    pub shared: Arc<Shared>,
    /// The port.
    pub port: PortName,
    /// The kernel's number of the port.
    pub ifindex: u32,
    /// The port's claim, and how far it is.
    pub phase: watch::Receiver<Phase>,
    /// What it gets of the partition cache's images; none: machines are sent there.
    pub images: Option<PortImages>,
    /// What is kept of the port's machine from one request to the next.
    pub kept: Guarded<Kept>,
    /// What its machines make leafboot do waits here when it is too much.
    pub gate: Arc<Gate>,
    /// What is said of its machines.
    pub log: Log,
    /// Counts the bytes that its connections took.
    pub sent: Counter,
    /// Counts those that were cut.
    pub cut: Counter,
    /// How many there are.
    pub connections: Gauge,
    places: Arc<Semaphore>,
}

impl Service {
    /// The service of one port, from its first machine on.
    pub fn new(shared: &Arc<Shared>, ifindex: u32, phase: watch::Receiver<Phase>) -> Self {
        let port = phase.borrow().claim.port.clone();
        let log = Log::new(port.clone(), shared.metrics.log_lines_left_out(port.as_str()));
        Self {
            ifindex,
            gate: Arc::new(Gate::new(&shared.settings, &shared.metrics, phase.clone())),
            phase,
            images: shared.images.as_ref().map(|images| images.for_port(&port, &log)),
            log,
            kept: Guarded::new(Kept { requests: shared.metrics.requests(port.as_str()), vouched: None }),
            places: Arc::new(Semaphore::new(usize::from(shared.settings.connections))),
            sent: shared.metrics.sent(port.as_str()),
            cut: shared.metrics.slow_client_disconnects(port.as_str()),
            connections: shared.metrics.connections(port.as_str()),
            shared: Arc::clone(shared),
            port,
        }
    }

    /// The headers that say where a machine's request comes in, and who asks.
    pub fn vouched(&self, claim: &Arc<Claim>, machine: Machine, now: Instant) -> HeaderMap {
        self.kept.with(|kept| match &kept.vouched {
            Some(vouched) if vouched.holds(claim, machine, now) => vouched.headers.clone(),
            _ => {
                let mac = neighbours::mac(self.ifindex, machine.address);
                let vouched = Vouched::new(claim, machine, mac, now);
                let headers = vouched.headers.clone();
                // Whom the kernel does not know yet it may know when the next request comes.
                kept.vouched = mac.is_some().then_some(vouched);
                headers
            }
        })
    }
}

/// What is kept of a port's machine from one request to the next.
pub struct Kept {
    /// Counts what it asked.
    pub requests: Requests,
    /// What was said of it last.
    vouched: Option<Vouched>,
}

/// Opens the listener of a port: on all the port's addresses, and on no other device.
pub fn listen(port: &PortName, tcp_port: u16) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    // A restarted agent must not wait for its predecessor's connections to time out.
    socket.set_reuse_address(true)?;
    // What follows goes over to its connections (tcp(7), Linux tcp_create_openreq_child).
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // What a machine that was cut has not read must not stay in the kernel.
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.bind_device(Some(port.as_str().as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, tcp_port, 0, 0).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Serves a listener until the caller drops it; returns only where it can wait for nothing.
pub async fn serve(listener: std::net::TcpListener, service: Arc<Service>, tls: bool) -> io::Error {
    let listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let mut due = None;
    loop {
        // Whoever comes meanwhile waits in the kernel's backlog.
        service.gate.wait(due.take()).await;
        let Ok(place) = Arc::clone(&service.places).acquire_owned().await else {
            return io::ErrorKind::BrokenPipe.into();
        };
        let (stream, from) = accept::next(&service.port, || listener.accept()).await;
        // The listener takes IPv6 alone.
        let SocketAddr::V6(from) = from else { continue };
        due = service.gate.charge(Work::Connection);
        let machine = Machine { address: *from.ip(), tls };
        tokio::spawn(connection::run(stream, machine, Arc::clone(&service), place));
    }
}
