//! The Ethernet frame around a neighbour discovery message. `encode` adds an Ethernet header (RFC 2464 3, 7), an IPv6 header
//! (RFC 8200 3) and the ICMPv6 checksum (RFC 4443 2.3, RFC 8200 8.1). `decode` checks and removes them.
//!
//! Must never: panic on a frame, or accept a message with a wrong checksum or with an extension header before it.

use std::net::Ipv6Addr;

use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::{Icmpv6Packet, MutableIcmpv6Packet, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::invalid::Invalid;
use crate::names::Mac;

/// In bytes.
const ETHERNET_HEADER: usize = 14;
/// The Ethernet and the IPv6 header, in bytes.
const HEADERS: usize = ETHERNET_HEADER + 40;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A host or router on a port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The Ethernet address.
    pub mac: Mac,
    /// The IPv6 address.
    pub address: Ipv6Addr,
}

/// What `decode` keeps of the headers of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: Neighbour,
    /// The hop limit of the IPv6 header.
    pub hop_limit: u8,
}

impl Neighbour {
    /// All nodes on the link (RFC 4291 2.7.1, RFC 2464 7).
    pub const ALL_NODES: Self = Self { mac: Mac([0x33, 0x33, 0, 0, 0, 1]), address: ALL_NODES };
}

/// Encodes the Ethernet frame of an ICMPv6 message. Sets the checksum and hop limit 255 (RFC 4861 4.1, 4.2).
pub fn encode(from: Neighbour, to: Neighbour, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADERS + message.len()];
    let (ethernet, packet) = frame.split_at_mut(ETHERNET_HEADER);
    if let Some(mut header) = MutableEthernetPacket::new(ethernet) {
        header.set_destination(to.mac.0.into());
        header.set_source(from.mac.0.into());
        header.set_ethertype(EtherTypes::Ipv6);
    }
    if let Some(mut header) = MutableIpv6Packet::new(packet) {
        header.set_version(6);
        header.set_payload_length(u16::try_from(message.len()).unwrap_or(u16::MAX));
        header.set_next_header(IpNextHeaderProtocols::Icmpv6);
        header.set_hop_limit(255);
        header.set_source(from.address);
        header.set_destination(to.address);
    }
    let (_, body) = packet.split_at_mut(HEADERS - ETHERNET_HEADER);
    body.copy_from_slice(message);
    if let Some(mut message) = MutableIcmpv6Packet::new(body) {
        let checksum = checksum(&message.to_immutable(), &from.address, &to.address);
        message.set_checksum(checksum);
    }
    frame
}

/// Decodes a frame. Returns the ICMPv6 message without padding.
pub fn decode(frame: &[u8]) -> Result<(Envelope, &[u8]), Invalid> {
    let short = Invalid::Short(frame.len());
    let ethernet = EthernetPacket::new(frame).ok_or(short)?;
    let (_, bytes) = frame.split_at_checked(ETHERNET_HEADER).ok_or(short)?;
    let packet = Ipv6Packet::new(bytes).ok_or(short)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv6 || packet.get_version() != 6 {
        return Err(Invalid::NotIpv6);
    }
    if packet.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(Invalid::Header(packet.get_next_header().0));
    }
    let (from, to) = (packet.get_source(), packet.get_destination());
    if to.is_multicast() && to != ALL_ROUTERS && to != ALL_NODES {
        return Err(Invalid::Destination(to));
    }
    // The padding that Ethernet adds to a short frame is not part of the message.
    let end = HEADERS + usize::from(packet.get_payload_length());
    let message = frame.get(HEADERS..end).ok_or(short)?;
    let packet_of_message = Icmpv6Packet::new(message).ok_or(short)?;
    if packet_of_message.get_checksum() != checksum(&packet_of_message, &from, &to) {
        return Err(Invalid::Checksum);
    }
    let from = Neighbour { mac: Mac(ethernet.get_source().octets()), address: from };
    Ok((Envelope { from, hop_limit: packet.get_hop_limit() }, message))
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
    fn ethernet_padding_is_not_part_of_the_message() {
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
        // RFC 6980 5: a fragment header, even if there is only one fragment.
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
        fn an_encoded_frame_decodes_to_its_message(message in proptest::collection::vec(any::<u8>(), 4..300), mac: [u8; 6], address: u128) {
            let from = Neighbour { mac: Mac(mac), address: Ipv6Addr::from_bits(address) };
            let frame = encode(from, Neighbour::ALL_NODES, &[&message[..2], &[0, 0], &message[4..]].concat());
            let (envelope, decoded) = decode(&frame).unwrap();
            prop_assert_eq!(envelope, Envelope { from, hop_limit: 255 });
            prop_assert_eq!(&decoded[4..], &message[4..]);
        }

        #[test]
        fn a_flipped_bit_fails_the_checksum(message in proptest::collection::vec(any::<u8>(), 4..100), at: usize, bit in 0..8u8) {
            let mut frame = encode(MACHINE, Neighbour::ALL_NODES, &[&message[..2], &[0, 0], &message[4..]].concat());
            let at = HEADERS + at % message.len();
            frame[at] ^= 1 << bit;
            prop_assert_eq!(decode(&frame).unwrap_err(), Invalid::Checksum);
        }
    }
}
