//! Every reason to discard a message, and properties of decoding and encoding.

use std::net::Ipv6Addr;

use super::super::frame::Neighbour;
use super::*;
use crate::names::Mac;
use proptest::prelude::*;

fn link_local() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

fn from(address: Ipv6Addr) -> Envelope {
    Envelope { from: Neighbour { mac: Mac([0x52, 0x54, 0, 0, 0, 1]), address }, hop_limit: 255 }
}

const PLAIN: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const WITH_SOURCE: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];

#[test]
fn valid_solicitations_are_accepted() {
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
fn invalid_advertisements_are_discarded() {
    let sent = Advertisement {
        hop_limit: 64,
        managed: false,
        other: false,
        home_agent: false,
        preference: Preference::Medium,
        router_lifetime: 1800,
        reachable_time: 0,
        retrans_timer: 0,
        options: vec![NdOption::Mtu(1500)],
    };
    let bytes = sent.encode();
    let good = from(link_local());
    assert_eq!(Advertisement::decode(&bytes, &good), Ok(sent));
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    assert_eq!(Advertisement::decode(&bytes, &from(global)), Err(Invalid::Source(global)));
    assert_eq!(Advertisement::decode(&bytes[..15], &good), Err(Invalid::Short(15)));
    let far = Envelope { hop_limit: 64, ..good };
    assert_eq!(Advertisement::decode(&bytes, &far), Err(Invalid::HopLimit(64)));
}

#[test]
fn options_that_an_rfc_requires_to_ignore_are_left_out() {
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
    fn a_decoded_advertisement_is_unchanged_by_encoding(
        fixed: [u8; 12],
        options in proptest::collection::vec(
            (proptest::sample::select(vec![1u8, 3, 5, 24, 25, 31, 37, 38]), 1..5u8, any::<[u8; 38]>()), 0..6),
    ) {
        let mut message = [&[134, 0, 0, 0][..], &fixed].concat();
        for (kind, units, body) in options {
            message.extend([kind, units]);
            message.extend(&body[..usize::from(units) * 8 - 2]);
        }
        let decoded = Advertisement::decode(&message, &from(link_local())).unwrap();
        prop_assert_eq!(Advertisement::decode(&decoded.encode(), &from(link_local())), Ok(decoded));
    }

    #[test]
    fn no_option_panics(kind in proptest::sample::select(vec![1u8, 3, 5, 24, 25, 31, 37, 38]), body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = NdOption::decode(&[vec![kind, 0], body].concat());
    }

    #[test]
    fn an_encoded_advertisement_decodes_to_itself(
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
