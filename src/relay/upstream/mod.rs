//! The relay's client side: asks one of an upstream's origins, the next one where the first cannot be reached.
//!
//! `queue` says when, `health` which origin is asked, `standing` keeps it, `origin` connects to one of its `addresses`, `connection` is what
//! stands then, `exchange` asks over it, `answer` is what comes back.
//!
//! Must never: send a request twice that may be sent only once, or wait without a bound where one is set.

use std::future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::Either;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use thiserror::Error;
use tokio::time::timeout_at;

use super::body::{self, Body};
use super::tls::{self, TlsError};
use crate::metrics::Metrics;
use answer::AnswerBody;
use exchange::{Timeouts, Unanswered, exchange, probe};
use leafboot_core::settings::relay;
use origin::Origin;
use queue::Queue;
use standing::Standing;

pub use origin::Buffers;

mod answer;
mod bell;
mod connection;
mod exchange;
mod origin;
mod queue;
mod standing;

/// Why no origin gave an answer.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// No connection, or one that took no request. Nothing was sent.
    #[error("{origin} cannot be reached: {reason}")]
    Connect {
        /// The origin that was tried last.
        origin: String,
        /// What the kernel, the resolver or TLS said.
        reason: io::Error,
    },
    /// No answer, or not all of it, in time.
    #[error("{origin} did not answer within {:.1} s", .after.as_secs_f32())]
    Late {
        /// Who was asked.
        origin: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("{origin} broke off: {reason}")]
    Broken {
        /// Who was asked.
        origin: String,
        /// What went wrong, down to its cause.
        reason: String,
    },
    /// An answer came that nobody can use; the next one would most likely be the same.
    #[error("{origin} gave an answer that cannot be used: {reason}")]
    Unusable {
        /// Who was asked.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine did not send all of its request: that says nothing of the origin.
    #[error("the machine's request broke off: {reason}")]
    Request {
        /// What went wrong.
        reason: String,
    },
    /// More than was asked for.
    #[error("the answer of {origin} is longer than {most} bytes")]
    TooLong {
        /// Who was asked.
        origin: String,
        /// The most bytes that were wanted.
        most: usize,
    },
    /// The deadline was over before anybody could be asked.
    #[error("there was no time left to ask")]
    NoTime,
}

impl UpstreamError {
    /// Whether there was an answer that is of no use (502, RFC 9110 15.6.3), and not just none for now (503).
    pub fn is_of_an_answer(&self) -> bool {
        matches!(self, Self::Unusable { .. } | Self::TooLong { .. })
    }
}

/// A request, by how often it may be sent. The target is path and query; `Host` is the origin's unless the request has
/// one.
pub enum Repeat<'a> {
    /// To the next origin after any failure before the answer, or when the answer is 502, 503 or 504. It is made for
    /// each of them, with no body, and GET or HEAD for method.
    Freely(&'a (dyn Fn() -> Box<Request<Body>> + Sync)),
    /// Once: to the next origin only while nothing was sent. It goes over a connection of its own, because one that
    /// was kept may be closed just then.
    Once(Box<Request<Body>>),
}

/// What an upstream is asked for, and how.
#[derive(Debug, Clone)]
pub struct Manner {
    /// In logs and metrics (`boot_service`).
    pub name: &'static str,
    /// For its answers.
    pub buffers: Buffers,
    /// The `Host` of its requests and probes; none: the origin's authority.
    pub host: Option<HeaderValue>,
    /// Whether 502, 503 and 504, and answers that cannot be used, count against an origin: where machines choose what is
    /// asked, they could choose these, too.
    pub is_judged_by_status: bool,
}

/// Servers that all answer the same.
pub struct Upstream {
    origins: Vec<Arc<Origin>>,
    standing: Arc<Standing>,
    timeouts: Timeouts,
    is_judged_by_status: bool,
    queue: Queue,
}

impl Upstream {
    /// An upstream by its settings. Connects to nobody yet. Needs a runtime, and lives as long.
    pub fn new(manner: Manner, settings: &relay::Upstream, metrics: &Metrics) -> Result<Self, TlsError> {
        let any_tls = settings.origins.iter().any(|origin| origin.is_tls());
        let client = || tls::client(&settings.ca, settings.identity.as_ref()).map(Arc::new);
        let tls = any_tls.then(client).transpose()?;
        let origin = |at| Arc::new(Origin::new(at, settings, tls.as_ref(), &manner));
        let upstream = Self {
            origins: settings.origins.iter().map(origin).collect(),
            standing: Arc::new(Standing::new(manner.name, settings, metrics)),
            timeouts: Timeouts { first_byte: settings.first_byte_timeout, idle: settings.idle_timeout },
            is_judged_by_status: manner.is_judged_by_status,
            queue: Queue::new(),
        };
        upstream.probe();
        Ok(upstream)
    }

    /// Has origins probed whose time aside is over, whether anybody asks for something or not.
    fn probe(&self) {
        let (origins, standing) = (self.origins.clone(), Arc::clone(&self.standing));
        let (timeouts, is_judged_by_status) = (self.timeouts, self.is_judged_by_status);
        tokio::spawn(async move {
            loop {
                for index in standing.due().await {
                    let (origin, standing) = (Arc::clone(&origins[index]), Arc::clone(&standing));
                    tokio::spawn(async move {
                        standing.probed(index, probe(&origin, timeouts, is_judged_by_status).await);
                    });
                }
            }
        });
    }

    fn is_failure(&self, status: StatusCode) -> bool {
        self.is_judged_by_status && exchange::says_it_fails(status)
    }

    /// Sends a request and returns the answer's head, with a body that fails where the origin's does.
    ///
    /// The answer's head is there before `deadline`; its body is the caller's to bound.
    pub async fn send(
        &self,
        asked: Repeat<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<Body>, UpstreamError> {
        let as_it_comes = |_, _, answer: Response<AnswerBody>| future::ready(Ok(answer.map(Body::coming)));
        self.ask_each(asked, deadline, as_it_comes, |_| true).await
    }

    /// Sends a request and returns its whole answer of at most `most` bytes, or an error: a part is never a whole. One
    /// that may be sent freely waits in the queue, and goes to the next origin, too, while an answer is not of use.
    pub async fn fetch(
        &self,
        asked: Repeat<'_>,
        deadline: Instant,
        most: usize,
        is_of_use: impl Fn(&Response<Bytes>) -> bool,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let _place = match asked {
            Repeat::Freely(_) => self.queue.wait().await,
            // It has a connection of its own anyway.
            Repeat::Once(_) => None,
        };
        let whole = |index, begun, mut answer: Response<AnswerBody>| async move {
            let gathered = self.gather(index, answer.body_mut(), most, begun, deadline).await;
            gathered.map(|whole| answer.map(|_| whole))
        };
        // Boxed: who waits in the queue has no need of the room yet.
        Box::pin(self.ask_each(asked, Some(deadline), whole, is_of_use)).await
    }

    /// Asks one origin after the other, as often as the request may be sent, until an answer can be taken and is of use.
    async fn ask_each<T, Taking>(
        &self,
        mut asked: Repeat<'_>,
        deadline: Option<Instant>,
        take: impl Fn(usize, Instant, Response<AnswerBody>) -> Taking,
        is_of_use: impl Fn(&Response<T>) -> bool,
    ) -> Result<Response<T>, UpstreamError>
    where
        Taking: Future<Output = Result<Response<T>, UpstreamError>>,
    {
        let mut last = Err(UpstreamError::NoTime);
        for index in self.standing.choose() {
            let begun = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= begun) {
                break;
            }
            let heard = self.ask(index, &mut asked, deadline).await;
            let answer = match self.judge(index, begun, heard) {
                Ok(answer) => Either::Left(take(index, begun, answer)),
                Err(error) => Either::Right(future::ready(Err(error))),
            };
            let answer = answer.await;
            let again = match (&answer, &asked) {
                (Err(UpstreamError::Connect { .. }), _) => true,
                (Ok(answer), Repeat::Freely(_)) => self.is_failure(answer.status()) || !is_of_use(answer),
                (Err(_), Repeat::Freely(_)) => true,
                (_, Repeat::Once(_)) => false,
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

    /// What an origin says, or that it says nothing, counts for or against it: its answer's body does so when it is through.
    fn judge(
        &self,
        index: usize,
        begun: Instant,
        heard: Result<Response<AnswerBody>, UpstreamError>,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        match &heard {
            Ok(answer) if self.is_failure(answer.status()) => {
                self.standing.failed(index, &format!("it answered {}", answer.status()));
            }
            Ok(_) => {
                self.standing.begins(index, begun.elapsed());
                return heard.map(|answer| answer.map(|body| body.judged(&self.standing, index)));
            }
            // The machine's own fault.
            Err(UpstreamError::Request { .. }) => {}
            // Where machines choose what is asked, they could choose what is answered so.
            Err(UpstreamError::Unusable { .. }) if !self.is_judged_by_status => {}
            Err(error) => self.standing.failed(index, &error.to_string()),
        }
        heard
    }

    /// All bytes of an answer's body. One that breaks counts against its origin by itself.
    async fn gather(
        &self,
        index: usize,
        body: &mut AnswerBody,
        most: usize,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Bytes, UpstreamError> {
        let origin = || self.origins[index].name.clone();
        match timeout_at(deadline.into(), pin!(body::gather(body, most))).await {
            Ok(Ok(Some(whole))) => Ok(whole),
            Ok(Ok(None)) => {
                let error = UpstreamError::TooLong { origin: origin(), most };
                self.standing.failed(index, &error.to_string());
                Err(error)
            }
            Ok(Err(error)) => Err(UpstreamError::Broken { origin: origin(), reason: causes(&error) }),
            Err(_) => {
                let after = deadline.saturating_duration_since(begun);
                let error = UpstreamError::Late { origin: origin(), after };
                self.standing.failed(index, &error.to_string());
                Err(error)
            }
        }
    }

    /// One origin's answer. What is asked once is taken when a connection stands, and not before.
    async fn ask(
        &self,
        index: usize,
        asked: &mut Repeat<'_>,
        deadline: Option<Instant>,
    ) -> Result<Response<AnswerBody>, UpstreamError> {
        let origin = &self.origins[index];
        if let Repeat::Freely(make) = asked
            && let Some(connection) = origin.kept()
        {
            match exchange(origin, connection, make(), self.timeouts, deadline).await {
                Ok(answer) => return Ok(answer),
                // The origin may have closed it meanwhile: that says nothing of the origin.
                Err(Unanswered {
                    error: UpstreamError::Broken { .. } | UpstreamError::Connect { .. },
                    ..
                }) => {}
                Err(Unanswered { error, .. }) => return Err(error),
            }
        }
        let unreachable = |reason| UpstreamError::Connect { origin: origin.name.clone(), reason };
        // Boxed: most requests go over a kept connection, and the room for this one would be copied with each.
        let connecting = Box::pin(origin.connect());
        let connected = match deadline {
            Some(deadline) => {
                let connected = timeout_at(deadline.into(), connecting).await;
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
            None => connecting.await,
        };
        let connection = connected.map_err(unreachable)?;
        let request = match asked {
            Repeat::Freely(make) => make(),
            Repeat::Once(request) => {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                std::mem::take(request)
            }
        };
        exchange(origin, connection, request, self.timeouts, deadline).await.map_err(
            |Unanswered { error, unsent }| {
                if let (Repeat::Once(request), Some(unsent)) = (asked, unsent) {
                    *request = unsent;
                }
                error
            },
        )
    }
}

/// An error with what caused it: the HTTP library's own texts do not have that.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
