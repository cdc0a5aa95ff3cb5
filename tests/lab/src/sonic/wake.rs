//! When a daemon runs next: soon after an event, or a second after it ran last.
//!
//! Owns: that rule. Must never: read a clock; time is an argument.

use std::time::{Duration, Instant};

/// A daemon with queued tasks and no events tries them again after this long.
// sonic-swss cfgmgr/intfmgrd.cpp: SELECT_TIMEOUT
const RETRY_AFTER: Duration = Duration::from_millis(1000);

/// An event is looked at this much later at the earliest, so that what comes with it comes together.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// The timer of one daemon.
#[derive(Debug)]
pub struct Wake {
    delay: Duration,
    event_due: Option<Instant>,
    retry_due: Instant,
}

impl Wake {
    /// A timer that is due at once, and that delays every event by `delay`.
    pub fn new(delay: Duration, now: Instant) -> Self {
        Self { delay: delay.max(SHORTEST_DELAY), event_due: None, retry_due: now }
    }

    /// There is an event. An earlier one that was not looked at yet keeps its time.
    pub fn event(&mut self, now: Instant) {
        self.event_due.get_or_insert(now + self.delay);
    }

    /// The daemon is in the middle of something until then. Events wait.
    pub fn busy_until(&mut self, due: Instant) {
        self.event_due = Some(due);
    }

    /// When to run. A daemon that has an event to look at does not time out.
    pub fn due(&self) -> Instant {
        self.event_due.unwrap_or(self.retry_due)
    }

    /// Whether it is time to run. If so, the timer is set again.
    pub fn rings(&mut self, now: Instant) -> bool {
        let rings = self.due() <= now;
        if rings {
            self.event_due = None;
            self.retry_due = now + RETRY_AFTER;
        }
        rings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_for_the_delay_and_without_events_it_rings_every_second() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut wake = Wake::new(Duration::from_millis(50), start);
        assert!(wake.rings(start));
        wake.event(after(10));
        wake.event(after(40));
        assert_eq!(wake.due(), after(60));
        assert!(!wake.rings(after(59)));
        assert!(wake.rings(after(60)));
        assert_eq!(wake.due(), after(1060));
        wake.event(after(1050));
        assert_eq!(wake.due(), after(1100));
    }

    #[test]
    fn no_event_brings_forward_what_is_under_way() {
        let start = Instant::now();
        let mut wake = Wake::new(Duration::ZERO, start);
        assert!(wake.rings(start));
        wake.busy_until(start + Duration::from_millis(60));
        wake.event(start);
        assert_eq!(wake.due(), start + Duration::from_millis(60));
    }
}
