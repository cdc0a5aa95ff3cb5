//! Pure: how often a port may do something: once in each period, and some times at once after a pause.
//!
//! Must never: let who goes on asking too much be served less than the rate.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A port's allowance: the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug, Clone)]
pub struct Allowance {
    period: Duration,
    burst: u32,
    /// When all that was used is earned back.
    earned: Option<Instant>,
}

impl Allowance {
    /// Once in each `period`, and `burst` times at once.
    pub fn new(period: Duration, burst: u32) -> Self {
        Self { period, burst, earned: None }
    }

    /// So often in a second; a whole second's may be used at once.
    pub fn per_second(rate: NonZeroU32) -> Self {
        Self::new(Duration::from_secs(1) / rate.get(), rate.get())
    }

    /// Whether it may be done once more now.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = self.earned.map_or(now, |earned| earned.max(now)) + self.period;
        let is_allowed = earned - now <= self.period * self.burst;
        if is_allowed {
            self.earned = Some(earned);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests;
