//! The relay's listener on one boot port. It is bound to the port's device, so the kernel says where a request came
//! in; every connection, header and time of a machine is bounded.
//!
//! Must never: believe an address or a header, answer without Content-Length (iPXE), or serve what `decide` refuses.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::body::{self, Body};
use super::claim::{self, Claim};
use super::decide::{self, Refusal};
use super::image::{ImageRequest, Images};
use super::route::Kind;
use super::tls::TlsError;
use super::upstream::{Repeat, Upstream};
use crate::config::Relay;
use crate::config::relay::CacheMode;
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

/// What the servers of all ports share.
pub struct Shared {
    /// The relay's settings.
    pub settings: Relay,
    boot_service: Upstream,
    cache: Upstream,
    images: Images,
}

impl Shared {
    /// Everything that the settings name; nothing is connected to yet.
    pub fn new(settings: &Relay) -> Result<Self, TlsError> {
        Ok(Self {
            boot_service: Upstream::new("boot_service", &settings.boot_service)?,
            cache: Upstream::new("cache", &settings.cache.upstream)?,
            images: Images::new(&settings.cache),
            settings: settings.clone(),
        })
    }
}

/// What a port's server needs for each request.
pub struct Service {
    /// Where requests of this port come from.
    pub claim: Claim,
    /// What it shares with the other ports'.
    pub shared: Arc<Shared>,
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
async fn respond(service: &Service, request: Request<Incoming>) -> Response<Body> {
    let shared = &service.shared;
    let (method, uri) = (request.method().as_str(), request.uri());
    let decision = decide::decide(&shared.settings.routes, method, uri.path(), uri.query());
    let response = match decision {
        Ok(Kind::Image) if shared.settings.cache.mode == CacheMode::Redirect => {
            redirect(&format!("{}{}", shared.settings.cache.name, uri.path()))
        }
        Ok(Kind::Image) => image(service, &request).await,
        Ok(kind) => forward(service, &request, kind).await,
        Err(refusal) => refuse(&shared.settings, refusal),
    };
    let Claim { port, .. } = &service.claim;
    let status = response.status().as_u16();
    match decision {
        // A machine could fill the log with requests that mean nothing.
        Err(refusal) => debug!(%port, method, ?refusal, status, "refused"),
        Ok(_) => info!(%port, path = uri.path(), status, "relayed"),
    }
    response
}

async fn image(service: &Service, request: &Request<Incoming>) -> Response<Body> {
    let asked = ImageRequest {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        headers: HeaderMap::new(),
        claim: headers(&service.claim, request.headers()),
        port: service.claim.port.clone(),
    };
    match service.shared.images.answer(&service.shared.cache, asked).await {
        Ok(answer) => answer,
        Err(error) => unavailable(&service.claim, &error),
    }
}

async fn forward(service: &Service, request: &Request<Incoming>, kind: Kind) -> Response<Body> {
    let mut forwarded = Request::new(body::empty());
    *forwarded.uri_mut() =
        request.uri().path_and_query().map_or("/", |path| path.as_str()).parse().unwrap_or_default();
    *forwarded.headers_mut() = headers(&service.claim, request.headers());
    let deadline = Some(Instant::now() + Duration::from_millis(4500));
    let answer = match service.shared.boot_service.send(forwarded, Repeat::Once, deadline).await {
        Ok(answer) => answer,
        Err(error) => {
            warn!(port = %service.claim.port, %kind, %error, "the boot service cannot be used");
            return unavailable(&service.claim, &error);
        }
    };
    let (head, body) = answer.into_parts();
    match Limited::new(body, 256 * 1024).collect().await {
        Ok(whole) => pass_on(&head, whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            unavailable(&service.claim, &"the boot service's answer is longer than 262144 bytes")
        }
        Err(error) => unavailable(&service.claim, &format!("the boot service's answer broke off: {error}")),
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

fn pass_on(head: &Parts, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(body::whole(bytes));
    *response.status_mut() = head.status;
    for name in [CONTENT_TYPE, RETRY_AFTER] {
        response.headers_mut().extend(head.headers.get(&name).cloned().map(|value| (name, value)));
    }
    response
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    // The path is plain ASCII, or it would have been refused.
    response.headers_mut().extend(HeaderValue::from_str(location).map(|value| (LOCATION, value)));
    response
}

fn refuse(settings: &Relay, refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Path => text(StatusCode::NOT_FOUND, &format!("leafboot relays {}\n", settings.routes)),
        Refusal::Method(allowed) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes {allowed}\n"));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
    }
}

/// iPXE waits as long as Retry-After says and asks again, so the machine goes on by itself after recovery.
fn unavailable(claim: &Claim, error: &dyn std::fmt::Display) -> Response<Body> {
    let body =
        format!("leafboot on {} {}: {error}; try again in {RETRY_SECONDS} s\n", claim.leaf, claim.port);
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, &body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body::whole(text.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
