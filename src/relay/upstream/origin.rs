//! One origin: its name's addresses, connections to it, and those that are kept for the next request.
//!
//! Must never: block the loop for a name, or hold more than `IDLE_MAX` connections that nobody uses.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryFutureExt};
use hyper::header::HeaderValue;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::tls::Reloaded;
use super::Manner;
use super::connection::Connection;
use crate::held::Held;
use leafboot_core::names::HttpOrigin;
use leafboot_core::relay::addresses::{self, Addresses};
use leafboot_core::settings::relay;

/// Connections that are kept for the next request: as many as a large leaf has ports, all of which may ask at once.
const IDLE_MAX: usize = 512;
/// Servers close a silent connection after some time of their own; ours is shorter than most.
const IDLE_AGE: Duration = Duration::from_secs(8);
/// A name's addresses are asked for anew when they are older than this.
const RESOLVED_AGE: Duration = Duration::from_secs(1);
/// What may be held of an answer that nobody takes yet, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Buffers {
    /// By the kernel; none: what it thinks best.
    kernel: Option<u32>,
    /// By the process: what is read at once. Up to three of them are held for one answer.
    own: usize,
    /// The same for as many connections to an origin as are `LARGE`: fewer reads and writes cost less.
    large: usize,
}

/// Connections to an origin that may read more at once. A machine that reads slowly holds what was read: all could not.
const LARGE: usize = 64;

impl Buffers {
    /// For answers that wait for their machines: there may be one for each.
    pub const MANY: Self = Self { kernel: Some(96 * 1024), own: 16 * 1024, large: 64 * 1024 };
    /// For a transfer that waits for nobody: a bound would starve it when a policer drops packets.
    pub const FAST: Self = Self { kernel: None, own: 128 * 1024, large: 128 * 1024 };
}

/// One origin of an upstream.
pub(super) struct Origin {
    /// In logs, metrics and errors.
    pub(super) name: String,
    /// Its `Host` header.
    pub(super) host: HeaderValue,
    at: HttpOrigin,
    connect_timeout: Duration,
    source: Option<IpAddr>,
    device: Option<String>,
    buffers: Buffers,
    /// Those that may still have large buffers.
    large: Arc<Semaphore>,
    tls: Option<Arc<Reloaded<ClientConfig>>>,
    idle: Held<Idle>,
    resolved: watch::Sender<Resolved>,
    /// One lookup at a time: a resolver that hangs takes one thread, not all.
    lookups: Arc<Semaphore>,
}

/// The connections that are kept.
#[derive(Default)]
struct Idle {
    /// The one that was used last stands last.
    connections: VecDeque<(Instant, Box<Connection>)>,
    /// Somebody is about to close the old ones.
    is_swept: bool,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Resolved {
    addresses: Addresses,
    at: Option<Instant>,
    error: Option<String>,
}

impl Origin {
    pub(super) fn new(
        at: &HttpOrigin,
        settings: &relay::Upstream,
        tls: Option<&Arc<Reloaded<ClientConfig>>>,
        manner: &Manner,
    ) -> Self {
        // An origin is checked: there is always one.
        let authority = || HeaderValue::try_from(at.authority()).unwrap_or(HeaderValue::from_static(""));
        Self {
            name: at.to_string(),
            host: manner.host.clone().unwrap_or_else(authority),
            at: at.clone(),
            connect_timeout: settings.connect_timeout,
            source: settings.source,
            device: settings.device.clone(),
            buffers: manner.buffers,
            large: Arc::new(Semaphore::new(LARGE)),
            tls: tls.filter(|_| at.is_tls()).cloned(),
            idle: Held::default(),
            resolved: watch::Sender::default(),
            lookups: Arc::new(Semaphore::new(1)),
        }
    }

    /// The kept connection that was used last.
    pub(super) fn kept(&self) -> Option<Box<Connection>> {
        self.idle.with(|idle| idle.connections.pop_back()).map(|(_, connection)| connection)
    }

    /// Keeps a connection whose answer is through; the oldest makes room for it.
    pub(super) fn keep(self: &Arc<Self>, connection: Box<Connection>) {
        if connection.is_closed() {
            return;
        }
        let is_swept = self.idle.with(|idle| {
            if idle.connections.len() == IDLE_MAX {
                idle.connections.pop_front();
            }
            idle.connections.push_back((Instant::now(), connection));
            std::mem::replace(&mut idle.is_swept, true)
        });
        if !is_swept {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes what nobody has used for `IDLE_AGE`, until nothing is kept any more.
    async fn sweep(self: Arc<Self>) {
        let mut oldest = Some(Instant::now());
        while let Some(since) = oldest {
            sleep_until(since + IDLE_AGE).await;
            self.idle.with(|idle| {
                let fresh = idle.connections.iter().position(|(since, _)| since.elapsed() < IDLE_AGE);
                idle.connections.drain(..fresh.unwrap_or(idle.connections.len()));
                oldest = idle.connections.front().map(|(since, _)| *since);
                idle.is_swept = oldest.is_some();
            });
        }
    }

    /// A new connection, TLS included, within the connect timeout.
    pub(super) async fn connect(self: &Arc<Self>) -> io::Result<Box<Connection>> {
        let connecting = async {
            let (stream, address) = self.tcp().await?;
            let connection = match &self.tls {
                None => self.speak(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.at.host().to_owned()).map_err(io::Error::other)?;
                    let stream = TlsConnector::from(tls.get()).connect(name, stream).await?;
                    self.speak(stream).await
                }
            };
            connection.map(|connection| (connection, address))
        };
        let connected = timeout(self.connect_timeout, connecting).await.unwrap_or_else(|_| {
            let reason = self.resolved.borrow().error.clone();
            Err(io::Error::new(io::ErrorKind::TimedOut, reason.unwrap_or("no connection in time".to_owned())))
        });
        let worked = connected.as_ref().ok().map(|(_, address)| *address);
        self.learn(|addresses| addresses.took(worked));
        connected.map(|(connection, _)| connection)
    }

    /// Keeps news of the name's addresses. Nobody waits for them.
    fn learn(&self, news: impl FnOnce(&mut Addresses)) {
        self.resolved.send_if_modified(|resolved| {
            news(&mut resolved.addresses);
            false
        });
    }

    /// Speaks HTTP/1.1 over a stream.
    pub(super) async fn speak<T>(&self, stream: T) -> io::Result<Box<Connection>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let large = Arc::clone(&self.large).try_acquire_owned().ok();
        let buffer = if large.is_some() { self.buffers.large } else { self.buffers.own };
        Connection::begin(stream, buffer, large).await
    }

    /// Tries the name's addresses one beside the other (RFC 8305): a dead one does not hold up the next. Returns which took
    /// the connection, too.
    async fn tcp(self: &Arc<Self>) -> io::Result<(TcpStream, IpAddr)> {
        let addresses = self.addresses().await?;
        let stagger = addresses::stagger(self.connect_timeout, addresses.len());
        let mut addresses = addresses.into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut last = io::Error::other("its name has no address that the source address can reach");
        loop {
            if let Some(address) = addresses.next() {
                self.learn(|addresses| addresses.tries(address));
                attempts.push(self.tcp_to(address).map_ok(move |stream| (stream, address)));
            } else if attempts.is_empty() {
                return Err(last);
            }
            tokio::select! {
                Some(attempt) = attempts.next() => match attempt {
                    Ok(connected) => return Ok(connected),
                    Err(error) => last = error,
                },
                () = sleep(stagger) => {}
            }
        }
    }

    async fn tcp_to(&self, address: IpAddr) -> io::Result<TcpStream> {
        let address = SocketAddr::new(address, self.at.port());
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // A connection that nobody closes must not outlive its server for ever.
        socket.set_keepalive(true)?;
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        if let Some(bytes) = self.buffers.kernel {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(address).await
    }

    /// The addresses of the origin's host that are tried now: of those that the source address can reach.
    async fn addresses(self: &Arc<Self>) -> io::Result<Vec<IpAddr>> {
        let fits = |address: &IpAddr| self.source.is_none_or(|source| source.is_ipv6() == address.is_ipv6());
        match self.at.host().parse::<IpAddr>() {
            Ok(address) => Ok(Some(address).into_iter().filter(fits).collect()),
            Err(_) => Ok(self.resolve().await?.turn(fits)),
        }
    }

    /// Asks for the name's addresses, in a task of its own: it may take longer than the request can wait. The last
    /// known addresses are better than none.
    async fn resolve(self: &Arc<Self>) -> io::Result<Addresses> {
        let mut resolved = self.resolved.subscribe();
        if let Some(fresh) = resolved.borrow_and_update().fresh() {
            return Ok(fresh);
        }
        if let Ok(place) = Arc::clone(&self.lookups).try_acquire_owned() {
            let origin = Arc::clone(self);
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((origin.at.host(), origin.at.port())).await;
                drop(place);
                origin.resolved.send_modify(|resolved| resolved.take(found));
            });
        }
        let waiting = timeout(self.connect_timeout / 2, resolved.changed()).await;
        let resolved = resolved.borrow();
        match (&resolved.error, waiting) {
            _ if !resolved.addresses.is_empty() => Ok(resolved.addresses.clone()),
            (Some(error), _) => Err(io::Error::other(format!("its name cannot be resolved: {error}"))),
            (None, _) => Err(io::Error::other("its name is not resolved yet")),
        }
    }
}

impl Resolved {
    fn fresh(&self) -> Option<Addresses> {
        let fresh = self.at.is_some_and(|at| at.elapsed() < RESOLVED_AGE);
        fresh.then(|| self.addresses.clone()).filter(|addresses| !addresses.is_empty())
    }

    fn take(&mut self, found: io::Result<impl Iterator<Item = SocketAddr>>) {
        self.at = Some(Instant::now());
        match found {
            Ok(found) => {
                self.addresses.found(found.map(|address| address.ip()));
                self.error = None;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leafboot_core::settings::Settings;

    impl Origin {
        /// The boot service with this name.
        pub(in super::super) fn named(name: &str) -> Arc<Self> {
            let text = format!(
                "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\n\
                 boot_service = {{ origins = [\"http://{name}\"] }}\ncache = {{ name = \"http://c\" }}\n"
            );
            let settings = Settings::parse(&text).unwrap().relay.boot_service;
            let (name, buffers) = ("boot_service", Buffers::MANY);
            let manner = Manner { name, buffers, host: None, is_judged_by_status: true };
            Arc::new(Self::new(&settings.origins[0], &settings, None, &manner))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_nobody_uses_are_closed_and_no_others() {
        let origin = Origin::named("boot.example");
        let left = || origin.idle.with(|idle| idle.connections.len());
        let mut theirs = Vec::new();
        for _ in 0..3 {
            let (our, their) = tokio::io::duplex(1024);
            origin.keep(origin.speak(our).await.unwrap());
            theirs.push(their);
        }
        let begun = Instant::now();
        while begun.elapsed() < 2 * IDLE_AGE {
            let expected = if begun.elapsed() < IDLE_AGE { 3 } else { 1 };
            assert_eq!(left(), expected, "one is enough: {:?}", begun.elapsed());
            origin.keep(origin.kept().unwrap());
            sleep(Duration::from_millis(700)).await;
        }
        sleep(IDLE_AGE + Duration::from_millis(1)).await;
        assert_eq!(left(), 0);
        assert!(!origin.idle.with(|idle| idle.is_swept), "the next one that is kept is swept, too");
    }
}
