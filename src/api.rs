//! The API edge: HTTP+JSON on a unix socket, where metal-core pushes the desired document and anyone asks for status.
//!
//! Must never: take a document in part, wait without a bound, or touch SONiC or the kernel.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /v1/ports[?wait=3s]` | takes the whole desired document; 200 when every port is settled, else 202 |
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

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::accept;
use crate::config::Boot;
use crate::desired::{self, Desired, DocumentError, PortRows};
use crate::metrics::Metrics;
use crate::net::PortName;
use crate::status::{PortStatus, Status};
use crate::store::Store;

/// 512 ports with all their fields are some 50 kilobytes.
const BODY_MAX: usize = 1024 * 1024;
/// metal-core's tick is 10 s; nobody gains by waiting longer than a few of them.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A request's head must be there whole in this time, and so must its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// Where they are kept.
    pub store: Store,
    /// The ports' states.
    pub status: watch::Receiver<Status>,
    /// The leaf's ports; none while CONFIG_DB cannot be read.
    pub ports: watch::Receiver<Option<PortRows>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
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
    loop {
        let (stream, _) = accept::next("api.socket", || listener.accept()).await;
        tokio::spawn(connection(stream, Arc::clone(&api)));
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
        "/metrics" if method == Method::GET => text(metrics),
        "/metrics" => not_allowed(path, "GET"),
        _ => error(StatusCode::NOT_FOUND, format!("no {path} here: there is /metrics")),
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
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), handle).await {
        debug!(%error, "an API connection broke");
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond(api: &Api, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    if path == "/metrics" {
        return scrape(&api.metrics, request.method(), &path);
    }
    match (request.method().clone(), path.strip_prefix("/v1/ports")) {
        (Method::PUT, Some("" | "/")) => put(api, request).await,
        (Method::GET, Some("" | "/")) => reply(StatusCode::OK, &document(&api.status.borrow())),
        (Method::GET, Some(rest)) if rest.starts_with('/') => one(api, &rest[1..].replace("%2F", "/")),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('/') => {
            not_allowed(&path, if rest.len() > 1 { "GET" } else { "GET, PUT" })
        }
        _ => error(
            StatusCode::NOT_FOUND,
            format!("no {path} here: there are /v1/ports, /v1/ports/<name> and /metrics"),
        ),
    }
}

fn not_allowed(path: &str, allow: &'static str) -> Reply {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {allow}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// All metrics.
fn text(metrics: &Metrics) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(metrics.text())));
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format));
    response
}

/// Takes a document whole or not at all.
async fn put(api: &Api, request: Request<Incoming>) -> Reply {
    let wait = match wait(request.uri().query()) {
        Ok(wait) => wait,
        Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
    };
    let reading = timeout(HEAD_TIMEOUT, Limited::new(request.into_body(), BODY_MAX).collect()).await;
    let body = match reading {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(reason)) if reason.is::<http_body_util::LengthLimitError>() => {
            return error(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the document is longer than {BODY_MAX} bytes"),
            );
        }
        Ok(Err(reason)) => {
            return error(StatusCode::BAD_REQUEST, format!("the document broke off: {reason}"));
        }
        Err(_) => {
            return error(StatusCode::REQUEST_TIMEOUT, "the document did not come".to_owned());
        }
    };
    match accept(api, &body) {
        Ok(desired) => settle(api, &desired, wait).await,
        Err(refusal) => *refusal,
    }
}

/// Checks, keeps and publishes a document. There is no await in it, so two pushes cannot cross.
fn accept(api: &Api, body: &[u8]) -> Result<Desired, Box<Reply>> {
    let ports = match api.ports.borrow().as_ref() {
        Some(rows) => desired::parse(body, rows, &api.boot).map_err(|error| Box::new(refused(&error)))?,
        None => return Err(Box::new(unreadable(api))),
    };
    let before = api.desired.borrow().clone();
    let desired = Desired::after(before.as_ref(), ports, Instant::now());
    if before.is_none_or(|before| before.generation != desired.generation) {
        api.store.keep(&desired).map_err(|reason| {
            let reason = format!("the document cannot be kept, so it is not taken: {reason}");
            warn!(reason, "refused a push");
            Box::new(error(StatusCode::INTERNAL_SERVER_ERROR, reason))
        })?;
        info!(generation = desired.generation, ports = desired.ports.len(), "took a new document");
    }
    api.desired.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&desired);
        *current = Some(desired.clone());
        changed
    });
    Ok(desired)
}

/// Waits, bounded, until every port has settled, and answers with their states.
async fn settle(api: &Api, desired: &Desired, wait: Duration) -> Reply {
    let mut status = api.status.clone();
    let settled = timeout(wait, status.wait_for(|status| status.has_settled(desired.generation))).await;
    let code = if matches!(settled, Ok(Ok(_))) { StatusCode::OK } else { StatusCode::ACCEPTED };
    let now = api.status.borrow();
    if now.is_of(desired.generation) {
        reply(code, &document(&now))
    } else {
        reply(code, &document(&now.pending(desired)))
    }
}

fn one(api: &Api, name: &str) -> Reply {
    let status = api.status.borrow();
    let known = |port: &PortName| status.ports.get(port).cloned();
    match (api.ports.borrow().as_ref(), name.parse::<PortName>().ok().as_ref().and_then(known)) {
        (_, Some(port)) => reply(StatusCode::OK, &json!(port)),
        (Some(rows), None) => match desired::resolve(name, rows) {
            Some((port, _)) => reply(StatusCode::OK, &json!(known(port).unwrap_or(PortStatus::RELEASED))),
            None => error(StatusCode::NOT_FOUND, desired::unknown(name, rows)),
        },
        (None, None) => unreadable(api),
    }
}

/// `wait=<duration>` out of a query; nothing else is known.
fn wait(query: Option<&str>) -> Result<Duration, String> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let value = query.strip_prefix("wait=").ok_or(format!("unknown query {query:?}: there is wait=3s"))?;
    let wait =
        humantime::parse_duration(value).map_err(|e| format!("wait: {value:?}: {e}; write wait=3s"))?;
    if wait <= WAIT_MAX { Ok(wait) } else { Err(format!("wait: {value} is longer than {WAIT_MAX:?}")) }
}

/// The answer's shape for all ports.
fn document(status: &Status) -> Value {
    let (settled, error) =
        (status.is_settled(), status.database_error.as_ref().or(status.write_error.as_ref()));
    json!({
        "generation": status.generation,
        "settled": settled,
        "error": error,
        "anycast": status.anycast,
        "ports": status.ports,
    })
}

fn refused(refusal: &DocumentError) -> Reply {
    warn!(%refusal, "refused a push");
    match refusal {
        DocumentError::Shape(_) => error(StatusCode::BAD_REQUEST, refusal.to_string()),
        DocumentError::Refused(refused) => reply(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "error": refusal.to_string(), "refused": refused }),
        ),
    }
}

fn unreadable(api: &Api) -> Reply {
    let status = api.status.borrow();
    let reason = status.database_error.as_deref().unwrap_or("CONFIG_DB is not loaded yet");
    let reason = format!("the leaf's ports are not known, so nothing can be checked: {reason}");
    error(StatusCode::SERVICE_UNAVAILABLE, reason)
}

fn error(code: StatusCode, reason: String) -> Reply {
    reply(code, &json!({ "error": reason }))
}

fn reply(code: StatusCode, body: &Value) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
