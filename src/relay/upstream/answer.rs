//! An answer's body as it comes from an origin. When it is through, its connection is kept for the next request.
//!
//! Must never: wait for the next piece longer than the upstream's idle timeout, or keep a connection that is not
//! through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::origin::{Origin, Sender};

/// The body of an origin's answer.
pub(super) struct AnswerBody {
    body: Incoming,
    kept: Option<(Sender, Arc<Origin>)>,
    idle: Option<Duration>,
    /// Runs while a piece is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl AnswerBody {
    pub(super) fn new(body: Incoming, sender: Sender, origin: Arc<Origin>, idle: Option<Duration>) -> Self {
        Self { body, kept: Some((sender, origin)), idle, patience: None, waiting: false }
    }

    /// Whether the next piece has been waited for too long.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let Some(idle) = self.idle else {
            return false;
        };
        let until = Instant::now() + idle;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !self.waiting {
            patience.as_mut().reset(until);
            self.waiting = true;
        }
        patience.as_mut().poll(context).is_ready()
    }

    fn keep(&mut self) {
        if let Some((sender, origin)) = self.kept.take() {
            origin.keep(sender);
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
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() {
            if !self.is_late(context) {
                return Poll::Pending;
            }
            self.kept = None;
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer stood still"))));
        }
        self.waiting = false;
        match ready!(polled) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                self.kept = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            None => {
                self.keep();
                Poll::Ready(None)
            }
        }
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
        // A body of known length is often not asked for its end.
        if self.body.is_end_stream() {
            self.keep();
        }
    }
}
