//! The API edge: HTTP+JSON on a unix socket, where metal-core pushes the desired document and anyone asks for status.
//!
//! Must never: wait without a bound, or touch SONiC or the kernel.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /v1/ports[?wait=3s]` | takes the desired document, and rejects the ports that cannot be; 200 when every port is settled, else 202 |
//! | `GET /v1/ports` | every port that is or was ours since the start |
//! | `GET /v1/ports/<name or alias>` | one port |
//! | `GET /metrics` | what is counted, in OpenMetrics' text format |

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::accept;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use answer::{Reply, error};
use leafboot_core::desired::{self, Desired, Document, DocumentError, PortRows};
use leafboot_core::names::PortName;
use leafboot_core::printable::Printable;
use leafboot_core::settings::Boot;
use leafboot_core::status::{PortStatus, Status};

mod answer;

/// 512 ports with all their fields are some 50 kilobytes.
const BODY_MAX: usize = 1024 * 1024;
/// metal-core's tick is 10 s; nobody gains by waiting longer than a few of them.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A request's body must be there whole in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A kept connection is closed when no head has come whole in this time: well beyond metal-core's tick of 10 s, for Go does
/// not push again over a connection that is closed under its push.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// metal-core has one connection or two, an operator some; each may send a document.
const CONNECTIONS_MAX: usize = 64;
/// So many documents are read at a time; the others wait for their turn.
const BODIES_MAX: usize = 4;
/// What is answered to who comes when there are too many connections, before a request is read.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"error\":\"too many connections\"}\r\n";
/// Metrics are asked for by one or two Prometheus servers, each at most a few times in a connection of this length.
const SCRAPES_MAX: usize = 8;
const SCRAPE_MAX: Duration = Duration::from_secs(60);
const SCRAPES_BACKLOG: i32 = 16;

/// Why the API cannot be offered.
#[derive(Debug, Error)]
pub enum ApiError {
    /// Another process serves the path.
    #[error("{0}: another leafboot serves this socket: stop it first")]
    Taken(PathBuf),
    /// Something else lies at the path.
    #[error("{0}: exists and is not a socket: remove it, or set api.socket to another path")]
    NotSocket(PathBuf),
    /// The file system or the kernel refused.
    #[error("{path}: {source}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the API reads and writes.
pub struct Api {
    /// The boot settings that a document is checked against.
    pub boot: Boot,
    /// Where accepted documents go.
    pub desired: watch::Sender<Option<Desired>>,
    /// What keeps them.
    pub keeper: Arc<Keeper>,
    /// The ports' states.
    pub status: watch::Receiver<Status>,
    /// The leaf's ports; none while CONFIG_DB cannot be read.
    pub ports: watch::Receiver<Option<PortRows>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How many more documents may be read at a time.
    pub bodies: Semaphore,
}

impl Api {
    /// The places for documents that are being read.
    pub fn bodies() -> Semaphore {
        Semaphore::new(BODIES_MAX)
    }
}

/// Opens the socket. A dead predecessor's is taken over; a living one's is not. Root and its group may use it.
pub fn bind(path: &Path) -> Result<UnixListener, ApiError> {
    let io = |source| ApiError::Io { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(io)?;
    }
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(ApiError::NotSocket(path.to_owned())),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(ApiError::Taken(path.to_owned()));
        }
        Ok(_) => fs::remove_file(path).map_err(io)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(io)?;
    Ok(listener)
}

/// Opens the metrics' listener, on an address of the leaf or one that it is yet to get: a management interface may come up
/// after its daemons.
pub fn bind_metrics(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    match listen {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    // A restarted agent must not wait for its predecessor's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    socket.listen(SCRAPES_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves the socket until the process ends.
pub async fn run(listener: UnixListener, api: Arc<Api>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, _) = accept::next("api.socket", || listener.accept()).await;
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let api = Arc::clone(&api);
                tokio::spawn(async move {
                    connection(stream, api).await;
                    drop(place);
                });
            }
            // Whoever keeps so many connections does not need another one, and others must not wait for it.
            Err(_) => {
                debug!("refused a connection to api.socket: {CONNECTIONS_MAX} are open");
                let _ = stream.try_write(BUSY);
            }
        }
    }
}

/// Gives metrics out over TCP, and nothing else, until the process ends.
pub async fn give_metrics(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let places = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        // Nobody closes it.
        let place = Arc::clone(&places).acquire_owned().await;
        let (stream, _) = accept::next("metrics.listen", || listener.accept()).await;
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let answer =
                |request: Request<Incoming>| scrape(&metrics, request.method(), request.uri().path());
            let serving = converse(stream, |request| std::future::ready(answer(request)));
            let _ = timeout(SCRAPE_MAX, serving).await;
            drop(place);
        });
    }
}

fn scrape(metrics: &Metrics, method: &Method, path: &str) -> Reply {
    match path {
        "/metrics" if is_read(method) => {
            answer::text("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.text())
        }
        "/metrics" => not_allowed(path, "GET, HEAD"),
        _ => error(StatusCode::NOT_FOUND, &format!("no {} here: there is /metrics", Printable(path))),
    }
}

async fn connection(stream: UnixStream, api: Arc<Api>) {
    converse(stream, |request| respond(&api, request)).await;
}

/// Answers a connection's requests until it ends.
async fn converse<S, A>(stream: S, answer: impl Fn(Request<Incoming>) -> A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Future<Output = Reply>,
{
    let handle = service_fn(|request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), handle).await {
        debug!(%error, "an API connection broke");
    }
}

async fn respond(api: &Api, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    if path == "/metrics" {
        return scrape(&api.metrics, request.method(), &path);
    }
    match (request.method().clone(), path.strip_prefix("/v1/ports")) {
        (Method::PUT, Some("" | "/")) => put(api, request).await,
        (method, Some("" | "/")) if is_read(&method) => document(api, StatusCode::OK, &api.status.borrow()),
        (method, Some(rest)) if is_read(&method) && rest.starts_with('/') => one(api, &decoded(&rest[1..])),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('/') => {
            not_allowed(&path, if rest.len() > 1 { "GET, HEAD" } else { "GET, HEAD, PUT" })
        }
        _ => {
            let path = Printable(&path);
            let reason = format!("no {path} here: there are /v1/ports, /v1/ports/<name> and /metrics");
            error(StatusCode::NOT_FOUND, &reason)
        }
    }
}

/// What is answered the same; hyper leaves the body of a HEAD's answer out (RFC 9110 9.3.2).
fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// A path's segment without its percent-encoding (RFC 3986 2.1), taken off once. What is none stays as it is.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match byte.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn not_allowed(path: &str, allow: &'static str) -> Reply {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("{} takes {allow}", Printable(path)));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// Takes a document.
async fn put(api: &Api, request: Request<Incoming>) -> Reply {
    let wait = match wait(request.uri().query()) {
        Ok(wait) => wait,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
    };
    let reading = async {
        // Nobody closes it.
        let _place = api.bodies.acquire().await;
        Limited::new(request.into_body(), BODY_MAX).collect().await
    };
    let reading = timeout(BODY_TIMEOUT, reading).await;
    let body = match reading {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(reason)) if reason.is::<http_body_util::LengthLimitError>() => {
            let reason = format!("the document is longer than {BODY_MAX} bytes");
            return error(StatusCode::PAYLOAD_TOO_LARGE, &reason);
        }
        Ok(Err(reason)) => {
            return error(StatusCode::BAD_REQUEST, &format!("the document broke off: {reason}"));
        }
        Err(_) => {
            return error(StatusCode::REQUEST_TIMEOUT, "the document did not come");
        }
    };
    match accept(api, &body) {
        Ok(desired) => settle(api, &desired, wait).await,
        Err(refusal) => *refusal,
    }
}

/// Judges, keeps and publishes a document. There is no await in it, so two pushes cannot cross.
fn accept(api: &Api, body: &[u8]) -> Result<Desired, Box<Reply>> {
    let document = Document::parse(body).map_err(|error| Box::new(refused(&error)))?;
    let before = api.desired.borrow().clone();
    let judged = match api.ports.borrow().as_ref() {
        Some(rows) => desired::judge(&document, rows, &api.boot, before.as_ref()),
        None => return Err(Box::new(unreadable(api))),
    };
    let desired = Desired::after(before.as_ref(), judged, Instant::now());
    if before.as_ref().is_none_or(|before| before.generation != desired.generation) {
        api.keeper.keep(&desired);
        let (ports, rejected) = (desired.ports.len(), desired.rejected.iter().count());
        info!(generation = desired.generation, ports, rejected, "took a new document");
        warn_of_rejected(before.as_ref(), &desired);
    }
    api.desired.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&desired);
        *current = Some(desired.clone());
        changed
    });
    Ok(desired)
}

/// Says once what is wrong with each entry.
fn warn_of_rejected(before: Option<&Desired>, desired: &Desired) {
    let known: Vec<_> = before.iter().flat_map(|before| before.rejected.iter()).collect();
    for (name, rejection) in desired.rejected.iter().filter(|rejected| !known.contains(rejected)) {
        warn!(port = %Printable(name), %rejection, "rejected a port of the document");
    }
}

/// Waits, bounded, until every port has settled that can, and answers with their states.
async fn settle(api: &Api, desired: &Desired, wait: Duration) -> Reply {
    let mut status = api.status.clone();
    // Whether they have or the time is over: what is said is what is so now.
    let _ = timeout(wait, status.wait_for(|status| status.is_done(desired.generation))).await;
    let now = api.status.borrow();
    if now.is_of(desired.generation) {
        let code = if now.is_settled() { StatusCode::OK } else { StatusCode::ACCEPTED };
        return document(api, code, &now);
    }
    let none = PortRows::new();
    let rows = api.ports.borrow();
    document(api, StatusCode::ACCEPTED, &now.pending(desired, rows.as_ref().unwrap_or(&none)))
}

fn document(api: &Api, code: StatusCode, status: &Status) -> Reply {
    answer::document(code, status, api.keeper.error().as_deref())
}

fn one(api: &Api, name: &str) -> Reply {
    let (status, rows) = (api.status.borrow(), api.ports.borrow());
    let port = match name.parse::<PortName>() {
        Ok(port) if status.ports.contains_key(&port) => Some(port),
        _ => rows.as_ref().and_then(|rows| desired::resolve(name, rows)).map(|(port, _)| port.clone()),
    };
    match (port, rows.as_ref()) {
        (Some(port), rows) => {
            let alias = rows.and_then(|rows| rows.get(&port)?.alias.clone());
            let released = PortStatus { alias, ..PortStatus::RELEASED };
            answer::port(port.as_str(), status.ports.get(&port).unwrap_or(&released))
        }
        (None, _) if let Some(rejected) = status.names.get(name) => answer::port(name, rejected),
        (None, Some(rows)) => error(StatusCode::NOT_FOUND, &desired::unknown(name, rows)),
        (None, None) => unreadable(api),
    }
}

/// `wait=<duration>` out of a query; nothing else is known.
fn wait(query: Option<&str>) -> Result<Duration, String> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let value = query
        .strip_prefix("wait=")
        .ok_or(format!("unknown query \"{}\": there is wait=3s", Printable(query)))?;
    let wait = humantime::parse_duration(value)
        .map_err(|e| format!("wait: \"{}\": {e}; write wait=3s", Printable(value)))?;
    if wait <= WAIT_MAX {
        Ok(wait)
    } else {
        Err(format!("wait: {} is longer than {WAIT_MAX:?}", Printable(value)))
    }
}

fn refused(refusal: &DocumentError) -> Reply {
    warn!(%refusal, "refused a push");
    let code = match refusal {
        DocumentError::Shape(_) => StatusCode::BAD_REQUEST,
        DocumentError::Entries(_) | DocumentError::Name(_) => StatusCode::PAYLOAD_TOO_LARGE,
    };
    error(code, &refusal.to_string())
}

fn unreadable(api: &Api) -> Reply {
    let status = api.status.borrow();
    let reason = status.database_error.as_deref().unwrap_or("CONFIG_DB is not loaded yet");
    let reason = format!("the leaf's ports are not known, so nothing can be checked: {reason}");
    error(StatusCode::SERVICE_UNAVAILABLE, &reason)
}
