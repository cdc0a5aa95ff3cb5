//! The edge to systemd: says when leafboot is ready and when it stops, and has sockets kept over a restart
//! (sd_notify(3) `FDSTORE`, sd_listen_fds(3)). Without systemd all of it does nothing.
//!
//! A kept socket has a name, which says the service and the port: `http-80-Ethernet0`.
//!
//! Must never: keep a socket of a port that is no longer served. The kernel would go on taking connections for it.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;
use tracing::{info, warn};

use leafboot_core::names::PortName;

/// The names of the sockets that systemd passes on, in their order, with `:` between them (sd_listen_fds(3)).
const NAMES: &str = "LISTEN_FDNAMES";

/// Sockets that the last process had kept, by name. Those that nobody takes stay with systemd until they are
/// [released](Self::retain).
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, Socket)>);

impl Inherited {
    /// Takes over what systemd has kept: TCP listeners and UDP sockets.
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

    /// The sockets whose names are `wanted`, out of these.
    pub fn split(&mut self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.extract_if(.., |(name, _)| wanted(name)).collect())
    }

    /// The socket of this name, if it still is on the port's device.
    pub fn take(&mut self, name: &str, port: &PortName) -> Option<Socket> {
        let at = self.0.iter().position(|(kept, _)| kept == name)?;
        let (_, socket) = self.0.swap_remove(at);
        // A device that was deleted and made again has another number: its old socket receives nothing.
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

/// Has a socket kept for the next process.
pub fn keep(name: &str, socket: &impl AsFd) {
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    log_failure(sd_notify::notify_with_fds(&state, &[socket.as_fd()]));
}

/// Has a socket kept no longer.
pub fn forget(name: &str) {
    log_failure(sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]));
}

/// Says that the sockets are bound and everything is about to run.
pub fn ready() {
    log_failure(sd_notify::notify(&[NotifyState::Ready]));
}

/// Says that the process is about to end.
pub fn stopping() {
    log_failure(sd_notify::notify(&[NotifyState::Stopping]));
}

fn log_failure(result: std::io::Result<()>) {
    if let Err(error) = result {
        warn!(%error, "cannot notify systemd");
    }
}
