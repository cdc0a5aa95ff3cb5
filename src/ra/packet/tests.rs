//! Exact bytes, an independent decoder's opinion of them, and every way for a solicitation to be invalid.

use super::*;
use pnet_packet::Packet;
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, RouterAdvertPacket};
use proptest::prelude::*;

fn advertisement() -> Advertisement {
    Advertisement {
        router_lifetime: Duration::from_secs(1800),
        source: Mac([0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]),
        mtu: 1500,
        prefix: "2001:db8:b007::/64".parse().unwrap(),
        prefix_preferred: Duration::from_secs(2700),
        prefix_valid: Duration::from_secs(5400),
        dns: vec!["2001:db8:ffff::53".parse().unwrap()],
    }
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
fn a_ceasing_advertisement_has_no_lifetime_left() {
    let bytes = advertisement().ceasing().encode();
    assert_eq!(bytes[6..8], [0, 0], "router lifetime");
    assert_eq!(bytes[36..44], [0; 8], "prefix lifetimes");
    assert_eq!(bytes[68..72], [0; 4], "RDNSS lifetime");
}

#[test]
fn without_resolvers_there_is_no_rdnss_option() {
    let bytes = Advertisement { dns: Vec::new(), ..advertisement() }.encode();
    assert_eq!(bytes.len(), 16 + 8 + 8 + 32);
}

fn link_local() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

const PLAIN: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const WITH_SOURCE: [u8; 16] = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0, 0, 1];

#[test]
fn valid_solicitations_are_taken() {
    let plain = Solicitation { has_source_link_layer_address: false };
    assert_eq!(Solicitation::decode(&PLAIN, link_local(), 255), Ok(plain));
    assert_eq!(Solicitation::decode(&PLAIN, Ipv6Addr::UNSPECIFIED, 255), Ok(plain));
    let known = Solicitation { has_source_link_layer_address: true };
    assert_eq!(Solicitation::decode(&WITH_SOURCE, link_local(), 255), Ok(known));
}

#[test]
fn reserved_bits_and_unknown_options_are_ignored() {
    let mut message = vec![133, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    message.extend([253, 1, 0, 0, 0, 0, 0, 0]);
    assert!(Solicitation::decode(&message, link_local(), 255).is_ok());
}

#[test]
fn invalid_solicitations_are_discarded() {
    let decode = |message: &[u8]| Solicitation::decode(message, link_local(), 255).unwrap_err();
    assert_eq!(Solicitation::decode(&PLAIN, link_local(), 254), Err(Invalid::HopLimit(254)));
    assert_eq!(decode(&[133, 1, 0, 0, 0, 0, 0, 0]), Invalid::Code(1));
    assert_eq!(decode(&[134, 0, 0, 0, 0, 0, 0, 0]), Invalid::Type(134));
    assert_eq!(decode(&PLAIN[..6]), Invalid::Short(6));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), Invalid::OptionLength(1));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]), Invalid::OptionLength(1));
    assert_eq!(decode(&[133, 0, 0, 0, 0, 0, 0, 0, 14]), Invalid::OptionLength(14));
    let unspecified = Solicitation::decode(&WITH_SOURCE, Ipv6Addr::UNSPECIFIED, 255);
    assert_eq!(unspecified, Err(Invalid::SourceFromUnspecified));
}

proptest! {
    #[test]
    fn no_packet_panics(message in proptest::collection::vec(any::<u8>(), 0..200), hop_limit: u8) {
        let _ = Solicitation::decode(&message, link_local(), hop_limit);
    }
}
