//! The relay's TCP listeners on one boot port. Each is bound to the port's device, so the kernel says where a request
//! comes in.
//!
//! Must never: take the port of a request from an address or a header.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use leafboot_core::names::PortName;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::port_limits::Work;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::connection;
use super::port::RelayPort;
use crate::accept;

/// Connections that the kernel holds until they are accepted. A restart needs that many.
const BACKLOG: i32 = 64;
/// Bytes of a response that the kernel may hold: bounds memory, and iPXE hangs on more in flight (ipxe issue 1023).
const SEND_BUFFER: usize = 128 * 1024;
/// Bytes that the kernel may hold of what a machine sends. Machines send little, and a leaf has many ports.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// A machine that has vanished is noticed after two of these.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// For how long a machine may leave sent bytes unacknowledged before the kernel closes the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Opens a listener on all of the port's addresses, and on no other device.
pub fn open(port: &PortName, tcp_port: u16) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    // A restarted agent must not wait for its predecessor's connections to time out.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit these options (tcp(7), Linux tcp_create_openreq_child).
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // The kernel must not keep what a disconnected machine has not read.
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.bind_device(Some(port.as_str().as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, tcp_port, 0, 0).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections and serves them until the future is dropped. Returns only if the listener cannot be used.
pub async fn serve(listener: std::net::TcpListener, port: Arc<RelayPort>, tls: bool) -> io::Error {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => return error,
        };
    loop {
        let Some(permit) = port.connection_permit().await else { return io::ErrorKind::BrokenPipe.into() };
        let (stream, from) = accept::next(&port.name, || listener.accept()).await;
        // The listener accepts IPv6 only.
        let SocketAddr::V6(from) = from else { continue };
        let machine = Machine { address: *from.ip(), tls };
        tokio::spawn(connection::run(stream, machine, Arc::clone(&port), permit));
        // Meanwhile further connections wait in the kernel's backlog.
        port.limiter.delay(Work::Connection).await;
    }
}
