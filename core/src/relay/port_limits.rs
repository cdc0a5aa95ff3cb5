//! Pure: a port's account. Everything that its machines make leafboot do is charged to it, answered or refused, by what it
//! costs; and whoever goes on and on asking for more than the port may have is muted for a while.
//!
//! Must never: refuse anything. What is not paid yet waits.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::rate_limit::RateLimiter;

/// A port may do at once what it earns in this part of a second. So much work of each port can come together, and then
/// another port's request waits behind it.
const AT_ONCE: u32 = 10;
/// Whose work waits for longer than this asks for more than it may have: one machine that asks for one thing after the other
/// never has so much before it.
const CROWDED: Duration = Duration::from_millis(100);
/// A port is muted that has been crowded for so long.
const CROWDED_MAX: Duration = Duration::from_secs(5);
/// How long a port is muted first; each time is twice as long as the one before.
const MUTE: Duration = Duration::from_secs(1);
/// How long it is muted at most: iPXE tries to connect for 16 s.
pub const MUTE_MAX: Duration = Duration::from_secs(8);
/// A port that has owed nothing for so long is as if it had never been muted.
const QUIET: Duration = Duration::from_secs(60);

/// What a machine makes leafboot do. Costs are what they are in CPU time, with a small request on an open connection for
/// the measure: `tests/bench/relay` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// To take a connection, and to end it.
    Connection,
    /// A TLS handshake, whether it succeeds or not.
    Handshake,
    /// To judge a request and to answer it.
    Request,
    /// To take so many bytes from a connection at once.
    Read(usize),
    /// To answer with so many bytes that leafboot holds itself.
    Answer(usize),
}

impl Work {
    /// In sixteenths of a request.
    fn cost(self) -> u32 {
        let kilobytes = |bytes: usize| u32::try_from(bytes / 1024).unwrap_or(u32::MAX / 32);
        match self {
            Self::Connection => 32,
            Self::Handshake => 160,
            Self::Request => 16,
            Self::Read(bytes) => 4 + kilobytes(bytes),
            Self::Answer(bytes) => kilobytes(bytes),
        }
    }
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// When the work may be done: now, or later.
    pub due: Instant,
    /// The port is muted from now on, for so long.
    pub muted: Option<Mute>,
}

/// A port is muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mute {
    /// For so long.
    pub time: Duration,
    /// It was not, for a while.
    pub is_first: bool,
}

/// A port's account.
#[derive(Debug, Clone)]
pub struct Account {
    /// In which a request is earned.
    request: Duration,
    limiter: RateLimiter,
    /// Since when what is charged has had to wait too long.
    crowded: Option<Instant>,
    /// How long it is muted next.
    mute: Duration,
}

impl Account {
    /// An account that earns so many requests in a second.
    pub fn new(requests: NonZeroU32) -> Self {
        let request = Duration::from_secs(1) / requests.get();
        Self {
            request,
            limiter: RateLimiter::new(request * (requests.get() / AT_ONCE)),
            crowded: None,
            mute: MUTE,
        }
    }

    /// Work is to be done. It is paid for, whenever that may be.
    pub fn charge(&mut self, work: Work, now: Instant) -> Charged {
        let quiet = self.limiter.idle(now);
        if !quiet.is_zero() {
            self.crowded = None;
        }
        if quiet >= QUIET {
            self.mute = MUTE;
        }
        let muted = self.judge(now);
        let cost = self.request * work.cost() / 16;
        let due = self.limiter.charge(cost, now);
        match due.saturating_duration_since(now) {
            Duration::ZERO => self.crowded = None,
            wait if wait > CROWDED => {
                self.crowded.get_or_insert(now);
            }
            _ => {}
        }
        Charged { due, muted }
    }

    /// Mutes the port, if it is time: it owes what it would earn meanwhile.
    fn judge(&mut self, now: Instant) -> Option<Mute> {
        let crowded = now.saturating_duration_since(self.crowded?);
        if crowded < CROWDED_MAX {
            return None;
        }
        let mute = Mute { time: self.mute, is_first: self.mute == MUTE };
        self.limiter.charge(mute.time, now);
        self.crowded = Some(now + mute.time);
        self.mute = (self.mute * 2).min(MUTE_MAX);
        Some(mute)
    }
}

#[cfg(test)]
mod tests;
