//! FRR's part: two routes between the boot VRF and the default VRF, as in metal-core's frr.conf on a real leaf.
//!
//! Must never: make or remove the boot VRF itself.

use std::path::Path;
use std::time::Duration;

use super::ip;
use crate::site;

/// Watches the boot VRF's device for ever. A VRF that is removed and made again has another index and no routes.
pub fn run() -> ! {
    let index = Path::new("/sys/class/net").join(site::BOOT_VRF).join("ifindex");
    let mut routed = None;
    loop {
        let now = std::fs::read_to_string(&index).ok();
        if now != routed {
            match now.as_ref().map(|_| leak()) {
                None | Some(Ok(())) => routed = now,
                // The device may be there and not yet up: the next look tries again.
                Some(Err(error)) => eprintln!("{error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn leak() -> Result<(), super::Error> {
    ip(&format!("-6 route replace {} dev {} vrf {}", site::UPLINK_NETWORK, site::UPLINK, site::BOOT_VRF))?;
    ip(&format!("-6 route replace {} dev {}", site::BOOT_SUPERNET, site::BOOT_VRF))
}
