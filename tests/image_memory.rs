//! How much memory the process uses for images in proxy mode. It is the only test in its process: others would be measured,
//! too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use support::cable::Cable;
use support::download::{EAGER, get};
use support::front;
use support::origin::{Image, Origin};

const GATEWAY: &str = "[2001:db8:b007::1]:80";
/// An image's length, in bytes: more than one block of memory.
const LENGTH: u64 = 300_000;
/// `relay.cache.memory`, in bytes.
const MEMORY: usize = 8 << 20;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn many_images_one_after_another_use_no_more_memory_than_the_limit() {
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
    // Afterwards the store is full, and the test's own programs have the memory that they need.
    fetch(0..200);
    let before = resident();
    fetch(200..1200);
    let grown = resident().saturating_sub(before);
    assert!(grown < MEMORY, "{} KB more after 1000 further images", grown / 1024);
}
