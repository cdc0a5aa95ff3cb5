//! The relay on one port, without the tasks around it: the test says how far the port is.

use std::io;
use std::sync::Arc;

use leafboot::relay::server::{self, Phase, Service, Shared};
use leafboot_core::relay::identity::Claim;
use leafboot_core::session::Session;
use tokio::sync::watch;

/// A port of `leaf01` that begins to serve.
pub fn phase(port: &str, prefix: &str) -> watch::Sender<Phase> {
    let claim = Claim {
        leaf: "leaf01".to_owned(),
        port: port.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        session: Session::begin(1, 0xabc).id(),
    };
    watch::Sender::new(Phase::begin(claim))
}

/// Its service on the device of its name in the calling thread's namespace.
pub fn service(shared: &Arc<Shared>, phase: watch::Receiver<Phase>) -> Arc<Service> {
    let port = phase.borrow().claim.port.clone();
    let ifindex = nix::net::if_::if_nametoindex(port.as_str()).unwrap();
    Arc::new(Service::new(shared, ifindex, phase))
}

/// Listens and serves, until its future is dropped.
pub async fn serve(service: Arc<Service>, tcp_port: u16, tls: bool) -> io::Error {
    let listener = server::listen(&service.port, tcp_port).unwrap();
    server::serve(listener, service, tls).await
}
