//! Settings on the wire: the smallest values, the largest values, and the options that only some partitions use.

use leafboot_core::nd::frame::Envelope;
use leafboot_core::nd::message::Advertisement;
use leafboot_core::nd::options::Preference;
use leafboot_core::nd::options::{NdOption, PrefixInformation};

use crate::support::advertiser::Leafboot;
use crate::support::panel::Panel;
use crate::support::solicitor::Solicitor;

/// The advertisement that settings make.
fn advertised(ra: &str) -> Advertisement {
    let panel = Panel::plug(1);
    let machine = Solicitor::open(&panel, 0);
    let settings = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[ra]\n{ra}\n\
         [relay.boot_service]\norigins = [\"http://[2001:db8:ffff::80]:8080\"]\n\
         [relay.cache]\nname = \"http://images.metal-stack.io\"\n"
    );
    let _leafboot = Leafboot::start(settings, 0..1);
    let seen = machine.advertisement(std::time::Duration::from_secs(2)).expect("the first advertisement");
    assert!(seen.checksum);
    let envelope = Envelope { from: seen.sender(), hop_limit: seen.hop_limit };
    Advertisement::decode(&seen.message, &envelope).unwrap()
}

/// The port's prefix, of which an advertisement has one.
fn prefix(advertisement: &Advertisement) -> PrefixInformation {
    let prefix = |option: &NdOption| if let NdOption::Prefix(prefix) = option { Some(*prefix) } else { None };
    let prefixes: Vec<PrefixInformation> = advertisement.options.iter().filter_map(prefix).collect();
    assert_eq!(prefixes.len(), 1);
    prefixes[0]
}

/// v6LC 2.2.7 C. A machine needs an address, its own or DHCPv6's: so flag M is off in the first advertisement and flag A
/// in the second.
#[test]
fn the_least_of_every_setting_is_on_the_wire() {
    let least = "interval_min = \"3s\"\ninterval_max = \"4s\"\nrouter_lifetime = \"0s\"\nroutes = [\"::/0\"]\n\
                 route_lifetime = \"4s\"\nhop_limit = 0\nreachable_time = \"0s\"\nretrans_timer = \"0s\"\n\
                 on_link = false\nmtu = 0\n";
    let seen = advertised(&format!("{least}prefix_preferred = \"4s\"\nprefix_valid = \"4s\""));
    let known = prefix(&seen);
    assert_eq!((known.on_link, known.autonomous, known.valid, known.preferred), (false, true, 4, 4));
    let all = "::/0".parse().unwrap();
    let route = NdOption::Route { prefix: all, preference: Preference::Medium, lifetime: 4 };
    assert_eq!(seen.options[1..], [NdOption::Prefix(known), route], "what is not set is not sent");
    assert!(matches!(seen.options[0], NdOption::SourceLinkLayerAddress(_)));
    let wanted = Advertisement {
        hop_limit: 0,
        managed: false,
        other: false,
        home_agent: false,
        preference: Preference::Medium,
        router_lifetime: 0,
        reachable_time: 0,
        retrans_timer: 0,
        options: seen.options.clone(),
    };
    assert_eq!(seen, wanted);

    let seen = advertised(&format!(
        "{least}managed = true\nautonomous = false\nprefix_preferred = \"0s\"\nprefix_valid = \"0s\""
    ));
    let known = prefix(&seen);
    assert_eq!((known.on_link, known.autonomous, known.valid, known.preferred), (false, false, 0, 0));
    assert_eq!(seen, Advertisement { managed: true, options: seen.options.clone(), ..wanted });
}

/// v6LC 2.2.7 D.
#[test]
fn the_most_of_every_setting_is_on_the_wire() {
    let seen = advertised(
        "interval_min = \"1350s\"\ninterval_max = \"1800s\"\nrouter_lifetime = \"9000s\"\npreference = \"high\"\n\
         managed = true\nother = true\nhome_agent = true\nprefix_delegation = true\nhop_limit = 255\n\
         reachable_time = \"3600s\"\nretrans_timer = \"4294967295ms\"\nprefix_preferred = \"4294967295s\"\n\
         prefix_valid = \"4294967295s\"\nmtu = 9216",
    );
    assert_eq!((seen.hop_limit, seen.router_lifetime), (255, 9000));
    assert_eq!((seen.reachable_time, seen.retrans_timer), (3_600_000, u32::MAX));
    assert!(seen.managed && seen.other && seen.home_agent);
    assert_eq!(seen.preference, Preference::High);
    let known = prefix(&seen);
    assert!(known.on_link && known.autonomous && known.delegation);
    assert_eq!((known.valid, known.preferred), (u32::MAX, u32::MAX));
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
