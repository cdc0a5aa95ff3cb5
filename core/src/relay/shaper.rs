//! The traffic shaper of images: how long bytes and packets wait so that the limits of the leaf and of each port hold
//! (`relay.cache.budget`).
//!
//! Must never: let unshared transfers delay a shared one, or a shared one take all packets.

use std::time::{Duration, Instant};

use crate::rate_limit::RateLimiter;
use crate::settings::relay::CacheBudget;

/// The burst: how much of a limit may be used at once after a pause. It is more than a timer's resolution, and less than the
/// burst of a switch's policer (SONiC `copp_cfg.json: queue1_group1`, cir 6000 packets/s with cbs 6000 or less).
const BURST: Duration = Duration::from_millis(100);
/// Bytes of data in a packet of 1500 bytes: without the headers of IPv6 and TCP and TCP's timestamps (RFC 8200, 9293, 7323).
const PAYLOAD: u64 = 1500 - 40 - 20 - 12;
/// One in so many of the leaf's packets is reserved for unshared transfers.
const UNSHARED_PART: u64 = 8;

/// One limit of bytes or packets per second.
#[derive(Debug)]
struct RateLimit {
    /// Units per second; none: no limit.
    rate: Option<u64>,
    limiter: RateLimiter,
}

impl RateLimit {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, limiter: RateLimiter::new(BURST) }
    }

    /// Charges so many units. Returns how long they must wait.
    fn charge(&mut self, units: u64, now: Instant) -> Duration {
        match self.cost(units) {
            Some(cost) => self.limiter.charge(cost, now).saturating_duration_since(now),
            None => Duration::ZERO,
        }
    }

    /// Refunds the charge for units that were not used.
    fn refund(&mut self, units: u64) {
        if let Some(cost) = self.cost(units) {
            self.limiter.refund(cost);
        }
    }

    /// The time in which the rate allows so many units; none: no limit.
    fn cost(&self, units: u64) -> Option<Duration> {
        let cost = (u128::from(units) * 1_000_000_000).checked_div(u128::from(self.rate?))?;
        Some(Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX)))
    }
}

/// The limits of one port.
#[derive(Debug)]
pub struct PortShaper {
    bytes: RateLimit,
    packets: RateLimit,
}

impl PortShaper {
    /// The unused limits of the settings.
    pub fn new(limits: &CacheBudget) -> Self {
        Self { bytes: RateLimit::new(limits.port_rate), packets: RateLimit::new(limits.port_packets) }
    }
}

/// The limits of the leaf, which its ports share.
#[derive(Debug)]
pub struct LeafShaper {
    bytes: RateLimit,
    /// The limit of all transfers. Shared transfers are charged, too, but do not wait for it.
    packets: RateLimit,
    /// The limit of shared transfers.
    shared_packets: RateLimit,
}

impl LeafShaper {
    /// The unused limits of the settings.
    pub fn new(limits: &CacheBudget) -> Self {
        let shared_packets = limits.packets.map(|all| all - all / UNSHARED_PART);
        Self {
            bytes: RateLimit::new(limits.rate),
            packets: RateLimit::new(limits.packets),
            shared_packets: RateLimit::new(shared_packets),
        }
    }

    /// Charges `bytes` to be sent to a port's machine. Returns how long they must wait.
    pub fn send(&mut self, port: &mut PortShaper, bytes: usize, now: Instant) -> Duration {
        let bytes = bytes as u64;
        self.bytes.charge(bytes, now).max(port.bytes.charge(bytes, now))
    }

    /// Refunds a charge of `send`: the port's machine disconnected before `bytes` were sent.
    pub fn refund_send(&mut self, port: &mut PortShaper, bytes: usize) {
        self.bytes.refund(bytes as u64);
        port.bytes.refund(bytes as u64);
    }

    /// Charges `bytes` that came in a shared transfer. Returns how long it must wait. It waits for other shared transfers only:
    /// many machines wait for it, and unshared transfers must not delay it.
    pub fn shared(&mut self, bytes: usize, now: Instant) -> Duration {
        self.packets.charge(packets(bytes), now);
        self.shared_packets.charge(packets(bytes), now)
    }

    /// Charges `bytes` that the partition cache will send at once in an unshared transfer, whether leafboot reads them or not.
    /// Returns how long the request must wait. It waits for the port's own charges only, because the waits for those of other
    /// ports would add up.
    pub fn begin_unshared(&mut self, port: &mut PortShaper, bytes: usize, now: Instant) -> Duration {
        self.packets.charge(packets(bytes), now);
        port.packets.charge(packets(bytes), now)
    }

    /// Refunds a part of a charge of `begin_unshared`: of `bytes` only `received` will come.
    pub fn refund_unshared(&mut self, port: &mut PortShaper, bytes: usize, received: usize) {
        let rest = packets(bytes).saturating_sub(packets(received));
        self.packets.refund(rest);
        port.packets.refund(rest);
    }

    /// Charges `bytes` that came in an unshared transfer. Returns how long it must wait.
    pub fn unshared(&mut self, port: &mut PortShaper, bytes: usize, now: Instant) -> Duration {
        self.packets.charge(packets(bytes), now).max(port.packets.charge(packets(bytes), now))
    }
}

/// How many full packets so many bytes take.
fn packets(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(PAYLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn units_wait_for_the_ones_charged_before() {
        let (mut limit, start) = (RateLimit::new(Some(1000)), Instant::now());
        assert_eq!(limit.charge(100, start), ms(0), "the burst");
        assert_eq!(limit.charge(500, start), ms(0), "one charge may overdraw");
        assert_eq!(limit.charge(500, start), ms(500), "the next one waits for it");
        assert_eq!(limit.charge(1, start), ms(1000));
        assert_eq!(limit.charge(1, start + ms(3000)), ms(0), "a pause saves no more than the burst");
        let mut unlimited = RateLimit::new(None);
        assert_eq!(unlimited.charge(u64::MAX, start), ms(0));
        unlimited.refund(u64::MAX);
        assert_eq!(RateLimit::new(Some(0)).charge(1, start), ms(0), "no limit either");
    }

    /// Eleven packets at ten per second: the burst of one, and an overdraft of a second.
    const ELEVEN: usize = 11 * PAYLOAD as usize;

    /// Limits of the leaf and of each port: bytes, packets. 0: none.
    fn limits(rate: (u64, u64), packets: (u64, u64)) -> CacheBudget {
        let some = |limit: u64| Some(limit).filter(|limit| *limit > 0);
        CacheBudget {
            rate: some(rate.0),
            packets: some(packets.0),
            port_rate: some(rate.1),
            port_packets: some(packets.1),
        }
    }

    /// A leaf and two of its ports, before anything was charged.
    fn leaf(limits: &CacheBudget) -> (LeafShaper, [PortShaper; 2], Instant) {
        (LeafShaper::new(limits), [PortShaper::new(limits), PortShaper::new(limits)], Instant::now())
    }

    #[test]
    fn ports_share_the_leafs_limits() {
        let (mut leaf, [mut first, mut second], now) = leaf(&limits((1000, 0), (10, 0)));
        assert_eq!(leaf.send(&mut first, 1100, now), ms(0));
        assert_eq!(leaf.send(&mut second, 1, now), ms(1000));
        assert_eq!(leaf.unshared(&mut first, ELEVEN, now), ms(0));
        assert_eq!(leaf.unshared(&mut second, 1, now), ms(1000));
    }

    #[test]
    fn each_port_has_limits_of_its_own() {
        let (mut leaf, [mut first, mut second], now) = leaf(&limits((0, 1000), (0, 10)));
        assert_eq!(leaf.send(&mut first, 1100, now), ms(0));
        assert_eq!((leaf.send(&mut second, 1, now), leaf.send(&mut first, 1, now)), (ms(0), ms(1000)));
        assert_eq!(
            (leaf.shared(ELEVEN, now), leaf.shared(ELEVEN, now)),
            (ms(0), ms(0)),
            "not for shared ones"
        );
        assert_eq!(leaf.unshared(&mut first, ELEVEN, now), ms(0));
        assert_eq!(
            (leaf.unshared(&mut second, 1, now), leaf.unshared(&mut first, 1, now)),
            (ms(0), ms(1000))
        );
    }

    #[test]
    fn refunds_take_charges_back() {
        let (mut leaf, [mut port, _], now) = leaf(&limits((1000, 500), (0, 10)));
        leaf.send(&mut port, 1100, now);
        leaf.refund_send(&mut port, 1050);
        assert_eq!(leaf.send(&mut port, 1, now), ms(0), "50 bytes at 500 per second are the burst");
        assert_eq!(leaf.begin_unshared(&mut port, ELEVEN, now), ms(0));
        assert_eq!(leaf.begin_unshared(&mut port, ELEVEN, now), ms(1000), "as if it had come");
        leaf.refund_unshared(&mut port, 2 * ELEVEN, 0);
        assert_eq!(leaf.unshared(&mut port, 1, now), ms(0));
    }

    #[test]
    fn shared_transfers_go_first_and_leave_some_packets() {
        let limits = limits((0, 0), (80, 0));
        let packet = PAYLOAD as usize;
        let (mut shaper, [mut port, _], now) = leaf(&limits);
        for _ in 0..1000 {
            shaper.unshared(&mut port, packet, now);
        }
        assert_eq!(shaper.shared(packet, now), ms(0), "a shared one does not wait for unshared ones");
        let (mut shaper, [mut port, _], now) = leaf(&limits);
        shaper.shared(700 * packet, now);
        assert_eq!(shaper.shared(1, now), Duration::from_secs(10) - BURST, "at 70 packets per second");
        let unshared = shaper.unshared(&mut port, 1, now);
        assert!(unshared < ms(8900), "at 10 packets per second meanwhile: {unshared:?}");
    }

    #[test]
    fn the_longer_wait_counts() {
        let (mut leaf, [mut port, _], now) = leaf(&limits((1000, 500), (10, 5)));
        leaf.send(&mut port, 1100, now);
        assert_eq!(leaf.send(&mut port, 1, now), ms(2100), "1100 bytes at 500 per second, less the burst");
        leaf.unshared(&mut port, ELEVEN, now);
        assert_eq!(leaf.unshared(&mut port, 1, now), ms(2100));
    }
}
