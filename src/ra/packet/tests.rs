//! Exact bytes, an independent decoder's opinion of them, and every way for a message to be invalid.

use super::*;
use crate::config::Route;
use crate::net::Mac;
use pnet_packet::Packet;
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, RouterAdvertPacket};
use proptest::prelude::*;

fn settings() -> Ra {
    let seconds = Duration::from_secs;
    Ra {
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
fn all_settings() -> Ra {
    let route = |prefix: &str, preference| Route { prefix: prefix.parse().unwrap(), preference };
    Ra {
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
        ..settings()
    }
}

fn serving() -> Serving {
    Serving {
        ifindex: 7,
        carriers: 1,
        mac: Mac([0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]),
        mtu: 9100,
        link_local: link_local(),
        prefix: "2001:db8:b007::/64".parse().unwrap(),
        old: Vec::new(),
    }
}

fn advertisement() -> Advertisement {
    Advertisement::new(&settings(), &serving(), &[])
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
    assert_eq!(advertisement().encode(), expected);
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
    let bytes = Advertisement::new(&all_settings(), &serving(), &[old]).encode();
    assert_eq!(bytes, expected);
    let room_for_others = 32 * (OLD_PREFIXES_MAX - 1);
    assert_eq!(largest(&all_settings()), bytes.len() + room_for_others);
}

#[test]
fn another_decoder_reads_the_same() {
    let bytes = advertisement().encode();
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
fn a_ceasing_advertisement_has_no_lifetime_left_and_medium_preference() {
    let ceasing = Advertisement::new(&all_settings(), &serving(), &[]).ceasing();
    assert_eq!((ceasing.router_lifetime, ceasing.preference), (0, Preference::Medium));
    for option in &ceasing.options {
        match option {
            NdOption::Prefix(prefix) => assert_eq!((prefix.valid, prefix.preferred), (0, 0)),
            NdOption::Route { lifetime, .. }
            | NdOption::Rdnss { lifetime, .. }
            | NdOption::Dnssl { lifetime, .. } => assert_eq!(*lifetime, 0),
            NdOption::Pref64 { lifetime, .. } => assert_eq!(*lifetime, 0),
            NdOption::SourceLinkLayerAddress(_) | NdOption::Mtu(_) | NdOption::CaptivePortal(_) => {}
        }
    }
    assert_eq!(ceasing.encode()[5..8], [0xe0, 0, 0]);
}

#[test]
fn without_resolvers_there_is_no_rdnss_option() {
    let settings = Ra { dns: Vec::new(), ..settings() };
    assert_eq!(Advertisement::new(&settings, &serving(), &[]).encode().len(), 16 + 8 + 8 + 32);
}

/// RFC 4861 4.2: the router's lifetime says nothing of the rest.
#[test]
fn a_leaf_that_is_no_default_router_advertises_the_rest_as_ever() {
    let none = Ra { router_lifetime: Duration::ZERO, preference: Preference::Medium, ..all_settings() };
    let of = |settings: &Ra| Advertisement::new(settings, &serving(), &[]);
    let (none, router) = (of(&none), of(&all_settings()));
    assert_eq!((none.router_lifetime, none.preference), (0, Preference::Medium));
    assert_eq!(none.options, router.options);
    assert_eq!(none.ceasing(), router.ceasing(), "and ceases as ever");
}

#[test]
fn a_nat64_prefix_lasts_as_long_as_it_can_where_routes_hold_for_ever() {
    let settings = Ra { route_lifetime: Duration::from_secs(u32::MAX.into()), ..all_settings() };
    let advertised = Advertisement::new(&settings, &serving(), &[]);
    let pref64 = |option: &NdOption| matches!(option, NdOption::Pref64 { lifetime: 65528, .. });
    assert!(advertised.options.iter().any(pref64), "{:?}", advertised.options);
}

#[test]
fn without_an_mtu_none_is_sent() {
    let options = Advertisement::new(&Ra { mtu: 0, ..settings() }, &serving(), &[]).options;
    assert!(!options.iter().any(|option| matches!(option, NdOption::Mtu(_))), "RFC 4861 6.2.1: {options:?}");
}

#[test]
fn a_port_with_a_smaller_mtu_advertises_its_own() {
    let small = Advertisement::new(&settings(), &Serving { mtu: 1280, ..serving() }, &[]);
    assert!(small.options.contains(&NdOption::Mtu(1280)));
}

fn link_local() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

fn from(address: Ipv6Addr) -> Envelope {
    Envelope { from: Neighbour { mac: Mac([0x52, 0x54, 0, 0, 0, 1]), address }, hop_limit: 255 }
}

const PLAIN: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const WITH_SOURCE: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];

#[test]
fn valid_solicitations_are_taken() {
    assert_eq!(check_solicitation(&PLAIN, &from(link_local())), Ok(()));
    assert_eq!(check_solicitation(&PLAIN, &from(Ipv6Addr::UNSPECIFIED)), Ok(()));
    assert_eq!(check_solicitation(&WITH_SOURCE, &from(link_local())), Ok(()));
}

#[test]
fn reserved_bits_and_unknown_options_are_ignored() {
    let mut message = vec![133, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    message.extend([253, 1, 0, 0, 0, 0, 0, 0]);
    assert!(check_solicitation(&message, &from(link_local())).is_ok());
}

#[test]
fn invalid_solicitations_are_discarded() {
    let good = from(link_local());
    let decode = |message: &[u8]| check_solicitation(message, &good).unwrap_err();
    let far = Envelope { hop_limit: 254, ..good };
    assert_eq!(check_solicitation(&PLAIN, &far), Err(Invalid::HopLimit(254)));
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    assert_eq!(check_solicitation(&PLAIN, &from(group)), Err(Invalid::Source(group)));
    assert_eq!(decode(&[133, 1, 0, 0, 0, 0, 0, 0]), Invalid::Code(1));
    assert_eq!(decode(&[134, 0, 0, 0, 0, 0, 0, 0]), Invalid::Type(134));
    assert_eq!(decode(&PLAIN[..6]), Invalid::Short(6));
    assert_eq!(decode(&[]), Invalid::Short(0));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), Invalid::OptionLength(1));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]), Invalid::OptionLength(1));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 14]), Invalid::OptionLength(14));
    let unspecified = check_solicitation(&WITH_SOURCE, &from(Ipv6Addr::UNSPECIFIED));
    assert_eq!(unspecified, Err(Invalid::SourceFromUnspecified));
}

#[test]
fn invalid_advertisements_are_no_rogues() {
    let bytes = advertisement().encode();
    let good = from(link_local());
    assert_eq!(Advertisement::decode(&bytes, &good), Ok(advertisement()));
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(Advertisement::decode(&bytes, &from(global)), Err(Invalid::Source(global)));
    assert_eq!(Advertisement::decode(&bytes[..15], &good), Err(Invalid::Short(15)));
    let far = Envelope { hop_limit: 64, ..good };
    assert_eq!(Advertisement::decode(&bytes, &far), Err(Invalid::HopLimit(64)));
}

/// RFC 4861 6.2.7.
#[test]
fn a_contradiction_is_named_and_what_is_unspecified_is_none() {
    let own = Advertisement::new(&all_settings(), &serving(), &[]);
    assert_eq!(own.contradictions(&own), Vec::<&str>::new());
    let silent = Advertisement { hop_limit: 0, reachable_time: 0, retrans_timer: 0, options: vec![], ..own };
    assert_eq!(own.contradictions(&silent), Vec::<&str>::new());
    let other = Advertisement {
        hop_limit: 1,
        managed: false,
        other: false,
        reachable_time: 1,
        retrans_timer: 1,
        ..Advertisement::new(
            &Ra { mtu: 1400, prefix_valid: Duration::from_secs(9), ..settings() },
            &serving(),
            &[],
        )
    };
    let all = ["hop limit", "M", "O", "reachable time", "retrans timer", "MTU", "prefix lifetimes"];
    assert_eq!(own.contradictions(&other), all);
}

#[test]
fn options_that_their_rfc_says_to_ignore_are_left_out() {
    for option in [
        &[24, 1, 64, 0, 0, 0, 0, 1][..], // RFC 4191 2.3: too short for its prefix
        &[24, 1, 0, 0x10, 0, 0, 0, 1],   // RFC 4191 2.3: reserved preference
        &[25, 1, 0, 0, 0, 0, 0, 1],      // RFC 8106 5.3.1: no server
        &[38, 2, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // RFC 8781 4: unassigned length
        &[31, 2, 0, 0, 0, 0, 0, 1, 9, b'x', 0, 0, 0, 0, 0, 0], // a label past the end
        &[31, 2, 0, 0, 0, 0, 0, 1, 0xc0, 0, 0, 0, 0, 0, 0, 0], // RFC 8106 5.2: compressed
        &[31, 2, 0, 0, 0, 0, 0, 1, 3, b'x', b'.', b'y', 0, 0, 0, 0], // a dot within a label
        &[3, 1, 64, 0xc0, 0, 0, 0, 0],   // too short
        &[253, 1, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(NdOption::decode(option), None, "{option:?}");
    }
}

fn option() -> impl Strategy<Value = NdOption> {
    let net = (any::<u128>(), 0..=128u8)
        .prop_map(|(bits, length)| Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap().trunc());
    let pref64 = (any::<u128>(), proptest::sample::select(vec![32u8, 40, 48, 56, 64, 96]))
        .prop_map(|(bits, length)| Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap().trunc());
    let preference = proptest::sample::select(vec![Preference::Low, Preference::Medium, Preference::High]);
    let name = proptest::collection::vec("[a-z0-9-]{1,63}", 1..4).prop_map(|labels| labels.join("."));
    let servers = proptest::collection::vec(any::<u128>().prop_map(Ipv6Addr::from_bits), 1..8);
    prop_oneof![
        any::<[u8; 6]>().prop_map(|mac| NdOption::SourceLinkLayerAddress(Mac(mac))),
        any::<u32>().prop_map(NdOption::Mtu),
        (net.clone(), any::<[bool; 3]>(), any::<u32>(), any::<u32>()).prop_map(
            |(prefix, flags, valid, preferred)| {
                let [on_link, autonomous, delegation] = flags;
                NdOption::Prefix(PrefixInformation {
                    prefix,
                    on_link,
                    autonomous,
                    delegation,
                    valid,
                    preferred,
                })
            }
        ),
        (net, preference, any::<u32>()).prop_map(|(prefix, preference, lifetime)| NdOption::Route {
            prefix,
            preference,
            lifetime
        }),
        (any::<u32>(), servers).prop_map(|(lifetime, servers)| NdOption::Rdnss { lifetime, servers }),
        (any::<u32>(), proptest::collection::vec(name, 1..4))
            .prop_map(|(lifetime, names)| NdOption::Dnssl { lifetime, names }),
        "https://[a-z.]{1,100}".prop_map(NdOption::CaptivePortal),
        (0..8192u16, pref64).prop_map(|(scaled, prefix)| NdOption::Pref64 { lifetime: scaled * 8, prefix }),
    ]
}

proptest! {
    #[test]
    fn no_packet_panics(kind in 132u8..136, body in proptest::collection::vec(any::<u8>(), 0..200), limit: u8) {
        let message = [vec![kind, 0], body].concat();
        for hop_limit in [limit, 255] {
            let envelope = Envelope { hop_limit, ..from(link_local()) };
            let _ = check_solicitation(&message, &envelope);
            let _ = Advertisement::decode(&message, &envelope);
        }
    }

    /// As in `fuzz`.
    #[test]
    fn what_is_taken_says_the_same_when_it_is_sent_on(
        fixed: [u8; 12],
        options in proptest::collection::vec(
            (proptest::sample::select(vec![1u8, 3, 5, 24, 25, 31, 37, 38]), 1..5u8, any::<[u8; 38]>()), 0..6),
    ) {
        let mut message = [&[134, 0, 0, 0][..], &fixed].concat();
        for (kind, units, body) in options {
            message.extend([kind, units]);
            message.extend(&body[..usize::from(units) * 8 - 2]);
        }
        let heard = Advertisement::decode(&message, &from(link_local())).unwrap();
        prop_assert_eq!(Advertisement::decode(&heard.encode(), &from(link_local())), Ok(heard));
    }

    #[test]
    fn no_option_panics(kind in proptest::sample::select(vec![1u8, 3, 5, 24, 25, 31, 37, 38]), body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = NdOption::decode(&[vec![kind, 0], body].concat());
    }

    #[test]
    fn what_is_encoded_is_decoded(
        options in proptest::collection::vec(option(), 0..12), flags: [bool; 3], hop_limit: u8, router_lifetime: u16,
        reachable_time: u32, retrans_timer: u32,
    ) {
        let [managed, other, home_agent] = flags;
        let sent = Advertisement {
            hop_limit, managed, other, home_agent, preference: Preference::Low, router_lifetime, reachable_time,
            retrans_timer, options,
        };
        prop_assert_eq!(Advertisement::decode(&sent.encode(), &from(link_local())), Ok(sent));
    }
}
