//! The rate limit of one port's work. Everything that its machines make leafboot do is charged to the port by its cost,
//! whether a request is answered or refused. A port that stays over its limit is muted for a while.
//!
//! Must never: refuse work. Work over the limit is delayed.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::rate_limit::RateLimiter;

/// The burst is what the limit allows in this part of a second. It is short: if all ports use their bursts at once, a request
/// waits behind all of them.
const BURSTS_PER_SECOND: u32 = 10;
/// A port is crowded if its work waits for longer than this. A machine that sends one request after another never waits so
/// long.
const CROWDED: Duration = Duration::from_millis(100);
/// A port that has been crowded for this long is muted.
const CROWDED_MAX: Duration = Duration::from_secs(5);
/// How long a port is muted the first time. Each further time is twice as long.
const MUTE: Duration = Duration::from_secs(1);
/// The longest mute. iPXE tries to connect for 16 s, so it is less.
pub const MUTE_MAX: Duration = Duration::from_secs(8);
/// A port starts again with the shortest mute if its last work was paid for this long ago.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Work that a machine causes. Costs are CPU time relative to a small request on an open connection, as
/// `tests/bench/relay` measures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Accepting and closing a connection.
    Connection,
    /// A TLS handshake, successful or not.
    Handshake,
    /// Validating a request and responding.
    Request,
    /// One read of so many bytes from a connection.
    Read(usize),
    /// A response with so many bytes that leafboot holds itself.
    Answer(usize),
}

impl Work {
    /// The cost in sixteenths of a request.
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

/// The result of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// When the work may be done: now or later.
    pub due: Instant,
    /// Set if the port is muted from now on.
    pub muted: Option<Mute>,
}

/// A port is muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mute {
    /// For how long.
    pub time: Duration,
    /// Whether the port was not muted recently.
    pub is_first: bool,
}

/// The use of one port's limit.
#[derive(Debug, Clone)]
pub struct Account {
    /// The time in which the limit allows one request.
    request: Duration,
    limiter: RateLimiter,
    /// Since when the port has been crowded.
    crowded: Option<Instant>,
    /// How long the next mute is.
    mute: Duration,
}

impl Account {
    /// An unused limit of so many requests per second.
    pub fn new(requests: NonZeroU32) -> Self {
        let request = Duration::from_secs(1) / requests.get();
        Self {
            request,
            limiter: RateLimiter::new(request * (requests.get() / BURSTS_PER_SECOND)),
            crowded: None,
            mute: MUTE,
        }
    }

    /// Charges work, and says when it may be done.
    pub fn charge(&mut self, work: Work, now: Instant) -> Charged {
        let idle = self.limiter.idle(now);
        if !idle.is_zero() {
            self.crowded = None;
        }
        if idle >= FORGIVEN_AFTER {
            self.mute = MUTE;
        }
        let muted = self.mute_if_crowded(now);
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

    /// Mutes the port if it has been crowded for too long, by charging what the limit allows in that time.
    fn mute_if_crowded(&mut self, now: Instant) -> Option<Mute> {
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
