//! What a leaf's settings become on the wire: the least, the most, and every option that only some partitions use.

use leafboot::ra::options::NdOption;
use leafboot::ra::packet::{Advertisement, Envelope, Preference};

use crate::support::advertiser::Leafboot;
use crate::support::panel::Panel;
use crate::support::solicitor::Solicitor;

/// The advertisement that settings make.
fn advertised(ra: &str) -> Advertisement {
    let panel = Panel::plug(1);
    let machine = Solicitor::open(&panel, 0);
    let settings = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\n[ra]\n{ra}\n\
         [relay.boot_service]\norigins = [\"http://[2001:db8:ffff::80]:8080\"]\n\
         [relay.cache]\nname = \"http://images.metal-stack.io\"\n"
    );
    let _leafboot = Leafboot::start(settings, 0..1);
    let seen = machine.advertisement(std::time::Duration::from_secs(2)).expect("the first advertisement");
    assert!(seen.checksum);
    let envelope = Envelope { from: seen.sender(), hop_limit: seen.hop_limit };
    Advertisement::decode(&seen.message, &envelope).unwrap()
}

fn lifetimes(advertisement: &Advertisement) -> Option<(u32, u32)> {
    let prefix = |option: &NdOption| {
        if let NdOption::Prefix(prefix) = option { Some((prefix.valid, prefix.preferred)) } else { None }
    };
    advertisement.options.iter().find_map(prefix)
}

/// v6LC 2.2.7 C, as far as a leaf may be set so: it is always the router, and its prefix is always on the link.
#[test]
fn the_least_of_every_setting_is_on_the_wire() {
    let seen = advertised(
        "interval_min = \"3s\"\ninterval_max = \"4s\"\nrouter_lifetime = \"4s\"\npreference = \"low\"\nhop_limit = 0\n\
         reachable_time = \"0s\"\nretrans_timer = \"0s\"\nprefix_preferred = \"4s\"\nprefix_valid = \"4s\"\nmtu = 1280",
    );
    assert_eq!((seen.hop_limit, seen.router_lifetime), (0, 4));
    assert_eq!((seen.reachable_time, seen.retrans_timer, seen.preference), (0, 0, Preference::Low));
    assert!(!seen.managed && !seen.other && !seen.home_agent);
    assert_eq!(lifetimes(&seen), Some((4, 4)));
    assert!(seen.options.contains(&NdOption::Mtu(1280)));
    let others = seen.options.iter().filter(|option| {
        !matches!(option, NdOption::Prefix(_) | NdOption::Mtu(_) | NdOption::SourceLinkLayerAddress(_))
    });
    assert_eq!(others.count(), 0, "what is not set is not sent");
}

/// v6LC 2.2.7 D.
#[test]
fn the_most_of_every_setting_is_on_the_wire() {
    let seen = advertised(
        "interval_min = \"1350s\"\ninterval_max = \"1800s\"\nrouter_lifetime = \"9000s\"\npreference = \"high\"\n\
         managed = true\nother = true\nhome_agent = true\nprefix_delegation = true\nhop_limit = 255\n\
         reachable_time = \"3600s\"\nretrans_timer = \"4294967295ms\"\nprefix_preferred = \"4294967294s\"\n\
         prefix_valid = \"4294967294s\"\nmtu = 9216",
    );
    assert_eq!((seen.hop_limit, seen.router_lifetime), (255, 9000));
    assert_eq!((seen.reachable_time, seen.retrans_timer), (3_600_000, u32::MAX));
    assert!(seen.managed && seen.other && seen.home_agent);
    assert_eq!(seen.preference, Preference::High);
    assert_eq!(lifetimes(&seen), Some((u32::MAX - 1, u32::MAX - 1)));
    assert!(
        seen.options.iter().any(|option| matches!(option, NdOption::Prefix(prefix) if prefix.delegation))
    );
    assert!(seen.options.contains(&NdOption::Mtu(1500)), "no more than the port has");
}

/// RFC 8781 4, RFC 8910 2.3, and the most that fits beside them.
#[test]
fn nat64_prefix_and_captive_portal_are_on_the_wire() {
    let seen = advertised(
        "pref64 = \"64:ff9b::/96\"\ncaptive_portal = \"https://portal.example/api\"\n\
         dns = [\"2001:db8::53\", \"2001:db8::54\"]\nsearch = [\"boot.example\", \"example\"]",
    );
    let pref64 = NdOption::Pref64 { lifetime: 1800, prefix: "64:ff9b::/96".parse().unwrap() };
    let portal = NdOption::CaptivePortal("https://portal.example/api".to_owned());
    assert!(seen.options.contains(&pref64) && seen.options.contains(&portal), "{seen:?}");
    let servers = vec!["2001:db8::53".parse().unwrap(), "2001:db8::54".parse().unwrap()];
    assert!(seen.options.contains(&NdOption::Rdnss { lifetime: 1800, servers }));
}
