//! The queue in front of an upstream: a few requests at a time, over connections that are in use anyway, are answered
//! sooner and at less cost than many at once, each over one of its own.
//!
//! Must never: let anybody wait long, or one port's slow answers hold up another's requests.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Requests that are under way at once while they are answered quickly: few, so that the connections that they go over
/// stay in the CPU's cache.
const AT_ONCE: usize = 16;
/// How long a request waits for its place. A server that takes longer is slow, and slow answers come side by side.
const WAIT: Duration = Duration::from_millis(50);

/// One upstream's queue.
pub(super) struct Queue(Semaphore);

/// A request's place among those that are under way, until it is dropped.
pub(super) type Place<'a> = SemaphorePermit<'a>;

impl Queue {
    /// Nobody is under way.
    pub(super) fn new() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }

    /// Waits for a place, in the order of the requests; none: it took too long, and the request goes on without.
    pub(super) async fn wait(&self) -> Option<Place<'_>> {
        match self.0.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => timeout(WAIT, self.0.acquire()).await.ok()?.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_until_another_is_answered_but_not_long() {
        let queue = Queue::new();
        let mut under_way = Vec::new();
        for _ in 0..AT_ONCE {
            under_way.push(queue.wait().await.unwrap());
        }
        let begun = Instant::now();
        assert!(queue.wait().await.is_none(), "slow answers are not waited for");
        assert_eq!(begun.elapsed().as_millis(), WAIT.as_millis());
        let (place, ()) = tokio::join!(queue.wait(), async { drop(under_way.pop()) });
        assert!(place.is_some());
        assert_eq!(begun.elapsed().as_millis(), WAIT.as_millis(), "at once");
    }
}
