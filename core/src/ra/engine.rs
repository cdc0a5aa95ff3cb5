//! Pure: when one port advertises, what, and to whom (RFC 4861 6.2). Time and randomness are arguments.
//!
//! Must never: answer a flood with a flood, or send two multicast advertisements within MIN_DELAY_BETWEEN_RAS (RFC 4861
//! 6.2.6, 10), but for these three, which no solicitation can bring about:
//!
//! - the first one when the port becomes an advertising interface (6.2.4): another carrier, netdev, link-local address, a
//!   device that was down, or an order after a silence. Whoever is on it now has not seen the one before.
//! - the first final one (6.2.5): the machine must not use the router any more from then on. The others keep the delay.
//! - those from a former link-local address (6.2.8): to its neighbours that is another router.
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
use super::withdrawn::Told;
use crate::names::BootPrefix;
use crate::nd::frame::{self, Neighbour};
use crate::nd::message::{Advertisement, ROOM};
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
/// Messages that one port's machine may send at once. An honest client solicits at most 6 times in 16 s.
const BURST: u32 = 20;
/// Time until one more message is earned; as long a port that has none left is not listened to.
const PERIOD: Duration = Duration::from_millis(100);
/// Times in a port's interval that an unsolicited advertisement is due at one of.
const SLOTS: u32 = 16;
/// How often a port's machine is said to advertise.
const ROGUE_PERIOD: Duration = Duration::from_secs(60);

/// An advertisement that is to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Send {
    /// The port's current one, to all nodes.
    Current,
    /// The same, to the machine that asked.
    Answer(Neighbour),
    /// A final one, to all nodes: every lifetime is 0.
    Final,
    /// From the port's former address, to all nodes: no router is there any more. The rest is as the current one says.
    Former(Ipv6Addr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Silent,
    Advertising { initial_left: u8, next: Instant },
    Ceasing { left: u8, next: Instant },
}

/// A link-local address that the port had (RFC 4861 6.2.8).
#[derive(Debug, Clone, Copy)]
struct Former {
    address: Ipv6Addr,
    left: u8,
    next: Instant,
}

/// One port's schedule, for as long as the agent knows the port.
#[derive(Debug, Clone)]
pub struct Engine {
    variables: RouterVariables,
    told: Arc<Told>,
    epoch: Instant,
    phase: Phase,
    /// As last ordered.
    serving: Option<Serving>,
    last_multicast: Option<Instant>,
    /// Counts what is sent to all nodes: what does not fit beside the rest takes turns.
    turn: usize,
    /// Answers that wait for their random delay.
    answers: BTreeMap<Neighbour, Instant>,
    former: Option<Former>,
    /// Limits the messages that it takes in.
    limiter: RateLimiter,
    rogue_told: Option<Instant>,
}

impl Engine {
    /// A silent port. `told` and `epoch` are the same for every port, and the latter now or before.
    pub fn new(variables: &RouterVariables, told: &Arc<Told>, epoch: Instant) -> Self {
        Self {
            variables: variables.clone(),
            told: Arc::clone(told),
            epoch,
            phase: Phase::Silent,
            serving: None,
            last_multicast: None,
            turn: 0,
            answers: BTreeMap::new(),
            former: None,
            limiter: RateLimiter::new(PERIOD * BURST),
            rogue_told: None,
        }
    }

    /// Takes the port's order; what follows from it comes out of `due`.
    pub fn order(&mut self, order: Option<&PortRole>, now: Instant) {
        match (order, self.phase) {
            (None, _) => {
                self.phase = Phase::Silent;
                self.answers.clear();
                self.former = None;
            }
            (Some(PortRole::Serve(new)), Phase::Ceasing { .. }) => self.begin(new, now),
            (Some(PortRole::Serve(new)), Phase::Silent | Phase::Advertising { .. }) => self.serve(new, now),
            // RFC 4861 6.2.5: up to three final ones, and no answers any more.
            (Some(PortRole::Cease(old)), Phase::Silent | Phase::Advertising { .. }) => {
                self.serving = Some(old.clone());
                self.answers.clear();
                self.phase = Phase::Ceasing { left: MAX_FINAL_RTR_ADVERTISEMENTS, next: now };
            }
            (Some(PortRole::Cease(_)), Phase::Ceasing { .. }) => {}
        }
    }

    /// Starts the initial phase with an advertisement at `first` (RFC 4861 6.2.4).
    fn begin(&mut self, new: &Serving, first: Instant) {
        self.serving = Some(new.clone());
        self.phase = Phase::Advertising { initial_left: MAX_INITIAL_RTR_ADVERTISEMENTS, next: first };
    }

    /// What changes while the port advertises is told as in the beginning (RFC 4861 6.2.4).
    fn serve(&mut self, new: &Serving, now: Instant) {
        let is_silent = self.phase == Phase::Silent;
        let before = self.serving.take().filter(|b| (b.ifindex, b.carriers) == (new.ifindex, new.carriers));
        match before {
            // RFC 4861 6.2.8: a few from the old address with lifetime 0, a few from the new one. The kernel may tell that
            // the old one is gone before it tells of the new one: then the port was silent for a moment.
            Some(before) if before.link_local != new.link_local => {
                let (address, left) = (before.link_local, MAX_FINAL_RTR_ADVERTISEMENTS);
                self.former = Some(Former { address, left, next: now });
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

    /// The port's device has gone down, and its order stands: when it is up, perhaps as another device, whoever is on it
    /// is told as in the beginning (RFC 4861 6.2.4). No solicitation brings this about.
    pub fn interrupted(&mut self, now: Instant) {
        if let Phase::Advertising { initial_left, next } = &mut self.phase {
            (*initial_left, *next) = (MAX_INITIAL_RTR_ADVERTISEMENTS, now);
        }
    }

    /// When `due` is to be asked next; never, while the port is silent.
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Silent => None,
            Phase::Advertising { next, .. } => Some(next),
            Phase::Ceasing { left, next } => (left > 0).then_some(next),
        };
        let answer = self.answers.values().min().copied();
        let former = self.former.map(|former| former.next);
        [phase, answer, former].into_iter().flatten().min()
    }

    /// The advertisement that is due at `now`, if any; ask until there is none. `random` is uniform over its range.
    pub fn due(&mut self, now: Instant, random: u32) -> Option<Send> {
        if let Some(mut former) = self.former.filter(|former| now >= former.next) {
            former.left -= 1;
            former.next = now + MIN_DELAY_BETWEEN_RAS;
            self.former = (former.left > 0).then_some(former);
            return Some(Send::Former(former.address));
        }
        let answer = self.answers.iter().find(|(_, at)| now >= **at).map(|(machine, _)| *machine);
        if let Some(machine) = answer {
            self.answers.remove(&machine);
            return Some(Send::Answer(machine));
        }
        match self.phase {
            Phase::Advertising { initial_left, next } if now >= next => {
                self.phase = self.after_multicast(initial_left.saturating_sub(1), now, random);
                self.multicasts(now);
                Some(Send::Current)
            }
            Phase::Ceasing { left: left @ 1.., next } if now >= next => {
                self.phase = Phase::Ceasing { left: left - 1, next: now + MIN_DELAY_BETWEEN_RAS };
                self.multicasts(now);
                Some(Send::Final)
            }
            Phase::Silent | Phase::Advertising { .. } | Phase::Ceasing { .. } => None,
        }
    }

    fn multicasts(&mut self, now: Instant) {
        self.last_multicast = Some(now);
        self.turn = self.turn.wrapping_add(1);
    }

    /// RFC 4861 6.2.4: the next one at a time uniform in [MinRtrAdvInterval, MaxRtrAdvInterval], the initial ones at
    /// most MAX_INITIAL_RTR_ADVERT_INTERVAL apart.
    ///
    /// It is one of `SLOTS` times in that range, which are the same for all ports: each time that the agent wakes up, the
    /// ports of one slot send. The RFC's random time keeps the routers of one link from falling into step; a boot port
    /// has one router, and what one port sends meets nobody of another port.
    fn after_multicast(&self, initial_left: u8, now: Instant, random: u32) -> Phase {
        let RouterVariables { interval_min, interval_max, .. } = self.variables;
        let slot = (interval_max.saturating_sub(interval_min) / SLOTS).as_nanos().max(1);
        let first = (now + interval_min).saturating_duration_since(self.epoch).as_nanos().div_ceil(slot);
        let chosen = (u128::from(random) * u128::from(SLOTS)) >> u32::BITS;
        let since_epoch = u64::try_from((first + chosen) * slot).unwrap_or(u64::MAX);
        let mut next = self.epoch + Duration::from_nanos(since_epoch);
        if initial_left > 0 {
            next = next.min(now + MAX_INITIAL_RTR_ADVERT_INTERVAL);
        }
        Phase::Advertising { initial_left, next: next.max(now + MIN_DELAY_BETWEEN_RAS) }
    }

    /// Schedules the answer to a valid solicitation; `due` has it. It goes to the Ethernet address that the solicitation
    /// came from, so nobody has to resolve one, and it cannot reach anybody beyond the port.
    ///
    /// RFC 4861 6.2.6 wants a random delay of up to MAX_RA_DELAY_TIME, so that many routers do not answer at once. A
    /// boot port has one router and one machine that waits for it: by default the delay is 0, which lies in that range.
    pub fn solicited(&mut self, from: Neighbour, now: Instant, random: u32) {
        let Phase::Advertising { next, .. } = &mut self.phase else { return };
        let delay = part(self.variables.delay_max, random);
        if !from.address.is_unspecified() {
            if self.answers.len() < OUTSTANDING_MAX {
                self.answers.entry(from).or_insert(now + delay);
            }
            return;
        }
        // A machine without an address can be told with all nodes only. One advertisement answers all that asked
        // meanwhile, as soon as it may be sent; a random delay is ignored where one is due before it (RFC 4861 6.2.6).
        let earliest = self.last_multicast.map_or(now, |last| now.max(last + MIN_DELAY_BETWEEN_RAS));
        *next = (*next).min(earliest + delay);
    }

    /// What `due` gave last could not be sent: it is due again at once.
    pub fn unsent(&mut self, send: Send, now: Instant) {
        match (send, &mut self.phase) {
            (Send::Current, Phase::Advertising { initial_left, next }) => {
                (*initial_left, *next) = ((*initial_left + 1).min(MAX_INITIAL_RTR_ADVERTISEMENTS), now);
            }
            (Send::Final, Phase::Ceasing { left, next }) => (*left, *next) = (*left + 1, now),
            (Send::Answer(machine), Phase::Advertising { .. }) => {
                self.answers.insert(machine, now);
            }
            (Send::Former(address), _) => {
                let left = self.former.map_or(0, |former| former.left) + 1;
                self.former = Some(Former { address, left, next: now });
            }
            (Send::Current | Send::Final | Send::Answer(_), _) => {}
        }
    }

    /// Counts a message that came in; whether it is worth a look, or the port's machine sends too many.
    pub fn hears(&mut self, now: Instant) -> bool {
        self.limiter.try_charge(PERIOD, now)
    }

    /// How long not to listen to a machine that sends too many.
    pub fn deaf_for(&self) -> Duration {
        PERIOD
    }

    /// Whether to say now that the port's machine sends Router Advertisements.
    pub fn reports_rogue(&mut self, now: Instant) -> bool {
        let due = self.rogue_told.is_none_or(|told| now >= told + ROGUE_PERIOD);
        if due {
            self.rogue_told = Some(now);
        }
        due
    }

    /// In what an advertisement that the port has heard contradicts its own (RFC 4861 6.2.7).
    pub fn contradictions(&self, heard: &Advertisement, now: Instant) -> Vec<&'static str> {
        self.advertisement(Send::Current, now).map_or_else(Vec::new, |(_, own)| own.contradictions(heard))
    }

    /// The frame of an advertisement; none for a port that has had no order.
    pub fn frame(&self, send: Send, now: Instant) -> Option<Vec<u8>> {
        let mac = self.serving.as_ref()?.mac;
        let (address, advertisement) = self.advertisement(send, now)?;
        let to = if let Send::Answer(machine) = send { machine } else { Neighbour::ALL_NODES };
        Some(frame::encode(Neighbour { mac, address }, to, &advertisement.encode()))
    }

    /// What an advertisement says, and from which address.
    fn advertisement(&self, send: Send, now: Instant) -> Option<(Ipv6Addr, Advertisement)> {
        let serving = self.serving.as_ref()?;
        // RFC 9096 3.5: for as long as a machine may have an address in it.
        let old = serving.old.iter().filter(|old| old.until > now).map(|old| old.prefix);
        let old: Vec<BootPrefix> = old.collect();
        let mut current = advertisement(&self.variables, serving, &old);
        self.withdraw(&mut current, now);
        Some(match send {
            Send::Current | Send::Answer(_) => (serving.link_local, current),
            Send::Final => (serving.link_local, current.ceasing()),
            Send::Former(address) => (address, Advertisement { options: Vec::new(), ..current.ceasing() }),
        })
    }

    /// Ends what only earlier settings told, behind all else: iPXE takes the first resolver that it sees, whatever its
    /// lifetime (`ndp.c: ndp_fetch`).
    fn withdraw(&self, advertisement: &mut Advertisement, now: Instant) {
        if self.told.withdrawn(now).next().is_some() {
            let room = ROOM.saturating_sub(advertisement.encode().len());
            advertisement.options.extend(self.told.options(now, self.turn, room));
        }
    }
}

/// Machines that wait for a delayed answer at once; a boot port has one.
const OUTSTANDING_MAX: usize = 8;

/// A part of a time that is uniform in [0, 1].
fn part(time: Duration, random: u32) -> Duration {
    time.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
