//! Turns for image bodies: a few of them write a chunk, then every other task of the runtime runs, then the next few
//! write. A token request therefore never waits behind all image bodies.
//!
//! Must never: let a body that cannot write keep a turn from others.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::yield_now;

/// Turns between two passes over all other tasks.
const TURNS_PER_PASS: usize = 4;

/// Gives turns on one runtime, in the order in which they were asked for.
pub struct Scheduler {
    free: Semaphore,
    /// How many tasks wait for a turn.
    waiting: watch::Sender<usize>,
}

impl Scheduler {
    /// Spawns the task that gives turns. Needs a runtime.
    pub fn start() -> Arc<Self> {
        let scheduler =
            Arc::new(Self { free: Semaphore::new(TURNS_PER_PASS), waiting: watch::Sender::new(0) });
        tokio::spawn(Arc::clone(&scheduler).run());
        scheduler
    }

    /// Waits for a turn. The turn is used up at once: there is nothing to give back.
    pub async fn turn(self: Arc<Self>) {
        if let Ok(free) = self.free.try_acquire() {
            return free.forget();
        }
        let _waiting = Queued::new(&self.waiting);
        if let Ok(free) = self.free.acquire().await {
            free.forget();
        }
    }

    async fn run(self: Arc<Self>) {
        let mut waiting = self.waiting.subscribe();
        while waiting.wait_for(|waiting| *waiting > 0).await.is_ok() {
            self.free.add_permits(TURNS_PER_PASS.saturating_sub(self.free.available_permits()));
            // Returns after all other tasks have run and the runtime has polled the kernel for events.
            yield_now().await;
        }
    }
}

/// Counts a waiting task until it is dropped.
struct Queued<'a>(&'a watch::Sender<usize>);

impl<'a> Queued<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_if_modified(|waiting| {
            *waiting += 1;
            *waiting == 1
        });
        Self(waiting)
    }
}

impl Drop for Queued<'_> {
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
    async fn every_task_gets_turns_and_others_run_in_between() {
        let scheduler = Scheduler::start();
        let (given, seen) = watch::channel(0);
        for _ in 0..50 {
            let (scheduler, given) = (Arc::clone(&scheduler), given.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    Arc::clone(&scheduler).turn().await;
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
        assert!(most <= 2 * TURNS_PER_PASS, "{most} turns in a row");
        assert_eq!(*scheduler.waiting.borrow(), 0);
    }
}
