//! The scan of one database in small steps: its cursor, when the next step is due, and how many keys a step covers.
//!
//! The first scan, at the start, is fast. The rounds after it look for rows whose events were lost, and are slow. Redis runs
//! one command after the other, so each step is short: the switch's daemons wait no longer than one step.
//!
//! Must never: read a clock, or talk to a database.

use std::time::{Duration, Instant};

/// How fast a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// About how many keys Redis looks at in a step (SCAN's COUNT).
    pub keys: usize,
    /// The time from the beginning of one step to that of the next.
    pub pause: Duration,
}

/// How fast the rounds of a scan are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paces {
    /// The first round.
    pub first: Pace,
    /// The later rounds.
    pub later: Pace,
    /// The pause between two rounds.
    pub rest: Duration,
    /// The pause between two rounds when an event was lost.
    pub rest_after_loss: Duration,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            // Redis takes 0.7 µs for a key and 30 µs more for each step. Small steps keep it busy for several times as long.
            first: Pace { keys: 250, pause: Duration::from_millis(2) },
            later: Pace { keys: 500, pause: Duration::from_secs(1) },
            rest: Duration::from_secs(600),
            rest_after_loss: Duration::from_secs(5),
        }
    }
}

/// The slow scan. A new round begins some time after the end of the previous one.
#[derive(Debug)]
pub struct Scan {
    paces: Paces,
    /// Redis' cursor; 0 between two rounds.
    cursor: u64,
    due: Instant,
    /// An event was lost during this round. The round may already have passed the event's row.
    is_event_lost: bool,
}

impl Scan {
    /// A scan whose first slow round begins after a rest.
    pub fn new(paces: Paces, now: Instant) -> Self {
        Self { paces, cursor: 0, due: now + paces.rest, is_event_lost: false }
    }

    /// Makes the next round begin soon, because the index may lack keys.
    pub fn begin_soon(&mut self, now: Instant) {
        self.due = self.due.min(now + self.paces.rest_after_loss);
    }

    /// The pace of the first scan. The caller does it at the start; it is not part of this schedule.
    pub fn first_pace(&self) -> Pace {
        self.paces.first
    }

    /// When the next step is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Redis' cursor for the next step, and about how many keys the step looks at.
    pub fn next_step(&self) -> (u64, usize) {
        (self.cursor, self.paces.later.keys)
    }

    /// Records a step: Redis has returned `cursor` for the next one.
    pub fn record_step(&mut self, cursor: u64, now: Instant) {
        self.cursor = cursor;
        let pause = match (cursor, self.is_event_lost) {
            (0, true) => self.paces.rest_after_loss,
            (0, false) => self.paces.rest,
            (_, _) => self.paces.later.pause,
        };
        self.is_event_lost &= cursor != 0;
        self.due = now + pause;
    }

    /// Records that an event was lost: the next round begins soon.
    pub fn record_lost_event(&mut self, now: Instant) {
        if self.cursor == 0 {
            self.begin_soon(now);
        } else {
            self.is_event_lost = true;
        }
    }
}

#[cfg(test)]
mod tests;
