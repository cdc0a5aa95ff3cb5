//! Bodies: what goes from a server behind to a machine, whole or as it comes.
//!
//! Must never: end a broken body as if it were whole. An error of a body ends the connection that it goes over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body of a request or an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there whole; its length is known.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body; its length is known: 0.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body whose pieces do not keep anybody waiting longer than `idle`; none: as long as they take.
pub struct Patient<B> {
    body: B,
    idle: Option<Duration>,
    /// Runs while a piece is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> Patient<B> {
    /// `body`, with an error instead of a piece that takes too long.
    pub fn new(body: B, idle: Option<Duration>) -> Self {
        Self { body, idle, patience: None, waiting: false }
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
}

impl<B> HttpBody for Patient<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending if self.is_late(context) => {
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "it stood still"))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that holds something as long as it is under way.
pub struct Holding<T> {
    body: Body,
    _held: T,
}

/// `body`, holding `held` until it is through or given up.
pub fn holding<T: Send + Unpin + 'static>(body: Body, held: T) -> Body {
    Holding { body, _held: held }.boxed_unsync()
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
