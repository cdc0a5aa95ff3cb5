//! Pure: what images may cost. A `Meter` says when the next bytes may go, so that a leaf's and a port's budget hold.
//!
//! Must never: read a clock: `now` is an argument, any monotonic time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::settings::relay::CacheBudget;

/// What may be spent at once after a pause, as time: long enough for the timer's grain, short enough for a switch's
/// policer (SONiC `copp_cfg.json: queue1_group1`, cir 6000 packets/s with cbs 6000 or less).
const BURST: Duration = Duration::from_millis(100);
/// Bytes of a packet of 1500 bytes beside the headers of IPv6 and TCP and its timestamps (RFC 8200, 9293, 7323).
const PAYLOAD: u64 = 1500 - 40 - 20 - 12;

/// One in so many of the leaf's packets is left to those who want something for themselves.
const LEFT: u64 = 8;

/// A rate that holds over any time longer than `BURST`; spenders are served in the order in which they ask (GCRA, ITU-T
/// I.371), so that none of them starves. Shared by tasks.
#[derive(Debug)]
pub struct Meter {
    /// Units per second; 0: no limit.
    rate: u64,
    /// When everything that was granted will have been paid for, in nanoseconds.
    paid: AtomicU64,
}

impl Meter {
    /// `rate` units (bytes, packets) per second; 0: no limit.
    pub fn new(rate: u64) -> Self {
        Self { rate, paid: AtomicU64::new(0) }
    }

    /// Takes `cost` units; they may be spent after the time that it returns. The order of calls is the order of spending.
    pub fn take(&self, cost: u64, now: Duration) -> Duration {
        let Some(price) = self.price(cost) else {
            return Duration::ZERO;
        };
        let (now, burst) = (nanoseconds(now), nanoseconds(BURST));
        let earliest = now.saturating_sub(burst);
        let pay = |paid: u64| Some(paid.max(earliest).saturating_add(price));
        let paid = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).unwrap_or_default();
        Duration::from_nanos(paid.max(earliest).saturating_sub(now))
    }

    /// Gives back `cost` units that were taken and not spent.
    pub fn give_back(&self, cost: u64) {
        if let Some(price) = self.price(cost) {
            let pay = |paid: u64| Some(paid.saturating_sub(price));
            let _ = self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        }
    }

    /// In nanoseconds; none: no limit.
    fn price(&self, cost: u64) -> Option<u64> {
        let price = (u128::from(cost) * 1_000_000_000).checked_div(u128::from(self.rate))?;
        Some(u64::try_from(price).unwrap_or(u64::MAX))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What images may take of the leaf's way to its CPU: the leaf's share, and one port's. A clone is the same port's.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: CacheBudget,
    leaf: Arc<Share>,
    port: Arc<Share>,
    /// Packets for everybody: they go first.
    shared: Arc<Meter>,
}

#[derive(Debug)]
struct Share {
    bytes: Meter,
    packets: Meter,
}

impl Budget {
    /// A leaf's budget, and a first port's.
    pub fn new(limits: &CacheBudget) -> Self {
        let share = |bytes: Option<u64>, packets: Option<u64>| {
            Arc::new(Share {
                bytes: Meter::new(bytes.unwrap_or_default()),
                packets: Meter::new(packets.unwrap_or_default()),
            })
        };
        Self {
            leaf: share(limits.rate, limits.packets),
            port: share(limits.port_rate, limits.port_packets),
            shared: Arc::new(Meter::new(limits.packets.map_or(0, |all| all - all / LEFT))),
            limits: limits.clone(),
        }
    }

    /// Another port's budget on the same leaf.
    pub fn for_port(&self) -> Self {
        let (leaf, shared) = (Arc::clone(&self.leaf), Arc::clone(&self.shared));
        Self { leaf, shared, ..Self::new(&self.limits) }
    }

    /// How long `bytes` must wait that go to the port's machine.
    pub fn send(&self, bytes: usize, now: Duration) -> Duration {
        let bytes = bytes as u64;
        self.leaf.bytes.take(bytes, now).max(self.port.bytes.take(bytes, now))
    }

    /// The port's machine went away before `bytes` were sent that were granted.
    pub fn unsent(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.leaf.bytes.give_back(bytes);
        self.port.bytes.give_back(bytes);
    }

    /// How long to wait after `bytes` came from the cache for everybody: for others of these only, or machines that
    /// want something for themselves could take what all the others wait for.
    pub fn fetch(&self, bytes: usize, now: Duration) -> Duration {
        self.leaf.packets.take(packets(bytes), now);
        self.shared.take(packets(bytes), now)
    }

    /// How long to wait before the cache is asked for something for the port's machine alone, of which it will send
    /// `bytes` at once, whether anybody reads them or not. Only for the port's own debts: others' would add up.
    pub fn ask_alone(&self, bytes: usize, now: Duration) -> Duration {
        self.leaf.packets.take(packets(bytes), now);
        self.port.packets.take(packets(bytes), now)
    }

    /// Of `bytes` that were paid for the cache sent `came` only.
    pub fn unfetched(&self, bytes: usize, came: usize) {
        let left = packets(bytes).saturating_sub(packets(came));
        self.leaf.packets.give_back(left);
        self.port.packets.give_back(left);
    }

    /// How long to wait after `bytes` came from the cache for the port's machine alone.
    pub fn fetch_alone(&self, bytes: usize, now: Duration) -> Duration {
        self.leaf.packets.take(packets(bytes), now).max(self.port.packets.take(packets(bytes), now))
    }
}

/// In full packets.
fn packets(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(PAYLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn spenders_wait_for_each_other_in_order() {
        let meter = Meter::new(1000);
        let start = ms(10_000);
        assert_eq!(meter.take(100, start), ms(0), "the burst");
        assert_eq!(meter.take(500, start), ms(0), "one may overdraw");
        assert_eq!(meter.take(500, start), ms(500), "the next pays for it");
        assert_eq!(meter.take(1, start), ms(1000));
        assert_eq!(meter.take(1, ms(13_000)), ms(0), "a pause is worth no more than the burst");
        assert_eq!(Meter::new(0).take(u64::MAX, start), ms(0));
    }

    /// Eleven packets at ten per second: the burst of one, and an overdraft of a second.
    const ELEVEN: usize = 11 * PAYLOAD as usize;
    const START: Duration = ms(10_000);

    fn limits(rate: (u64, u64), packets: (u64, u64)) -> CacheBudget {
        let some = |limit: u64| Some(limit).filter(|limit| *limit > 0);
        CacheBudget {
            rate: some(rate.0),
            packets: some(packets.0),
            port_rate: some(rate.1),
            port_packets: some(packets.1),
        }
    }

    #[test]
    fn a_leafs_budget_is_every_ports_and_a_ports_is_its_own() {
        let leaf = Budget::new(&limits((1000, 0), (10, 0)));
        let (first, second) = (leaf.for_port(), leaf.for_port());
        assert_eq!(first.send(1100, START), ms(0));
        assert_eq!(second.send(1, START), ms(1000));
        assert_eq!(first.fetch_alone(ELEVEN, START), ms(0));
        assert_eq!(second.fetch_alone(1, START), ms(1000));

        let leaf = Budget::new(&limits((0, 1000), (0, 10)));
        let (first, second) = (leaf.for_port(), leaf.for_port());
        assert_eq!(first.send(1100, START), ms(0));
        assert_eq!((second.send(1, START), first.send(1, START)), (ms(0), ms(1000)));
        assert_eq!((first.fetch(ELEVEN, START), first.fetch(ELEVEN, START)), (ms(0), ms(0)), "for everybody");
        assert_eq!(first.fetch_alone(ELEVEN, START), ms(0));
        assert_eq!((second.fetch_alone(1, START), first.fetch_alone(1, START)), (ms(0), ms(1000)));
    }

    #[test]
    fn what_is_not_spent_is_given_back() {
        let budget = Budget::new(&limits((1000, 500), (0, 10)));
        budget.send(1100, START);
        budget.unsent(1050);
        assert_eq!(budget.send(1, START), ms(0), "50 bytes at 500 per second are the burst");
        assert_eq!(budget.ask_alone(ELEVEN, START), ms(0));
        assert_eq!(budget.ask_alone(ELEVEN, START), ms(1000), "as if it had come");
        budget.unfetched(2 * ELEVEN, 0);
        assert_eq!(budget.fetch_alone(1, START), ms(0));
        Meter::new(0).give_back(u64::MAX);
    }

    #[test]
    fn what_is_for_everybody_goes_first_and_leaves_something() {
        let leaf = Budget::new(&limits((0, 0), (80, 0)));
        let packet = PAYLOAD as usize;
        for _ in 0..1000 {
            leaf.for_port().fetch_alone(packet, START);
        }
        assert_eq!(leaf.fetch(packet, START), ms(0), "they do not wait for what is alone");
        let leaf = Budget::new(&limits((0, 0), (80, 0)));
        leaf.fetch(700 * packet, START);
        assert_eq!(leaf.fetch(1, START), Duration::from_secs(10) - BURST, "at 70 packets per second");
        let alone = leaf.fetch_alone(1, START);
        assert!(alone < ms(8900), "at 10 packets per second meanwhile: {alone:?}");
    }

    #[test]
    fn the_longer_wait_holds() {
        let budget = Budget::new(&limits((1000, 500), (10, 5)));
        budget.send(1100, START);
        assert_eq!(budget.send(1, START), ms(2100), "1100 bytes at 500 per second, less the burst");
        budget.fetch_alone(ELEVEN, START);
        assert_eq!(budget.fetch_alone(1, START), ms(2100));
    }

    proptest! {
        /// Whoever spends when told never has more than the rate, one burst and one overdraft.
        #[test]
        fn the_rate_holds(rate in 1u64..1_000_000, costs in prop::collection::vec((0u64..10_000, 0u64..50), 1..200)) {
            let meter = Meter::new(rate);
            let start = ms(1_000_000);
            let (mut now, mut spent, mut last) = (start, 0, 0);
            for (cost, pause) in costs {
                now += ms(pause);
                now += meter.take(cost, now);
                spent += cost;
                last = cost;
            }
            let allowed = (now - start + BURST).as_secs_f64() * rate as f64 + last as f64 + 200.0;
            prop_assert!(spent as f64 <= allowed, "{spent} of {allowed}");
        }

        /// With several spenders at once each gets its turn: grants are in the order of the calls.
        #[test]
        fn nobody_overtakes(rate in 1u64..1_000_000, costs in prop::collection::vec(0u64..10_000, 1..100)) {
            let meter = Meter::new(rate);
            let waits: Vec<Duration> = costs.iter().map(|cost| meter.take(*cost, ms(1_000_000))).collect();
            prop_assert!(waits.is_sorted());
        }
    }
}
