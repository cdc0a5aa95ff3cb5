//! The schedule of one port. Time is an argument: no test sleeps.

use super::*;
use crate::desired::OldPrefix;
use crate::names::Mac;
use crate::nd::options::NdOption;
use crate::nd::options::Preference;
use proptest::prelude::*;

const LEAST: u32 = 0;
const MOST: u32 = u32::MAX;
const ALL: DueAdvertisement = DueAdvertisement::Current;

fn settings(min: u64, max: u64) -> RouterVariables {
    RouterVariables {
        interval_min: s(min),
        interval_max: s(max),
        delay_max: Duration::ZERO,
        router_lifetime: s(1800),
        preference: Preference::Medium,
        managed: false,
        other: false,
        home_agent: false,
        hop_limit: 64,
        reachable_time: Duration::ZERO,
        retrans_timer: Duration::ZERO,
        on_link: true,
        autonomous: true,
        prefix_preferred: s(2700),
        prefix_valid: s(5400),
        prefix_delegation: false,
        mtu: 1500,
        dns: Vec::new(),
        search: Vec::new(),
        routes: Vec::new(),
        route_lifetime: s(1800),
        pref64: None,
        captive_portal: None,
    }
}

fn machine() -> Neighbour {
    at("fe80::5054:ff:fe00:1")
}

fn at(address: &str) -> Neighbour {
    Neighbour { mac: Mac([0x52, 0x54, 0, 0, 0, 1]), address: address.parse().unwrap() }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn serving() -> Serving {
    Serving {
        ifindex: 7,
        carrier_ups: 1,
        mac: Mac([0x52, 0x54, 0, 0, 0, 2]),
        mtu: 9100,
        link_local: "fe80::1".parse().unwrap(),
        prefix: "2001:db8:b007::/64".parse().unwrap(),
        old: Vec::new(),
    }
}

fn serve(serving: Serving) -> Option<PortRole> {
    Some(PortRole::Serve(serving))
}

/// An engine that got its role at `now`, and has sent nothing yet.
fn started(settings: &RouterVariables, now: Instant) -> Engine {
    let mut engine = Engine::new(settings, &Arc::default(), now);
    engine.set_role(serve(serving()).as_ref(), now);
    engine
}

/// Everything that is due at `now`.
fn all_due(engine: &mut Engine, now: Instant) -> Vec<DueAdvertisement> {
    std::iter::from_fn(|| engine.due(now, MOST)).collect()
}

/// The old prefixes that an advertisement at `now` withdraws.
fn withdrawn(engine: &Engine, now: Instant) -> Vec<String> {
    let (_, advertisement) = engine.advertisement(ALL, now).unwrap();
    let prefix = |option: &NdOption| {
        if let NdOption::Prefix(prefix) = option
            && (prefix.valid, prefix.preferred) == (0, 0)
        {
            assert!(prefix.on_link && prefix.autonomous, "RFC 9096 3.5: flags unchanged");
            Some(prefix.prefix.to_string())
        } else {
            None
        }
    };
    advertisement.options.iter().filter_map(prefix).collect()
}

/// Each of the 4 states × each of the 8 possible roles: what is sent at once, what is sent in the next 20 s, and whether a
/// machine that solicits then is answered.
#[test]
fn the_transition_table() {
    let cease = Some(PortRole::Cease(serving()));
    let serves = [
        serving(),
        Serving { prefix: "2001:db8:b007:9::/64".parse().unwrap(), ..serving() },
        Serving { link_local: "fe80::2".parse().unwrap(), ..serving() },
        Serving { mtu: 1400, ..serving() },
        Serving { ifindex: 8, ..serving() },
        Serving { carrier_ups: 2, ..serving() },
    ]
    .map(serve);
    let [same, new_prefix, new_address, new_mtu, new_netdev, new_carrier] = serves.clone();
    const FORMER: DueAdvertisement =
        DueAdvertisement::FormerAddress(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    const F: DueAdvertisement = DueAdvertisement::Final;
    // (before, event) → (at once, afterwards, answers)
    type Row<'a> = (&'a str, Option<PortRole>, &'a [DueAdvertisement], &'a [DueAdvertisement], bool);
    let mut table: Vec<Row<'_>> = vec![
        ("silent", None, &[], &[], false),
        ("silent", cease.clone(), &[F], &[F, F], false),
        ("advertising", None, &[], &[], false),
        ("advertising", same, &[], &[ALL, ALL], true),
        ("advertising", new_prefix, &[], &[ALL, ALL], true),
        ("advertising", new_mtu, &[], &[ALL, ALL], true),
        ("advertising", new_address, &[FORMER, ALL], &[FORMER, FORMER, ALL, ALL], true),
        ("advertising", new_netdev, &[ALL], &[ALL, ALL], true),
        ("advertising", new_carrier, &[ALL], &[ALL, ALL], true),
        ("advertising", cease.clone(), &[F], &[F, F], false),
        ("ceasing", None, &[], &[], false),
        ("ceasing", cease.clone(), &[], &[F, F], false),
        ("ceased", None, &[], &[], false),
        ("ceased", cease.clone(), &[], &[], false),
    ];
    for before in ["silent", "ceasing", "ceased"] {
        table.extend(serves.iter().map(|serve| (before, serve.clone(), &[ALL][..], &[ALL, ALL][..], true)));
    }
    assert_eq!(table.len(), 4 * 8);
    for (before, event, at_once, afterwards, answers) in table {
        let mut now = Instant::now();
        let mut engine = Engine::new(&settings(7, 10), &Arc::default(), now);
        if before != "silent" {
            engine.set_role(serve(serving()).as_ref(), now);
            assert_eq!(all_due(&mut engine, now), [ALL]);
        }
        if before.starts_with("ceas") {
            engine.set_role(cease.as_ref(), now);
            assert_eq!(all_due(&mut engine, now), [F]);
        }
        if before == "ceased" {
            for _ in 0..2 {
                now += s(3);
                assert_eq!(all_due(&mut engine, now), [F]);
            }
        }
        engine.set_role(event.as_ref(), now);
        assert_eq!(all_due(&mut engine, now), at_once, "{before}, {event:?}: at once");
        let mut later = Vec::new();
        let end = now + s(20);
        while let Some(at) = engine.deadline().filter(|at| *at <= end) {
            later.extend(all_due(&mut engine, at));
        }
        assert_eq!(later, afterwards, "{before}, {event:?}: afterwards");
        engine.solicited(machine(), end, LEAST);
        let answered = all_due(&mut engine, end).contains(&DueAdvertisement::Answer(machine()));
        assert_eq!(answered, answers, "{before}, {event:?}: answers");
    }
}

/// RFC 8106 5.1, RFC 4191 4, RFC 8781 4; RFC 6980 5: no fragments. iPXE uses the first resolver, whatever its lifetime.
#[test]
fn withdrawn_options_come_last_and_fit_into_one_packet() {
    let now = Instant::now();
    let full = |third: u16| {
        let address = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, third, n, 0, 0, 0, 0x53);
        let route = |n| crate::ra::variables::Route {
            prefix: ipnet::Ipv6Net::new_assert(address(n), 128),
            preference: Preference::High,
        };
        RouterVariables {
            dns: (0..8).map(address).collect(),
            search: (0..8).map(|n| format!("{}{n}.example{third}", "x".repeat(35))).collect(),
            routes: (0..17).map(route).collect(),
            ..settings(4, 10)
        }
    };
    let before = WithdrawnOptions::after(&WithdrawnOptions::default(), &full(1), now);
    let options = Arc::new(WithdrawnOptions::after(&before, &full(2), now));
    assert_eq!(options.items(now).count(), 8 + 8 + 17);
    let mut engine = Engine::new(&full(2), &options, now);
    engine.set_role(serve(serving()).as_ref(), now);
    let mut withdrawn = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let at = engine.deadline().unwrap();
        assert_eq!(engine.due(at, MOST), Some(ALL));
        assert!(engine.frame(ALL, at).unwrap().len() <= 14 + 1280);
        let (_, advertisement) = engine.advertisement(ALL, at).unwrap();
        let mut lifetimes = Vec::new();
        for option in &advertisement.options {
            if let NdOption::Rdnss { lifetime, servers } = option {
                lifetimes.push(*lifetime);
                withdrawn.extend(servers.iter().filter(|_| *lifetime == 0).map(ToString::to_string));
            } else if let NdOption::Dnssl { lifetime: 0, names } = option {
                withdrawn.extend(names.clone());
            } else if let NdOption::Route { lifetime: 0, prefix, .. } = option {
                withdrawn.insert(prefix.to_string());
            }
        }
        assert_eq!(lifetimes[0], 1800, "the current resolvers stand first");
    }
    assert_eq!(withdrawn.len(), 8 + 8 + 17, "by turns: {withdrawn:?}");
    assert_eq!(engine.contradictions(&engine.advertisement(ALL, now).unwrap().1, now), [""; 0]);
    engine.set_role(Some(PortRole::Cease(serving())).as_ref(), now);
    assert!(engine.frame(DueAdvertisement::Final, now).unwrap().len() <= 14 + 1280);
}

/// RFC 4861 6.2.4: the machine on the port may have received nothing when the device is up again.
#[test]
fn a_device_that_was_down_gets_the_initial_advertisements_again() {
    let now = Instant::now();
    let mut engine = started(&settings(600, 1800), now);
    engine.interrupted(now);
    let sent_at = |engine: &mut Engine, first: Instant| {
        let mut at = first;
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push((all_due(engine, at), at));
            at = engine.deadline().unwrap();
        }
        sent
    };
    assert_eq!(sent_at(&mut engine, now), [0, 16, 32].map(|after| (vec![ALL], now + s(after))));
    let down = now + s(40);
    engine.interrupted(down);
    assert_eq!(sent_at(&mut engine, down), [0, 16, 32].map(|after| (vec![ALL], down + s(after))));
    for order in [None, Some(PortRole::Cease(serving()))] {
        let mut engine = started(&settings(600, 1800), now);
        engine.set_role(order.as_ref(), now);
        all_due(&mut engine, now);
        engine.interrupted(now);
        assert_eq!(all_due(&mut engine, now), [], "{order:?}");
    }
}

#[test]
fn the_first_advertisement_is_due_at_once() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    assert_eq!(engine.deadline(), Some(now));
    assert_eq!(engine.due(now, LEAST), Some(ALL));
    assert_eq!(engine.due(now, LEAST), None);
}

/// RFC 4861 6.2.4: uniform in [4 s, 10 s], at one of 16 times that all ports share.
#[test]
fn unsolicited_advertisements_stay_in_the_interval_on_shared_slots() {
    let epoch = Instant::now();
    let mut engine = started(&settings(4, 10), epoch);
    engine.due(epoch, LEAST);
    let slot = s(6) / 16;
    let now = epoch + Duration::from_millis(1);
    let at: Vec<Instant> = (0..=64u32)
        .map(|part| {
            let random = u32::try_from(u64::from(part) * u64::from(MOST) / 64).unwrap();
            engine.reschedule(ALL, now);
            assert_eq!(engine.due(now, random), Some(ALL));
            engine.deadline().unwrap()
        })
        .collect();
    assert!(at.iter().all(|at| (now + s(4)..=now + s(10)).contains(at)));
    assert!(at.iter().all(|at| (*at - epoch).as_nanos().is_multiple_of(slot.as_nanos())));
    let times: std::collections::BTreeSet<Instant> = at.into_iter().collect();
    assert_eq!(times.len(), 16);
    assert_eq!(engine.due(*times.first().unwrap() - s(1), LEAST), None);
}

#[test]
fn initial_advertisements_are_at_most_16_seconds_apart() {
    let now = Instant::now();
    let mut engine = started(&settings(198, 600), now);
    let mut at = Vec::new();
    for _ in 0..4 {
        let due = engine.deadline().unwrap();
        at.push(due);
        engine.due(due, MOST);
    }
    assert_eq!(at[..3], [now, now + s(16), now + s(32)]);
    assert!(at[3] > now + s(32 + 570) && at[3] <= now + s(32 + 600));
}

#[test]
fn a_machine_with_an_address_gets_a_unicast_answer_at_once() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    engine.due(now, LEAST);
    let before = engine.deadline();
    engine.solicited(machine(), now, LEAST);
    assert_eq!(engine.due(now, LEAST), Some(DueAdvertisement::Answer(machine())));
    assert_eq!(engine.deadline(), before, "a unicast answer moves no schedule");
}

#[test]
fn machines_without_an_address_get_multicasts_three_seconds_apart() {
    let now = Instant::now();
    let mut engine = started(&settings(198, 600), now);
    engine.due(now, MOST);
    let soon = now + Duration::from_millis(10);
    engine.solicited(at("::"), soon, MOST);
    engine.solicited(at("::"), soon, MOST);
    assert_eq!(all_due(&mut engine, soon), []);
    assert_eq!(engine.deadline(), Some(now + s(3)), "one answer for all, as soon as it may be sent");
    assert_eq!(all_due(&mut engine, now + s(3)), [ALL]);
    let later = now + s(6);
    engine.solicited(at("::"), later, MOST);
    assert_eq!(all_due(&mut engine, later), [ALL]);
}

#[test]
fn a_configured_delay_is_random_and_one_answer_serves_many_solicitations() {
    let now = Instant::now();
    let mut engine =
        started(&RouterVariables { delay_max: Duration::from_millis(500), ..settings(198, 600) }, now);
    engine.due(now, MOST);
    engine.solicited(machine(), now, MOST / 2);
    engine.solicited(machine(), now + Duration::from_millis(100), MOST);
    let due = engine.deadline().unwrap() - now;
    assert!(due > Duration::from_millis(249) && due < Duration::from_millis(251), "{due:?}");
    assert_eq!(all_due(&mut engine, now + due), [DueAdvertisement::Answer(machine())]);
    // RFC 4861 6.2.6: MIN_DELAY_BETWEEN_RAS plus the random value after the last one.
    engine.solicited(at("::"), now + s(1), MOST);
    assert_eq!(engine.deadline(), Some(now + s(3) + Duration::from_millis(500)));
}

#[test]
fn an_old_prefix_is_withdrawn_beside_the_new_one_until_its_end() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    all_due(&mut engine, now);
    assert_eq!(withdrawn(&engine, now), Vec::<String>::new());
    let prefix = "2001:db8:b007:9::/64".parse().unwrap();
    let old = vec![OldPrefix { prefix: serving().prefix, until: now + s(7200) }];
    engine.set_role(serve(Serving { prefix, old, ..serving() }).as_ref(), now);
    assert_eq!(engine.deadline(), Some(now + s(3)), "the change is advertised");
    assert_eq!(withdrawn(&engine, now), ["2001:db8:b007::/64"]);
    assert_eq!(withdrawn(&engine, now + s(7199)), ["2001:db8:b007::/64"]);
    assert_eq!(withdrawn(&engine, now + s(7200)), Vec::<String>::new());
}

#[test]
fn an_advertisement_that_could_not_be_sent_is_due_again() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    assert_eq!(all_due(&mut engine, now), [ALL]);
    engine.reschedule(ALL, now);
    assert_eq!(all_due(&mut engine, now), [ALL]);
    engine.solicited(machine(), now, LEAST);
    let answer = DueAdvertisement::Answer(machine());
    assert_eq!(all_due(&mut engine, now), [answer]);
    engine.reschedule(answer, now);
    assert_eq!(all_due(&mut engine, now), [answer]);
    let new_address = Serving { link_local: "fe80::2".parse().unwrap(), ..serving() };
    engine.set_role(serve(new_address).as_ref(), now);
    let former = DueAdvertisement::FormerAddress(serving().link_local);
    assert_eq!(all_due(&mut engine, now), [former, ALL]);
    engine.reschedule(former, now);
    assert_eq!(all_due(&mut engine, now), [former]);
    engine.set_role(None, now);
    engine.set_role(Some(PortRole::Cease(serving())).as_ref(), now);
    assert_eq!(all_due(&mut engine, now), [DueAdvertisement::Final]);
    engine.reschedule(answer, now);
    engine.reschedule(ALL, now);
    engine.reschedule(DueAdvertisement::Final, now);
    assert_eq!(all_due(&mut engine, now), [DueAdvertisement::Final]);
    assert_eq!(all_due(&mut engine, now + s(3)), [DueAdvertisement::Final]);
    assert_eq!(all_due(&mut engine, now + s(6)), [DueAdvertisement::Final]);
    assert_eq!(engine.deadline(), None);
}

#[test]
fn a_former_address_stops_being_a_router_and_withdraws_no_prefix() {
    let now = Instant::now();
    let engine = started(&settings(4, 10), now);
    let old = "fe80::2".parse().unwrap();
    let (from, advertisement) = engine.advertisement(DueAdvertisement::FormerAddress(old), now).unwrap();
    assert_eq!((from, advertisement.router_lifetime, advertisement.options), (old, 0, Vec::new()));
}

/// The kernel reports a deleted address at once, and a new one when it is usable.
#[test]
fn an_address_that_goes_before_the_next_one_comes_gets_final_advertisements() {
    let now = Instant::now();
    let new_address = Serving { link_local: "fe80::2".parse().unwrap(), ..serving() };
    let after_silence = |new: Serving| {
        let mut engine = started(&settings(4, 10), now);
        all_due(&mut engine, now);
        engine.set_role(None, now);
        engine.set_role(serve(new).as_ref(), now);
        all_due(&mut engine, now)
    };
    assert_eq!(
        after_silence(new_address.clone()),
        [DueAdvertisement::FormerAddress(serving().link_local), ALL]
    );
    assert_eq!(after_silence(serving()), [ALL]);
    assert_eq!(
        after_silence(Serving { carrier_ups: 2, ..new_address }),
        [ALL],
        "another machine never received it"
    );
}

#[test]
fn a_flood_is_limited_to_the_rate() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    let admitted =
        (0..100_000u32).filter(|i| engine.admit(now + Duration::from_micros(u64::from(*i) * 50))).count();
    assert_eq!(admitted, 20 + 49, "burst, and one each 100 ms of 5 s");
    assert!(engine.admit(now + s(60)), "a well-behaved machine is admitted after it");
}

#[test]
fn a_rogue_is_logged_once_a_minute() {
    let now = Instant::now();
    let mut engine = started(&settings(4, 10), now);
    let logged: Vec<u64> = (0..130).filter(|i| engine.logs_rogue(now + s(*i))).collect();
    assert_eq!(logged, [0, 60, 120]);
}

proptest! {
    #[test]
    fn multicasts_are_never_closer_than_three_seconds(
        events in proptest::collection::vec((0u64..5000, any::<bool>(), any::<u32>()), 1..200),
        delay in 0u64..=500,
    ) {
        let mut now = Instant::now();
        let mut engine = started(&RouterVariables { delay_max: Duration::from_millis(delay), ..settings(3, 4) }, now);
        let mut last: Option<Instant> = None;
        for (ms, unspecified, random) in events {
            now += Duration::from_millis(ms);
            engine.solicited(if unspecified { at("::") } else { machine() }, now, random);
            for sent in all_due(&mut engine, now) {
                if sent == ALL {
                    prop_assert!(last.is_none_or(|last| now - last >= s(3)));
                    last = Some(now);
                }
            }
            prop_assert!(engine.deadline().unwrap() <= now + s(600));
        }
    }
}
