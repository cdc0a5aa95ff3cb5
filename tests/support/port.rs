//! The relay on one port, without the tasks around it: the test sets the port's stage.

use std::io;
use std::sync::Arc;

use leafboot::internals::RelayPort;
use leafboot::internals::ServiceState;
use leafboot::internals::relay::lifecycle::Lifecycle;
use leafboot::internals::relay::listener;
use leafboot_core::attempt::AttemptId;
use leafboot_core::relay::identity::IngressIdentity;
use tokio::sync::watch;

/// A port of `leaf01` that begins to serve.
pub fn lifecycle(port: &str, prefix: &str) -> watch::Sender<Lifecycle> {
    let identity = IngressIdentity {
        leaf: "leaf01".to_owned(),
        port: port.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        attempt: AttemptId::new(1),
    };
    watch::Sender::new(Lifecycle::begin(identity))
}

/// Its service on the device of its name in the calling thread's namespace.
pub fn relay_port(shared: &Arc<ServiceState>, lifecycle: watch::Receiver<Lifecycle>) -> Arc<RelayPort> {
    let port = lifecycle.borrow().identity.port.clone();
    let ifindex = nix::net::if_::if_nametoindex(port.as_str()).unwrap();
    Arc::new(RelayPort::new(shared, ifindex, lifecycle))
}

/// Listens and serves, until its future is dropped.
pub async fn serve(service: Arc<RelayPort>, tcp_port: u16, tls: bool) -> io::Error {
    let listener = listener::open(&service.name, tcp_port).unwrap();
    listener::serve(listener, service, tls).await
}
