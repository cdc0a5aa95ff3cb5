//! One alarm for what is waited for again and again, each time until another time: it is put off when it rings too early,
//! which costs less than an alarm for each.
//!
//! Must never: ring before its time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// An alarm of whoever polls it; nothing until then.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when it is `deadline`. Until then the task is woken at that time, and maybe before.
    pub fn poll(&mut self, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.deadline() < deadline {
            ready!(sleep.as_mut().poll(context));
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_time_that_was_said_last() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let seconds = || begun.elapsed().as_secs();
        poll_fn(|context| alarm.poll(at(5), context)).await;
        assert_eq!(seconds(), 5);
        assert!(poll!(poll_fn(|context| alarm.poll(at(20), context))).is_pending());
        poll_fn(|context| alarm.poll(at(25), context)).await;
        assert_eq!(seconds(), 25, "put off");
        assert!(poll!(poll_fn(|context| alarm.poll(at(90), context))).is_pending());
        poll_fn(|context| alarm.poll(at(30), context)).await;
        assert_eq!(seconds(), 30, "brought forward");
        poll_fn(|context| alarm.poll(at(10), context)).await;
        assert_eq!(seconds(), 30, "over already");
        poll_fn(|context| alarm.poll(at(31), context)).await;
        assert_eq!(seconds(), 31, "rung before");
    }
}
