//! The edge to systemd: says when leafboot is ready and when it stops, and has the listeners kept over a restart
//! (sd_notify(3) `FDSTORE`, sd_listen_fds(3)). Without systemd all of it does nothing.
//!
//! Must never: keep a listener of a port that is no longer served: the kernel would go on taking connections for it.

use std::net::TcpListener;
use std::os::fd::AsFd;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tracing::{debug, warn};

use leafboot_core::names::PortName;

/// The listeners that the last process left.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// Takes over what systemd kept.
    pub fn receive() -> Self {
        let mut kept = ListenFd::from_env();
        let count = kept.len();
        let listener = |index| kept.take_tcp_listener(index).ok().flatten();
        let listeners: Vec<TcpListener> = (0..count).filter_map(listener).collect();
        if !listeners.is_empty() {
            debug!(listeners = listeners.len(), "takes over listeners");
        }
        Self(listeners)
    }

    /// The listener on a port's device and TCP port, if it was kept.
    pub fn take(&mut self, port: &PortName, tcp_port: u16) -> Option<TcpListener> {
        let is_it = |listener: &TcpListener| {
            // A device that was deleted and made again has another number: its old listener hears nobody.
            let device = SockRef::from(listener).device().ok().flatten();
            device.as_deref() == Some(port.as_str().as_bytes())
                && listener.local_addr().is_ok_and(|address| address.port() == tcp_port)
        };
        self.0.iter().position(is_it).map(|at| self.0.swap_remove(at))
    }

    /// Closes those of ports, and of their TCP ports, that are not to serve, here and at systemd.
    pub fn retain(&mut self, is_to_serve: impl Fn(&PortName, u16) -> bool) {
        self.0.retain(|listener| {
            let device = SockRef::from(listener).device().ok().flatten();
            let port = device.and_then(|device| String::from_utf8(device).ok()?.parse::<PortName>().ok());
            match (port, listener.local_addr()) {
                (Some(port), Ok(address)) if is_to_serve(&port, address.port()) => true,
                (Some(port), Ok(address)) => {
                    forget(&port, address.port());
                    false
                }
                _ => false,
            }
        });
    }
}

/// Has a listener kept for the next process.
pub fn keep(port: &PortName, tcp_port: u16, listener: &impl AsFd) {
    let state = [NotifyState::FdStore, NotifyState::FdName(&name(port, tcp_port))];
    said(sd_notify::notify_with_fds(&state, &[listener.as_fd()]));
}

/// Has a listener kept no longer.
pub fn forget(port: &PortName, tcp_port: u16) {
    said(sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(port, tcp_port))]));
}

/// The sockets are bound, and everything is about to run.
pub fn ready() {
    said(sd_notify::notify(&[NotifyState::Ready]));
}

/// The process is about to end.
pub fn stopping() {
    said(sd_notify::notify(&[NotifyState::Stopping]));
}

fn name(port: &PortName, tcp_port: u16) -> String {
    format!("{port}-{tcp_port}")
}

fn said(result: std::io::Result<()>) {
    if let Err(error) = result {
        warn!(%error, "systemd does not listen");
    }
}
