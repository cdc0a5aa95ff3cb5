//! Pure: a scan of one database in small steps: where it is, when its next step is due, and how many keys that looks at.
//!
//! The first round, at the start, is as fast as may be; the rounds after it look for rows whose events were lost, and are
//! slow. Redis does one command after the other, so each step is short: the switch's daemons wait for no longer.
//!
//! Must never: read a clock, or talk to a database.

use std::time::{Duration, Instant};

/// How fast a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many keys Redis looks at in a step, about.
    pub keys: usize,
    /// The time between the beginnings of two steps.
    pub pause: Duration,
}

/// How a database is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paces {
    /// The first round.
    pub first: Pace,
    /// The rounds after it.
    pub later: Pace,
    /// The time between two of these rounds.
    pub rest: Duration,
    /// The same when an event was lost.
    pub alarm: Duration,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            // Redis looks at a key in less than a microsecond, so a step takes less than a client notices.
            first: Pace { keys: 16, pause: Duration::from_micros(180) },
            later: Pace { keys: 1000, pause: Duration::from_millis(500) },
            rest: Duration::from_secs(600),
            alarm: Duration::from_secs(5),
        }
    }
}

/// The slow scan, which begins anew whenever it is through.
#[derive(Debug)]
pub struct Walk {
    paces: Paces,
    /// Redis' cursor; 0 between two rounds.
    cursor: u64,
    due: Instant,
    /// An event was lost in this round: perhaps of a row that the round had passed before.
    is_alarmed: bool,
}

impl Walk {
    /// One whose first round begins after a rest.
    pub fn new(paces: Paces, now: Instant) -> Self {
        Self { paces, cursor: 0, due: now + paces.rest, is_alarmed: false }
    }

    /// How fast the scan before it goes, which is done at once.
    pub fn first_pace(&self) -> Pace {
        self.paces.first
    }

    /// When the next step is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Redis' cursor for the next step, and about how many keys it looks at.
    pub fn step(&self) -> (u64, usize) {
        (self.cursor, self.paces.later.keys)
    }

    /// A step was made, and Redis has given the cursor for the next one.
    pub fn stepped(&mut self, cursor: u64, now: Instant) {
        self.cursor = cursor;
        let pause = match (cursor, self.is_alarmed) {
            (0, true) => self.paces.alarm,
            (0, false) => self.paces.rest,
            (_, _) => self.paces.later.pause,
        };
        self.is_alarmed &= cursor != 0;
        self.due = now + pause;
    }

    /// An event was lost: a round begins soon.
    pub fn alarm(&mut self, now: Instant) {
        if self.cursor == 0 {
            self.due = self.due.min(now + self.paces.alarm);
        } else {
            self.is_alarmed = true;
        }
    }
}

#[cfg(test)]
mod tests;
