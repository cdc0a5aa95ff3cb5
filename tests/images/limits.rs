//! Limits of images: memory, bytes, packets, transfers, time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::support::download::{EAGER, Habit, get};
use super::support::eventually;
use super::support::origin::Image;
use super::{GATEWAY, MB, OTHER_GATEWAY, PATH, Site, UNLIMITED, assert_whole, joined};

#[test]
fn many_images_stay_within_the_memory_limit() {
    let site = Site::start(&format!("memory = \"32MiB\"\n{UNLIMITED}"));
    let path = |image: u64| format!("/metal-os/{image}");
    for image in 0..12 {
        site.origin.put(&path(image), Image::new(image, 8 * MB));
        assert_whole(&site.get(&path(image), ""), image, 8 * MB);
    }
    site.origin.sent();
    let memory = site.counted("image_memory_bytes");
    assert_eq!(site.counted("image_memory_limit_bytes"), 33_554_432.0);
    assert!((24e6..=33_554_432.0).contains(&memory), "{memory}");
    // Memory for four: the last four are kept, the first one is not.
    for image in [11, 10, 9, 8] {
        assert_whole(&site.get(&path(image), ""), image, 8 * MB);
    }
    assert_eq!(site.origin.sent(), 0);
    assert_whole(&site.get(&path(0), ""), 0, 8 * MB);
    assert_eq!(site.origin.sent(), 8 * MB);
    // Images that are read stay: where there is no memory, machines get unshared transfers.
    let all: Vec<_> =
        (0..12).map(|image| site.begin(&path(image), Habit { rate: 8 * MB, ..EAGER })).collect();
    for (image, download) in joined(all).iter().enumerate() {
        assert_whole(download, image as u64, 8 * MB);
    }
}

#[test]
fn a_slow_client_is_disconnected() {
    let site = Site::start_with("min_rate = \"100KiB\"\nmin_rate_window = \"1s\"\n", UNLIMITED);
    site.origin.put("/metal-os/short", Image::new(1, 2 * MB));
    let good = site.begin("/metal-os/short", Habit { rate: 400_000, ..EAGER });
    let bad = site.begin("/metal-os/short", Habit { rate: 50_000, ..EAGER });
    assert_whole(&good.join().unwrap(), 1, 2 * MB);
    assert!(!bad.join().unwrap().whole);
    assert_eq!(site.counted("slow_client_disconnects_total{port=\"Ethernet0\"}"), 1.0);
}

#[test]
fn byte_limits_hold() {
    let site = Site::start(&format!("memory = \"0B\"\n{UNLIMITED}port_rate = \"4MiB\"\n"));
    site.origin.put("/metal-os/short", Image::new(1, 3 * MB));
    let begun = Instant::now();
    let downloads = site.begin_many(4, "/metal-os/short");
    let readers = "image_readers{port=\"Ethernet0\",source=\"unshared\"}";
    eventually("four machines receive images", || site.counted(readers) == 4.0);
    let downloads = joined(downloads);
    for download in &downloads {
        assert_whole(download, 1, 3 * MB);
    }
    // 12 MB at 4 MiB/s, less the burst and what each may overdraw.
    assert!(begun.elapsed() > Duration::from_millis(2400), "{:?}", begun.elapsed());
    let slowest = downloads.iter().map(|download| download.took).max().unwrap();
    let fastest = downloads.iter().map(|download| download.took).min().unwrap();
    assert!(fastest > slowest.mul_f64(0.8), "{fastest:?} and {slowest:?}");
    assert_eq!(site.origin.sent(), 12 * MB, "without memory nothing is shared");
    let waited = site.counted("image_wait_seconds_total{port=\"Ethernet0\",limit=\"rate\"}");
    // Four machines, for most of the time each.
    assert!((4.0..40.0).contains(&waited), "{waited} s");
    eventually("no machine receives an image", || site.counted(readers) == 0.0);
}

#[test]
fn packet_limits_hold() {
    let site = Site::start("[relay.cache.budget]\npackets = 2000\n");
    site.origin.put("/metal-os/short", Image::new(1, 6 * MB));
    let begun = Instant::now();
    let downloads = site.begin_many(8, "/metal-os/short");
    let readers = "image_readers{port=\"Ethernet0\",source=\"shared\"}";
    eventually("eight machines share one transfer", || {
        (site.counted(readers), site.counted("image_transfers")) == (8.0, 1.0)
    });
    for download in joined(downloads) {
        assert_whole(&download, 1, 6 * MB);
    }
    // Some 4200 packets of 1428 bytes at 2000 per second.
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
    let waited = site.counted("transfer_wait_seconds_total");
    assert!((1.5..4.0).contains(&waited), "{waited} s");
    eventually("the transfer is over", || site.counted("image_transfers") == 0.0);
}

#[test]
fn a_port_has_one_shared_transfer_at_a_time() {
    let site = Site::start(UNLIMITED);
    site.origin.rate.store(20 * MB, Ordering::Relaxed);
    let goes = Habit { leaves: 1, ..EAGER };
    for image in 0..8 {
        let path = format!("/metal-os/{image}");
        site.origin.put(&path, Image::new(image, 200 * MB));
        assert_eq!(site.begin(&path, goes).join().unwrap().status, 200, "it is served nonetheless");
    }
    assert_eq!(site.counted("image_transfers"), 1.0);
    // Another port may have a transfer of its own, and gets memory for it.
    assert_whole(&site.begin_at(OTHER_GATEWAY, PATH, EAGER).join().unwrap(), 1, 64 * MB);
    site.origin.answers.store(0, Ordering::Relaxed);
    assert_whole(&site.get(PATH, ""), 1, 64 * MB);
    assert_eq!(site.origin.answers.load(Ordering::Relaxed), 0, "a kept image is for all ports");
}

#[test]
fn images_of_one_port_are_evicted_for_others() {
    let site = Site::start(&format!("memory = \"64MiB\"\n{UNLIMITED}"));
    let (length, slow) = (30 * MB, Habit { rate: 6 * MB, ..EAGER });
    let path = |image: u64| format!("/metal-os/{image}");
    let slow_ones = (0..2).map(|image| {
        site.origin.put(&path(image), Image::new(image, length));
        let download = site.begin(&path(image), slow);
        eventually("it is complete", || {
            let memory = site.counted("image_memory_bytes");
            site.counted("image_transfers") == 0.0 && memory > (image + 1) as f64 * 29e6
        });
        download
    });
    let slow_ones: Vec<_> = slow_ones.collect();
    site.origin.put(&path(2), Image::new(2, length));
    site.origin.answers.store(0, Ordering::Relaxed);
    let others: Vec<_> = (0..4).map(|_| site.begin_at(OTHER_GATEWAY, &path(2), slow)).collect();
    for (image, download) in joined(slow_ones).iter().enumerate() {
        assert_whole(download, image as u64, length);
    }
    for download in joined(others) {
        assert_whole(&download, 2, length);
    }
    assert_eq!(site.origin.answers.load(Ordering::Relaxed), 2, "one shared, and one for the evicted image");
}

#[test]
fn an_unshared_transfer_that_is_given_up_counts_against_its_port() {
    let site = Site::start("memory = \"0B\"\n[relay.cache.budget]\nport_packets = 200\n");
    let (begun, mut asked) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) {
        site.begin(PATH, Habit { leaves: 1, ..EAGER }).join().unwrap();
        asked += 1;
    }
    // The cache sends 96 KiB, 69 packets, before it notices that the connection is closed.
    assert!(asked <= 3 * 200 / 69 + 3, "{asked} times");
}

#[test]
fn a_part_that_left_the_window_comes_whole() {
    let site = Site::start(&format!("memory = \"64MiB\"\n{UNLIMITED}"));
    let path = "/metal-os/large";
    site.origin.put(path, Image::new(3, 96 * MB));
    site.origin.rate.store(40 * MB, Ordering::Relaxed);
    let leader = site.begin(path, EAGER);
    eventually("the window begins", || site.origin.sent.load(Ordering::Relaxed) > 0);
    let slow = Habit { rate: 8 * MB, ..EAGER };
    let part = site.cable.inside(move || get(GATEWAY, path, "Range: bytes=1000000-20999999\r\n", slow));
    let part = part.join().unwrap();
    assert_eq!((part.status, part.length, part.version), (206, 20 * MB, Some(3)), "{}", part.head);
    assert_whole(&leader.join().unwrap(), 3, 96 * MB);
    assert!(site.origin.answers.load(Ordering::Relaxed) > 1, "it has left the window");
}
