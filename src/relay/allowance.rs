//! Pure: how often a port may ask: a number of requests each second, and as many at once after a pause.
//!
//! Must never: let a machine that goes on asking too much be served less than its rate.

use std::time::Duration;

/// A port's allowance of requests. Times are counted from any moment that stays the same.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// Requests per second; none: any number.
    rate: Option<u32>,
    /// What may be used at once, in requests.
    left: f64,
    last: Duration,
}

impl Allowance {
    /// A whole second's requests are there at once.
    pub fn new(rate: Option<u32>) -> Self {
        Self { rate, left: f64::from(rate.unwrap_or_default()), last: Duration::ZERO }
    }

    /// Whether one more request may be made now.
    pub fn take(&mut self, now: Duration) -> bool {
        let Some(rate) = self.rate.map(f64::from) else {
            return true;
        };
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = self.last.max(now);
        self.left = (self.left + passed * rate).min(rate);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_the_rate_and_asking_too_much_costs_nothing() {
        let mut allowance = Allowance::new(Some(10));
        let start = Duration::from_secs(100);
        assert_eq!((0..1000).filter(|_| allowance.take(start)).count(), 10);
        let later = |ms| start + Duration::from_millis(ms);
        assert_eq!((1..=1000).filter(|ms| allowance.take(later(*ms))).count(), 10);
        assert_eq!(
            (0..1000).filter(|_| allowance.take(later(60_000))).count(),
            10,
            "a pause saves one second"
        );
        assert!((0..1000).all(|_| Allowance::new(None).take(start)));
    }
}
