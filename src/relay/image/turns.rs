//! Turns of image bodies: a few chunks, then everything else that has to be done, then a few chunks again. So a token
//! never waits behind all streams.
//!
//! Must never: hold a turn: whoever has one and cannot write holds up nobody.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;

/// Turns between two looks at everything else.
const AT_ONCE: usize = 4;

/// The turns of one runtime, in the order of asking.
pub struct Turns {
    free: Semaphore,
    /// How many wait.
    waiting: watch::Sender<usize>,
}

impl Turns {
    /// Needs a runtime: turns are given by a task of it, as long as it runs.
    pub fn begin() -> Arc<Self> {
        let turns = Arc::new(Self { free: Semaphore::new(AT_ONCE), waiting: watch::Sender::new(0) });
        tokio::spawn(Arc::clone(&turns).give());
        turns
    }

    /// Waits for a turn.
    pub async fn take(self: Arc<Self>) {
        if let Ok(free) = self.free.try_acquire() {
            return free.forget();
        }
        let _waits = Waits::new(&self.waiting);
        if let Ok(free) = self.free.acquire().await {
            free.forget();
        }
    }

    async fn give(self: Arc<Self>) {
        let mut waiting = self.waiting.subscribe();
        while waiting.wait_for(|waiting| *waiting > 0).await.is_ok() {
            self.free.add_permits(AT_ONCE.saturating_sub(self.free.available_permits()));
            // It comes back when all others had their go, and the kernel was asked for news.
            yield_now().await;
        }
    }
}

/// Somebody who waits; no longer when it is dropped.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_if_modified(|waiting| {
            *waiting += 1;
            *waiting == 1
        });
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|waiting| {
            *waiting -= 1;
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_gets_turns_and_others_come_in_between() {
        let turns = Turns::begin();
        let (given, seen) = watch::channel(0);
        for _ in 0..50 {
            let (turns, given) = (Arc::clone(&turns), given.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    Arc::clone(&turns).take().await;
                    given.send_modify(|given| *given += 1);
                }
            });
        }
        let (mut last, mut most) = (0, 0);
        while last < 5000 {
            yield_now().await;
            let now = *seen.borrow();
            most = most.max(now - last);
            last = now;
        }
        assert!(most <= 2 * AT_ONCE, "{most} turns in a row");
        assert_eq!(*turns.waiting.borrow(), 0);
    }
}
