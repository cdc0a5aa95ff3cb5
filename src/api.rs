//! The API's server: HTTP and JSON on a unix socket. metal-core pushes the desired document to it, and operators read
//! the ports' states from it.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /v1/ports[?wait=3s]` | accepts the desired document; 200 if every port is settled, else 202 |
//! | `GET /v1/ports` | all ports that leafboot manages or has managed since its start |
//! | `GET /v1/ports/<name or alias>` | one port |
//! | `GET /v1/ports/<name or alias>/attempts` | the last attempts to boot on one port |
//! | `GET /v1/leaf` | the leaf, its servers and SONiC |
//! | `GET /v1/events` | what happens on ports, as it happens (server-sent events) |
//! | `GET /metrics` | the metrics, in OpenMetrics' or Prometheus' text format |
//!
//! `sonic/openapi.yaml` describes all of it. `ports` handles `/v1/ports`, `scrape` handles `/metrics`, and `answer` has
//! the answers' shapes.
//!
//! Must never: wait without a bound, or touch SONiC or the kernel.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::debug;

use crate::accept;
use crate::attempts::Recorder;
use crate::events::Events;
use crate::guarded::Guarded;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use answer::{Reply, refusal};
use leafboot_core::desired::{Desired, PortRows};
use leafboot_core::observed::Links;
use leafboot_core::printable::Printable;
use leafboot_core::settings::Boot;
use leafboot_core::status::{RequestReason, Status};
use leafboot_core::verdict::Diagnosis;

mod answer;
mod attempts;
mod event_body;
mod events;
mod leaf;
mod ports;
pub mod scrape;

pub use events::Readers;

/// The longest body in bytes. 512 ports with all their fields are about 50 kilobytes.
const BODY_MAX: usize = 1024 * 1024;
/// The longest `wait`. metal-core pushes every 10 s, so a longer wait is of no use.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A request's body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed if no request head arrives within this time. It is much longer than metal-core's cycle of 10
/// s: Go does not repeat a PUT on a connection that the server closes in between.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Open connections. metal-core has one or two, an operator a few.
const CONNECTIONS_MAX: usize = 64;
/// Documents that are read at the same time; further ones wait.
const BODIES_MAX: usize = 4;
/// The answer to a connection beyond [`CONNECTIONS_MAX`]; its request is not read.
const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: application/json\r\nContent-Length: 75\r\n\r\n\
    {\"error\":{\"reason\":\"TooManyConnections\",\"message\":\"too many connections\"}}\n";

/// Why the API's socket cannot be opened.
#[derive(Debug, Error)]
pub enum ApiError {
    /// Another process serves the path.
    #[error("{0}: another leafboot serves this socket: stop it first")]
    Taken(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0}: exists and is not a socket: remove it, or set api.socket to another path")]
    NotSocket(PathBuf),
    /// The file system or the kernel refused the path.
    #[error("{path}: {source}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The channels and settings that requests read and write.
pub struct Api {
    /// The boot settings that a document is checked against.
    pub boot: Boot,
    /// Publishes accepted documents.
    pub desired: watch::Sender<Option<Desired>>,
    /// Saves accepted documents.
    pub keeper: Arc<Keeper>,
    /// The ports' states.
    pub status: watch::Receiver<Status>,
    /// The leaf's ports; none while CONFIG_DB cannot be read.
    pub ports: watch::Receiver<Option<PortRows>>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Permits to read a document.
    pub bodies: Semaphore,
    /// The leaf's name.
    pub leaf: String,
    /// The agent's version.
    pub version: &'static str,
    /// When the agent has started.
    pub started: Instant,
    /// When a document was last accepted.
    pub pushed: Guarded<Option<Instant>>,
    /// The kernel's links.
    pub links: watch::Receiver<Links>,
    /// The machines' attempts to boot.
    pub attempts: Arc<Recorder>,
    /// What is known of each port's machine.
    pub diagnosis: watch::Receiver<Arc<Diagnosis>>,
    /// What happens on ports.
    pub events: Arc<Events>,
    /// Permits to follow the events.
    pub readers: Readers,
}

impl Api {
    /// One permit for each document that may be read at the same time.
    pub fn bodies() -> Semaphore {
        Semaphore::new(BODIES_MAX)
    }
}

/// Opens the socket. The socket of a dead agent is replaced, that of a running agent is not. Root and its group may use
/// it.
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

/// Serves the socket until the process ends.
pub async fn run(listener: UnixListener, api: Arc<Api>) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, _) = accept::next("api.socket", || listener.accept()).await;
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => {
                let api = Arc::clone(&api);
                tokio::spawn(async move {
                    let close = Arc::new(Notify::new());
                    tokio::select! {
                        () = serve(stream, |request| respond(&api, &close, request)) => {}
                        () = close.notified() => {}
                    }
                    drop(permit);
                });
            }
            // If this waited for a permit, one client could block all others.
            Err(_) => {
                debug!("api.socket: connection refused: {CONNECTIONS_MAX} are open");
                let _ = stream.try_write(TOO_MANY_CONNECTIONS);
            }
        }
    }
}

/// Answers a connection's requests until it ends.
async fn serve<S, A>(stream: S, answer: impl Fn(Request<Incoming>) -> A)
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
        debug!(%error, "API connection broke");
    }
}

/// Answers a request. `close` closes the connection while the answer goes on.
async fn respond(api: &Api, close: &Arc<Notify>, request: Request<Incoming>) -> Reply {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let read_only = |answer: &dyn Fn() -> Reply| match is_read(&method) {
        true => answer(),
        false => not_allowed(&path, "GET, HEAD"),
    };
    match path.as_str() {
        "/metrics" => scrape::scrape(&api.metrics, &request),
        "/v1/leaf" => read_only(&|| leaf::leaf(api)),
        "/v1/events" => read_only(&|| events::follow(&api.events, &api.readers, close)),
        "/v1/ports" | "/v1/ports/" => match method {
            Method::PUT => ports::put(api, request).await,
            _ if is_read(&method) => ports::get_all(api),
            _ => not_allowed(&path, "GET, HEAD, PUT"),
        },
        path if let Some(port) = path.strip_prefix("/v1/ports/") => match port.strip_suffix("/attempts") {
            Some(port) if !port.is_empty() => read_only(&|| ports::get_attempts(api, port)),
            _ => read_only(&|| ports::get_one(api, port)),
        },
        path => {
            let path = Printable(path);
            let message = format!(
                "no {path} here: there are /v1/ports, /v1/ports/<name>, /v1/ports/<name>/attempts, /v1/leaf, \
                 /v1/events and /metrics"
            );
            refusal(RequestReason::UnknownPath, &message)
        }
    }
}

/// Whether the method only reads. HEAD gets the answer of GET, and hyper omits its body (RFC 9110 9.3.2).
fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn not_allowed(path: &str, allow: &'static str) -> Reply {
    let message = format!("{} takes {allow}", Printable(path));
    let mut response = refusal(RequestReason::MethodNotAllowed, &message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(TOO_MANY_CONNECTIONS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let reason: &str = RequestReason::TooManyConnections.into();
        assert_eq!(body["error"]["reason"], reason);
    }
}
