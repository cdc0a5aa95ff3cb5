//! Sends each boot attempt that has ended to an OpenTelemetry collector, as a trace (`trace.otlp`): OTLP over HTTP/1.1, in
//! protobuf (OTLP specification 1.x, "OTLP/HTTP").
//!
//! Nothing is queued for the collector. What it has not got yet is in the recorder: the last 16 attempts of each port.
//!
//! Must never: delay a boot, or keep anything that grows while the collector is away.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use leafboot_core::attempt;
use leafboot_core::names::{HttpOrigin, PortName};
use leafboot_core::otlp::{self, Span};
use leafboot_core::printable::Printable;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::attempts::Recorder;

/// The resource's `service.version`, and the user agent's.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("leafboot/", env!("CARGO_PKG_VERSION")));
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Where a collector takes traces.
const PATH: &str = "/v1/traces";
/// Attempts that end within this time are sent together.
const PERIOD: Duration = Duration::from_secs(1);
/// The most attempts in a request. Each has less than 8 KB.
const ATTEMPTS_MAX: usize = 128;
/// The time for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// The pauses while the collector is away: the first one, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Sends traces until the process ends. Attempts that have ended before it starts are taken for sent.
pub async fn run(collector: HttpOrigin, leaf: String, recorder: Arc<Recorder>) -> Infallible {
    let mut changes = recorder.changes();
    let mut sent = Sent::default();
    sent.mark(&ended(&recorder, &sent, usize::MAX));
    let mut pause = PAUSE_MIN;
    loop {
        let batch = ended(&recorder, &sent, ATTEMPTS_MAX);
        if batch.is_empty() {
            let _ = changes.changed().await;
            sleep(PERIOD).await;
            changes.mark_unchanged();
            continue;
        }
        let spans: Vec<Span> =
            batch.iter().flat_map(|(port, attempt)| attempt::spans(attempt, port)).collect();
        let body = otlp::export_request(&leaf, VERSION, &spans);
        match post(&collector, body.into()).await {
            Ok(()) => {
                if pause > PAUSE_MIN {
                    info!(%collector, "traces: the collector takes them again");
                }
                pause = PAUSE_MIN;
                sent.mark(&batch);
            }
            Err(Failure::Final(reason)) => {
                warn!(%collector, reason, attempts = batch.len(), "traces: the collector refuses them; they are dropped");
                sent.mark(&batch);
                sleep(PAUSE_MIN).await;
            }
            Err(Failure::Passing(reason)) => {
                if pause == PAUSE_MIN {
                    warn!(%collector, reason, "traces: cannot be sent; trying again");
                }
                sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
            }
        }
    }
}

/// Attempts with their ports.
type Batch = Vec<(PortName, attempt::Attempt)>;

/// The number of each port's last attempt that was sent.
#[derive(Default)]
struct Sent(BTreeMap<PortName, u64>);

impl Sent {
    fn mark(&mut self, batch: &Batch) {
        for (port, attempt) in batch {
            self.0.insert(port.clone(), attempt.number);
        }
    }
}

/// At most `most` attempts that have ended and were not sent.
fn ended(recorder: &Recorder, sent: &Sent, most: usize) -> Batch {
    let mut batch = Batch::new();
    for (name, port) in recorder.ports() {
        let after = sent.0.get(&name).copied().unwrap_or_default();
        let attempts = port.ended_after(after).into_iter().take(most - batch.len());
        batch.extend(attempts.map(|attempt| (name.clone(), attempt)));
        if batch.len() >= most {
            break;
        }
    }
    batch
}

/// Why the collector has not taken a request.
enum Failure {
    /// It may take the request later.
    Passing(String),
    /// It would refuse the request again.
    Final(String),
}

/// Sends a request over a connection of its own.
async fn post(collector: &HttpOrigin, body: Bytes) -> Result<(), Failure> {
    match timeout(TIMEOUT, exchange(collector, body)).await {
        Err(_) => Err(Failure::Passing(format!("no answer within {} s", TIMEOUT.as_secs()))),
        Ok(Err(reason)) => Err(Failure::Passing(Printable(&reason).to_string())),
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) if is_passing(status) => Err(Failure::Passing(format!("it answers {status}"))),
        Ok(Ok(status)) => Err(Failure::Final(format!("it answers {status}"))),
    }
}

/// The statuses after which a request may be repeated (OTLP specification, "Retryable Response Codes").
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn exchange(collector: &HttpOrigin, body: Bytes) -> Result<StatusCode, String> {
    let stream =
        TcpStream::connect((collector.host(), collector.port())).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut request = Request::post(PATH).body(Full::new(body)).map_err(|error| error.to_string())?;
    let host = HeaderValue::try_from(collector.authority()).map_err(|error| error.to_string())?;
    request.headers_mut().extend([(HOST, host), (CONTENT_TYPE, PROTOBUF), (USER_AGENT, AGENT)]);
    // The connection ends when the sender is dropped.
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let _ = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok(status)
    };
    join(exchange, connection).await.0
}
