//! Fuzzes the decoder of Router Solicitations and Router Advertisements. No frame may cause a panic, and an
//! advertisement that was decoded must be the same after it is encoded and decoded again.
#![no_main]

use leafboot_core::nd::frame;
use leafboot_core::nd::message::{Advertisement, check_solicitation};
use leafboot_core::nd::options::RawOptions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A frame with a wrong checksum is discarded before its message is read. So the bytes are also tried as a message.
    let address = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let from = frame::Neighbour { mac: leafboot_core::names::Mac([2, 0, 0, 0, 0, 1]), address };
    let framed = frame::encode(from, frame::Neighbour::ALL_NODES, bytes);
    for frame in [bytes, &framed] {
        let Ok((envelope, message)) = frame::decode(frame) else { continue };
        let _ = check_solicitation(message, &envelope);
        if let Ok(advertisement) = Advertisement::decode(message, &envelope) {
            assert_eq!(Advertisement::decode(&advertisement.encode(), &envelope), Ok(advertisement));
        }
    }
    RawOptions(bytes).for_each(drop);
});
