//! Changes of settings, restarts, clocks that jump, and the space in an advertisement. Time is an argument.

use super::*;
use crate::nd::message::ADVERTISEMENT_MAX;
use crate::settings::Settings;
use proptest::prelude::*;

fn settings(ra: &str) -> RouterVariables {
    let text = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[ra]\n{ra}\n[relay]\n\
         boot_service = {{ origins = [\"http://a\"] }}\ncache = {{ name = \"http://c\" }}\n"
    );
    Settings::parse(&text).unwrap().ra
}

const FIRST: &str = "dns = [\"2001:db8::53\", \"2001:db8::54\"]\nsearch = [\"old.example\"]\n\
                     routes = [\"2001:db8:1::/48\", { prefix = \"2001:db8:2::/48\", preference = \"high\" }]\n\
                     route_lifetime = \"1h\"\npref64 = \"64:ff9b::/96\"\nrouter_lifetime = \"10m\"";
/// Keeps one server, and one route with another preference.
const SECOND: &str =
    "dns = [\"2001:db8::54\", \"2001:db8::55\"]\nroutes = [\"2001:db8:2::/48\"]\nrouter_lifetime = \"10m\"";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn first() -> WithdrawnOptions {
    WithdrawnOptions::after(&WithdrawnOptions::default(), &settings(FIRST), Instant::now())
}

fn withdrawn(options: &WithdrawnOptions, now: Instant) -> Vec<String> {
    let mut items: Vec<String> = options.items(now).map(ToString::to_string).collect();
    items.sort();
    items
}

const GONE: [&str; 4] =
    ["ra.dns 2001:db8::53", "ra.pref64 64:ff9b::/96", "ra.routes 2001:db8:1::/48", "ra.search old.example"];

/// RFC 8106 5.1, 5.2, RFC 4191 4, RFC 8781 4: with lifetime 0; for as long as any machine can hold it.
#[test]
fn removed_items_are_withdrawn_until_their_lifetimes_have_passed() {
    let now = Instant::now();
    assert_eq!(withdrawn(&first(), now), [""; 0]);
    let second = WithdrawnOptions::after(&first(), &settings(SECOND), now);
    assert_eq!(withdrawn(&second, now), GONE);
    let options = second.options(now, 0, ADVERTISEMENT_MAX);
    let route = NdOption::Route {
        prefix: "2001:db8:1::/48".parse().unwrap(),
        preference: Preference::Medium,
        lifetime: 0,
    };
    for expected in [
        NdOption::Rdnss { lifetime: 0, servers: vec!["2001:db8::53".parse().unwrap()] },
        NdOption::Dnssl { lifetime: 0, names: vec!["old.example".to_owned()] },
        NdOption::Pref64 { lifetime: 0, prefix: "64:ff9b::/96".parse().unwrap() },
        route,
    ] {
        assert!(options.contains(&expected), "{expected:?}: {options:?}");
    }
    assert_eq!(options.len(), 4);
    // The route lifetime of an hour is that of the resolvers, too.
    assert_eq!(withdrawn(&second, now + s(3599)), GONE);
    assert_eq!(withdrawn(&second, now + s(3600)), [""; 0]);
    assert_eq!(second.options(now + s(3600), 0, ADVERTISEMENT_MAX), []);

    let without_routes = settings("dns = [\"2001:db8::53\"]\nrouter_lifetime = \"10m\"");
    let options = WithdrawnOptions::after(&WithdrawnOptions::default(), &without_routes, now);
    let none = WithdrawnOptions::after(&options, &settings(""), now);
    assert_eq!(withdrawn(&none, now + s(599)), ["ra.dns 2001:db8::53"]);
    assert_eq!(withdrawn(&none, now + s(600)), [""; 0]);
}

/// Every advertisement has the router lifetime, so `router_lifetime` 0 ends the default router with the next one (RFC 4861
/// 6.3.4). It ends nothing else.
#[test]
fn router_lifetime_0_withdraws_no_options() {
    let now = Instant::now();
    let none = settings(&FIRST.replace("router_lifetime = \"10m\"", "router_lifetime = \"0s\""));
    assert_eq!(withdrawn(&WithdrawnOptions::after(&first(), &none, now), now), [""; 0]);
}

#[test]
fn restarts_prolong_no_withdrawal_and_items_that_come_back_end_theirs() {
    let now = Instant::now();
    let second = WithdrawnOptions::after(&first(), &settings(SECOND), now);
    let again = WithdrawnOptions::after(&second, &settings(SECOND), now + s(1000));
    assert_eq!(withdrawn(&again, now + s(3599)), GONE);
    assert_eq!(withdrawn(&again, now + s(3600)), [""; 0], "the restart prolongs nothing");
    let third = WithdrawnOptions::after(&again, &settings("search = [\"old.example\"]"), now + s(2000));
    let after = [
        "ra.dns 2001:db8::53",
        "ra.dns 2001:db8::54",
        "ra.dns 2001:db8::55",
        "ra.pref64 64:ff9b::/96",
        "ra.routes 2001:db8:1::/48",
        "ra.routes 2001:db8:2::/48",
    ];
    assert_eq!(withdrawn(&third, now + s(2000)), after);
    // SECOND's resolvers had 10 minutes from the third start on.
    assert_eq!(withdrawn(&third, now + s(2601)), [after[0], after[3], after[4]]);
}

#[test]
fn saved_options_are_read_back_and_no_clock_prolongs_a_withdrawal() {
    let now = Now { instant: Instant::now(), unix: s(1_790_000_000) };
    let options = WithdrawnOptions::after(&first(), &settings(SECOND), now.instant);
    let text = options.to_json(now);
    assert_eq!(WithdrawnOptions::from_json(&text, now).unwrap(), options);
    let later = |seconds: u64| Now { instant: now.instant + s(7), unix: now.unix + s(seconds) };
    let restored = WithdrawnOptions::from_json(&text, later(3000)).unwrap();
    assert_eq!(withdrawn(&restored, now.instant + s(7 + 599)), GONE);
    assert_eq!(withdrawn(&restored, now.instant + s(7 + 600)), [""; 0]);
    // A leaf whose clock begins in 1970.
    let reset = WithdrawnOptions::from_json(&text, Now { instant: now.instant, unix: s(5) }).unwrap();
    assert_eq!(withdrawn(&reset, now.instant + s(3599)), GONE);
    assert_eq!(withdrawn(&reset, now.instant + s(3600)), [""; 0]);
    let for_ever = WithdrawnOptions::after(
        &WithdrawnOptions::default(),
        &settings("routes = [\"::/0\"]\nroute_lifetime = \"4294967295s\""),
        now.instant,
    );
    let ended = WithdrawnOptions::after(&for_ever, &settings(""), now.instant);
    assert_eq!(withdrawn(&ended, now.instant + s(1_000_000_000)), ["ra.routes ::/0"]);
    assert_eq!(WithdrawnOptions::from_json(&ended.to_json(now), now).unwrap(), ended);
}

#[test]
fn a_damaged_or_newer_text_is_an_error() {
    let now = Now { instant: Instant::now(), unix: s(1_790_000_000) };
    let refused = |text: &str| WithdrawnOptions::from_json(text, now).unwrap_err();
    assert_eq!(refused("{\"version\":2,\"more\":1}"), ReadError::Version(2));
    let saved = |item: &str| format!("{{\"version\":1,\"advertised\":[{{\"item\":{item},\"lifetime\":9}}]}}");
    assert!(WithdrawnOptions::from_json(&saved("{\"search\":\"a.example\"}"), now).is_ok());
    for text in [
        "",
        "{\"version\":1}",
        &saved("{\"dns\":\"192.0.2.1\"}"),
        &saved("{\"mtu\":9}"),
        &saved("{\"search\":\"a..b\"}"),
        &saved("{\"pref64\":\"64:ff9b::/95\"}"),
    ] {
        assert!(matches!(refused(text), ReadError::Shape(_)), "{text}");
    }
}

/// The bytes of options.
fn size(options: &[NdOption]) -> usize {
    let mut bytes = Vec::new();
    options.iter().for_each(|option| option.encode(&mut bytes));
    bytes.len()
}

fn many(count: u32) -> WithdrawnOptions {
    let item = |n: u32| match n % 4 {
        0 => AdvertisedItem::Dns(Ipv6Addr::from_bits(u128::from(n) << 64)),
        1 => AdvertisedItem::Search(format!("{}.example{n}", "x".repeat(1 + n as usize % 60))),
        2 => AdvertisedItem::Route(Ipv6Net::new(Ipv6Addr::from_bits(u128::from(n) << 96), 96).unwrap()),
        _ => AdvertisedItem::Pref64(Ipv6Net::new(Ipv6Addr::from_bits(u128::from(n) << 96), 32).unwrap()),
    };
    WithdrawnOptions { current: (0..count).map(|n| (item(n), 600 + n)).collect(), withdrawn: Vec::new() }
}

#[test]
fn of_too_many_items_those_with_the_longest_lifetimes_are_withdrawn() {
    let now = Instant::now();
    let options = WithdrawnOptions::after(&many(200), &settings(""), now);
    assert_eq!(options.items(now).count(), WITHDRAWN_MAX);
    assert_eq!(options.items(now + s(735)).count(), WITHDRAWN_MAX, "600 s and 136 to 199 more");
    assert_eq!(options.items(now + s(799)).count(), 0);
}

proptest! {
    /// The options never exceed `room`, and every item that fits into `room` has its turn.
    #[test]
    fn items_that_do_not_fit_take_turns(count in 0..WITHDRAWN_MAX as u32, room in 0..ADVERTISEMENT_MAX) {
        let now = Instant::now();
        let options = WithdrawnOptions::after(&many(count), &settings(""), now);
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..WITHDRAWN_MAX {
            let sent = options.options(now, turn, room);
            prop_assert!(size(&sent) <= room);
            let is_zero = |option: &NdOption| items_of(option.clone()).iter().all(|(_, lifetime)| *lifetime == 0);
            prop_assert!(sent.iter().all(is_zero));
            seen.extend(sent.into_iter().flat_map(items_of).map(|(item, _)| item));
        }
        let fitting: std::collections::BTreeSet<AdvertisedItem> =
            options.items(now).filter(|item| size(&withdrawing_options(&[item])) <= room).cloned().collect();
        prop_assert_eq!(seen, fitting);
    }
}
