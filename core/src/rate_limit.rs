//! The rate limiter: a burst after a pause, and then a steady rate. It is the generic cell rate algorithm (ITU-T I.371).
//! Whatever is limited costs time: 1 s for what the rate allows in 1 s.
//!
//! Must never: serve a client that is over the limit less than the limit.

use std::time::{Duration, Instant};

/// What was used of one limit.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    burst: Duration,
    /// When everything that was charged is paid for (the algorithm's theoretical arrival time).
    paid_at: Option<Instant>,
}

impl RateLimiter {
    /// A limit of which nothing was used. `burst`: what may be used at once after a pause.
    pub fn new(burst: Duration) -> Self {
        Self { burst, paid_at: None }
    }

    /// Charges `cost` if the limit allows it now. Returns whether it does; if not, nothing is charged.
    pub fn try_charge(&mut self, cost: Duration, now: Instant) -> bool {
        let paid_at = self.paid_at(now) + cost;
        let is_allowed = paid_at - now <= self.burst;
        if is_allowed {
            self.paid_at = Some(paid_at);
        }
        is_allowed
    }

    /// Charges `cost` in any case. Returns when the limit allows it: now, or when what was charged before is paid for but
    /// for the burst. The cost itself delays only what is charged later, so the order of calls is the order of turns.
    pub fn charge(&mut self, cost: Duration, now: Instant) -> Instant {
        let before = self.paid_at(now);
        self.paid_at = Some(before + cost);
        before.checked_sub(self.burst).map_or(now, |due| due.max(now))
    }

    /// Takes back a charge for what was not done.
    pub fn refund(&mut self, cost: Duration) {
        self.paid_at = self.paid_at.and_then(|paid_at| paid_at.checked_sub(cost));
    }

    /// How long everything has been paid for. `Duration::MAX` if nothing was ever charged.
    pub fn idle(&self, now: Instant) -> Duration {
        self.paid_at.map_or(Duration::MAX, |paid_at| now.saturating_duration_since(paid_at))
    }

    fn paid_at(&self, now: Instant) -> Instant {
        self.paid_at.map_or(now, |paid_at| paid_at.max(now))
    }
}

#[cfg(test)]
mod tests;
