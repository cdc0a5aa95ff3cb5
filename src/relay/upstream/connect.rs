//! Connects to an origin: one of its addresses, TLS where its URL says so, HTTP on top.
//!
//! Must never: wait longer than the connect timeout.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryFutureExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::driver::Connection;
use super::resolver::Resolver;
use crate::relay::tls::TlsClient;
use leafboot_core::names::HttpOrigin;
use leafboot_core::relay::addresses::stagger;
use leafboot_core::settings::relay;

/// How many connections to an origin may have large read buffers. A machine that reads slowly makes its connection hold
/// what was read, so not all may.
const LARGE: usize = 64;

/// How much of an answer may be buffered, in bytes, while the machine does not take it.
#[derive(Debug, Clone, Copy)]
pub struct Buffers {
    /// By the kernel; none: the kernel decides.
    kernel: Option<u32>,
    /// By the process: the most that one read takes. An answer holds up to three of them.
    read: usize,
    /// The same as `read`, for up to `LARGE` connections to an origin: fewer reads and writes cost less CPU.
    large_read: usize,
}

impl Buffers {
    /// For answers that wait for their machines: there may be one for each machine.
    pub const MANY: Self = Self { kernel: Some(96 * 1024), read: 16 * 1024, large_read: 64 * 1024 };
    /// For a transfer that waits for no machine: with a bound in the kernel it would starve when a policer drops
    /// packets.
    pub const FAST: Self = Self { kernel: None, read: 128 * 1024, large_read: 128 * 1024 };
}

/// Makes connections to one origin.
pub(super) struct Connector {
    at: HttpOrigin,
    timeout: Duration,
    source: Option<IpAddr>,
    device: Option<String>,
    buffers: Buffers,
    /// Permits for large buffers.
    large: Arc<Semaphore>,
    tls: Option<Arc<TlsClient>>,
    resolver: Resolver,
}

impl Connector {
    /// A connector to `at`. `tls` is used if `at` is an `https` URL.
    pub(super) fn new(
        at: &HttpOrigin,
        settings: &relay::UpstreamSettings,
        tls: Option<&Arc<TlsClient>>,
        buffers: Buffers,
    ) -> Self {
        Self {
            at: at.clone(),
            timeout: settings.connect_timeout,
            source: settings.source,
            device: settings.device.clone(),
            buffers,
            large: Arc::new(Semaphore::new(LARGE)),
            tls: tls.filter(|_| at.is_tls()).cloned(),
            resolver: Resolver::new(at.host(), at.port()),
        }
    }

    /// A new connection, TLS handshake included, within the connect timeout.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        let connected = timeout(self.timeout, self.connect_and_shake_hands()).await.unwrap_or_else(|_| {
            let reason = self.resolver.error().unwrap_or("no connection in time".to_owned());
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        });
        self.resolver.connected(connected.as_ref().ok().map(|(_, address)| *address));
        connected.map(|(connection, _)| connection)
    }

    async fn connect_and_shake_hands(&self) -> io::Result<(Connection, IpAddr)> {
        let (stream, address) = self.tcp().await?;
        let connection = match &self.tls {
            None => self.http(stream).await?,
            Some(tls) => self.http(tls.connect(self.at.host(), stream).await?).await?,
        };
        Ok((connection, address))
    }

    /// Starts HTTP/1.1 on a stream.
    pub(super) async fn http<T>(&self, stream: T) -> io::Result<Connection>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let large = Arc::clone(&self.large).try_acquire_owned().ok();
        let buffer = if large.is_some() { self.buffers.large_read } else { self.buffers.read };
        Connection::start(stream, buffer, large).await
    }

    /// Tries the name's addresses, each a little later than the one before, so that a dead address does not hold up the
    /// next (RFC 8305). Returns the stream and the address that took it.
    async fn tcp(&self) -> io::Result<(TcpStream, IpAddr)> {
        let fits = |address: &IpAddr| self.source.is_none_or(|source| source.is_ipv6() == address.is_ipv6());
        let addresses = self.resolver.addresses(self.timeout / 2, fits).await?;
        let stagger = stagger(self.timeout, addresses.len());
        let mut addresses = addresses.into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut last = io::Error::other("its name has no address that the source address can reach");
        loop {
            if let Some(address) = addresses.next() {
                self.resolver.tries(address);
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
        // A connection must end when its server has vanished without closing it.
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
}
