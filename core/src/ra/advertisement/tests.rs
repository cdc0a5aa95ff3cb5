//! The exact bytes of advertisements, also decoded by an independent decoder.

use std::time::Duration;

use super::*;
use crate::names::Mac;
use crate::nd::options::Preference;
use crate::ra::variables::Route;
use pnet_packet::Packet;
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, RouterAdvertPacket};

fn variables() -> RouterVariables {
    let seconds = Duration::from_secs;
    RouterVariables {
        interval_min: seconds(4),
        interval_max: seconds(10),
        delay_max: Duration::ZERO,
        router_lifetime: seconds(1800),
        preference: Preference::Medium,
        managed: false,
        other: false,
        home_agent: false,
        hop_limit: 64,
        reachable_time: Duration::ZERO,
        retrans_timer: Duration::ZERO,
        on_link: true,
        autonomous: true,
        prefix_preferred: seconds(2700),
        prefix_valid: seconds(5400),
        prefix_delegation: false,
        mtu: 1500,
        dns: vec!["2001:db8:ffff::53".parse().unwrap()],
        search: Vec::new(),
        routes: Vec::new(),
        route_lifetime: seconds(1800),
        pref64: None,
        captive_portal: None,
    }
}

/// Everything that can be advertised.
fn all_variables() -> RouterVariables {
    let route = |prefix: &str, preference| Route { prefix: prefix.parse().unwrap(), preference };
    RouterVariables {
        preference: Preference::High,
        managed: true,
        other: true,
        home_agent: true,
        hop_limit: 255,
        reachable_time: Duration::from_secs(3600),
        retrans_timer: Duration::from_millis(u32::MAX.into()),
        prefix_delegation: true,
        search: vec!["boot.example".to_owned(), "x".to_owned()],
        routes: vec![
            route("::/0", Preference::Low),
            route("2001:db8::/32", Preference::High),
            route("2001:db8::53/128", Preference::Medium),
        ],
        pref64: Some("64:ff9b::/96".parse().unwrap()),
        captive_portal: Some("https://p.example/".to_owned()),
        ..variables()
    }
}

fn serving() -> Serving {
    Serving {
        ifindex: 7,
        carrier_ups: 1,
        mac: Mac([0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]),
        mtu: 9100,
        link_local: "fe80::1".parse().unwrap(),
        prefix: "2001:db8:b007::/64".parse().unwrap(),
        old: Vec::new(),
    }
}

fn plain() -> Advertisement {
    advertisement(&variables(), &serving(), &[])
}

#[test]
fn an_advertisement_is_these_bytes() {
    #[rustfmt::skip]
    let expected = [
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc,
        5, 1, 0, 0, 0, 0, 0x05, 0xdc,
        3, 4, 64, 0xc0, 0, 0, 0x15, 0x18, 0, 0, 0x0a, 0x8c, 0, 0, 0, 0,
        0x20, 0x01, 0x0d, 0xb8, 0xb0, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        25, 3, 0, 0, 0, 0, 0x07, 0x08,
        0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
    ];
    assert_eq!(plain().encode(), expected);
}

#[test]
fn every_option_is_these_bytes() {
    #[rustfmt::skip]
    let expected = [
        134, 0, 0, 0, 255, 0xe8, 0x07, 0x08, 0, 0x36, 0xee, 0x80, 0xff, 0xff, 0xff, 0xff,
        1, 1, 0x52, 0x54, 0, 0xaa, 0xbb, 0xcc,
        5, 1, 0, 0, 0, 0, 0x05, 0xdc,
        3, 4, 64, 0xd0, 0, 0, 0x15, 0x18, 0, 0, 0x0a, 0x8c, 0, 0, 0, 0,
        0x20, 0x01, 0x0d, 0xb8, 0xb0, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        3, 4, 64, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x20, 0x01, 0x0d, 0xb8, 0xb0, 0x07, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
        24, 1, 0, 0x18, 0, 0, 0x07, 0x08,
        24, 2, 32, 0x08, 0, 0, 0x07, 0x08, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0,
        24, 3, 128, 0, 0, 0, 0x07, 0x08, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        25, 3, 0, 0, 0, 0, 0x07, 0x08,
        0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        31, 4, 0, 0, 0, 0, 0x07, 0x08,
        4, b'b', b'o', b'o', b't', 7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 0, 1, b'x', 0, 0, 0, 0, 0, 0, 0, 0,
        38, 2, 0x07, 0x08, 0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0,
        37, 3, b'h', b't', b't', b'p', b's', b':', b'/', b'/', b'p', b'.', b'e', b'x', b'a', b'm', b'p', b'l', b'e', b'/',
        0, 0, 0, 0,
    ];
    let old: BootPrefix = "2001:db8:b007:9::/64".parse().unwrap();
    let bytes = advertisement(&all_variables(), &serving(), &[old]).encode();
    assert_eq!(bytes, expected);
    let room_for_others = 32 * (OLD_PREFIXES_MAX - 1);
    assert_eq!(all_variables().largest_advertisement(), bytes.len() + room_for_others);
}

#[test]
fn pnet_decodes_the_same_values() {
    let bytes = plain().encode();
    let packet = RouterAdvertPacket::new(&bytes).unwrap();
    assert_eq!((packet.get_hop_limit(), packet.get_flags(), packet.get_lifetime()), (64, 0, 1800));
    let options = packet.get_options();
    let kinds: Vec<u8> = options.iter().map(|option| option.option_type.0).collect();
    assert_eq!(
        kinds,
        [NdpOptionTypes::SourceLLAddr.0, NdpOptionTypes::MTU.0, NdpOptionTypes::PrefixInformation.0, 25]
    );
    assert!(packet.payload().is_empty());
}

#[test]
fn a_final_advertisement_has_lifetimes_0_and_medium_preference() {
    let ceasing = advertisement(&all_variables(), &serving(), &[]).ceasing();
    assert_eq!((ceasing.router_lifetime, ceasing.preference), (0, Preference::Medium));
    for option in &ceasing.options {
        assert!(option.lifetime().is_none_or(|lifetime| lifetime == 0), "{option:?}");
        assert!(!matches!(option, NdOption::Prefix(prefix) if prefix.preferred != 0), "{option:?}");
    }
    assert_eq!(ceasing.encode()[5..8], [0xe0, 0, 0]);
}

#[test]
fn without_resolvers_there_is_no_rdnss_option() {
    let variables = RouterVariables { dns: Vec::new(), ..variables() };
    assert_eq!(advertisement(&variables, &serving(), &[]).encode().len(), 16 + 8 + 8 + 32);
}

/// RFC 4861 4.2: the router lifetime does not apply to the rest of the message.
#[test]
fn a_leaf_that_is_not_a_default_router_advertises_everything_else() {
    let none = RouterVariables {
        router_lifetime: Duration::ZERO,
        preference: Preference::Medium,
        ..all_variables()
    };
    let of = |variables: &RouterVariables| advertisement(variables, &serving(), &[]);
    let (none, router) = (of(&none), of(&all_variables()));
    assert_eq!((none.router_lifetime, none.preference), (0, Preference::Medium));
    assert_eq!(none.options, router.options);
    assert_eq!(none.ceasing(), router.ceasing(), "and ceases as ever");
}

#[test]
fn a_nat64_prefix_has_the_longest_lifetime_if_routes_have_infinity() {
    let variables =
        RouterVariables { route_lifetime: Duration::from_secs(u32::MAX.into()), ..all_variables() };
    let advertised = advertisement(&variables, &serving(), &[]);
    let pref64 = |option: &NdOption| matches!(option, NdOption::Pref64 { lifetime: 65528, .. });
    assert!(advertised.options.iter().any(pref64), "{:?}", advertised.options);
}

#[test]
fn mtu_0_sends_no_mtu_option() {
    let options = advertisement(&RouterVariables { mtu: 0, ..variables() }, &serving(), &[]).options;
    assert!(!options.iter().any(|option| matches!(option, NdOption::Mtu(_))), "RFC 4861 6.2.1: {options:?}");
}

#[test]
fn a_port_with_a_smaller_mtu_advertises_its_own() {
    let small = advertisement(&variables(), &Serving { mtu: 1280, ..serving() }, &[]);
    assert!(small.options.contains(&NdOption::Mtu(1280)));
}

/// RFC 4861 6.2.7.
#[test]
fn contradictions_are_named_and_unspecified_fields_contradict_nothing() {
    let own = advertisement(&all_variables(), &serving(), &[]);
    assert_eq!(own.contradictions(&own), Vec::<&str>::new());
    let silent = Advertisement { hop_limit: 0, reachable_time: 0, retrans_timer: 0, options: vec![], ..own };
    assert_eq!(own.contradictions(&silent), Vec::<&str>::new());
    let other = Advertisement {
        hop_limit: 1,
        managed: false,
        other: false,
        reachable_time: 1,
        retrans_timer: 1,
        ..advertisement(
            &RouterVariables { mtu: 1400, prefix_valid: Duration::from_secs(9), ..variables() },
            &serving(),
            &[],
        )
    };
    let all = ["hop limit", "M", "O", "reachable time", "retrans timer", "MTU", "prefix lifetimes"];
    assert_eq!(own.contradictions(&other), all);
}
