//! One port's schedule of Router Advertisements: which one is due, when, and to whom (RFC 4861 6.2).
//!
//! Must never: answer a flood with a flood, or send two multicast advertisements within MIN_DELAY_BETWEEN_RAS (RFC 4861
//! 6.2.6, 10). There are three exceptions, and no solicitation can cause one:
//!
//! - The first advertisement when the port becomes an advertising interface (6.2.4): another carrier, netdev or link-local
//!   address, a device that was down, or a role after a silence. The machine on it has not received the previous one.
//! - The first final advertisement (6.2.5): from then on the machine must not use the router. The later ones keep the delay.
//! - Advertisements from a former link-local address (6.2.8): for neighbours they come from another router.
//!
//! ```text
//!              Serve                       Cease
//!   Silent ───────────▶ Advertising ───────────────▶ Ceasing: up to 3 final ones, the first at once
//!     ▲  ▲ ◀── None ──────┘   ▲                       │   │
//!     │  └────────────────────┼───────── None ────────┘   │
//!     └── Cease: Ceasing      └───────── Serve ───────────┘
//! ```

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::advertisement::advertisement;
use super::variables::RouterVariables;
use super::withdrawn::WithdrawnOptions;
use crate::names::BootPrefix;
use crate::nd::frame::{self, Neighbour};
use crate::nd::message::{ADVERTISEMENT_MAX, Advertisement};
use crate::port_role::{PortRole, Serving};
use crate::rate_limit::RateLimiter;

/// RFC 4861 10.
const MAX_INITIAL_RTR_ADVERT_INTERVAL: Duration = Duration::from_secs(16);
/// RFC 4861 10.
const MAX_INITIAL_RTR_ADVERTISEMENTS: u8 = 3;
/// RFC 4861 10.
const MAX_FINAL_RTR_ADVERTISEMENTS: u8 = 3;
/// RFC 4861 10.
const MIN_DELAY_BETWEEN_RAS: Duration = Duration::from_secs(3);
/// Messages that one port's machine may send in a burst. A well-behaved client solicits at most 6 times in 16 s.
const BURST: u32 = 20;
/// One more message is allowed per period. A port over the limit is not read for one period.
const PERIOD: Duration = Duration::from_millis(100);
/// The most solicited answers that wait at once. A boot port has one machine.
const ANSWERS_MAX: usize = 8;
/// The number of times in the interval at which an unsolicited advertisement can be due.
const SLOTS: u32 = 16;
/// A port's rogue advertiser is logged at most once in this time.
const ROGUE_PERIOD: Duration = Duration::from_secs(60);

/// An advertisement that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueAdvertisement {
    /// The current advertisement, to all nodes.
    Current,
    /// The current advertisement, to the machine that solicited it.
    Answer(Neighbour),
    /// A final advertisement with every lifetime 0, to all nodes.
    Final,
    /// An advertisement from the port's former link-local address with router lifetime 0 and no options, to all nodes.
    FormerAddress(Ipv6Addr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EngineState {
    Silent,
    Advertising { initial_left: u8, next: Instant },
    Ceasing { left: u8, next: Instant },
}

/// A link-local address that the port had (RFC 4861 6.2.8).
#[derive(Debug, Clone, Copy)]
struct FormerAddress {
    address: Ipv6Addr,
    left: u8,
    next: Instant,
}

/// One port's schedule, for as long as the agent knows the port.
#[derive(Debug, Clone)]
pub struct Engine {
    variables: RouterVariables,
    withdrawn: Arc<WithdrawnOptions>,
    epoch: Instant,
    state: EngineState,
    /// The port as it was when it was last served.
    serving: Option<Serving>,
    last_multicast: Option<Instant>,
    /// Counts multicast advertisements. Withdrawn options that do not all fit take turns.
    turn: usize,
    /// Solicited answers, and when each is due.
    answers: BTreeMap<Neighbour, Instant>,
    former: Option<FormerAddress>,
    /// Limits the messages that the port's machine may send.
    limiter: RateLimiter,
    rogue_logged: Option<Instant>,
}

impl Engine {
    /// The engine of a silent port. `withdrawn` and `epoch` are the same for every port; `epoch` is not in the future.
    pub fn new(variables: &RouterVariables, withdrawn: &Arc<WithdrawnOptions>, epoch: Instant) -> Self {
        Self {
            variables: variables.clone(),
            withdrawn: Arc::clone(withdrawn),
            epoch,
            state: EngineState::Silent,
            serving: None,
            last_multicast: None,
            turn: 0,
            answers: BTreeMap::new(),
            former: None,
            limiter: RateLimiter::new(PERIOD * BURST),
            rogue_logged: None,
        }
    }

    /// Applies the port's role. `due` returns what must be sent.
    pub fn set_role(&mut self, role: Option<&PortRole>, now: Instant) {
        match (role, self.state) {
            (None, _) => {
                self.state = EngineState::Silent;
                self.answers.clear();
                self.former = None;
            }
            (Some(PortRole::Serve(new)), EngineState::Ceasing { .. }) => self.begin(new, now),
            (Some(PortRole::Serve(new)), EngineState::Silent | EngineState::Advertising { .. }) => {
                self.serve(new, now)
            }
            // RFC 4861 6.2.5: up to three final advertisements, and no more answers.
            (Some(PortRole::Cease(old)), EngineState::Silent | EngineState::Advertising { .. }) => {
                self.serving = Some(old.clone());
                self.answers.clear();
                self.state = EngineState::Ceasing { left: MAX_FINAL_RTR_ADVERTISEMENTS, next: now };
            }
            (Some(PortRole::Cease(_)), EngineState::Ceasing { .. }) => {}
        }
    }

    /// Schedules the initial advertisements, the first one at `first` (RFC 4861 6.2.4).
    fn begin(&mut self, new: &Serving, first: Instant) {
        self.serving = Some(new.clone());
        self.state = EngineState::Advertising { initial_left: MAX_INITIAL_RTR_ADVERTISEMENTS, next: first };
    }

    /// Starts to advertise. A change while the port advertises starts the initial advertisements again (RFC 4861 6.2.4).
    fn serve(&mut self, new: &Serving, now: Instant) {
        let is_silent = self.state == EngineState::Silent;
        let before =
            self.serving.take().filter(|b| (b.ifindex, b.carrier_ups) == (new.ifindex, new.carrier_ups));
        match before {
            // RFC 4861 6.2.8: some advertisements from the old address with lifetime 0, and some from the new one. The kernel may
            // report the loss of the old address before it reports the new one. Then the port was silent for a moment.
            Some(before) if before.link_local != new.link_local => {
                let (address, left) = (before.link_local, MAX_FINAL_RTR_ADVERTISEMENTS);
                self.former = Some(FormerAddress { address, left, next: now });
                self.begin(new, now);
            }
            Some(before) if !is_silent && before == *new => self.serving = Some(before),
            Some(_) if !is_silent => {
                let earliest = self.last_multicast.map_or(now, |last| now.max(last + MIN_DELAY_BETWEEN_RAS));
                self.begin(new, earliest);
            }
            _ => {
                self.former = None;
                self.begin(new, now);
            }
        }
    }

    /// The port's device was down while its role did not change. The initial advertisements start again, because another machine
    /// may be on the port when a device is up (RFC 4861 6.2.4). No solicitation can cause this.
    pub fn interrupted(&mut self, now: Instant) {
        if let EngineState::Advertising { initial_left, next } = &mut self.state {
            (*initial_left, *next) = (MAX_INITIAL_RTR_ADVERTISEMENTS, now);
        }
    }

    /// When to call `due` next. None: the port has nothing to send.
    pub fn deadline(&self) -> Option<Instant> {
        let scheduled = match self.state {
            EngineState::Silent => None,
            EngineState::Advertising { next, .. } => Some(next),
            EngineState::Ceasing { left, next } => (left > 0).then_some(next),
        };
        let answer = self.answers.values().min().copied();
        let former = self.former.map(|former| former.next);
        [scheduled, answer, former].into_iter().flatten().min()
    }

    /// The next advertisement that is due at `now`. Call it until there is none. `random` is uniform over its range.
    pub fn due(&mut self, now: Instant, random: u32) -> Option<DueAdvertisement> {
        if let Some(mut former) = self.former.filter(|former| now >= former.next) {
            former.left -= 1;
            former.next = now + MIN_DELAY_BETWEEN_RAS;
            self.former = (former.left > 0).then_some(former);
            return Some(DueAdvertisement::FormerAddress(former.address));
        }
        let answer = self.answers.iter().find(|(_, at)| now >= **at).map(|(machine, _)| *machine);
        if let Some(machine) = answer {
            self.answers.remove(&machine);
            return Some(DueAdvertisement::Answer(machine));
        }
        match self.state {
            EngineState::Advertising { initial_left, next } if now >= next => {
                self.state = self.after_multicast(initial_left.saturating_sub(1), now, random);
                self.count_multicast(now);
                Some(DueAdvertisement::Current)
            }
            EngineState::Ceasing { left: left @ 1.., next } if now >= next => {
                self.state = EngineState::Ceasing { left: left - 1, next: now + MIN_DELAY_BETWEEN_RAS };
                self.count_multicast(now);
                Some(DueAdvertisement::Final)
            }
            EngineState::Silent | EngineState::Advertising { .. } | EngineState::Ceasing { .. } => None,
        }
    }

    /// Records that a multicast advertisement is sent at `now`.
    fn count_multicast(&mut self, now: Instant) {
        self.last_multicast = Some(now);
        self.turn = self.turn.wrapping_add(1);
    }

    /// Schedules the next unsolicited advertisement: uniform in [MinRtrAdvInterval, MaxRtrAdvInterval], the initial ones at
    /// most MAX_INITIAL_RTR_ADVERT_INTERVAL apart (RFC 4861 6.2.4).
    ///
    /// It is due at one of `SLOTS` times in that range. They are the same for all ports, so that one wake-up of the thread
    /// serves all ports of a slot. The RFC's random time keeps several routers of one link from synchronizing; a boot port
    /// has one router.
    fn after_multicast(&self, initial_left: u8, now: Instant, random: u32) -> EngineState {
        let RouterVariables { interval_min, interval_max, .. } = self.variables;
        let slot = (interval_max.saturating_sub(interval_min) / SLOTS).as_nanos().max(1);
        let first = (now + interval_min).saturating_duration_since(self.epoch).as_nanos().div_ceil(slot);
        let chosen = (u128::from(random) * u128::from(SLOTS)) >> u32::BITS;
        let since_epoch = u64::try_from((first + chosen) * slot).unwrap_or(u64::MAX);
        let mut next = self.epoch + Duration::from_nanos(since_epoch);
        if initial_left > 0 {
            next = next.min(now + MAX_INITIAL_RTR_ADVERT_INTERVAL);
        }
        EngineState::Advertising { initial_left, next: next.max(now + MIN_DELAY_BETWEEN_RAS) }
    }

    /// Schedules the answer to a valid solicitation; `due` returns it. The answer goes to the Ethernet address that the
    /// solicitation came from, so it needs no address resolution and does not leave the port.
    ///
    /// RFC 4861 6.2.6 requires a random delay of up to MAX_RA_DELAY_TIME, so that many routers do not answer at once. A boot
    /// port has one router and one machine that waits for it. The default delay is 0, which is within the RFC's range.
    pub fn solicited(&mut self, from: Neighbour, now: Instant, random: u32) {
        let EngineState::Advertising { next, .. } = &mut self.state else { return };
        let delay = part(self.variables.delay_max, random);
        if !from.address.is_unspecified() {
            if self.answers.len() < ANSWERS_MAX {
                self.answers.entry(from).or_insert(now + delay);
            }
            return;
        }
        // Only a multicast reaches a machine without an address. One advertisement answers all such solicitations, as soon
        // as the delay permits. If an unsolicited one is due earlier, it is the answer (RFC 4861 6.2.6).
        let earliest = self.last_multicast.map_or(now, |last| now.max(last + MIN_DELAY_BETWEEN_RAS));
        *next = (*next).min(earliest + delay);
    }

    /// The advertisement that `due` returned last could not be sent. It is due again at once.
    pub fn reschedule(&mut self, send: DueAdvertisement, now: Instant) {
        match (send, &mut self.state) {
            (DueAdvertisement::Current, EngineState::Advertising { initial_left, next }) => {
                (*initial_left, *next) = ((*initial_left + 1).min(MAX_INITIAL_RTR_ADVERTISEMENTS), now);
            }
            (DueAdvertisement::Final, EngineState::Ceasing { left, next }) => {
                (*left, *next) = (*left + 1, now)
            }
            (DueAdvertisement::Answer(machine), EngineState::Advertising { .. }) => {
                self.answers.insert(machine, now);
            }
            (DueAdvertisement::FormerAddress(address), _) => {
                let left = self.former.map_or(0, |former| former.left) + 1;
                self.former = Some(FormerAddress { address, left, next: now });
            }
            (DueAdvertisement::Current | DueAdvertisement::Final | DueAdvertisement::Answer(_), _) => {}
        }
    }

    /// Counts a received message. False: the machine is over its rate limit, and the message must be dropped.
    pub fn admit(&mut self, now: Instant) -> bool {
        self.limiter.try_charge(PERIOD, now)
    }

    /// How long a port whose machine is over the limit must not be read.
    pub fn throttle_time(&self) -> Duration {
        PERIOD
    }

    /// Whether to log now that the port's machine sends Router Advertisements. If true, this counts as logged.
    pub fn logs_rogue(&mut self, now: Instant) -> bool {
        let due = self.rogue_logged.is_none_or(|logged| now >= logged + ROGUE_PERIOD);
        if due {
            self.rogue_logged = Some(now);
        }
        due
    }

    /// The fields in which a received advertisement contradicts the port's own (RFC 4861 6.2.7).
    pub fn contradictions(&self, received: &Advertisement, now: Instant) -> Vec<&'static str> {
        self.advertisement(DueAdvertisement::Current, now)
            .map_or_else(Vec::new, |(_, own)| own.contradictions(received))
    }

    /// The Ethernet frame of an advertisement. None: the port has never been served.
    pub fn frame(&self, send: DueAdvertisement, now: Instant) -> Option<Vec<u8>> {
        let mac = self.serving.as_ref()?.mac;
        let (address, advertisement) = self.advertisement(send, now)?;
        let to = if let DueAdvertisement::Answer(machine) = send { machine } else { Neighbour::ALL_NODES };
        Some(frame::encode(Neighbour { mac, address }, to, &advertisement.encode()))
    }

    /// An advertisement, and its source address.
    fn advertisement(&self, send: DueAdvertisement, now: Instant) -> Option<(Ipv6Addr, Advertisement)> {
        let serving = self.serving.as_ref()?;
        // RFC 9096 3.5: an old prefix is withdrawn for as long as a machine may have an address in it.
        let old = serving.old.iter().filter(|old| old.until > now).map(|old| old.prefix);
        let old: Vec<BootPrefix> = old.collect();
        let mut current = advertisement(&self.variables, serving, &old);
        self.withdraw(&mut current, now);
        Some(match send {
            DueAdvertisement::Current | DueAdvertisement::Answer(_) => (serving.link_local, current),
            DueAdvertisement::Final => (serving.link_local, current.ceasing()),
            DueAdvertisement::FormerAddress(address) => {
                (address, Advertisement { options: Vec::new(), ..current.ceasing() })
            }
        })
    }

    /// Appends the options that withdraw items of earlier settings. They come last: iPXE uses the first
    /// resolver of an advertisement, whatever its lifetime (`ndp.c: ndp_fetch`).
    fn withdraw(&self, advertisement: &mut Advertisement, now: Instant) {
        if self.withdrawn.items(now).next().is_some() {
            let room = ADVERTISEMENT_MAX.saturating_sub(advertisement.encode().len());
            advertisement.options.extend(self.withdrawn.options(now, self.turn, room));
        }
    }
}

/// A part of `time`: 0 for `random` 0, all of it for the highest `random`.
fn part(time: Duration, random: u32) -> Duration {
    time.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
