//! Pure: when one port advertises, and to whom (RFC 4861 6.2.4, 6.2.6). Time and randomness are arguments.
//!
//! Must never: send more than one multicast advertisement in MIN_DELAY_BETWEEN_RAS, or answer a flood with a flood.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::config::Ra;

/// RFC 4861 10.
const MAX_INITIAL_RTR_ADVERT_INTERVAL: Duration = Duration::from_secs(16);
/// RFC 4861 10.
const MAX_INITIAL_RTR_ADVERTISEMENTS: u8 = 3;
/// RFC 4861 10.
const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// Unicast answers that one port's machine may have at once. An honest client solicits at most 6 times in 16 s.
const ANSWER_BURST: u32 = 20;
/// Time until one more answer is earned.
const ANSWER_PERIOD: Duration = Duration::from_millis(100);

/// Whom an advertisement goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// All nodes on the port, ff02::1.
    AllNodes,
    /// The machine that asked.
    Machine(Ipv6Addr),
}

/// One port's schedule.
#[derive(Debug, Clone)]
pub struct Engine {
    interval_min: Duration,
    interval_max: Duration,
    initial_left: u8,
    last_multicast: Option<Instant>,
    next_multicast: Instant,
    answers: Budget,
}

/// A token bucket.
#[derive(Debug, Clone)]
struct Budget {
    left: u32,
    earned: Instant,
}

impl Engine {
    /// A port that begins to advertise: its first advertisement is due at once.
    pub fn new(settings: &Ra, now: Instant) -> Self {
        Self {
            interval_min: settings.interval_min,
            interval_max: settings.interval_max,
            initial_left: MAX_INITIAL_RTR_ADVERTISEMENTS,
            last_multicast: None,
            next_multicast: now,
            answers: Budget { left: ANSWER_BURST, earned: now },
        }
    }

    /// When `due` is to be asked next.
    pub fn deadline(&self) -> Instant {
        self.next_multicast
    }

    /// The advertisement that is due at `now`, if any. `random` is uniform over its whole range.
    pub fn due(&mut self, now: Instant, random: u32) -> Option<Destination> {
        (now >= self.next_multicast).then(|| self.multicast(now, random))
    }

    /// The answer to a valid solicitation from `from`, if it is to be sent now. `can_answer`: the machine told its
    /// Ethernet address, so a unicast answer needs no resolution, which some SONiC releases do not get done in a VRF.
    ///
    /// RFC 4861 6.2.6 wants a random delay of up to MAX_RA_DELAY_TIME, so that many routers do not answer at once. A
    /// boot port has one router and one machine that waits for it: the delay is 0, which lies in that range.
    pub fn solicited(
        &mut self,
        from: Ipv6Addr,
        can_answer: bool,
        now: Instant,
        random: u32,
    ) -> Option<Destination> {
        // An address from beyond the link would make this a way to send packets to others.
        if can_answer && from.is_unicast_link_local() {
            return self.answers.take(now).then_some(Destination::Machine(from));
        }
        match self.last_multicast.map(|last| last + MIN_DELAY_BETWEEN_RAS) {
            Some(earliest) if now < earliest => {
                // One advertisement answers all that asked meanwhile.
                self.next_multicast = self.next_multicast.min(earliest);
                None
            }
            _ => Some(self.multicast(now, random)),
        }
    }

    /// Counts a multicast advertisement at `now` and schedules the next, uniformly in [min, max].
    fn multicast(&mut self, now: Instant, random: u32) -> Destination {
        let range = self.interval_max.saturating_sub(self.interval_min);
        let mut interval = self.interval_min + range.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.initial_left = self.initial_left.saturating_sub(1);
        if self.initial_left > 0 {
            interval = interval.min(MAX_INITIAL_RTR_ADVERT_INTERVAL);
        }
        self.last_multicast = Some(now);
        self.next_multicast = now + interval.max(MIN_DELAY_BETWEEN_RAS);
        Destination::AllNodes
    }
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.earned);
        let periods = u32::try_from(elapsed.as_millis() / ANSWER_PERIOD.as_millis()).unwrap_or(u32::MAX);
        if periods > 0 {
            self.left = self.left.saturating_add(periods).min(ANSWER_BURST);
            self.earned = if self.left == ANSWER_BURST { now } else { self.earned + ANSWER_PERIOD * periods };
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests;
