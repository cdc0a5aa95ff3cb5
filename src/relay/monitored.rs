//! Wraps a body with a monitor: an idle timeout, a limit, or a watch for the machine's presence.
//!
//! Must never: end a broken body as if it were complete.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::body::Body;

/// Watches a body. The default methods do nothing: such a monitor only lives as long as the body.
pub trait Monitor: Unpin {
    /// The next frame has come.
    fn received(&mut self, frame: &Frame<Bytes>) {
        let _ = frame;
    }

    /// The body has broken. Returns the error for its reader.
    fn broken(&mut self, error: Box<dyn Error + Send + Sync>) -> io::Error {
        io::Error::other(error)
    }

    /// Called while the next frame is waited for. Ready with an error when that has lasted too long.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let _ = context;
        Poll::Pending
    }
}

/// A body and its monitor.
pub struct Monitored<B, M> {
    body: B,
    monitor: M,
}

impl<B, M> Monitored<B, M> {
    /// `body`, watched by `monitor`.
    pub fn new(body: B, monitor: M) -> Self {
        Self { body, monitor }
    }
}

impl<B, M> HttpBody for Monitored<B, M>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    M: Monitor,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { body, monitor } = &mut *self;
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                monitor.received(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(monitor.broken(error.into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let error = ready!(monitor.poll_overdue(context));
                Poll::Ready(Some(Err(error)))
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

/// Breaks a body whose next frame takes too long.
pub struct IdleTimeout {
    /// None: there is no limit.
    timeout: Option<Duration>,
    /// Completes when the next frame is overdue; none: no frame is waited for.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl IdleTimeout {
    /// Each frame must come within `timeout`; none: there is no limit.
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, overdue: None }
    }
}

impl Monitor for IdleTimeout {
    fn received(&mut self, _: &Frame<Bytes>) {
        self.overdue = None;
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(sleep(timeout)));
        overdue
            .as_mut()
            .poll(context)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, "no data came within the idle timeout"))
    }
}

/// Keeps a value alive as long as a body.
struct KeepAlive<T> {
    _value: T,
}

impl<T: Unpin> Monitor for KeepAlive<T> {}

/// `body`, which keeps `value` alive until it is complete or dropped.
pub fn with_alive<T: Send + Unpin + 'static>(body: Body, value: T) -> Body {
    Body::stream(Monitored::new(body, KeepAlive { _value: value }))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_breaks_and_one_that_comes_slowly_does_not() {
        let frames = futures_util::stream::unfold(5, |pause| async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))), pause + 2))
        });
        let timeout = IdleTimeout::new(Some(Duration::from_secs(10)));
        let body = Monitored::new(StreamBody::new(Box::pin(frames)), timeout);
        let begun = Instant::now();
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 5 + 7 + 9 + 10);
    }

    #[tokio::test]
    async fn a_value_lives_as_long_as_its_body() {
        let value = std::sync::Arc::new(());
        let mut body = with_alive(Body::full("x"), std::sync::Arc::clone(&value));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        assert_eq!(std::sync::Arc::strong_count(&value), 2);
        drop(body);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }
}
