//! The metrics endpoint: `GET /metrics` on the API's socket, and over TCP if `metrics.listen` is set.
//!
//! Must never: serve anything but metrics over TCP, or let slow scrapers take more than a few connections.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderValue, VARY};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::{self, Reply, refusal};
use super::{is_read, not_allowed, serve};
use crate::accept;
use crate::metrics::{Format, Metrics};
use leafboot_core::printable::Printable;
use leafboot_core::status::RequestReason;

/// One or two Prometheus servers scrape a leaf.
const CONNECTIONS_MAX: usize = 8;
/// A scraper may keep its connection for a few scrapes.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// Connections that wait in the kernel.
const BACKLOG: i32 = 16;

/// Opens the metrics' listener. The leaf may not have the address yet: a management interface may come up after its daemons.
pub fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    match listen {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    // A restarted agent must not wait until its predecessor's connections have timed out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves metrics over TCP until the process ends.
pub async fn run(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so this cannot fail.
        let permit = Arc::clone(&permits).acquire_owned().await;
        let (stream, _) = accept::next("metrics.listen", || listener.accept()).await;
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let serving = serve(stream, |request: Request<Incoming>| ready(answer(&metrics, &request)));
            let _ = timeout(CONNECTION_MAX, serving).await;
            drop(permit);
        });
    }
}

fn answer(metrics: &Metrics, request: &Request<Incoming>) -> Reply {
    match request.uri().path() {
        "/metrics" => scrape(metrics, request),
        path => {
            let message = format!("no {} here: there is /metrics", Printable(path));
            refusal(RequestReason::UnknownPath, &message)
        }
    }
}

/// Answers a request for `/metrics` in the format that the request accepts.
pub(super) fn scrape(metrics: &Metrics, request: &Request<Incoming>) -> Reply {
    if !is_read(request.method()) {
        return not_allowed(request.uri().path(), "GET, HEAD");
    }
    let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(accept);
    let mut reply = answer::text(format.content_type(), metrics.text_as(format));
    reply.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    reply
}
