//! The rate limiter: a burst after a pause, and then a steady rate. It is the generic cell rate algorithm (ITU-T I.371).
//! Costs are times: as much work as the rate allows in 1 s costs 1 s.
//!
//! Must never: give a client that exceeds the limit less than the limit.

use std::time::{Duration, Instant};

/// One rate limit, and how much of it is used.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    burst: Duration,
    /// The time at which the rate has paid for all charges (the algorithm's theoretical arrival time).
    paid_at: Option<Instant>,
}

impl RateLimiter {
    /// A limit of which nothing is used. `burst`: the cost that may be charged at once after a pause.
    pub fn new(burst: Duration) -> Self {
        Self { burst, paid_at: None }
    }

    /// Charges `cost` if the limit allows it now. Returns whether it was charged.
    pub fn try_charge(&mut self, cost: Duration, now: Instant) -> bool {
        let paid_at = self.paid_at(now) + cost;
        let is_allowed = paid_at - now <= self.burst;
        if is_allowed {
            self.paid_at = Some(paid_at);
        }
        is_allowed
    }

    /// Charges `cost` in any case. Returns when the work may be done: now, or when no more than the burst is unpaid of the
    /// earlier charges. The cost delays only later charges, so callers are served in the order of their calls.
    pub fn charge(&mut self, cost: Duration, now: Instant) -> Instant {
        let before = self.paid_at(now);
        self.paid_at = Some(before + cost);
        before.checked_sub(self.burst).map_or(now, |due| due.max(now))
    }

    /// Takes back a charge for work that was not done.
    pub fn refund(&mut self, cost: Duration) {
        self.paid_at = self.paid_at.and_then(|paid_at| paid_at.checked_sub(cost));
    }

    /// How long ago the last charge was paid for. `Duration::MAX` if nothing was ever charged.
    pub fn idle(&self, now: Instant) -> Duration {
        self.paid_at.map_or(Duration::MAX, |paid_at| now.saturating_duration_since(paid_at))
    }

    fn paid_at(&self, now: Instant) -> Instant {
        self.paid_at.map_or(now, |paid_at| paid_at.max(now))
    }
}

#[cfg(test)]
mod tests;
