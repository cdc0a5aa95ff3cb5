//! The HTTP library's timer for one machine's connection. It asks for an alarm with each request and drops it when the head
//! is there: one serves them all.
//!
//! Must never: ring before its time, or serve several tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt;

use super::alarm::Alarm;
use crate::held::Held;

/// A timer of one task.
#[derive(Debug, Clone, Default)]
pub struct Timer(Arc<Held<Alarm>>);

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep { deadline: deadline.into(), timer: self.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// Waits for its time.
struct Sleep {
    deadline: tokio::time::Instant,
    timer: Timer,
}

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer.0.with(|alarm| alarm.poll(self.deadline, context))
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_sleep_ends_at_its_own_time() {
        let timer = Timer::default();
        let begun = tokio::time::Instant::now();
        let mut given_up = timer.sleep(Duration::from_secs(15));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        tokio::time::sleep(Duration::from_secs(10)).await;
        timer.sleep(Duration::from_secs(15)).await;
        assert_eq!(begun.elapsed().as_secs(), 25, "put off");
        let (mut long, short) = (timer.sleep(Duration::from_secs(9)), timer.sleep(Duration::from_secs(1)));
        assert!(futures_util::poll!(&mut long).is_pending());
        short.await;
        assert_eq!(begun.elapsed().as_secs(), 26, "two at once");
        long.await;
        assert_eq!(begun.elapsed().as_secs(), 34);
    }
}
