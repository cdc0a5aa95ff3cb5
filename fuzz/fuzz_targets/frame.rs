//! Whatever comes in on a boot port is taken or discarded, and nothing else happens; an advertisement that is taken says
//! the same after it has been sent on.
#![no_main]

use leafboot_core::nd::frame;
use leafboot_core::nd::message::{Advertisement, check_solicitation};
use leafboot_core::nd::options::RawOptions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A checksum that is wrong hides all that is behind it: then the bytes are a message, not a frame.
    let address = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let from = frame::Neighbour { mac: leafboot_core::names::Mac([2, 0, 0, 0, 0, 1]), address };
    let framed = frame::encode(from, frame::Neighbour::ALL_NODES, bytes);
    for frame in [bytes, &framed] {
        let Ok((envelope, message)) = frame::decode(frame) else { continue };
        let _ = check_solicitation(message, &envelope);
        if let Ok(heard) = Advertisement::decode(message, &envelope) {
            assert_eq!(Advertisement::decode(&heard.encode(), &envelope), Ok(heard));
        }
    }
    RawOptions(bytes).for_each(drop);
});
