//! Limits the body of a machine's request: its length, its time and its rate. Says which limit a body has broken.
//!
//! Must never: let a machine hold a connection to an upstream by sending very slowly.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use leafboot_core::relay::min_rate::MinRate;
use leafboot_core::relay::validate::Fault;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::Body;
use super::monitored::{Monitor, Monitored};
use crate::guarded::Guarded;

/// The longest pause. A machine that sends nothing for this time will not complete its request.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A request of some kilobytes, and at most a few megabytes, is complete in this time.
const TOTAL_MAX: Duration = Duration::from_secs(300);

/// Which limit a body has broken; none: it has broken none.
#[derive(Debug, Clone, Default)]
pub struct UploadFault(Arc<Guarded<Option<Fault>>>);

impl UploadFault {
    /// The fault, so far.
    pub fn get(&self) -> Option<Fault> {
        self.0.with(|fault| *fault)
    }
}

/// Limits `body`. It breaks when it exceeds `most` bytes, when it takes too long, or when, while it is waited for, it
/// brings less than `rate` bytes per second over a `window` (0: any rate will do). The second value has the reason
/// then.
pub fn limited<B>(body: B, most: usize, rate: u64, window: Duration) -> (Body, UploadFault)
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return (Body::empty(), UploadFault::default());
    }
    let limits = UploadLimits {
        min_rate: MinRate::new(rate, window),
        begun: Instant::now(),
        waiting: None,
        overdue: None,
        fault: UploadFault::default(),
    };
    let fault = limits.fault.clone();
    (Body::stream(Monitored::new(Limited::new(body, most), limits)), fault)
}

struct UploadLimits {
    min_rate: MinRate,
    begun: Instant,
    /// Since when the next frame is waited for.
    waiting: Option<Instant>,
    /// Completes when that may have lasted too long.
    overdue: Option<Pin<Box<Sleep>>>,
    fault: UploadFault,
}

impl UploadLimits {
    /// Sets the fault if there is none yet.
    fn fail(&self, fault: Fault) -> io::Error {
        self.fault.0.with(|first| _ = first.get_or_insert(fault));
        io::Error::other(fault.1)
    }
}

impl Monitor for UploadLimits {
    fn received(&mut self, frame: &Frame<Bytes>) {
        let (length, begun) = (frame.data_ref().map_or(0, Bytes::len), self.begun);
        self.min_rate.sent(length, || begun.elapsed());
        (self.waiting, self.overdue) = (None, None);
    }

    fn broken(&mut self, error: Box<dyn Error + Send + Sync>) -> io::Error {
        self.fail(match error.is::<LengthLimitError>() {
            true => Fault(413, "the body is too long"),
            false => Fault(400, "the body is not framed as its head says, or broke off (RFC 9112 7.1, 8)"),
        })
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let now = Instant::now();
            let since = *self.waiting.get_or_insert(now);
            let Ok(left) = self.min_rate.stalled(now - self.begun) else {
                return Poll::Ready(self.fail(Fault(408, "the body comes too slowly (RFC 9110 15.5.9)")));
            };
            let end = (self.begun + TOTAL_MAX).min(since + IDLE_MAX);
            if end <= now {
                return Poll::Ready(self.fail(Fault(408, "the body did not come in time (RFC 9110 15.5.9)")));
            }
            let overdue = self.overdue.get_or_insert_with(|| Box::pin(sleep_until(end.min(now + left))));
            ready!(overdue.as_mut().poll(context));
            self.overdue = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A body of frames, each so many seconds after the one before, of so many bytes: when it was complete, or the
    /// status of its fault.
    async fn received(frames: &[(u64, usize)]) -> Result<u64, u16> {
        let frames = frames.to_owned();
        let frames = futures_util::stream::unfold(frames.into_iter(), |mut frames| async move {
            let (pause, length) = frames.next()?;
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from(vec![0; length]))), frames))
        });
        let body = StreamBody::new(Box::pin(frames));
        let (body, fault) = limited(body, 10_000, 100, Duration::from_secs(20));
        let begun = Instant::now();
        let all = body.collect().await;
        assert_eq!(all.is_err(), fault.get().is_some());
        all.map(|_| begun.elapsed().as_secs()).map_err(|_| fault.get().unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_too_slowly_breaks() {
        assert_eq!(received(&[]).await, Ok(0));
        assert_eq!(received(&[(0, 5), (19, 5)]).await, Ok(19));
        assert_eq!(received(&[(1, 2); 25]).await, Err(408), "2 bytes a second");
        assert_eq!(received(&[(1, 150); 60]).await, Ok(60));
        assert_eq!(received(&[(0, 9000), (40, 1)]).await, Err(408), "a pause of 40 s");
        assert_eq!(received(&[(0, 9000), (0, 1001)]).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_complete_in_time() {
        let slow = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Some((Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let body = StreamBody::new(Box::pin(slow));
        let (body, fault) = limited(body, 10_000, 0, Duration::from_secs(20));
        let begun = Instant::now();
        assert!(body.collect().await.is_err());
        assert_eq!((fault.get().map(|fault| fault.0), begun.elapsed()), (Some(408), TOTAL_MAX));
    }
}
