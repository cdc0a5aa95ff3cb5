//! Pure: how often somebody may do something, or how much of it: some at once after a pause, and then at a rate.
//!
//! Must never: let who goes on asking too much be served less than the rate.

use std::time::{Duration, Instant};

/// An allowance: the generic cell rate algorithm (ITU-T I.371). What is done is paid with time, and time goes by.
#[derive(Debug, Clone)]
pub struct Allowance {
    period: Duration,
    burst: Duration,
    /// When all that was used is earned back.
    earned: Option<Instant>,
}

impl Allowance {
    /// Once in each `period`, and `burst` times at once.
    pub fn new(period: Duration, burst: u32) -> Self {
        Self { period, burst: period * burst, earned: None }
    }

    /// Whether it may be done once more now. What may not be done costs nothing.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = self.earned(now) + self.period;
        let is_allowed = earned - now <= self.burst;
        if is_allowed {
            self.earned = Some(earned);
        }
        is_allowed
    }

    /// Something will be done whatever it costs; `cost` is the time in which that is earned. Returns when it may be done: now,
    /// or when all that was charged before is earned back but for the burst.
    pub fn charge(&mut self, cost: Duration, now: Instant) -> Instant {
        let earned = self.earned(now);
        self.earned = Some(earned + cost);
        earned.checked_sub(self.burst).map_or(now, |due| due.max(now))
    }

    /// How long all that was used has been earned back.
    pub fn quiet(&self, now: Instant) -> Duration {
        self.earned.map_or(Duration::MAX, |earned| now.saturating_duration_since(earned))
    }

    fn earned(&self, now: Instant) -> Instant {
        self.earned.map_or(now, |earned| earned.max(now))
    }
}

#[cfg(test)]
mod tests;
