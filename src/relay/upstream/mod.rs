//! The relay's client side: sends a request to one of an upstream's origins, and to the next one if that fails.
//!
//! `queue` bounds requests in flight, `health` orders the origins, `pool` has their idle connections, `connect` makes
//! new ones to the addresses that `resolver` finds, `driver` runs a connection, `exchange` sends a request over it,
//! `answer` is an origin's answer.
//!
//! Must never: send a request twice that may be sent only once, or wait longer than a deadline.

use std::future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Bytes;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout_at;

use super::body::{self, Body};
use super::tls::{self, TlsError};
use crate::metrics::Metrics;
use answer::AnswerBody;
use driver::Connection;
use error::causes;
use exchange::{Timeouts, Unanswered, exchange, probe};
use health::HealthMonitor;
use leafboot_core::settings::relay;
use origin::Origin;
use queue::Queue;

pub use connect::Buffers;
pub use error::UpstreamError;
pub use exchange::AGENT;

mod answer;
mod connect;
mod driver;
mod error;
mod exchange;
mod health;
mod origin;
mod pool;
mod queue;
mod resolver;

/// A request, which may be sent again or only once. Its target is path and query.
pub enum Outgoing<'a> {
    /// A GET or HEAD without a body (RFC 9110 9.2.2). Goes to the next origin after any failure before the answer, and
    /// after 502, 503 and 504. The closure makes it anew for each origin.
    Idempotent(&'a (dyn Fn() -> Box<Request<Body>> + Sync)),
    /// Goes to the next origin only if no byte of it was sent. Goes over a new connection: an idle one may be closed by
    /// its server at that very moment.
    Once(Box<Request<Body>>),
}

/// How requests are sent to an upstream.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name in logs and metrics (`boot_service`).
    pub name: &'static str,
    /// What may be buffered of its answers.
    pub buffers: Buffers,
    /// The `Host` of its requests and probes; none: the origin's authority.
    pub host: Option<HeaderValue>,
    /// Whether 502, 503, 504 and answers that cannot be used count as failures of an origin. False where machines choose
    /// the content of requests: they could cause these answers, too.
    pub is_ejected_by_status: bool,
}

/// Origins that all answer the same.
pub struct Upstream {
    origins: Vec<Arc<Origin>>,
    health: Arc<HealthMonitor>,
    timeouts: Timeouts,
    is_ejected_by_status: bool,
    queue: Queue,
}

impl Upstream {
    /// An upstream by its settings. Connects to nothing yet. Needs a runtime, and lives as long as that.
    pub fn new(
        options: Options,
        settings: &relay::UpstreamSettings,
        metrics: &Metrics,
    ) -> Result<Self, TlsError> {
        let any_tls = settings.origins.iter().any(|origin| origin.is_tls());
        let client = || tls::client(&settings.ca, settings.identity.as_ref()).map(Arc::new);
        let tls = any_tls.then(client).transpose()?;
        let origin = |at| Arc::new(Origin::new(at, settings, tls.as_ref(), &options));
        let upstream = Self {
            origins: settings.origins.iter().map(origin).collect(),
            health: Arc::new(HealthMonitor::new(options.name, settings, metrics)),
            timeouts: Timeouts { first_byte: settings.first_byte_timeout, idle: settings.idle_timeout },
            is_ejected_by_status: options.is_ejected_by_status,
            queue: Queue::new(),
        };
        upstream.spawn_probes();
        Ok(upstream)
    }

    /// Probes ejected origins when they are due, whether machines ask for something or not.
    fn spawn_probes(&self) {
        let (origins, health) = (self.origins.clone(), Arc::clone(&self.health));
        let (timeouts, is_ejected_by_status) = (self.timeouts, self.is_ejected_by_status);
        tokio::spawn(async move {
            loop {
                for index in health.due().await {
                    let (origin, health) = (Arc::clone(&origins[index]), Arc::clone(&health));
                    tokio::spawn(async move {
                        health.probed(index, probe(&origin, timeouts, is_ejected_by_status).await);
                    });
                }
            }
        });
    }

    /// Connects to the origin of this name, TLS handshake included, and closes the connection.
    pub async fn connect_to(&self, origin: &str) -> io::Result<()> {
        let origin = self.origins.iter().find(|at| at.name == origin);
        let origin = origin.ok_or(io::ErrorKind::NotFound)?;
        origin.connector.connect().await.map(drop)
    }

    fn is_failure(&self, status: StatusCode) -> bool {
        self.is_ejected_by_status && exchange::is_gateway_failure(status)
    }

    /// Sends a request and returns the answer with its body as it comes. The body fails if the origin's does.
    ///
    /// The head is there before `deadline`; the caller bounds the body.
    pub async fn send(
        &self,
        outgoing: Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, UpstreamError> {
        let as_it_comes = |_, _, answer: Response<AnswerBody>| future::ready(Ok(answer.map(Body::stream)));
        self.try_each(outgoing, deadline, as_it_comes, |_| true).await
    }

    /// Sends a request and returns its whole answer of at most `most` bytes, or an error: never a part.
    ///
    /// An idempotent request waits in the queue, and goes to the next origin also if `is_of_use` rejects an answer.
    pub async fn fetch(
        &self,
        outgoing: Outgoing<'_>,
        deadline: Instant,
        most: usize,
        is_of_use: impl Fn(&Response<Bytes>) -> bool,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let _permit = match outgoing {
            Outgoing::Idempotent(_) => self.queue.wait().await,
            // It has a connection of its own anyway.
            Outgoing::Once(_) => None,
        };
        let whole = |index, begun, mut answer: Response<AnswerBody>| async move {
            let gathered = self.gather(index, answer.body_mut(), most, begun, deadline).await;
            gathered.map(|whole| answer.map(|_| whole))
        };
        self.try_each(outgoing, Some(deadline), whole, is_of_use).await
    }

    /// Sends the request to one origin after the other, as often as it may be sent, until `read` returns a usable answer.
    async fn try_each<T, Reading>(
        &self,
        mut outgoing: Outgoing<'_>,
        deadline: Option<Instant>,
        read: impl Fn(usize, Instant, Response<AnswerBody>) -> Reading,
        is_of_use: impl Fn(&Response<T>) -> bool,
    ) -> Result<Response<T>, UpstreamError>
    where
        Reading: Future<Output = Result<Response<T>, UpstreamError>>,
    {
        let mut last = Err(UpstreamError::NoTime);
        for index in self.health.choose() {
            let begun = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= begun) {
                break;
            }
            let head = self.ask(index, &mut outgoing, deadline).await;
            let answer = match self.report(index, begun, head) {
                Ok(answer) => read(index, begun, answer).await,
                Err(error) => Err(error),
            };
            let is_next_asked = match (&answer, &outgoing) {
                (Err(UpstreamError::Connect { .. }), _) => true,
                (Ok(answer), Outgoing::Idempotent(_)) => {
                    self.is_failure(answer.status()) || !is_of_use(answer)
                }
                (Err(_), Outgoing::Idempotent(_)) => true,
                (_, Outgoing::Once(_)) => false,
            };
            // An answer tells the caller more than a failed connection.
            if answer.is_ok() || last.is_err() {
                last = answer;
            }
            if !is_next_asked {
                break;
            }
        }
        last
    }

    /// Reports the head of an origin's answer, or the lack of one, to `health`. The answer's body reports its end.
    fn report(
        &self,
        index: usize,
        begun: Instant,
        head: Result<Response<AnswerBody>, UpstreamError>,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        match &head {
            Ok(answer) if self.is_failure(answer.status()) => {
                self.health.failed(index, &format!("it answered {}", answer.status()));
            }
            Ok(_) => {
                self.health.head_arrived(index, begun.elapsed());
                return head.map(|answer| answer.map(|body| body.reported(&self.health, index)));
            }
            // Not the origin's fault.
            Err(UpstreamError::Request { .. }) => {}
            Err(UpstreamError::Unusable { .. }) if !self.is_ejected_by_status => {}
            Err(error) => self.health.failed(index, &error.to_string()),
        }
        head
    }

    /// Reads all bytes of an answer's body. A body that breaks reports that itself.
    async fn gather(
        &self,
        index: usize,
        body: &mut AnswerBody,
        most: usize,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Bytes, UpstreamError> {
        let origin = || self.origins[index].name.clone();
        let error = match timeout_at(deadline.into(), pin!(body::gather(body, most))).await {
            Ok(Ok(Some(whole))) => return Ok(whole),
            Ok(Err(error)) => {
                return Err(UpstreamError::Broken { origin: origin(), reason: causes(&error) });
            }
            Ok(Ok(None)) => UpstreamError::TooLong { origin: origin(), most },
            Err(_) => {
                let after = deadline.saturating_duration_since(begun);
                UpstreamError::Late { origin: origin(), after }
            }
        };
        self.health.failed(index, &error.to_string());
        Err(error)
    }

    /// Returns the head of one origin's answer. Takes a request that may be sent only once out of `outgoing` when it
    /// has a connection, and puts it back if the request was not sent.
    async fn ask(
        &self,
        index: usize,
        outgoing: &mut Outgoing<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        let origin = &self.origins[index];
        if let Outgoing::Idempotent(make) = outgoing
            && let Some(connection) = origin.pool.take()
        {
            match exchange(origin, connection, make(), self.timeouts, deadline).await {
                Ok(answer) => return Ok(answer),
                // The origin may have closed the idle connection: that is no failure of the origin.
                Err(Unanswered {
                    error: UpstreamError::Broken { .. } | UpstreamError::Connect { .. },
                    ..
                }) => {}
                Err(Unanswered { error, .. }) => return Err(error),
            }
        }
        let connection = connect(origin, deadline).await?;
        let request = match outgoing {
            Outgoing::Idempotent(make) => make(),
            Outgoing::Once(request) => {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                std::mem::take(request)
            }
        };
        exchange(origin, connection, request, self.timeouts, deadline).await.map_err(
            |Unanswered { error, unsent }| {
                if let (Outgoing::Once(request), Some(unsent)) = (outgoing, unsent) {
                    *request = unsent;
                }
                error
            },
        )
    }
}

/// A new connection before `deadline`, and within the connect timeout.
async fn connect(origin: &Origin, deadline: Option<Instant>) -> Result<Connection, UpstreamError> {
    let connecting = origin.connector.connect();
    let connected = match deadline {
        Some(deadline) => timeout_at(deadline.into(), connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => connecting.await,
    };
    connected.map_err(|reason| UpstreamError::Connect { origin: origin.name.clone(), reason })
}
