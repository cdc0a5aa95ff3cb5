//! The relay's listener on one boot port. It is bound to the port's device, so the kernel says where a request came
//! in; every connection, header and time of a machine is bounded.
//!
//! Must never: believe an address or a header, answer without Content-Length (iPXE), or serve what `decide` refuses.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::claim::{self, Claim};
use super::decide::{self, Decision, Kind, Refusal};
use super::upstream::{self, Answer, UpstreamError};
use crate::config::Relay;
use crate::net::PortName;

/// One machine needs one or two; the rest is for its firmware's impatience.
const CONNECTIONS_MAX: usize = 16;
/// Connections that the kernel holds until they are taken.
const BACKLOG: i32 = 16;
/// A request's head must be there in this time; also how long an idle connection is kept. iPXE keeps its for 10 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// However slowly a machine reads or writes, its connection ends after this.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// A request's head may have this size; hyper's least.
const HEAD_MAX: usize = 8192;
/// What a machine is told to wait when the boot service is away. iPXE takes 0 for «at once».
const RETRY_SECONDS: u32 = 3;

/// What a port's server needs for each request.
#[derive(Debug)]
pub struct Service {
    /// Where requests of this port come from.
    pub claim: Claim,
    /// Where they go to.
    pub settings: Relay,
}

/// Opens the listener of a port: on all the port's addresses, and on no other device.
pub fn listen(port: &PortName, tcp_port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    // A restarted agent must not wait for its predecessor's connections to time out.
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(port.as_str().as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, tcp_port, 0, 0).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Serves a listener until the caller drops it; returns only with an error of the listener.
pub async fn serve(listener: TcpListener, service: Arc<Service>) -> io::Error {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return io::ErrorKind::BrokenPipe.into();
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, Arc::clone(&service));
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // The machine's connection was gone before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return error,
        }
    }
}

/// One machine's connection, from its first request to its end or to `CONNECTION_MAX`.
async fn connection(stream: TcpStream, service: Arc<Service>) {
    let port = service.claim.port.clone();
    let handle = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(respond(&service, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    match timeout(CONNECTION_MAX, http.serve_connection(TokioIo::new(stream), handle)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%port, %error, "a machine's connection broke"),
        Err(_) => debug!(%port, "a machine's connection took too long"),
    }
}

/// Answers one request. The log has the path, never the query or the answer: they may hold secrets.
async fn respond(service: &Service, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, uri) = (request.method().as_str(), request.uri());
    let decision = decide::decide(method, uri.path(), uri.query());
    let response = match &decision {
        Decision::Forward(kind) => forward(service, &request, *kind).await,
        Decision::Redirect => redirect(&format!("{}{}", service.settings.cache, uri.path())),
        Decision::Refuse(refusal) => refuse(*refusal),
    };
    let Claim { port, .. } = &service.claim;
    let status = response.status().as_u16();
    match decision {
        // A machine could fill the log with requests that mean nothing.
        Decision::Refuse(refusal) => debug!(%port, method, ?refusal, status, "refused"),
        Decision::Forward(_) | Decision::Redirect => info!(%port, path = uri.path(), status, "relayed"),
    }
    response
}

async fn forward(service: &Service, request: &Request<Incoming>, kind: Kind) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let headers = headers(&service.claim, request.headers());
    match upstream::get(&service.settings.boot_service, path, headers).await {
        Ok(answer) => pass_on(answer),
        Err(error) => {
            warn!(port = %service.claim.port, ?kind, %error, "the boot service cannot be used");
            unavailable(&service.claim, &error)
        }
    }
}

/// The headers that go to the boot service: the machine's harmless ones, and the claim.
fn headers(claim: &Claim, from_machine: &HeaderMap) -> HeaderMap {
    let harmless = from_machine.iter().filter(|(name, _)| claim::passes(name.as_str()));
    let mut headers: HeaderMap = harmless.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in claim.headers() {
        // The words of a claim are checked types of printable ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

fn pass_on(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.extend(answer.content_type.map(|value| (CONTENT_TYPE, value)));
    headers.extend(answer.retry_after.map(|value| (RETRY_AFTER, value)));
    response
}

fn redirect(location: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // The path is plain ASCII, or it would have been refused.
    response.headers_mut().extend(HeaderValue::from_str(location).map(|value| (LOCATION, value)));
    response
}

fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::Path => text(
            StatusCode::NOT_FOUND,
            "leafboot relays /boot.ipxe, /<partition>/boot.ipxe, /certs, /config/<machine uuid>, and redirects \
             /metal-stack/kernel/, /metal-stack/metal-hammer/, /metal-hammer/ and /metal-os/ to the partition cache\n",
        ),
        Refusal::Method => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "leafboot relays GET requests only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            response
        }
    }
}

/// iPXE waits as long as Retry-After says and asks again, so the machine goes on by itself after recovery.
fn unavailable(claim: &Claim, error: &UpstreamError) -> Response<Full<Bytes>> {
    let body =
        format!("leafboot on {} {}: {error}; try again in {RETRY_SECONDS} s\n", claim.leaf, claim.port);
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, &body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
