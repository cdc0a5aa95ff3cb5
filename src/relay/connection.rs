//! One machine's connection: TLS handshake, HTTP, end. The time for handshakes, heads and pauses is bounded.
//!
//! Must never: outlive its port's grace period.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use leafboot_core::attempt::{Event, Text};
use leafboot_core::printable::Printable;
use leafboot_core::relay::forwarded::Machine;
use leafboot_core::relay::port_limits::Work;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::handler;
use super::lifecycle::{Lifecycle, ServiceStage};
use super::limiter::ChargedReads;
use super::metered::Meter;
use super::peer::Peer;
use super::port::RelayPort;
use super::tls::server_name::HiddenServerName;
use super::tls::{HandshakeError, Reloaded};

/// The time for a TLS handshake, for a request's head, and for the pause before it. iPXE keeps an idle connection for
/// 10 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest head of a request in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// How long requests under way may continue when their port or the process ends: the deadline of a token request.
pub const GRACE: Duration = Duration::from_secs(5);
/// The first part of `GRACE`: when the process ends, a connection may still complete its handshake and send a request.
const LINGER: Duration = Duration::from_millis(300);

/// Serves one machine's connection. `permit` counts it against the port's limit.
pub(super) async fn run(
    stream: TcpStream,
    machine: Machine,
    port: Arc<RelayPort>,
    permit: OwnedSemaphorePermit,
) {
    let open = (port.count_connection(), permit);
    // Only an API's stream may be silent for long. A machine that the kernel cannot watch is served, too.
    let peer = port.state.api.as_ref().and_then(|_| Peer::of(&stream).ok());
    let peer = Arc::new(peer.unwrap_or_default());
    let stream = ChargedReads::of(stream, &port.limiter);
    let end = match machine.tls.then_some(port.state.tls.as_ref()).flatten() {
        None => serve_http(stream, machine, &port, &peer).await,
        // Boxed: connections without TLS, which are most, must not reserve the memory for it.
        Some(tls) => Box::pin(serve_https(tls, stream, machine, &port, &peer)).await,
    };
    if let Err(reason) = end {
        debug!(port = %port.name, reason, "a machine's connection broke");
    }
    drop(open);
}

/// Makes the TLS handshake, and serves HTTP.
async fn serve_https<S>(
    tls: &Reloaded<ServerConfig>,
    stream: S,
    machine: Machine,
    port: &Arc<RelayPort>,
    peer: &Arc<Peer>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // One thread makes the handshakes of all ports, so each port is charged for its own.
    port.limiter.delay(Work::Handshake).await;
    match handshake(tls, HiddenServerName::of(stream), port.lifecycle.clone()).await {
        Ok(stream) => serve_http(stream, machine, port, peer).await,
        Err(HandshakeError::PortEnded) => Err(HandshakeError::PortEnded.to_string()),
        Err(error) => {
            let (name, reason) = (&port.name, Printable(&error.to_string()).to_string());
            port.state.metrics.handshake_failed(name.as_str(), error.class());
            port.attempts.record(&Event::HandshakeFailed(Text::new(&reason)));
            if port.log.has_room() {
                warn!(port = %name, from = %machine.address, reason, "a machine's TLS handshake failed");
            }
            Err(reason)
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Reloaded<ServerConfig>,
    stream: S,
    mut lifecycle: watch::Receiver<Lifecycle>,
) -> Result<TlsStream<S>, HandshakeError> {
    let ended = async {
        let _ = lifecycle.wait_for(Lifecycle::must_end).await.is_ok();
        sleep(LINGER).await;
    };
    tokio::select! {
        done = timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls.get()).accept(stream)) => match done {
            Ok(done) => done.map_err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::Late),
        },
        () = ended => Err(HandshakeError::PortEnded),
    }
}

/// Answers requests until the machine, the port or the process ends the connection.
async fn serve_http<S>(
    stream: S,
    machine: Machine,
    port: &Arc<RelayPort>,
    peer: &Arc<Peer>,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &port.state.settings;
    let min_rate = settings.min_rate.unwrap_or_default();
    let (sent, disconnects) = (port.sent.clone(), port.slow_client_disconnects.clone());
    let mut meter = Meter::new(min_rate, settings.min_rate_window, sent, disconnects);
    // Only calls of an API have a body. Without an API, requests with a body are refused whatever their framing.
    if port.state.api.is_some() {
        meter = meter.with_heads(peer);
    }
    // Boxed: a request needs kilobytes, which no silent connection must reserve.
    let service = service_fn(|request| Box::pin(handler::handle(port, machine, peer, request)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    // GRUB looks for `Content-Length: ` to the letter (grub-core/net/http.c: parse_line).
    http.title_case_headers(true);
    // A machine that has closed its sending side still gets its response, which comes in time or not at all. While an
    // API's stream is silent, the machine's presence is watched.
    http.half_close(true);
    let mut http = pin!(http.serve_connection(TokioIo::new(meter.of(stream)), service));
    let mut lifecycle = port.lifecycle.clone();
    let process_ends = tokio::select! {
        biased;
        end = http.as_mut() => return end.map_err(|error| error.to_string()),
        lifecycle = lifecycle.wait_for(Lifecycle::must_end) => {
            lifecycle.is_ok_and(|lifecycle| lifecycle.stage == ServiceStage::Stopping)
        }
    };
    let until = Instant::now() + GRACE;
    // On a port that is no longer served, the next request gets a response that says so. A process that ends accepts no
    // further request. It waits a moment before: hyper closes a connection that has not read a request yet at once, and
    // a request may be on its way.
    if process_ends {
        if let Ok(end) = timeout(LINGER, http.as_mut()).await {
            return end.map_err(|error| error.to_string());
        }
        http.as_mut().graceful_shutdown();
    }
    let end = timeout_at(until, http).await.map_err(|_| "it exceeded its port's grace period".to_owned())?;
    end.map_err(|error| error.to_string())
}
