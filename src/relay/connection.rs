//! One machine's connection: its handshake, its requests, its end. Handshakes, heads and pauses of a machine are bounded.
//!
//! Must never: outlive its port's grace.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::gate::Metered;
use super::line::Line;
use super::reader::Reader;
use super::respond;
use super::server::{Phase, Service, Stage};
use super::tls::server_name::Unnamed;
use super::tls::{HandshakeError, Reloaded};
use crate::metrics::OneMore;
use leafboot_core::printable::Printable;
use leafboot_core::relay::identity::Machine;
use leafboot_core::relay::port_limits::Work;

/// A request's head must be there in this time, and a TLS handshake too; also how long a silent connection is kept.
/// iPXE keeps its for 10 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A request's head may have this size in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// How long requests that are under way may take when their port or the process ends: a token's deadline.
pub const GRACE: Duration = Duration::from_secs(5);
/// Of it, so long a connection may still bring a request when the process ends, and shake hands before.
const LINGER: Duration = Duration::from_millis(300);

/// One machine's connection, from its handshake to its end. `place`: it is one of as many as the port may have.
pub(super) async fn run(
    stream: TcpStream,
    machine: Machine,
    service: Arc<Service>,
    place: OwnedSemaphorePermit,
) {
    let open = (OneMore::of(&service.connections), service.shared.open.subscribe(), place);
    // Where the kernel has no room to look after a machine it is served all the same.
    let line = service.shared.api.as_ref().and_then(|_| Line::of(&stream).ok());
    let line = Arc::new(line.unwrap_or_default());
    let end = match machine.tls.then_some(service.shared.tls.as_ref()).flatten() {
        None => converse(Metered::new(stream, Arc::clone(&service.gate)), machine, &service, &line).await,
        // Boxed: most have no TLS, and are not to have the room for it.
        Some(tls) => Box::pin(converse_over_tls(tls, stream, machine, &service, &line)).await,
    };
    if let Err(reason) = end {
        debug!(port = %service.port, reason, "a machine's connection broke");
    }
    drop(open);
}

/// Shakes hands, and answers requests over TLS.
async fn converse_over_tls(
    tls: &Reloaded<ServerConfig>,
    stream: TcpStream,
    machine: Machine,
    service: &Arc<Service>,
    line: &Arc<Line>,
) -> Result<(), String> {
    // One thread makes the handshakes of all ports.
    service.gate.wait(service.gate.charge(Work::Handshake)).await;
    let stream = Unnamed::new(Metered::new(stream, Arc::clone(&service.gate)));
    match shake_hands(tls, stream, service.phase.clone()).await {
        Ok(stream) => converse(stream, machine, service, line).await,
        Err(HandshakeError::PortEnded) => Err(HandshakeError::PortEnded.to_string()),
        Err(failure) => {
            let (port, reason) = (&service.port, Printable(&failure.to_string()).to_string());
            service.shared.metrics.handshake_failed(port.as_str(), failure.class());
            if service.log.has_room() {
                warn!(%port, from = %machine.address, reason, "a TLS handshake failed");
            }
            Err(reason)
        }
    }
}

/// The handshake of a connection over TLS, before its time is over, or its port's.
async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Reloaded<ServerConfig>,
    stream: S,
    mut phase: watch::Receiver<Phase>,
) -> Result<TlsStream<S>, HandshakeError> {
    let over = async {
        let _ = phase.wait_for(Phase::ends).await.is_ok();
        sleep(LINGER).await;
    };
    tokio::select! {
        done = timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls.get()).accept(stream)) => match done {
            Ok(done) => done.map_err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::Late),
        },
        () = over => Err(HandshakeError::PortEnded),
    }
}

/// Answers requests until the machine, the port or the process ends it.
async fn converse<S>(
    stream: S,
    machine: Machine,
    service: &Arc<Service>,
    line: &Arc<Line>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &service.shared.settings;
    let least = settings.min_rate.unwrap_or_default();
    let (sent, cut) = (service.sent.clone(), service.cut.clone());
    let mut stream = Reader::new(stream, least, settings.patience, sent, cut);
    // What only an API takes is refused without a look where there is none.
    if service.shared.api.is_some() {
        stream = stream.telling(line);
    }
    let handle = service_fn(|request| respond::respond(service, machine, line, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    // GRUB looks for `Content-Length: ` to the letter (grub-core/net/http.c: parse_line).
    http.title_case_headers(true);
    // Who has said all may wait for its answer, which comes in time or not at all; who waits for an API's stream, which may
    // be silent for ever, is looked after (`Watch`).
    http.half_close(true);
    let http = http.serve_connection(TokioIo::new(stream), handle);
    let mut http = pin!(http);
    let mut phase = service.phase.clone();
    let process_ends = tokio::select! {
        biased;
        end = http.as_mut() => return end.map_err(|error| error.to_string()),
        phase = phase.wait_for(Phase::ends) => phase.is_ok_and(|phase| phase.stage == Stage::Stops),
    };
    let until = tokio::time::Instant::now() + GRACE;
    // On a port that serves no more the next request is told so; a process that ends takes no next one. But hyper closes
    // a connection at once that has read none yet, and one may be on its way.
    if process_ends {
        if let Ok(end) = timeout(LINGER, http.as_mut()).await {
            return end.map_err(|error| error.to_string());
        }
        http.as_mut().graceful_shutdown();
    }
    let end =
        timeout_at(until, http).await.map_err(|_| "it did not end within its port's grace".to_owned())?;
    end.map_err(|error| error.to_string())
}
