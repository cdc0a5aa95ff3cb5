//! The HTTP library's timer for one machine's connection. It asks for an alarm with each request and drops it when the head
//! is there: the alarm is kept for the next one, and put off, which costs less than another.
//!
//! Must never: ring before its time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt;

use crate::held::Held;

type Alarm = Pin<Box<tokio::time::Sleep>>;

/// A timer with at most one alarm that nobody waits for.
#[derive(Debug, Clone, Default)]
pub struct Timer(Arc<Held<Option<Alarm>>>);

impl rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        let deadline = deadline.into();
        let alarm = match self.0.with(Option::take) {
            Some(mut alarm) => {
                alarm.as_mut().reset(deadline);
                alarm
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        };
        Box::pin(Sleep { alarm: Some(alarm), timer: self.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// Waits for the alarm, and gives it back.
struct Sleep {
    alarm: Option<Alarm>,
    timer: Timer,
}

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.alarm.as_mut().map_or(Poll::Ready(()), |alarm| alarm.as_mut().poll(context))
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let alarm = self.alarm.take();
        self.timer.0.with(|kept| *kept = alarm);
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_alarm_rings_at_its_own_time() {
        let timer = Timer::default();
        let begun = tokio::time::Instant::now();
        let mut given_up = timer.sleep(Duration::from_secs(15));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        tokio::time::sleep(Duration::from_secs(10)).await;
        timer.sleep(Duration::from_secs(15)).await;
        assert_eq!(begun.elapsed().as_secs(), 25, "put off");
        timer.sleep(Duration::from_secs(15)).await;
        assert_eq!(begun.elapsed().as_secs(), 40, "rung before");
        let (long, short) = (timer.sleep(Duration::from_secs(9)), timer.sleep(Duration::from_secs(1)));
        short.await;
        assert_eq!(begun.elapsed().as_secs(), 41, "two at once");
        long.await;
        assert_eq!(begun.elapsed().as_secs(), 49);
        drop(timer.sleep(Duration::from_secs(60)));
        timer.sleep(Duration::from_secs(1)).await;
        assert_eq!(begun.elapsed().as_secs(), 50, "brought forward");
    }
}
