//! The health of an upstream's origins, and the order in which requests try them (Envoy: outlier detection).
//!
//! An origin that fails is ejected, for longer each time. After that time it is probed, and restored when a probe reaches
//! it. Requests try ejected origins last: if all are ejected, all are tried.
//!
//! Times count from any fixed moment.
//!
//! Must never: leave out an origin for ever.

use std::time::Duration;

use crate::settings::relay::OriginOrder;

/// How long an origin is ejected after its first failure. Each further ejection is twice as long.
const EJECTION_MIN: Duration = Duration::from_secs(1);
/// The longest ejection: a recovered origin is used again within this time.
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// The health of an upstream's origins, by their index.
#[derive(Debug)]
pub struct Health {
    order: OriginOrder,
    /// Where the next balanced round begins.
    next: usize,
    origins: Vec<OriginState>,
}

#[derive(Debug, Clone, Default)]
struct OriginState {
    /// Failures since its last answer.
    failures: u32,
    /// Until when it is ejected; none: it is up.
    ejected: Option<Duration>,
    /// A probe is in flight.
    probing: bool,
}

impl Health {
    /// `count` origins, all up.
    pub fn new(order: OriginOrder, count: usize) -> Self {
        Self { order, next: 0, origins: vec![OriginState::default(); count] }
    }

    /// All origins in the order in which a request tries them: those that are up, then the ejected ones, soonest due first.
    pub fn choose(&mut self) -> Vec<usize> {
        let count = self.origins.len().max(1);
        let first = match self.order {
            OriginOrder::Listed => 0,
            OriginOrder::Balanced => self.next,
        };
        self.next = (self.next + 1) % count;
        let mut order: Vec<usize> = (0..self.origins.len()).map(|step| (first + step) % count).collect();
        order.sort_by_key(|index| self.origins[*index].ejected);
        order
    }

    /// When the next origin is due for a probe.
    pub fn next_due(&self) -> Option<Duration> {
        self.origins.iter().filter(|origin| !origin.probing).filter_map(|origin| origin.ejected).min()
    }

    /// The origins that are due for a probe. The caller must probe each once now.
    pub fn due(&mut self, now: Duration) -> Vec<usize> {
        let is_due =
            |origin: &OriginState| !origin.probing && origin.ejected.is_some_and(|until| until <= now);
        let due: Vec<usize> = (0..self.origins.len()).filter(|index| is_due(&self.origins[*index])).collect();
        for index in &due {
            self.origins[*index].probing = true;
        }
        due
    }

    /// Records that an origin gave a complete answer.
    pub fn answered(&mut self, index: usize) {
        if let Some(origin) = self.origins.get_mut(index) {
            *origin = OriginState { probing: origin.probing, ..OriginState::default() };
        }
    }

    /// Records that an origin could not be reached, or gave no answer. Further failures while it is ejected do not count.
    pub fn failed(&mut self, index: usize, now: Duration) {
        let is_new = |origin: &&mut OriginState| origin.ejected.is_none_or(|until| until <= now);
        if let Some(origin) = self.origins.get_mut(index).filter(is_new) {
            let time = EJECTION_MIN.saturating_mul(1 << origin.failures.min(16)).min(EJECTION_MAX);
            origin.failures = origin.failures.saturating_add(1);
            origin.ejected = Some(now + time);
        }
    }

    /// Records the end of a probe. An origin that was reached is up again. Its failures are forgotten only when it answers a
    /// request.
    pub fn probed(&mut self, index: usize, reached: bool, now: Duration) {
        if let Some(origin) = self.origins.get_mut(index) {
            origin.probing = false;
        }
        if !reached {
            self.failed(index, now);
        } else if let Some(origin) = self.origins.get_mut(index) {
            origin.ejected = None;
        }
    }

    /// Whether an origin is not ejected.
    pub fn is_up(&self, index: usize) -> bool {
        self.origins.get(index).is_some_and(|origin| origin.ejected.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(start: Duration, seconds: u64) -> Duration {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_that_is_up_is_asked_first() {
        let now = Duration::from_secs(1000);
        let mut health = Health::new(OriginOrder::Listed, 3);
        assert_eq!(health.choose(), [0, 1, 2]);
        health.failed(0, now);
        assert_eq!(health.choose(), [1, 2, 0]);
        for _ in 0..100 {
            health.failed(1, seconds(now, 5));
        }
        assert_eq!(health.choose(), [2, 0, 1]);
        assert_eq!(health.due(seconds(now, 6)), [0, 1], "a hundred at once are one");
        health.answered(0);
        assert_eq!(health.choose(), [0, 2, 1]);
    }

    #[test]
    fn balanced_origins_take_turns() {
        let mut health = Health::new(OriginOrder::Balanced, 3);
        assert_eq!(
            [health.choose()[0], health.choose()[0], health.choose()[0], health.choose()[0]],
            [0, 1, 2, 0]
        );
        health.failed(1, Duration::from_secs(1000));
        assert_eq!(health.choose(), [2, 0, 1]);
    }

    #[test]
    fn one_probe_at_a_time_and_longer_pauses_each_time() {
        let start = Duration::from_secs(1000);
        let mut health = Health::new(OriginOrder::Listed, 1);
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            match pause {
                1 => health.failed(0, now),
                _ => health.probed(0, false, now),
            }
            assert!(health.due(seconds(now, pause) - Duration::from_millis(1)).is_empty(), "{pause}");
            now = seconds(now, pause);
            assert_eq!(health.next_due(), Some(now));
            assert_eq!(health.due(now), [0], "{pause}");
            assert!(health.due(now).is_empty() && health.next_due().is_none(), "one is under way");
        }
        health.probed(0, true, now);
        assert!(health.is_up(0));
        health.failed(0, now);
        assert!(health.due(seconds(now, 29)).is_empty(), "to be reached is not to answer");
        health.answered(0);
        health.failed(0, now);
        assert_eq!(health.due(seconds(now, 1)), [0]);
    }

    proptest! {
        #[test]
        fn every_origin_is_always_tried(events in prop::collection::vec((0usize..4, 0u8..4, 0u64..40), 0..60)) {
            let start = Duration::from_secs(1000);
            let mut health = Health::new(OriginOrder::Balanced, 4);
            let mut now = start;
            for (index, event, wait) in events {
                now += Duration::from_secs(wait);
                match event {
                    0 => health.failed(index, now),
                    1 => health.answered(index),
                    2 => for due in health.due(now) { health.probed(due, wait % 2 == 0, now) },
                    _ => health.probed(index, false, now),
                }
                let mut order = health.choose();
                order.sort_unstable();
                prop_assert_eq!(order, [0, 1, 2, 3]);
            }
        }
    }
}
