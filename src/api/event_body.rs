//! The body of `GET /v1/events`.
//!
//! Must never: hold more events than its queue.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// An answer that goes on until its reader goes, or is too slow.
pub(super) struct EventBody {
    queue: mpsc::Receiver<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl EventBody {
    /// A body of what comes through `queue`. `permit`: few readers may follow at the same time.
    pub(super) fn new(queue: mpsc::Receiver<Bytes>, permit: OwnedSemaphorePermit) -> Self {
        Self { queue, _permit: permit }
    }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.queue.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
