//! The queue in front of an upstream. A few requests in flight, over connections that are in use anyway, are answered
//! sooner and at less cost than many requests with a connection each.
//!
//! Must never: let a request wait longer than `WAIT`: one port's slow answers must not hold up another's requests.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Requests in flight while the server is fast: few, so that their connections stay in the CPU's cache.
const IN_FLIGHT_MAX: usize = 16;
/// The longest wait. A server that takes longer is slow, and is sent all requests at once.
const WAIT: Duration = Duration::from_millis(50);

/// One upstream's queue.
pub(super) struct Queue(Semaphore);

impl Queue {
    /// An empty queue.
    pub(super) fn new() -> Self {
        Self(Semaphore::new(IN_FLIGHT_MAX))
    }

    /// Waits for a permit, first come first served; none: it took too long, and the request goes on without one. The
    /// request holds the permit until it is answered.
    pub(super) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        timeout(WAIT, self.0.acquire()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_until_another_is_answered_but_not_long() {
        let queue = Queue::new();
        let mut in_flight = Vec::new();
        for _ in 0..IN_FLIGHT_MAX {
            in_flight.push(queue.wait().await.unwrap());
        }
        let begun = Instant::now();
        assert!(queue.wait().await.is_none(), "the server is slow");
        assert_eq!(begun.elapsed().as_millis(), WAIT.as_millis());
        let (permit, ()) = tokio::join!(queue.wait(), async { drop(in_flight.pop()) });
        assert!(permit.is_some());
        assert_eq!(begun.elapsed().as_millis(), WAIT.as_millis(), "at once");
    }
}
