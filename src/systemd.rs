//! The edge to systemd: it reports when leafboot is ready and when it stops, and keeps sockets over a restart
//! (sd_notify(3) `FDSTORE`, sd_listen_fds(3)). Without systemd these functions do nothing.
//!
//! The name of a kept socket has the service, its TCP or UDP port, and the front-panel port: `http-80-Ethernet0`.
//!
//! Must never: keep a socket of a port that is no longer served. The kernel would still accept connections on it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;
use tracing::{info, warn};

use leafboot_core::names::PortName;

/// The names of the sockets that systemd passes on, in their order, with `:` between them (sd_listen_fds(3)).
const NAMES: &str = "LISTEN_FDNAMES";

/// Sockets of the last process that systemd has kept, by name. Sockets that are not taken stay with systemd until they are
/// [released](Self::retain).
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, Socket)>);

impl Inherited {
    /// Takes over the sockets that systemd has kept: TCP listeners and UDP sockets.
    pub fn receive() -> Self {
        let names = std::env::var(NAMES).unwrap_or_default();
        let mut kept = ListenFd::from_env();
        let mut socket = |index| match kept.take_tcp_listener(index) {
            Ok(listener) => listener.map(<Socket as From<TcpListener>>::from),
            Err(_) => kept.take_udp_socket(index).ok().flatten().map(<Socket as From<UdpSocket>>::from),
        };
        let named = names.split(':').enumerate();
        let sockets: Vec<_> = named.filter_map(|(at, name)| Some((name.to_owned(), socket(at)?))).collect();
        if !sockets.is_empty() {
            info!(sockets = sockets.len(), "took over the sockets of the last process from systemd");
        }
        Self(sockets)
    }

    /// Takes out the sockets whose names are `wanted`.
    pub fn split(&mut self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.extract_if(.., |(name, _)| wanted(name)).collect())
    }

    /// Takes the socket of this name, if it is still bound to the port's device.
    pub fn take(&mut self, name: &str, port: &PortName) -> Option<Socket> {
        let at = self.0.iter().position(|(kept, _)| kept == name)?;
        let (_, socket) = self.0.swap_remove(at);
        // A device that was deleted and created again has another number. A socket of the old device receives nothing.
        let device = socket.device().ok().flatten()?;
        (device == port.as_str().as_bytes()).then_some(socket)
    }

    /// Closes the sockets whose names are not `wanted`, here and at systemd.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        for (name, _) in self.0.extract_if(.., |(name, _)| !wanted(name)) {
            forget(&name);
        }
    }
}

/// Asks systemd to keep a socket for the next process.
pub fn keep(name: &str, socket: &impl AsFd) {
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    log_failure(sd_notify::notify_with_fds(&state, &[socket.as_fd()]));
}

/// Asks systemd to close a kept socket.
pub fn forget(name: &str) {
    log_failure(sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]));
}

/// Reports that leafboot is ready.
pub fn ready() {
    log_failure(sd_notify::notify(&[NotifyState::Ready]));
}

/// Reports that leafboot stops.
pub fn stopping() {
    log_failure(sd_notify::notify(&[NotifyState::Stopping]));
}

fn log_failure(result: std::io::Result<()>) {
    if let Err(error) = result {
        warn!(%error, "cannot notify systemd");
    }
}
