//! What a port's advertisements do when its order, its address, its carrier or its device changes, and in a flood.

use std::time::{Duration, SystemTime};

use leafboot::internals::StateFile;
use leafboot::internals::ra::memory;
use leafboot_core::nd::frame::Envelope;
use leafboot_core::nd::message::Advertisement;
use leafboot_core::nd::options::NdOption;
use leafboot_core::nd::options::Preference;
use leafboot_core::port_role::RaState;
use leafboot_core::settings::Settings;

use super::{LONG, cases::gaps};
use crate::support::advertiser::{Leafboot, leafboot_settings, wish, wish_after};
use crate::support::eventually;
use crate::support::namespace::batch;
use crate::support::panel::{Panel, prefix};
use crate::support::solicitor::{Seen, Solicitor};

/// More time than any step takes on a busy machine; the bench has the figures.
const SOON: Duration = Duration::from_secs(2);

fn decoded(seen: &Seen) -> Advertisement {
    let envelope = Envelope { from: seen.sender(), hop_limit: seen.hop_limit };
    Advertisement::decode(&seen.message, &envelope).unwrap()
}

fn started(ports: usize) -> (Panel, Leafboot, Vec<Solicitor>) {
    let panel = Panel::plug(ports);
    let solicitors: Vec<Solicitor> = (0..ports).map(|port| Solicitor::open(&panel, port)).collect();
    let leafboot = Leafboot::start(leafboot_settings(LONG), 0..ports);
    for solicitor in &solicitors {
        assert!(solicitor.advertisement(SOON).is_some(), "the first advertisement");
    }
    (panel, leafboot, solicitors)
}

/// RFC 4861 6.2.5, v6LC 2.2.8; RFC 4191 2.2, 4, v6LC 2.2.21 E.
#[test]
fn a_released_port_sends_three_final_ones_and_is_silent() {
    let (_panel, leafboot, solicitors) = started(2);
    let [released, kept] = &solicitors[..] else { panic!() };
    leafboot.desired.send_replace(wish([(1, prefix(1))].into_iter()));
    let first = released.advertisement(SOON).expect("the first final one comes at once");
    eventually("it has ceased, before the others are sent", || {
        leafboot.states.borrow().get(&"Ethernet0".parse().unwrap()) == Some(&RaState::Ceased)
    });
    released.send(&released.good());
    released.send(&released.unspecified());
    let mut finals = vec![first];
    finals.extend(released.advertisements(Duration::from_secs(10)));
    assert_eq!(finals.len(), 3, "MAX_FINAL_RTR_ADVERTISEMENTS, and no answer");
    assert!(gaps(&finals).iter().all(|gap| *gap >= 2.99), "{:?}", gaps(&finals));
    for seen in &finals {
        let last = decoded(seen);
        assert!(seen.is_multicast());
        assert_eq!((last.router_lifetime, last.preference), (0, Preference::Medium));
        let is_held = |option: &NdOption| option.lifetime().is_some_and(|lifetime| lifetime != 0);
        let is_preferred =
            |option: &NdOption| matches!(option, NdOption::Prefix(prefix) if prefix.preferred != 0);
        assert!(!last.options.iter().any(|option| is_held(option) || is_preferred(option)), "{last:?}");
    }
    kept.drain();
    kept.send(&kept.good());
    assert!(kept.advertisement(SOON).is_some(), "the other port goes on");
}

/// RFC 4861 4.2, 6.2.1: a leaf that is no default router has not ceased. It answers, and its other options hold until
/// it ceases.
#[test]
fn a_leaf_that_is_no_default_router_answers_and_ceases_as_any() {
    let panel = Panel::plug(1);
    let machine = Solicitor::open(&panel, 0);
    let settings = leafboot_settings(LONG).replace("preference = \"high\"\n", "router_lifetime = \"0s\"\n");
    let leafboot = Leafboot::start(settings, 0..1);
    let current = decoded(&machine.advertisement(SOON).expect("the first advertisement"));
    assert_eq!((current.router_lifetime, current.preference), (0, Preference::Medium));
    let lifetimes =
        |of: &Advertisement| of.options.iter().filter_map(NdOption::lifetime).collect::<Vec<u32>>();
    // LONG's MaxRtrAdvInterval is 1800 s: resolvers hold three of it.
    assert_eq!(lifetimes(&current), [5400, 1800, 1800, 1800, 1800, 5400, 5400]);
    machine.send(&machine.good());
    assert_eq!(decoded(&machine.advertisement(SOON).expect("an answer")), current);
    leafboot.desired.send_replace(wish(std::iter::empty()));
    let last = decoded(&machine.advertisement(SOON).expect("a final one"));
    assert_eq!(lifetimes(&last), [0; 7]);
    machine.send(&machine.good());
    assert!(machine.advertisement(Duration::from_millis(700)).is_none(), "no answer any more");
}

/// The prefixes of an advertisement with their valid lifetimes.
fn prefixes(seen: &Seen) -> Vec<(String, u32)> {
    let prefix = |option: NdOption| {
        if let NdOption::Prefix(prefix) = option {
            Some((prefix.prefix.to_string(), prefix.valid))
        } else {
            None
        }
    };
    decoded(seen).options.into_iter().filter_map(prefix).collect()
}

/// RFC 9096 3.5: the old prefix is withdrawn beside the new one, and goes on to be after a restart.
#[test]
fn a_renumbered_port_withdraws_its_old_prefix() {
    let (_panel, leafboot, solicitors) = started(1);
    let machine = &solicitors[0];
    let before = leafboot.desired.borrow().clone();
    let renumbered = wish_after(&before, [(0, "2001:db8:9::/64".to_owned())].into_iter());
    let directory = tempfile::tempdir().unwrap();
    let store = StateFile::new(directory.path());
    store.keep(renumbered.as_ref().unwrap()).unwrap();
    leafboot.desired.send_replace(renumbered);
    let last = machine.advertisement(SOON).expect("a final one for the old prefix");
    let gone = ("2001:db8::/64".to_owned(), 0);
    assert_eq!((last.router_lifetime(), prefixes(&last)), (0, vec![gone.clone()]));
    batch("address add 2001:db8:9::1/64 dev Ethernet0 nodad\naddress del 2001:db8::1/64 dev Ethernet0\n");
    let both = [("2001:db8:9::/64".to_owned(), 5400), gone];
    assert_eq!(prefixes(&machine.advertisement(SOON).expect("one with the new prefix")), both);

    drop(leafboot);
    machine.drain();
    let _restarted =
        Leafboot::start_with(leafboot_settings(LONG), store.restore().unwrap().map(|kept| kept.desired));
    assert_eq!(
        prefixes(&machine.advertisement(SOON).expect("the first one of the restarted leafboot")),
        both
    );
}

/// RFC 8106 5.1 and 5.2, RFC 4191 4, RFC 8781 4: options that changed settings have dropped are advertised with
/// lifetime 0 beside the rest, multicast and in answers, over a second restart, too. A leaf that is no default router
/// any more advertises that (RFC 4861 6.2.5).
#[test]
fn what_earlier_settings_advertised_is_withdrawn() {
    let panel = Panel::plug(1);
    let machine = Solicitor::open(&panel, 0);
    let directory = tempfile::tempdir().unwrap();
    let started = |settings: &str| {
        let ra = Settings::parse(settings).unwrap().ra;
        let told = memory::load_and_save(directory.path(), &ra);
        Leafboot::start_after(settings.to_owned(), told, wish([(0, prefix(0))].into_iter()))
    };
    let first = leafboot_settings(LONG).replace("search =", "pref64 = \"64:ff9b::/96\"\nsearch =");
    let second = leafboot_settings(LONG)
        .replace("preference = \"high\"\n", "router_lifetime = \"0s\"\n")
        .replace("2001:db8:ffff::53", "2001:db8:ffff::54")
        .replace("\"boot.example\"", "\"new.example\"")
        .replace(", \"2001:db8:aaaa:b::/80\"", "");
    drop(started(&first));
    machine.drain();
    let is_gone = |option: &NdOption| option.lifetime() == Some(0) && !matches!(option, NdOption::Prefix(_));
    let expected = [
        NdOption::Route {
            prefix: "2001:db8:aaaa:b::/80".parse().unwrap(),
            preference: Preference::Medium,
            lifetime: 0,
        },
        NdOption::Pref64 { lifetime: 0, prefix: "64:ff9b::/96".parse().unwrap() },
        NdOption::Rdnss { lifetime: 0, servers: vec!["2001:db8:ffff::53".parse().unwrap()] },
        NdOption::Dnssl { lifetime: 0, names: vec!["boot.example".to_owned()] },
    ];
    for restart in ["the first", "the second"] {
        machine.drain();
        let _leafboot = started(&second);
        for solicits in [false, true] {
            if solicits {
                machine.send(&machine.good());
            }
            let seen = machine.advertisement(SOON).expect("an advertisement");
            assert!(seen.is_multicast() != solicits);
            let said = decoded(&seen);
            assert_eq!((said.router_lifetime, said.preference), (0, Preference::Medium));
            let (gone, rest): (Vec<NdOption>, Vec<NdOption>) = said.options.into_iter().partition(is_gone);
            assert!(expected.iter().all(|option| gone.contains(option)), "{restart} restart: {gone:?}");
            assert_eq!(gone.len(), expected.len(), "{restart} restart: {gone:?}");
            let new = vec!["2001:db8:ffff::54".parse().unwrap()];
            assert!(rest.contains(&NdOption::Rdnss { lifetime: 5400, servers: new }), "{rest:?}");
        }
    }
    machine.drain();
    let _leafboot = started(&first);
    let said = decoded(&machine.advertisement(SOON).expect("an advertisement"));
    let gone: Vec<NdOption> = said.options.into_iter().filter(is_gone).collect();
    let servers = vec!["2001:db8:ffff::54".parse().unwrap()];
    let names = vec!["new.example".to_owned()];
    assert_eq!(
        gone,
        [NdOption::Rdnss { lifetime: 0, servers }, NdOption::Dnssl { lifetime: 0, names }],
        "what is back is told, and not withdrawn"
    );
}

/// RFC 4861 6.2.8.
#[test]
fn a_new_link_local_address_ends_the_old_router() {
    let (_panel, _leafboot, solicitors) = started(1);
    solicitors[0].send(&solicitors[0].good());
    let before = solicitors[0].advertisement(SOON).unwrap().from;
    batch(&format!("address add fe80::7/64 dev Ethernet0 nodad\naddress del {before}/64 dev Ethernet0\n"));
    let seen = solicitors[0].advertisements(Duration::from_secs(8));
    let of = |from: &str| -> Vec<u16> {
        let from: std::net::Ipv6Addr = from.parse().unwrap();
        seen.iter().filter(|seen| seen.from == from).map(Seen::router_lifetime).collect()
    };
    assert_eq!(of(&before.to_string()), [0, 0, 0], "a few from the old one");
    assert!(!of("fe80::7").is_empty() && of("fe80::7").iter().all(|lifetime| *lifetime == 1800));
}

/// The kernel shows a loss of less than a second late or, but for its count of carriers, not at all. It may show a
/// carrier before the other end takes packets. A solicitation on the new carrier is answered.
#[test]
fn a_carrier_that_returns_gets_an_advertisement_at_once() {
    let (panel, _leafboot, solicitors) = started(1);
    for pause in [1200, 100, 20, 5, 0, 1200, 20, 100] {
        panel.carrier(0, false);
        std::thread::sleep(Duration::from_millis(pause));
        solicitors[0].drain();
        let up = SystemTime::now();
        panel.carrier(0, true);
        if pause < 1000 {
            solicitors[0].send(&solicitors[0].good());
        }
        let first = solicitors[0].advertisement(SOON).expect("an advertisement on the new carrier");
        assert!(first.at >= up);
    }
}

/// However many of 1,000 losses the kernel shows, the answer stays right, and each carrier that stays gets an
/// advertisement.
#[test]
fn a_thousand_flaps_leave_the_answer_right() {
    let (panel, _leafboot, solicitors) = started(1);
    let machine = &solicitors[0];
    let before = {
        machine.send(&machine.good());
        machine.advertisement(SOON).unwrap()
    };
    panel.machines(&"link set eth0 down\nlink set eth0 up\n".repeat(1000));
    assert!(machine.advertisement(SOON).is_some(), "the last carrier is told");
    machine.drain();
    machine.send(&machine.good());
    let after = machine.advertisement(SOON).expect("an answer");
    assert_eq!((after.from, after.message), (before.from, before.message));
}

#[test]
fn a_recreated_device_is_served_again() {
    let (panel, _leafboot, _) = started(1);
    for _ in 0..3 {
        panel.replace(0);
        let solicitor = Solicitor::open(&panel, 0);
        solicitor.send(&solicitor.good());
        assert!(solicitor.advertisement(SOON).is_some(), "on the new device");
    }
}

/// A flood gets its budget; other ports and the agent's CPU do not notice.
#[test]
fn a_flood_on_one_port_is_its_own() {
    let (_panel, _leafboot, solicitors) = started(2);
    let [flooding, other] = &solicitors[..] else { panic!() };
    for solicitor in &solicitors {
        solicitor.drain();
    }
    let solicitation = flooding.good();
    let end = std::time::Instant::now() + Duration::from_secs(2);
    let mut sent = 0;
    let mut answered = 0;
    while std::time::Instant::now() < end {
        for _ in 0..500 {
            flooding.send(&solicitation);
        }
        sent += 500;
        answered += flooding.advertisements(Duration::from_millis(1)).len();
        if sent % 10_000 == 0 {
            other.send(&other.good());
            assert!(other.advertisement(SOON).is_some(), "the other port is answered");
        }
    }
    answered += flooding.advertisements(Duration::from_millis(300)).len();
    assert!((20..=50).contains(&answered), "{answered} answers to {sent}: 20 at once and 10/s");
    flooding.send(&solicitation);
    assert!(flooding.advertisement(SOON).is_some(), "after it the machine is heard");
}

/// RFC 4861 6.1.2, 6.2.7: a machine that plays router is an event, once a minute; leafboot sends on.
#[test]
fn a_rogue_advertisement_is_an_event_and_no_more() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = log.reopen().unwrap();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    // The tasks run in another thread, so this log is the process's default. No other test of this file reads a log.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (_panel, _leafboot, solicitors) = started(1);
    let mut rogue = solicitors[0].good();
    rogue.message = vec![134, 0, 0, 0, 32, 0x80, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    rogue.message.extend([5, 1, 0, 0, 0, 0, 0x05, 0x00]);
    for _ in 0..3 {
        solicitors[0].send(&rogue);
    }
    let said = || std::fs::read_to_string(log.path()).unwrap();
    eventually("the rogue is named", || said().contains("rogue Router Advertisement"));
    let expected = format!("from={}", solicitors[0].address);
    let lines: Vec<String> =
        said().lines().filter(|line| line.contains("rogue")).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("port=Ethernet0") && lines[0].contains(&expected));
    assert!(lines[0].contains("contradicts=\"hop limit, M, MTU\""), "RFC 4861 6.2.7: {}", lines[0]);
}
