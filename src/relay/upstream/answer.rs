//! The body of an origin's answer as it arrives. A complete body makes its connection idle and its origin healthy; a
//! broken one counts as a failure of the origin.
//!
//! Must never: keep a connection whose answer is not complete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::driver::Connection;
use super::health::HealthMonitor;
use super::origin::Origin;
use crate::relay::monitored::{IdleTimeout, Monitored};

/// The body of an origin's answer. Dropping it before its end closes its connection.
pub(super) struct AnswerBody {
    body: Monitored<Incoming, IdleTimeout>,
    /// The connection that the body arrives over, and whose pool it goes to; none: the body has ended.
    connection: Option<Connection>,
    origin: Arc<Origin>,
    /// Where its end is reported, and the origin's index there.
    report: Option<(Arc<HealthMonitor>, usize)>,
}

impl AnswerBody {
    /// `idle`: the longest pause between two pieces.
    pub(super) fn new(
        body: Incoming,
        connection: Connection,
        origin: Arc<Origin>,
        idle: Option<Duration>,
    ) -> Self {
        let body = Monitored::new(body, IdleTimeout::new(idle));
        Self { body, connection: Some(connection), origin, report: None }
    }

    /// The same body. Reports its end to `health`, where the origin has this index.
    pub(super) fn reported(mut self, health: &Arc<HealthMonitor>, index: usize) -> Self {
        self.report = Some((Arc::clone(health), index));
        self
    }

    fn complete(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.origin.pool.keep(connection);
        }
        if let Some((health, index)) = self.report.take() {
            health.answered(index);
        }
    }

    fn broke(&mut self, reason: &io::Error) {
        self.connection = None;
        if let Some((health, index)) = self.report.take() {
            health.failed(index, &format!("its answer broke off: {reason}"));
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.broke(error),
            None => self.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body of known length is not polled again after its last byte.
        if self.body.is_end_stream() {
            self.complete();
        }
    }
}
