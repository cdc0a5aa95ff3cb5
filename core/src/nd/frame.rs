//! Pure: the Ethernet and IPv6 headers around a neighbour discovery message (RFC 2464 3, 7; RFC 8200 3, 8.1).
//!
//! Must never: panic on a frame, or let a message through whose checksum is wrong or that does not stand right behind its
//! IPv6 header.

use std::net::Ipv6Addr;

use super::message::{Envelope, Invalid};
use crate::names::Mac;

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
/// Ethernet's and IPv6's headers, in bytes.
const HEADERS: usize = 14 + 40;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A sender or receiver on a port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IPv6 address.
    pub address: Ipv6Addr,
}

impl Neighbour {
    /// Everybody on the link (RFC 4291 2.7.1, RFC 2464 7).
    pub const ALL_NODES: Self = Self { mac: Mac([0x33, 0x33, 0, 0, 0, 1]), address: ALL_NODES };
}

/// The frame of an ICMPv6 message, whose checksum is filled in. Its hop limit is 255 (RFC 4861 4.1, 4.2).
pub fn encode(from: Neighbour, to: Neighbour, message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADERS + message.len());
    frame.extend(to.mac.0);
    frame.extend(from.mac.0);
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(from.address.octets());
    frame.extend(to.address.octets());
    frame.extend(message);
    let checksum = checksum(from.address, to.address, message).to_be_bytes();
    if let Some(field) = frame.get_mut(HEADERS + 2..HEADERS + 4) {
        field.copy_from_slice(&checksum);
    }
    frame
}

/// The ICMPv6 message in a frame, and how it came in.
pub fn decode(frame: &[u8]) -> Result<(Envelope, &[u8]), Invalid> {
    let short = Invalid::Short(frame.len());
    let (ethernet, packet) = frame.split_first_chunk::<14>().ok_or(short)?;
    let [_, _, _, _, _, _, m0, m1, m2, m3, m4, m5, ethertype @ ..] = *ethernet;
    let (header, rest) = packet.split_first_chunk::<40>().ok_or(short)?;
    let [version, _, _, _, l0, l1, next, hop_limit, addresses @ ..] = *header;
    if ethertype != ETHERTYPE_IPV6 || version >> 4 != 6 {
        return Err(Invalid::NotIpv6);
    }
    if next != ICMPV6 {
        return Err(Invalid::Header(next));
    }
    let ([from, to], _) = addresses.as_chunks::<16>() else { return Err(short) };
    let (from, to) = (Ipv6Addr::from(*from), Ipv6Addr::from(*to));
    // What Ethernet adds to a short frame is no part of the message.
    let message = rest.get(..u16::from_be_bytes([l0, l1]).into()).ok_or(short)?;
    if to.is_multicast() && to != ALL_ROUTERS && to != ALL_NODES {
        return Err(Invalid::Destination(to));
    }
    if checksum(from, to, message) != 0 {
        return Err(Invalid::Checksum);
    }
    let from = Neighbour { mac: Mac([m0, m1, m2, m3, m4, m5]), address: from };
    Ok((Envelope { from, hop_limit }, message))
}

/// RFC 4443 2.3, RFC 8200 8.1. Of a message whose checksum is filled in and right it is 0.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let odd = odd.first().map_or(0, |byte| u64::from(*byte) << 8);
        pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>() + odd
    };
    let length = u64::try_from(message.len()).unwrap_or(u64::MAX);
    let mut sum = words(&from.octets()) + words(&to.octets()) + length + u64::from(ICMPV6) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MACHINE: Neighbour =
        Neighbour { mac: Mac([0x52, 0x54, 0, 0, 0, 1]), address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) };
    const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

    fn solicitation() -> Vec<u8> {
        encode(MACHINE, Neighbour { mac: Mac([0x33, 0x33, 0, 0, 0, 2]), address: ALL_ROUTERS }, &SOLICITATION)
    }

    #[test]
    fn a_frame_is_these_bytes() {
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 8, 58, 255,
            0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            133, 0, 0x7d, 0x36, 0, 0, 0, 0,
        ];
        assert_eq!(solicitation(), expected);
    }

    #[test]
    fn ethernets_padding_is_no_part_of_the_message() {
        let padded = [solicitation(), vec![0xff; 10]].concat();
        let (envelope, message) = decode(&padded).unwrap();
        assert_eq!((envelope.from, envelope.hop_limit, message.len()), (MACHINE, 255, 8));
    }

    #[test]
    fn other_frames_are_discarded() {
        let with = |at: usize, byte: u8| {
            let mut frame = solicitation();
            frame[at] = byte;
            frame
        };
        let refused = |frame: &[u8]| decode(frame).unwrap_err();
        assert_eq!(refused(&with(12, 8)), Invalid::NotIpv6);
        assert_eq!(refused(&with(14, 0x45)), Invalid::NotIpv6);
        // RFC 6980 5: a fragment header, be it an atomic one.
        assert_eq!(refused(&with(20, 44)), Invalid::Header(44));
        assert_eq!(refused(&with(19, 9)), Invalid::Short(62));
        assert_eq!(refused(&with(60, 1)), Invalid::Checksum);
        assert_eq!(refused(&with(53, 0x16)), Invalid::Destination("ff02::16".parse().unwrap()));
        assert_eq!(refused(&solicitation()[..53]), Invalid::Short(53));
    }

    proptest! {
        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn what_is_encoded_is_decoded(message in proptest::collection::vec(any::<u8>(), 4..300), mac: [u8; 6], address: u128) {
            let from = Neighbour { mac: Mac(mac), address: Ipv6Addr::from_bits(address) };
            let frame = encode(from, Neighbour::ALL_NODES, &[&message[..2], &[0, 0], &message[4..]].concat());
            let (envelope, decoded) = decode(&frame).unwrap();
            prop_assert_eq!(envelope, Envelope { from, hop_limit: 255 });
            prop_assert_eq!(&decoded[4..], &message[4..]);
        }

        #[test]
        fn a_flipped_bit_is_seen(message in proptest::collection::vec(any::<u8>(), 4..100), at: usize, bit in 0..8u8) {
            let mut frame = encode(MACHINE, Neighbour::ALL_NODES, &[&message[..2], &[0, 0], &message[4..]].concat());
            let at = HEADERS + at % message.len();
            frame[at] ^= 1 << bit;
            prop_assert_eq!(decode(&frame).unwrap_err(), Invalid::Checksum);
        }
    }
}
