//! The relay's client side: asks one of an upstream's origins, the next one where the first cannot be reached.
//!
//! `health` says which origin is asked, `origin` connects, `answer` is what comes back.
//!
//! Must never: send a request twice that may be sent only once, or wait without a bound where one is set.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::header::{HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::body::{self, Body};
use super::tls::{self, TlsError};
use crate::config::relay;
use answer::AnswerBody;
use health::Health;
use origin::{Origin, Sender};

mod answer;
pub mod health;
mod origin;

/// Why no origin gave an answer.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection. Nothing was sent.
    #[error("{origin} cannot be reached: {reason}")]
    Connect {
        /// The origin that was tried last.
        origin: String,
        /// What the kernel, the resolver or TLS said.
        reason: io::Error,
    },
    /// No first byte in time.
    #[error("{origin} did not answer within {} s", .after.as_secs_f32())]
    Late {
        /// Who was asked.
        origin: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("{origin} broke off: {reason}")]
    Broken {
        /// Who was asked.
        origin: String,
        /// What went wrong.
        reason: hyper::Error,
    },
    /// The deadline was over before anybody could be asked.
    #[error("there was no time left to ask")]
    NoTime,
}

/// How often a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// To the next origin after any failure before the answer, or when the answer is 502, 503 or 504. The request has
    /// no body, and GET or HEAD for method.
    Freely,
    /// Once: to the next origin only while nothing was sent. It goes over a connection of its own, because one that
    /// was kept may be closed just then.
    Once,
}

/// Servers that all answer the same.
pub struct Upstream {
    name: &'static str,
    origins: Vec<Arc<Origin>>,
    health: Arc<watch::Sender<Health>>,
    /// What health's times are counted from.
    started: Instant,
    first_byte: Option<Duration>,
    idle: Option<Duration>,
}

impl Upstream {
    /// An upstream by its settings; `name` is the one in logs and metrics (`boot_service`). Connects to nobody yet.
    pub fn new(name: &'static str, settings: &relay::Upstream) -> Result<Self, TlsError> {
        let any_tls = settings.origins.iter().any(|origin| origin.is_tls());
        let client = || tls::client(&settings.ca, settings.identity.as_ref()).map(Arc::new);
        let tls = any_tls.then(client).transpose()?;
        let origin = |at| Arc::new(Origin::new(at, settings, tls.as_ref()));
        Ok(Self {
            name,
            origins: settings.origins.iter().map(origin).collect(),
            health: Arc::new(watch::Sender::new(Health::new(settings.order, settings.origins.len()))),
            started: Instant::now(),
            first_byte: settings.first_byte_timeout,
            idle: settings.idle_timeout,
        })
    }

    /// Sends a request and returns the answer's head, with a body that fails where the origin's does.
    ///
    /// The target is path and query; `Host` is the origin's unless the request has one. The answer's head is there
    /// before `deadline`; its body is the caller's to bound.
    pub async fn send(
        &self,
        request: Request<Body>,
        repeat: Repeat,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, UpstreamError> {
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        let mut last = Err(UpstreamError::NoTime);
        for index in self.choose() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let answer = self.ask(index, &parts, &mut body, repeat, left).await;
            let failed = match &answer {
                Ok(answer) => is_failure(answer.status()),
                Err(_) => true,
            };
            self.judge(index, failed);
            let again = match (&answer, repeat) {
                (Err(UpstreamError::Connect { .. }), _) => true,
                (_, Repeat::Freely) => failed,
                (_, Repeat::Once) => false,
            };
            // An answer, whatever it is, says more than a connection that failed.
            if answer.is_ok() || last.is_err() {
                last = answer;
            }
            if !again {
                break;
            }
        }
        last
    }

    /// The origins in the order in which they are tried; those whose time aside is over are probed beside.
    fn choose(&self) -> Vec<usize> {
        let (mut order, mut due) = (Vec::new(), Vec::new());
        self.health.send_if_modified(|health| {
            due = health.due(self.started.elapsed());
            order = health.choose();
            false
        });
        for index in due {
            let (origin, health, started) =
                (Arc::clone(&self.origins[index]), Arc::clone(&self.health), self.started);
            tokio::spawn(async move {
                let probe = origin.connect().await;
                health.send_modify(|health| health.probed(index, probe.is_ok(), started.elapsed()));
                if let Ok(sender) = probe {
                    origin.keep(sender);
                }
            });
        }
        order
    }

    fn judge(&self, index: usize, failed: bool) {
        let origin = &self.origins[index].at;
        self.health.send_if_modified(|health| {
            let was_well = health.is_well(index);
            match failed {
                true => health.failed(index, self.started.elapsed()),
                false => health.answered(index),
            }
            match (was_well, failed) {
                (true, true) => warn!(upstream = self.name, %origin, "set aside: it fails"),
                (false, false) => info!(upstream = self.name, %origin, "answers again"),
                _ => {}
            }
            false
        });
    }

    /// One origin's answer. `body` is taken when a connection stands, and not before.
    async fn ask(
        &self,
        index: usize,
        parts: &Parts,
        body: &mut Option<Body>,
        repeat: Repeat,
        left: Option<Duration>,
    ) -> Result<Response<Body>, UpstreamError> {
        let origin = &self.origins[index];
        let until = left.map(|left| Instant::now() + left);
        if repeat == Repeat::Freely
            && let Some(sender) = origin.kept()
        {
            match self.exchange(origin, sender, request(origin, parts, body::empty()), until).await {
                // The origin may have closed it meanwhile: that says nothing of the origin.
                Err(UpstreamError::Broken { .. }) => {}
                answer => return answer,
            }
        }
        let unreachable = |reason| UpstreamError::Connect { origin: origin.at.to_string(), reason };
        let connecting = origin.connect();
        let connected = match left {
            Some(left) => {
                timeout(left, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
            None => connecting.await,
        };
        let sender = connected.map_err(unreachable)?;
        let body = body.take().unwrap_or_else(body::empty);
        self.exchange(origin, sender, request(origin, parts, body), until).await
    }

    async fn exchange(
        &self,
        origin: &Arc<Origin>,
        mut sender: Sender,
        request: Request<Body>,
        until: Option<Instant>,
    ) -> Result<Response<Body>, UpstreamError> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let patience = [self.first_byte, left].into_iter().flatten().min();
        let answering = async {
            // A request that goes before the connection is ready would fail.
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answer = match patience {
            Some(after) => timeout(after, answering)
                .await
                .map_err(|_| UpstreamError::Late { origin: origin.at.to_string(), after })?,
            None => answering.await,
        };
        let answer =
            answer.map_err(|reason| UpstreamError::Broken { origin: origin.at.to_string(), reason })?;
        Ok(answer
            .map(|incoming| AnswerBody::new(incoming, sender, Arc::clone(origin), self.idle).boxed_unsync()))
    }
}

/// RFC 9110 15.6: the origin, or what is behind it, does not work.
fn is_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn request(origin: &Origin, parts: &Parts, body: Body) -> Request<Body> {
    let mut parts = parts.clone();
    parts.version = Version::HTTP_11;
    if !parts.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(&origin.at.authority())
    {
        parts.headers.insert(HOST, host);
    }
    Request::from_parts(parts, body)
}
