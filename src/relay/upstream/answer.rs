//! An answer's body as it comes from an origin. When it is through, its connection is kept for the next request.
//!
//! Must never: keep a connection that is not through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use super::origin::{Origin, Sender};
use crate::relay::body::Patient;

/// The body of an origin's answer.
pub(super) struct AnswerBody {
    body: Patient<Incoming>,
    kept: Option<(Sender, Arc<Origin>)>,
}

impl AnswerBody {
    /// `idle`: how long a piece may take.
    pub(super) fn new(body: Incoming, sender: Sender, origin: Arc<Origin>, idle: Option<Duration>) -> Self {
        Self { body: Patient::new(body, idle), kept: Some((sender, origin)) }
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.kept = None,
            None => self.keep(),
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
        // A body of known length is often not asked for its end.
        if self.body.is_end_stream() {
            self.keep();
        }
    }
}
