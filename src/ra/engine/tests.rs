//! The schedule with invented time: nothing sleeps.

use super::*;
use proptest::prelude::*;

const LEAST: u32 = 0;
const MOST: u32 = u32::MAX;

fn settings(min: u64, max: u64) -> Ra {
    Ra {
        interval_min: Duration::from_secs(min),
        interval_max: Duration::from_secs(max),
        router_lifetime: Duration::from_secs(1800),
        prefix_preferred: Duration::from_secs(2700),
        prefix_valid: Duration::from_secs(5400),
        mtu: 1500,
        dns: Vec::new(),
    }
}

fn machine() -> Ipv6Addr {
    "fe80::5054:ff:fe00:1".parse().unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_advertisement_is_due_at_once() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(4, 10), now);
    assert_eq!(engine.deadline(), now);
    assert_eq!(engine.due(now, LEAST), Some(Destination::AllNodes));
    assert_eq!(engine.due(now, LEAST), None);
}

#[test]
fn unsolicited_ones_keep_within_the_interval() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(4, 10), now);
    engine.due(now, LEAST);
    assert_eq!(engine.deadline(), now + s(4));
    engine.due(now + s(4), MOST);
    assert_eq!(engine.deadline(), now + s(14));
    assert_eq!(engine.due(now + s(13), LEAST), None);
}

#[test]
fn the_initial_ones_are_at_most_16_seconds_apart() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(198, 600), now);
    let mut at = Vec::new();
    for _ in 0..4 {
        at.push(engine.deadline());
        engine.due(engine.deadline(), MOST);
    }
    assert_eq!(at, [now, now + s(16), now + s(32), now + s(632)]);
}

#[test]
fn a_machine_that_told_its_address_is_answered_at_once_and_alone() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(4, 10), now);
    engine.due(now, LEAST);
    let before = engine.deadline();
    assert_eq!(engine.solicited(machine(), true, now, LEAST), Some(Destination::Machine(machine())));
    assert_eq!(engine.deadline(), before, "a unicast answer moves no schedule");
}

#[test]
fn others_are_answered_to_all_nodes_three_seconds_apart() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(198, 600), now);
    engine.due(now, MOST);
    let soon = now + Duration::from_millis(10);
    assert_eq!(engine.solicited(Ipv6Addr::UNSPECIFIED, false, soon, MOST), None);
    assert_eq!(engine.solicited(machine(), false, soon, MOST), None);
    assert_eq!(engine.deadline(), now + s(3), "one answer for both, as soon as it may be sent");
    assert_eq!(engine.due(now + s(3), MOST), Some(Destination::AllNodes));
    let later = now + s(6);
    assert_eq!(engine.solicited(Ipv6Addr::UNSPECIFIED, false, later, MOST), Some(Destination::AllNodes));
}

#[test]
fn a_flood_gets_its_budget_and_no_more() {
    let now = Instant::now();
    let mut engine = Engine::new(&settings(4, 10), now);
    let answered = (0..100_000u32)
        .filter(|i| {
            engine.solicited(machine(), true, now + Duration::from_micros(u64::from(*i) * 50), 0).is_some()
        })
        .count();
    assert_eq!(answered, 20 + 49, "burst, and one each 100 ms of 5 s");
    assert!(
        engine.solicited(machine(), true, now + s(60), 0).is_some(),
        "an honest machine is heard after it"
    );
}

proptest! {
    #[test]
    fn multicasts_are_never_closer_than_three_seconds(
        events in proptest::collection::vec((0u64..5000, any::<bool>(), any::<bool>(), any::<u32>()), 1..200),
    ) {
        let mut now = Instant::now();
        let mut engine = Engine::new(&settings(3, 4), now);
        let mut last: Option<Instant> = None;
        for (ms, unspecified, told, random) in events {
            now += Duration::from_millis(ms);
            let from = if unspecified { Ipv6Addr::UNSPECIFIED } else { machine() };
            for sent in [engine.due(now, random), engine.solicited(from, told, now, random)] {
                if sent == Some(Destination::AllNodes) {
                    prop_assert!(last.is_none_or(|last| now - last >= s(3)));
                    last = Some(now);
                }
            }
            prop_assert!(engine.deadline() <= now + s(600));
        }
    }
}
