//! What a machine sends after its request's head: bounded in length, and in time; and why it was not taken, for the answer.
//!
//! Must never: let a machine hold what is behind by sending hardly anything.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::guarded::Guarded;
use leafboot_core::relay::min_rate::Patience;
use leafboot_core::relay::validate::Fault;

/// A machine that sends nothing more of its request for so long is not going to.
const IDLE: Duration = Duration::from_secs(30);
/// All of a request is there in this time: some kilobytes, and at most a few megabytes.
const TOTAL: Duration = Duration::from_secs(300);

/// Why a body was not taken; nothing, while it is.
#[derive(Debug, Clone, Default)]
pub struct Reason(Arc<Guarded<Option<Fault>>>);

impl Reason {
    /// It.
    pub fn get(&self) -> Option<Fault> {
        self.0.with(|fault| *fault)
    }
}

/// A machine's body.
pub struct Upload<B> {
    body: Limited<B>,
    patience: Patience,
    begun: Instant,
    /// Since when the next piece is waited for.
    waits: Option<Instant>,
    /// Ends when it may have been waited for too long.
    late: Option<Pin<Box<Sleep>>>,
    reason: Reason,
}

impl<B> Upload<B> {
    /// `body`, of at most `most` bytes. While it is waited for it must bring `rate` bytes per second over each `window`; 0:
    /// any number.
    pub fn new(body: B, most: usize, rate: u64, window: Duration) -> Self {
        Self {
            body: Limited::new(body, most),
            patience: Patience::new(rate, window),
            begun: Instant::now(),
            waits: None,
            late: None,
            reason: Reason::default(),
        }
    }

    /// Where it is said why it was not taken.
    pub fn reason(&self) -> Reason {
        self.reason.clone()
    }

    fn fault(&self, fault: Fault) -> io::Error {
        self.reason.0.with(|reason| reason.get_or_insert(fault).1);
        io::Error::other(fault.1)
    }

    /// Ready when the next piece has been waited for too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let now = Instant::now();
            let since = *self.waits.get_or_insert(now);
            let Ok(left) = self.patience.full(now - self.begun) else {
                return Poll::Ready(Fault(408, "the body comes too slowly (RFC 9110 15.5.9)"));
            };
            let end = (self.begun + TOTAL).min(since + IDLE);
            if end <= now {
                return Poll::Ready(Fault(408, "the body did not come in time (RFC 9110 15.5.9)"));
            }
            let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(end.min(now + left))));
            ready!(late.as_mut().poll(context));
            self.late = None;
        }
    }
}

impl<B> HttpBody for Upload<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let (length, begun) = (frame.data_ref().map_or(0, Bytes::len), self.begun);
                self.patience.took(length, || begun.elapsed());
                (self.waits, self.late) = (None, None);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let fault = match error.is::<LengthLimitError>() {
                    true => Fault(413, "the body is too long"),
                    false => {
                        Fault(400, "the body is not framed as its head says, or broke off (RFC 9112 7.1, 8)")
                    }
                };
                Poll::Ready(Some(Err(self.fault(fault))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let fault = ready!(self.poll_late(context));
                Poll::Ready(Some(Err(self.fault(fault))))
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

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A body of these pieces, each so many seconds after the one before, of so many bytes; it is taken, or why not.
    async fn taken(pieces: &[(u64, usize)]) -> Result<u64, u16> {
        let pieces = pieces.to_owned();
        let pieces = futures_util::stream::unfold(pieces.into_iter(), |mut pieces| async move {
            let (pause, length) = pieces.next()?;
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from(vec![0; length]))), pieces))
        });
        let upload = Upload::new(StreamBody::new(Box::pin(pieces)), 10_000, 100, Duration::from_secs(20));
        let (reason, begun) = (upload.reason(), Instant::now());
        let all = upload.collect().await;
        assert_eq!(all.is_err(), reason.get().is_some());
        all.map(|_| begun.elapsed().as_secs()).map_err(|_| reason.get().unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_hardly_comes_is_not_taken() {
        assert_eq!(taken(&[]).await, Ok(0));
        assert_eq!(taken(&[(0, 5), (19, 5)]).await, Ok(19));
        assert_eq!(taken(&[(1, 2); 25]).await, Err(408), "2 bytes a second");
        assert_eq!(taken(&[(1, 150); 60]).await, Ok(60));
        assert_eq!(taken(&[(0, 9000), (40, 1)]).await, Err(408), "a pause of 40 s");
        assert_eq!(taken(&[(0, 9000), (0, 1001)]).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_it_comes_in_time() {
        let slow = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let upload = Upload::new(StreamBody::new(Box::pin(slow)), 10_000, 0, Duration::from_secs(20));
        let (reason, begun) = (upload.reason(), Instant::now());
        assert!(upload.collect().await.is_err());
        assert_eq!((reason.get().map(|fault| fault.0), begun.elapsed()), (Some(408), TOTAL));
    }
}
