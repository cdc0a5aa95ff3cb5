//! `GET /v1/events`: server-sent events (WHATWG HTML 9.2) of what happens on ports.
//!
//! Must never: keep a reader that does not read. Its connection is closed.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio::time::sleep;
use tracing::debug;

use super::answer::{Body, Reply, refusal};
use super::event_body::EventBody;
use crate::events::{Events, QUEUE_MAX};
use leafboot_core::status::RequestReason;

/// Readers at the same time.
const READERS_MAX: usize = 8;
/// A comment goes out when nothing else has for this long, so that both sides see when the other one is gone.
const QUIET_MAX: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": still here\n\n";

/// The permits to follow.
pub struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS_MAX)))
    }
}

/// Lets a reader follow. `close` closes its connection when it is too slow.
pub(super) fn follow(events: &Events, readers: &Readers, close: &Arc<Notify>) -> Reply {
    let Ok(permit) = Arc::clone(&readers.0).try_acquire_owned() else {
        let message = format!("{READERS_MAX} readers follow the events already");
        return refusal(RequestReason::TooManyReaders, &message);
    };
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(pass_on(events.subscribe(), sender, Arc::clone(close)));
    let mut response = Response::new(Body::Right(EventBody::new(queue, permit)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Passes events on to one reader. A reader whose queue is full is closed.
async fn pass_on(mut events: broadcast::Receiver<Bytes>, queue: mpsc::Sender<Bytes>, close: Arc<Notify>) {
    let mut frame = Bytes::from_static(COMMENT);
    loop {
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(frame) {
            debug!("api: a reader of events is too slow; its connection is closed");
            return close.notify_one();
        }
        frame = tokio::select! {
            () = queue.closed() => return,
            () = sleep(QUIET_MAX) => Bytes::from_static(COMMENT),
            event = events.recv() => match event {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => return close.notify_one(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
    }
}
