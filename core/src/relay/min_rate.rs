//! The minimum rate: a machine that reads more slowly is disconnected.
//!
//! Must never: read a clock. `now` is an argument, of any monotonic clock.

use std::time::Duration;

/// Checks how fast one machine reads. The clock of a window runs only while the connection's send buffer is full. In every
/// `window` of such time the machine must read `rate` × `window` bytes. Time with nothing to send does not count.
#[derive(Debug)]
pub struct MinRate {
    rate: u64,
    window: Duration,
    /// Since when the send buffer is full.
    full: Option<Duration>,
    /// How long the send buffer was full, and how many bytes were sent, since the last check.
    waited: Duration,
    sent: u64,
}

/// The machine reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

impl MinRate {
    /// `rate` in bytes per second; 0: no minimum.
    pub fn new(rate: u64, window: Duration) -> Self {
        Self { rate, window, full: None, waited: Duration::ZERO, sent: 0 }
    }

    /// Records that the connection took `bytes`. `now` is called only if the send buffer was full: most never are.
    pub fn sent(&mut self, bytes: usize, now: impl FnOnce() -> Duration) {
        if let Some(since) = self.full.take() {
            self.waited += now().saturating_sub(since);
        }
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// Records that the send buffer is full. Returns how long it may stay full.
    pub fn stalled(&mut self, now: Duration) -> Result<Duration, TooSlow> {
        let since = *self.full.get_or_insert(now);
        let waited = self.waited + now.saturating_sub(since);
        if waited < self.window {
            return Ok(self.window - waited);
        }
        if u128::from(self.sent) * 1000 < u128::from(self.rate) * self.window.as_millis() {
            return Err(TooSlow);
        }
        (self.full, self.waited, self.sent) = (Some(now), Duration::ZERO, 0);
        Ok(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn only_time_with_a_full_buffer_counts() {
        let mut min_rate = MinRate::new(1000, ms(2000));
        assert_eq!(min_rate.stalled(ms(0)), Ok(ms(2000)));
        min_rate.sent(100, || ms(500));
        // Ten seconds in which there was nothing to send.
        assert_eq!(min_rate.stalled(ms(10_500)), Ok(ms(1500)));
        min_rate.sent(1900, || ms(11_000));
        assert_eq!(min_rate.stalled(ms(11_000)), Ok(ms(1000)));
        assert_eq!(min_rate.stalled(ms(12_000)), Ok(ms(2000)), "2000 bytes in 2 s are enough");
        min_rate.sent(1999, || ms(12_001));
        assert_eq!(min_rate.stalled(ms(12_001)), Ok(ms(1999)));
        assert_eq!(min_rate.stalled(ms(14_000)), Err(TooSlow), "1999 are not");
    }

    #[test]
    fn without_a_minimum_no_reader_is_too_slow() {
        let mut min_rate = MinRate::new(0, ms(1));
        assert_eq!(min_rate.stalled(ms(0)), Ok(ms(1)));
        assert_eq!(min_rate.stalled(ms(1000)), Ok(ms(1)));
    }
}
