//! What images take of the process' memory in proxy mode, measured from outside. The only test of its process: what others
//! do at the same time would be measured, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::cable::Cable;
use support::download::{EAGER, get};
use support::front;
use support::origin::{Image, Origin};

const GATEWAY: &str = "[2001:db8:b007::1]:80";
/// More than one block of what is kept.
const LENGTH: u64 = 300_000;
/// What may be kept of images, in bytes.
const MEMORY: usize = 8 << 20;

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_machine_that_asks_for_one_image_after_the_other_takes_no_more_memory_than_is_kept() {
    let cable = Cable::plug();
    let origin = Origin::start(8080);
    let settings = format!(
        "leaf = \"leaf01\"\n[boot]\nprefix = \"2001:db8:b007::/57\"\nprotected = []\n[relay]\nrequests = 0\n\
         [relay.boot_service]\norigins = [\"http://[::1]:9\"]\n\
         [relay.cache]\nname = \"http://images.metal-stack.io\"\nmode = \"proxy\"\norigins = [\"http://[::1]:8080\"]\n\
         memory = \"{MEMORY}B\"\n[relay.cache.budget]\npackets = 0\nport_packets = 0\n"
    );
    front::relays(vec![("Ethernet0", 80, settings)]);
    cable.boot();
    cable.machine("ip", &["address", "add", "2001:db8:b007::7/64", "dev", "eth0", "nodad"]);
    let path = |image: u64| format!("/metal-os/{image}/img.tar.lz4");
    for image in 0..1200 {
        origin.put(&path(image), Image::new(image % 90, LENGTH));
    }
    let fetch = |images: std::ops::Range<u64>| {
        let fetching = move || {
            for image in images {
                let download = get(GATEWAY, &path(image), "", EAGER);
                assert!(download.whole && download.version == Some(image % 90), "{}", download.head);
            }
        };
        cable.inside(fetching).join().unwrap();
    };
    // The store is full, and each program in this process has what it needs.
    fetch(0..200);
    let before = resident();
    fetch(200..1200);
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY, "{} KB more for 1000 images that are gone", grown / 1024);
}
